"""Fakes of the books for the commands, and a runner for them."""

from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli import cluster
from app.engine.views import (
    Audit,
    DeviceAudit,
    DeviceStatus,
    GapAudit,
    NodeStatus,
    Receipt,
    Report,
    ReportKey,
    ReportRow,
    Status,
)
from app.errors import NotFound

RECEIPT_ID = "3d1219c7c4c5404aaa1f6d2a48adfda4-1b32677ca8674826886388ca3a54f1b7-000000000000000000000001"
DEVICE_KEY = (
    "3d1219c7c4c5404aaa1f6d2a48adfda4/1b32677c-a867-4826-8863-ca3a54f1b7dc/GPU-8f6d5e1c-0000-4000-8000-000000000001"
)


class FakeBooks:
    """The books contract with one model, one device, one receipt; remembers what it was asked."""

    receipt_id = RECEIPT_ID
    device_key = DEVICE_KEY

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.faults: tuple[str, ...] = ()
        self.notes: tuple[str, ...] = ()
        self.gaps: tuple[GapAudit, ...] = ()

    def report(self, by: ReportKey, since_s: float | None = None, until_s: float | None = None) -> Report:
        self.asked.append((by, since_s, until_s))
        rows = (
            _row({"model": "minilm", "version": "1"}, 3_000_000, 0.75, {"counter": 3_000_000}),
            _row({"model": ""}, 1_000_000, 0.25, {"counter": 400_000, "modelled": 600_000}),
        )
        return Report(
            by=by,
            since_s=since_s,
            until_s=1_790_000_000,
            zone="FRA",
            intensity_g_per_kwh=36.0,
            intensity_source="a table, 2024",
            pue=1.25,
            energy_uj=4_000_000,
            carbon_ugco2e=50,
            rows=rows,
            energy_utilisation=0.75,
        )

    def receipt(self, receipt_id: str, settle_timeout_s: float = 0) -> Receipt:
        self.asked.append((receipt_id, settle_timeout_s))
        if receipt_id != RECEIPT_ID:
            raise NotFound(f"no receipt {receipt_id!r}: it is unknown or older than 24 h")
        return Receipt(
            receipt_id=receipt_id,
            account="request",
            tenant="",
            model="minilm",
            version="1",
            job="",
            node="n1",
            energy_uj=1_234_567,
            carbon_ugco2e=15,
            grade="counter",
            provisional=True,
            load_share_uj=400_000,
            warm_share_uj=0,
            shares_final=False,
            duration_ns=12_500_000,
            wall_time_s=1_790_000_000,
        )

    def audit(self) -> Audit:
        device = DeviceAudit(
            device_key=DEVICE_KEY,
            node="n1",
            name="H100",
            grade="counter",
            movement_uj=4_000_000,
            posted_uj=4_000_000,
            difference_uj=0,
            gap_uj=0,
            pending_uj=12,
            batches=4,
        )
        return Audit(
            ok=not self.faults,
            devices=(device,),
            faults=self.faults,
            energy_uj=4_000_000,
            gap_share=0.0,
            notes=self.notes,
            gaps=self.gaps,
        )

    def status(self) -> Status:
        device = DeviceStatus(
            node="n1",
            device_key=DEVICE_KEY,
            kind="gpu",
            name="H100",
            grade="counter",
            power_mw=70_500,
            utilization=0.5,
            memory_used_bytes=8_000_000_000,
            memory_total_bytes=80_000_000_000,
            temperature_c=40.0,
            energy_uj=4_000_000,
        )
        node = NodeStatus(node="n1", metered=True, last_heard_s=0.2, residents=("minilm@1", "digits"))
        return Status(
            nodes=(node,),
            devices=(device,),
            by_account_uj={"request": 3_000_000, "warm": 1_000_000},
            warnings=("the clock of n2 is 3 s behind",),
        )


def _row(group: dict[str, str], energy_uj: int, share: float, by_grade_uj: dict[str, int]) -> ReportRow:
    return ReportRow(
        group=group,
        energy_uj=energy_uj,
        carbon_ugco2e=energy_uj // 100_000,
        share=share,
        by_grade_uj=by_grade_uj,
        uncertainty_uj=1000,
    )


@pytest.fixture
def books(monkeypatch: pytest.MonkeyPatch) -> FakeBooks:
    """Fake books in the place of the cluster's."""
    books = FakeBooks()
    monkeypatch.setattr(cluster, "books", lambda: books)
    return books


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs `joulekeeper WORDS...` in this process, without a terminal."""
    from app.cli.main import cli

    for name in ("JOULEKEEPER_DEBUG", "RAY_ADDRESS", "RAY_DASHBOARD_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return lambda *words: CliRunner().invoke(cli, [str(word) for word in words])
