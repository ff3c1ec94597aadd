"""What the tools are told, so that all they write lies under ``var`` and none of them phones home."""

from attune.settings import Settings
from mlflow_server import server as mlflow_command

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_CLI_PROMPT": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "FEAST_USAGE": "false",
    **mlflow_command.ENVIRONMENT,
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

IN_PASSING = {
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


def environment(settings: Settings, lasting: bool = False) -> dict[str, str]:
    """The variables for this process and its children; ``lasting`` for the platform, else for one command."""
    var = settings.var.resolve()
    told = {
        **QUIET,
        **(LASTING if lasting else IN_PASSING),
        **settings.as_environment(),
        "PREFECT_HOME": str(var / "prefect"),
        "PREFECT_WORKER_WEBSERVER_PORT": str(settings.worker_port),
        "MPLCONFIGDIR": str(var / "cache" / "matplotlib"),
        **{f"XDG_{name}_HOME": str(var / "cache" / name.lower()) for name in ("CONFIG", "CACHE", "DATA")},
        "XDG_RUNTIME_DIR": str(var / "cache" / "runtime"),
        **_addresses(settings),
    }
    if settings.mlflow_auth and settings.mlflow_password is not None:
        told["MLFLOW_TRACKING_USERNAME"] = settings.mlflow_username
        told["MLFLOW_TRACKING_PASSWORD"] = settings.mlflow_password.get_secret_value()
    return told


def _addresses(settings: Settings) -> dict[str, str]:
    named = {"PREFECT_API_URL": settings.prefect_url, "MLFLOW_TRACKING_URI": settings.mlflow_url}
    return {name: url for name, url in named.items() if url}
