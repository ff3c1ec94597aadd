"""Ports: whoever has one that the platform needs is named, with the way out."""

import os
import socket
from pathlib import Path

import pytest

from attune.errors import ConfigError
from attune.settings import Settings
from infra.platform import addresses
from infra.platform.parts import parts


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    here = Settings(var=tmp_path / "var")
    return addresses.choose_ports(here.model_copy(update=dict.fromkeys(addresses.PORTS, 0)))


def test_zero_means_a_free_port_each(settings: Settings) -> None:
    chosen = [getattr(settings, name) for name in addresses.PORTS]
    assert 0 not in chosen
    assert len(set(chosen)) == len(chosen)
    addresses.demand_free(parts(settings))


def test_every_taken_port_is_named_with_its_holder_and_its_setting(settings: Settings) -> None:
    with (
        socket.create_server(("127.0.0.1", settings.mlflow_port)),
        socket.create_server(("", settings.serving_port)),
        pytest.raises(ConfigError) as refused,
    ):
        addresses.demand_free(parts(settings))
    message = str(refused.value)
    assert f"port {settings.mlflow_port} on 127.0.0.1, which mlflow needs, is taken by process {os.getpid()}" in message
    assert "ATTUNE_MLFLOW_PORT" in message
    assert "ATTUNE_SERVING_PORT" in message
    assert "ATTUNE_PREFECT_PORT" not in message
