"""Where things are: folders, addresses, ports, intervals. What a model is stands in its recipe.

Settings are built at the entry points (``Settings()``) and passed on; importing this module does nothing.
Every field is read from the environment as ``ATTUNE_<NAME>``.
"""

import os
import secrets
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """The settings of one installation; everything that attune writes lies under ``var``."""

    model_config = SettingsConfigDict(env_prefix="ATTUNE_", extra="forbid", frozen=True)

    var: Path = Field(default=Path("var"), description="The folder that holds everything attune writes.")
    database_url: str = Field(default="", description="Event log and promotions; empty: SQLite under `var/log`.")
    mlflow_url: str = Field(default="", description="The MLflow server; empty: commands start one on `var/mlflow`.")
    prefect_url: str = Field(
        default="", description="The Prefect API; empty: commands start a server on `var/prefect`."
    )
    serving_host: str = Field(default="127.0.0.1", description="The address that the endpoint listens on.")
    serving_port: int = Field(default=8000, ge=0, le=65535, description="The port that the endpoint listens on.")
    endpoint: str = Field(default="default", description="The serving endpoint whose champion is meant.")
    slate_secret: SecretStr | None = Field(
        default=None, description="The key that signs slate ids; empty: made once and kept in `var/slate.key`."
    )
    champion_poll_seconds: float = Field(default=0.5, gt=0, description="How often serving looks for a new champion.")
    keeper_poll_seconds: float = Field(
        default=0.2, gt=0, description="How often the state keeper looks for new events."
    )
    lock_seconds: float = Field(default=10.0, gt=0, description="How long a writer waits for the event log's lock.")

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
    def bundles_folder(self) -> Path:
        """Bundles in work and bundles downloaded from the registry."""
        return self.var / "bundles"

    @property
    def training_folder(self) -> Path:
        """Training sets, one folder each."""
        return self.var / "training"

    @property
    def validation_folder(self) -> Path:
        """The verdicts of validated batches."""
        return self.var / "validation"

    @property
    def logs_folder(self) -> Path:
        """What the servers and commands print."""
        return self.var / "logs"

    @property
    def docs_folder(self) -> Path:
        """Great Expectations' Data Docs."""
        return self.var / "data_docs"

    def slate_key(self) -> bytes:
        """The key that signs slate ids, made on first use where none is set.

        The file appears whole or not at all, so two processes that start together agree on one key.
        """
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
