"""What a replica has learnt: left when it goes, read again, and told by governors in the same words."""

from pathlib import Path

import pytest

from app.clock import ManualClock
from app.policy.batching import BatchLimits, BatchObjective, BatchSeen, Governor
from app.policy.concurrency import ConcurrencyGovernor, TokenObjective
from app.policy.steps_seen import StepSeen
from app.protocol.model_statistics import ModelCounts
from app.serving.findings import Findings, keep_findings, kept_findings
from app.serving.usage import Usage
from app.serving.warm_replica import WarmReplica

FOUND = Findings(
    model="digits", version="1-int8", born_s=10.0, seen_s=70.0, asked=4, request_uj=300, load_uj=500, warm_uj=200,
    idle_s=30.0, gaps_s=(1.0, 2.5),
)  # fmt: skip


def test_what_was_left_is_read_again_by_version(tmp_path: Path) -> None:
    keep_findings(tmp_path, FOUND)
    assert kept_findings(tmp_path, "digits", "1-int8") == FOUND
    assert kept_findings(tmp_path, "digits", "1") is None
    assert FOUND.uj_per_answer == 250
    assert FOUND.model_copy(update={"asked": 0}).uj_per_answer is None


def test_a_disk_that_takes_nothing_is_no_trouble_and_what_is_cut_off_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "findings").write_text("a file")
    keep_findings(tmp_path, FOUND)
    assert kept_findings(tmp_path, "digits", "1-int8") is None
    other = tmp_path / "other" / "findings"
    other.mkdir(parents=True)
    (other / "digits@1-int8.json").write_text(FOUND.model_dump_json()[:-9])
    assert kept_findings(tmp_path / "other", "digits", "1-int8") is None


class Model:
    label = "digits@1-int8"
    ready = True

    def stats(self) -> dict[str, float]:
        return {}

    def findings(self) -> Findings:
        return FOUND

    def close(self) -> None:
        self.ready = False


@pytest.mark.parametrize("leaves", [True, False])
def test_a_replica_leaves_them_when_it_goes_only_where_it_was_told_to(tmp_path: Path, leaves: bool) -> None:
    replica = WarmReplica()
    replica.model, replica.counts = Model(), ModelCounts()
    if leaves:
        replica.findings_directory = tmp_path
    del replica
    assert (kept_findings(tmp_path, "digits", "1-int8") is not None) == leaves


def test_gaps_between_visits_are_counted_but_not_those_within_a_burst_nor_before_the_first() -> None:
    clock = ManualClock(wall_ns=10**9)
    usage = Usage(clock)
    for gap_ms in (5000, 2000, 50, 300):
        clock.advance(gap_ms * 1_000_000)
        usage.begin()
        usage.end()
    assert usage.gaps_s == (2.0, 0.3)
    assert usage.born_s == 1.0


def test_the_governor_of_batches_tells_its_limits_and_what_each_costs() -> None:
    limits = BatchLimits(4, 0.0)
    governor = Governor(BatchObjective(latency_s=0.05), [limits])
    assert governor.governed().tried == ()
    for number in range(60):
        governor.observe(BatchSeen(0.02 * number, limits, 2, 500, (0.01, 0.01)))
    found = governor.governed()
    assert (found.unit, found.objective, found.first, found.best) == (
        "row",
        "50 ms for 95%",
        "4 rows, 0 ms",
        "4 rows, 0 ms",
    )
    (tried,) = found.tried
    assert (tried.uj, tried.meets) == (250.0, True)


def test_the_governor_of_sequences_tells_the_same() -> None:
    governor = ConcurrencyGovernor(TokenObjective(gap_s=0.05), (1, 4))
    for number in range(200):
        governor.observe(StepSeen(0.01 * number, 0.01, 1, 0, 1, 700, ((0.01, 1),), ()))
    found = governor.governed()
    assert (found.unit, found.best) == ("token", "1 sequence")
    assert found.tried[0].uj == pytest.approx(700)
