"""The environment variables of the tools, so that all they write lies under ``var`` and none of them phones home."""

import json

from attune.files import write_whole
from attune.settings import Settings
from mlflow_server import server as mlflow_command

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_UI_V2_ENABLED": "false",  # the v2 pages ask amplitude.com for their configuration
    "PREFECT_CLI_PROMPT": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "FEAST_USAGE": "false",
    **mlflow_command.ENVIRONMENT,
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

ONE_COMMAND = {
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_ROOT_LEVEL": "ERROR",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
}
"""For servers that live as long as one command: nobody will look their runs up."""

LASTING = {
    "PREFECT_LOGGING_TO_API_ENABLED": "true",
    "PREFECT_LOGGING_LEVEL": "INFO",
    "PREFECT_WORKER_QUERY_SECONDS": "1",
    "PREFECT_WORKER_ENABLE_CANCELLATION": "true",
    "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": "P30D",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_EVENT_RETENTION_OVERRIDES": '{"prefect.flow-run.heartbeat": 3600}',
}
"""For the platform: logs in the UI, a worker that asks every second, leases that outlive the server (without the file
storage a restarted server would forget who holds a deployment's place, and hold it for ever). Runs go after 30 days,
heartbeats after an hour, other events after Prefect's own 7 days."""

SHELL_PREFIXES = ("PREFECT_", "MLFLOW_", "GX_")
"""The variables that a person's shell needs; attune finds its own platform without any."""
FEAST_FILE = "feature_store.yaml"
ESCAPED = {ord(sign): f"\\u{ord(sign):04x}" for sign in ",$"}
"""What ends a part of a connection string, or names a variable to Feast's reader of its file, as JSON may write it."""


def environment(settings: Settings, lasting: bool = False) -> dict[str, str]:
    """The variables for this process and its child processes; ``lasting`` for the platform, else for one command."""
    var = settings.var.resolve()
    variables = {
        **QUIET,
        **(LASTING if lasting else ONE_COMMAND),
        **settings.as_environment(),
        "PREFECT_HOME": str(var / "prefect"),
        "PREFECT_WORKER_WEBSERVER_PORT": str(settings.worker_port),
        "MPLCONFIGDIR": str(var / "cache" / "matplotlib"),
        **{f"XDG_{name}_HOME": str(var / "cache" / name.lower()) for name in ("CONFIG", "CACHE", "DATA")},
        "XDG_RUNTIME_DIR": str(var / "cache" / "runtime"),
    }
    if settings.prefect_url:
        variables["PREFECT_API_URL"] = settings.prefect_url
    if settings.mlflow_url:
        variables["MLFLOW_TRACKING_URI"] = settings.mlflow_url
    if settings.mlflow_auth and settings.mlflow_password is not None:
        variables["MLFLOW_TRACKING_USERNAME"] = settings.mlflow_username
        variables["MLFLOW_TRACKING_PASSWORD"] = settings.mlflow_password.get_secret_value()
    return variables


def shell_environment(settings: Settings) -> dict[str, str]:
    """The variables that the commands ``prefect``, ``mlflow`` and ``feast`` need; writes the file that Feast's reads.

    The file describes the stores that ``features.feature_store`` opens; it may hold a password, and its owner alone may
    read it. Where MLflow asks for a password, its own variable for that is among the variables.
    """
    folder = settings.feast_folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "project": "attune",
        "provider": "local",
        "registry": str(folder / "registry.db"),
        "online_store": _online_store(settings),
        "offline_store": {"type": "file"},
        "entity_key_serialization_version": 3,
    }
    text = f"# Written by `attune env`, for Feast's own commands.\n{json.dumps(config, indent=1)}\n"
    file = folder / FEAST_FILE
    write_whole(file, text, mode=0o600)
    variables = environment(settings, lasting=True)
    needed = {name: text for name, text in variables.items() if name == "ATTUNE_VAR" or name.startswith(SHELL_PREFIXES)}
    return {**needed, "FEAST_REPO": str(folder), "FEAST_FS_YAML_FILE_PATH": str(file)}


def _online_store(settings: Settings) -> dict[str, str]:
    """The online store as Feast's file names it: a Redis by parts between commas, each value read as JSON."""
    address = settings.online_address
    if address is None:
        return {"type": "sqlite", "path": str(settings.feast_folder.resolve() / "online" / "online.db")}
    parts = [f"{address.host}:{address.port}", f"db={address.database}"]
    if address.tls:
        parts.append("ssl=true")
    secret = address.password.get_secret_value() if address.password else None
    for name, value in (("username", address.user), ("password", secret)):
        if value is not None:
            parts.append(f"{name}={json.dumps(value)}".translate(ESCAPED))
    return {"type": "redis", "connection_string": ",".join(parts)}
