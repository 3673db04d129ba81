"""A run that is stopped at any step and goes on ends with the same weights, bit for bit, as one that was not."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from app.training import stops
from tests.fixtures.small_training import AskedAt, job, run, state

EPOCH_STEPS = 22  # 1,347 rows by 64


@pytest.fixture(autouse=True)
def every_step_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(stops, "_LOOK_EVERY_S", 0.0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def assert_same(one: Path, other: Path) -> None:
    here, there = state(one), state(other)
    assert here.keys() == there.keys()
    assert [name for name in here if not torch.equal(here[name], there[name])] == []


@pytest.mark.parametrize("step", [1, 13, EPOCH_STEPS, EPOCH_STEPS + 5, 2 * EPOCH_STEPS])
def test_paused_at_a_step_and_gone_on_with(step: int, tmp_path: Path) -> None:
    whole = run(job(), tmp_path / "whole")
    paused = run(job(), tmp_path / "paused", AskedAt(step, "stop"))
    assert paused["stopped"] == "told to"
    assert paused["position"] == {"epoch": (step - 1) // EPOCH_STEPS, "step": (step - 1) % EPOCH_STEPS + 1}
    resumed = run(job(), tmp_path / "paused")
    assert resumed["stopped"] == ""
    assert resumed["metrics"] == whole["metrics"]
    assert_same(tmp_path / "whole", tmp_path / "paused")


def test_paused_again_and_again(tmp_path: Path) -> None:
    run(job(), tmp_path / "whole")
    outcomes = [run(job(), tmp_path / "paused", AskedAt(7, "stop")) for _ in range(7)]
    assert [bool(outcome["stopped"]) for outcome in outcomes] == [True] * 6 + [False]  # 44 steps are 6 x 7 and 2
    assert_same(tmp_path / "whole", tmp_path / "paused")


def test_a_checkpoint_that_is_asked_for_changes_nothing(tmp_path: Path) -> None:
    run(job(), tmp_path / "whole")
    notices = AskedAt(9, "save")
    assert run(job(), tmp_path / "asked", notices)["stopped"] == ""
    assert notices.saves == 3  # and one for each epoch
    assert_same(tmp_path / "whole", tmp_path / "asked")


def test_accumulation_and_bfloat16_go_on_exactly_too(tmp_path: Path) -> None:
    changes = {"precision": "bfloat16", "accumulation": 3, "epochs": 1}
    run(job(**changes), tmp_path / "whole")
    run(job(**changes), tmp_path / "paused", AskedAt(5, "stop"))
    run(job(**changes), tmp_path / "paused")
    assert_same(tmp_path / "whole", tmp_path / "paused")
