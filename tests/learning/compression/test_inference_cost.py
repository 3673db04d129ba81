"""What a row costs: versions take turns, energy is told over rows, and without a meter only times are."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from app.compression.cost import CostPlan, inference_costs
from app.training import token_cost

PLAN = CostPlan(rows=(1, 4), rounds=2, round_s=0.002)


@dataclass
class Figures:
    energy_uj: int
    grade: str = "counter"


class Meter:
    """A block costs 1 J for each time that it is asked of `cheap`, 3 J of any other."""

    def __init__(self, there: bool = True) -> None:
        self.there, self.names = there, list[str]()

    @contextmanager
    def __call__(self, name: str) -> Iterator["Block"]:
        self.names.append(name)
        yield Block(Figures(1_000_000 if "cheap" in name else 3_000_000) if self.there else None)


@dataclass
class Block:
    figures: Figures | None

    def settle(self, timeout_s: float) -> Figures | None:
        return self.figures


class Echo:
    """A runner that counts rows."""

    def __init__(self) -> None:
        self.rows = 0

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self.rows += len(inputs["x"])
        return {}


def questions(rows: int, count: int) -> list[Mapping[str, Any]]:
    return [{"x": np.zeros(rows)} for _ in range(count)]


def test_versions_take_turns_and_energy_is_told_over_rows() -> None:
    meter, base, cheap = Meter(), Echo(), Echo()
    costs = inference_costs([("base", base), ("cheap", cheap)], questions, plan=PLAN, measure=meter)  # type: ignore[list-item]
    turns = ["base-inference", "cheap-inference", "cheap-inference", "base-inference"]
    assert meter.names == ["base-inference", *turns, *turns]  # one that waits for the meter; then for 1 row and for 4
    assert [cost.rows for cost in costs[1]] == [1, 4]
    for ours, theirs in zip(costs[1], costs[0], strict=True):
        assert (ours.base_p50_ms, ours.base_uj_per_row) == (theirs.p50_ms, theirs.uj_per_row)
        assert (ours.grade, ours.p50_ms > 0) == ("counter", True)
    # Two blocks of 1 J each, over the rows of those rounds; the first request of each size is no row's.
    rows = sum(2_000_000 / cost.uj_per_row for cost in costs[1] if cost.uj_per_row)
    assert round(rows) == cheap.rows - 1 - 4


@pytest.mark.parametrize("meter", [None, Meter(there=False)])
def test_without_a_meter_times_are_told(meter: Meter | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_cost, "_METER_WITHIN_S", 0.05)
    ((cost, _), _) = inference_costs([("a", Echo()), ("b", Echo())], questions, plan=PLAN, measure=meter)  # type: ignore[list-item]
    assert (cost.uj_per_row, cost.grade) == (None, "none")
    assert cost.p50_ms > 0
