"""Who may use the registry: ``python -m mlflow_server.users add NAME reader|editor|admin`` and ``remove NAME``.

Everybody who may log in reads everything; an editor also writes attune's runs, versions and aliases; an admin may do
all. The command asks for the password or reads it from standard input: everybody on the machine sees command lines.
"""

import argparse
import getpass
import sys
from typing import Any, Literal, get_args

import httpx

from attune.errors import AttuneError, ConfigError
from attune.settings import Settings
from mlflow_server import server
from mlflow_server.server import HOST

Role = Literal["reader", "editor", "admin"]
EXPERIMENT, MODEL = "attune", "attune-recommender"
"""What editors may write; ``models.registry`` has the same names, but loads torch."""

EXISTS, MISSING = "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"
SECONDS = 30.0


class People:
    """The people of one MLflow server, asked as one of its admins. Raises ConfigError for whatever it refuses."""

    def __init__(self, settings: Settings) -> None:
        """Asks as the user of the settings; MLflow's own client would take seconds to load."""
        if not settings.mlflow_auth or settings.mlflow_password is None:
            raise ConfigError("MLflow asks nobody for a password: set ATTUNE_MLFLOW_AUTH and ATTUNE_MLFLOW_PASSWORD")
        self.url = settings.mlflow_url or f"http://{HOST}:{settings.mlflow_port}"
        self.own_name = settings.mlflow_username
        self._as = httpx.BasicAuth(self.own_name, settings.mlflow_password.get_secret_value())

    def add(self, name: str, role: Role, password: str) -> None:
        """Let a person in by that password, in that role; somebody who is there already gets both anew."""
        server.check_name(name, "the name")
        server.check_password(password, name, f"{name}'s password")
        if name == self.own_name:
            raise ConfigError(f"{name} is attune's own user (ATTUNE_MLFLOW_USERNAME); choose another name")
        known = {"username": name, "password": password}
        if self._ask("POST", "2.0/mlflow/users/create", known, but=EXISTS) is None:
            self._ask("PATCH", "2.0/mlflow/users/update-password", known)
        self._ask("PATCH", "2.0/mlflow/users/update-admin", {"username": name, "is_admin": role == "admin"})
        for kind, thing in (("experiment", self._experiment()), ("registered_model", MODEL)):
            permission = {"username": name, "resource_type": kind, "resource_id": thing}
            self._ask("POST", "3.0/mlflow/users/permissions/revoke", permission, but=MISSING)
            if role == "editor":
                self._ask("POST", "3.0/mlflow/users/permissions/grant", {**permission, "permission": "EDIT"})

    def remove(self, name: str) -> None:
        """Let a person in no more."""
        if name == self.own_name:
            raise ConfigError(f"{name} is attune's own user (ATTUNE_MLFLOW_USERNAME); it stays")
        self._ask("DELETE", "2.0/mlflow/users/delete", {"username": name})

    def _experiment(self) -> str:
        """The number of attune's experiment, by which permissions name it; it is made with the first person."""
        named = {"experiment_name": EXPERIMENT}
        existing = self._ask("GET", "2.0/mlflow/experiments/get-by-name", named, but=MISSING)
        if existing is not None:
            return str(existing["experiment"]["experiment_id"])
        made = self._ask("POST", "2.0/mlflow/experiments/create", {"name": EXPERIMENT})
        return str(made["experiment_id"] if made else "")

    def _ask(self, method: str, path: str, body: dict[str, Any], but: str = "") -> dict[str, Any] | None:
        """The answer of MLflow's REST interface; None where it refuses with the code ``but``."""
        where: dict[str, Any] = {"params": body} if method == "GET" else {"json": body}
        try:
            answer = httpx.request(method, f"{self.url}/api/{path}", auth=self._as, timeout=SECONDS, **where)
        except httpx.HTTPError as error:
            raise ConfigError(f"MLflow at {self.url} does not answer: {error}; is it up (attune status)?") from error
        reply = answer.json() if answer.headers.get("content-type", "").startswith("application/json") else {}
        if answer.is_success:
            return dict(reply)
        if but and reply.get("error_code") == but:
            return None
        why = reply.get("message") or answer.text.strip() or answer.reason_phrase
        raise ConfigError(f"MLflow at {self.url} refused ({answer.status_code}): {why}")


def main() -> None:
    """Do what the command line says; what cannot be done ends in one line and status 2."""
    parser = argparse.ArgumentParser(prog="python -m mlflow_server.users", description="Who may use the registry.")
    actions = parser.add_subparsers(dest="what", required=True)
    add = actions.add_parser("add", help="let a person in; the password is asked for, or read from standard input")
    add.add_argument("name")
    add.add_argument("role", choices=get_args(Role))
    actions.add_parser("remove", help="let a person in no more").add_argument("name")
    arguments = parser.parse_args()
    try:
        people = People(Settings())
        if arguments.what == "add":
            people.add(arguments.name, arguments.role, _password(arguments.name))
            print(f"{arguments.name} may log in as {arguments.role}")
        else:
            people.remove(arguments.name)
            print(f"{arguments.name} may log in no more")
    except AttuneError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


def _password(name: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    first = getpass.getpass(f"Password for {name}: ")
    if getpass.getpass("Again: ") != first:
        raise ConfigError("the two passwords differ; try again")
    return first


if __name__ == "__main__":
    main()
