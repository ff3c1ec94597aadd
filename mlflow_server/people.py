"""Who may use the registry: ``python -m mlflow_server.people add NAME reader|editor|admin`` and ``remove NAME``.

Asks the running server, as the user of the settings. Everybody who may log in reads everything; an editor also writes
runs, versions and aliases of attune's; an admin may do all, and adds and removes people. The password is asked for, or
is the first line of standard input: on a command line everybody on the machine could read it.
"""

import argparse
import getpass
import os
import sys
import warnings
from typing import Literal, get_args

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of MLflow's about its own libraries
    import mlflow.server
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST, ErrorCode

from attune.errors import AttuneError, ConfigError
from attune.settings import Settings
from mlflow_server import rules
from mlflow_server.main import HOST
from models.registry import MODEL
from models.tracking import EXPERIMENT

Role = Literal["reader", "editor", "admin"]
EDIT = "EDIT"


class People:
    """The people of one MLflow server, asked as one of its admins. Raises ConfigError for whatever it refuses."""

    def __init__(self, settings: Settings) -> None:
        """Logs in as the user of the settings, for this whole process."""
        if not settings.mlflow_auth or settings.mlflow_password is None:
            raise ConfigError("MLflow asks nobody for a password: set ATTUNE_MLFLOW_AUTH and ATTUNE_MLFLOW_PASSWORD")
        self.url = settings.mlflow_url or f"http://{HOST}:{settings.mlflow_port}"
        self.own_name = settings.mlflow_username
        os.environ["MLFLOW_TRACKING_USERNAME"] = settings.mlflow_username
        os.environ["MLFLOW_TRACKING_PASSWORD"] = settings.mlflow_password.get_secret_value()
        self.client = mlflow.server.get_app_client("basic-auth", tracking_uri=self.url)

    def add(self, name: str, role: Role, password: str) -> None:
        """Let a person in by that password, in that role; somebody who is there already gets both anew."""
        rules.check_name(name, "the name")
        rules.check_password(password, name, f"{name}'s password")
        if name == self.own_name:
            raise ConfigError(
                f"{name} is the user as whom attune asks MLflow (ATTUNE_MLFLOW_USERNAME); choose another name"
            )
        try:
            self._let_in(name, password)
            self.client.update_user_admin(name, role == "admin")
            for kind, thing in self._things(role == "editor"):
                if role == "editor":
                    self.client.grant_user_permission(name, kind, thing, EDIT)
                else:
                    self._revoke(name, kind, thing)
        except MlflowException as error:
            raise ConfigError(f"MLflow at {self.url} could not add {name}: {error}") from error

    def remove(self, name: str) -> None:
        """Let a person in no more."""
        if name == self.own_name:
            raise ConfigError(f"{name} is the user as whom attune asks MLflow (ATTUNE_MLFLOW_USERNAME); it stays")
        try:
            self.client.delete_user(name)
        except MlflowException as error:
            raise ConfigError(f"MLflow at {self.url} could not remove {name}: {error}") from error

    def _let_in(self, name: str, password: str) -> None:
        try:
            self.client.create_user(name, password)
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                raise
            self.client.update_user_password(name, password)

    def _revoke(self, name: str, kind: str, thing: str) -> None:
        try:
            self.client.revoke_user_permission(name, kind, thing)
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                raise

    def _things(self, make: bool) -> list[tuple[str, str]]:
        """What editors write: kind and id, as permissions name them; with ``make`` the experiment is made."""
        registry = MlflowClient(self.url, self.url)
        experiment = registry.get_experiment_by_name(EXPERIMENT)
        if experiment is None and not make:
            return []
        number = experiment.experiment_id if experiment else registry.create_experiment(EXPERIMENT)
        return [("experiment", number), ("registered_model", MODEL)]


def main() -> None:
    """Do what the command line says; what cannot be done ends in one line and status 2."""
    asked = _arguments()
    try:
        people = People(Settings())
        if asked.what == "add":
            people.add(asked.name, asked.role, _password(asked.name))
            print(f"{asked.name} may log in as {asked.role}")
        else:
            people.remove(asked.name)
            print(f"{asked.name} may log in no more")
    except AttuneError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mlflow_server.people", description="Who may use the registry.")
    actions = parser.add_subparsers(dest="what", required=True)
    add = actions.add_parser("add", help="let a person in; the password is asked for, or read from standard input")
    add.add_argument("name")
    add.add_argument("role", choices=get_args(Role))
    actions.add_parser("remove", help="let a person in no more").add_argument("name")
    return parser.parse_args()


def _password(name: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    first = getpass.getpass(f"Password for {name}: ")
    if getpass.getpass("Again: ") != first:
        raise ConfigError("the two passwords differ; try again")
    return first


if __name__ == "__main__":
    main()
