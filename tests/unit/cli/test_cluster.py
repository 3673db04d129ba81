"""The way to a cluster that is not there."""

import socket
from typing import Any

import pytest
from ray._private import services

from app.cli import cluster
from app.errors import Unavailable


def test_a_machine_without_a_cluster_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(address: str) -> str:
        raise ConnectionError("Could not find any running Ray instance")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(services, "canonicalize_bootstrap_address", none)
    with pytest.raises(Unavailable, match=r"no Ray cluster answers at this machine's address: .*scripts/up"):
        cluster.connect()


def test_an_address_where_nobody_listens_is_found_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Any] = []

    def refuse(address: tuple[str, int], timeout: float) -> None:
        tried.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(services, "canonicalize_bootstrap_address", lambda address: "10.0.0.1:6379")
    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(Unavailable, match=r"no Ray cluster answers at 10\.0\.0\.1:6379"):
        cluster.connect()
    assert tried == [("10.0.0.1", 6379)]
