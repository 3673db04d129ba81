"""What a run was seen to take: steps, watts, starts; and that a later run of the job finds it."""

from pathlib import Path

from app.engine.job_report import JobReport
from app.training.attempts import Attempt, Seen
from app.training.pace import AttemptEnergy, Held, Pace, WorldPace, pace_of
from app.training.pace_keeper import PaceKeeper, earlier_pace
from app.training.reports import keep_report
from app.training.run_files import RunFiles

J = 1_000_000


def attempt(
    world: int = 1, begun_s: float = 104.0, first_s: float = 106.0, last_s: float = 126.0, steps: int = 41
) -> Attempt:
    """41 steps of epochs of 20: the first was done at `first_s`, the other 40 took until `last_s`."""
    return Attempt(
        world=world,
        begun_s=begun_s,
        epoch_steps=20,
        first_step_s=first_s,
        last=Seen(attempt=1, epoch=steps // 20, step=steps % 20, at_s=last_s),
    )


def test_a_run_of_one_attempt_by_hand() -> None:
    energy = AttemptEnergy({1: 230 * J}, {1: {0: 20 * J, 1: 100 * J, 2: 100 * J}})
    pace = pace_of("digits-1", {1: attempt()}, {1: Held(100.0, 127.5)}, energy)
    assert pace is not None
    assert pace.worlds == (WorldPace(world=1, step_s=20 / 40, power_w=200 / 20),)
    assert pace.setup_s == 106 - 100  # from the request for workers, not from when they were there
    assert pace.waiting_s == 104 - 100
    assert pace.setup_j == 30.0  # 230 J charged, 20 s of steps at 10 W of them
    assert pace.closing_s == 1.5
    assert Pace.model_validate_json(pace.model_dump_json()) == pace


def test_with_the_books_by_time_power_is_that_of_the_seconds_with_steps() -> None:
    """From 106 to 126 there were steps: 10 s of it lie in whole buckets, at 12 W."""
    spans = ((100.0, 105.0, 50 * J), (105.0, 110.0, 55 * J), (110.0, 115.0, 61 * J), (115.0, 120.0, 59 * J))
    energy = AttemptEnergy({1: 300 * J}, {1: {0: 20 * J, 1: 100 * J, 2: 100 * J}}, spans)
    pace = pace_of("digits-1", {1: attempt()}, {1: Held(100.0, 127.5)}, energy)
    assert pace is not None
    assert pace.worlds[0].power_w == 12.0
    assert pace.setup_j == 300 - 12 * 20


def test_numbers_of_workers_are_kept_apart() -> None:
    two = attempt(world=2, begun_s=130.0, first_s=131.0, last_s=141.0).model_copy(update={"epoch": 2, "step": 1})
    two = two.model_copy(update={"last": Seen(attempt=2, epoch=4, step=2, at_s=141.0)})
    pace = pace_of("digits-1", {1: attempt(), 2: two}, {})
    assert pace is not None
    assert [(each.world, each.step_s) for each in pace.worlds] == [(1, 0.5), (2, 10 / 40)]
    assert pace.of(2) is not None
    assert pace.of(3) is None
    assert pace.setup_j is None  # nobody metered


def test_a_run_without_steps_has_no_pace() -> None:
    assert pace_of("digits-1", {1: Attempt(world=1, begun_s=1.0)}, {}) is None
    assert pace_of("digits-1", {}, {}) is None


def report(run: str, job: str) -> JobReport:
    return JobReport(
        run=run, job=job, tenant="t", kind="train", finished=True, started_s=1.0, seconds=1.0, attempts=1, epochs=1,
        energy_uj=1, carbon_ugco2e=1, grade="counter", source="ledger", lost_uj=0, restart_uj=0, metrics={},
        utilisation=None, scheduling_efficiency=1.0, energy_utilisation=None, compression_ratio=None,
        embodied_ugco2e=0, sci_per_epoch_ugco2e=None, sci_per_model_ugco2e=None, curve=(), workers=(),
    )  # fmt: skip


def test_a_later_run_of_the_same_job_finds_what_the_last_one_took(tmp_path: Path) -> None:
    storage = str(tmp_path)
    assert earlier_pace(storage, "digits") is None
    for run, job in (("digits-1", "digits"), ("other-1", "other")):
        keeper = PaceKeeper(RunFiles.open(storage, run))
        keeper.begins(100.0)
        number = keeper.files.claim_attempt()
        keeper.files.write_attempt(number, attempt().model_dump_json())
        keeper.has_ended(128.0)
        assert keeper.keep(AttemptEnergy()) is not None
        keep_report(storage, report(run, job))
    found = earlier_pace(storage, "digits")
    assert found is not None
    assert (found.run, found.setup_s, found.closing_s) == ("digits-1", 6.0, 2.0)


def test_a_run_that_runs_is_as_far_as_it_was_seen(tmp_path: Path) -> None:
    keeper = PaceKeeper(RunFiles.open(str(tmp_path), "digits-1"))
    keeper.begins(100.0)
    number = keeper.files.claim_attempt()
    keeper.files.write_attempt(number, attempt().model_copy(update={"last": None}).model_dump_json())
    assert keeper.pace() is None
    pace = keeper.pace(Seen(attempt=1, epoch=1, step=1, at_s=116.0))
    assert pace is not None
    assert pace.worlds[0].step_s == 10 / 20
    assert pace.setup_s == 6.0
