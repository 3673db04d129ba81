"""What restarts cost, worked by hand: ten steps in an epoch."""

from app.training.attempts import Attempt, Seen, read_attempts
from app.training.restarts import RestartCosts, lines, restart_costs

STEPS = 10


def attempt(world: int, begun_s: float, at: tuple[int, int] = (0, 0), **more: object) -> Attempt:
    return Attempt.model_validate(
        {"world": world, "begun_s": begun_s, "epoch": at[0], "step": at[1], "epoch_steps": STEPS, **more}
    )


FIRST = attempt(2, 100.0, first_step_s=103.0)
SEEN = Seen(attempt=1, epoch=2, step=5, at_s=130.0)


def test_a_run_of_one_attempt_cost_nothing_more() -> None:
    assert restart_costs({1: FIRST}, {1: {0: 5, 1: 100}}) == RestartCosts()
    assert lines(RestartCosts(), 100) == []


def test_work_after_the_checkpoint_is_lost_by_steps_where_an_epoch_is_lost_in_part() -> None:
    # The first attempt did 25 steps; the second began after 13. Of epoch 2 (steps 11 to 20) 7 of 10 are done again, of
    # epoch 3 all: 7/10 x 1,000 uJ + 600 uJ.
    second = attempt(3, 134.0, (1, 3), before=SEEN, first_step_s=137.5)
    costs = restart_costs({1: FIRST, 2: second}, {1: {0: 50, 1: 1000, 2: 1000, 3: 600}, 2: {0: 40, 2: 700}})
    (restart,) = costs.restarts
    assert (restart.lost_steps, restart.lost_uj, restart.setup_uj) == (12, 1300, 40)
    assert restart.seconds == 7.5
    assert (restart.world_before, restart.world, restart.resumed_after) == (2, 3, 13)


def test_a_run_that_was_stopped_said_where_it_ended_and_its_pause_is_no_restart() -> None:
    first = FIRST.model_copy(update={"last": Seen(attempt=1, epoch=1, step=4, at_s=120.0)})
    second = attempt(2, 9000.0, (1, 4), first_step_s=9002.0)
    (restart,) = restart_costs({1: first, 2: second}, {1: {1: 1000, 2: 400}}).restarts
    assert (restart.lost_steps, restart.lost_uj, restart.seconds) == (0, 0, 2.0)


def test_nothing_is_lost_where_a_checkpoint_was_left_first() -> None:
    second = attempt(4, 134.0, (2, 5), before=SEEN, first_step_s=136.0)
    costs = restart_costs({1: FIRST, 2: second}, {1: {0: 50, 1: 1000, 2: 1000, 3: 600}, 2: {0: 40}})
    assert (costs.lost_steps, costs.lost_uj, costs.setup_uj, costs.seconds) == (0, 0, 40, 6.0)


def test_an_attempt_that_began_within_an_epoch_did_only_the_rest_of_it() -> None:
    # It did steps 14 to 20 of epoch 2 (7 steps, 700 uJ) and was thrown back to 17: 3 of its 7 steps again.
    second = attempt(2, 134.0, (1, 3), before=SEEN)
    seen = Seen(attempt=2, epoch=2, step=0, at_s=150.0)
    third = attempt(2, 155.0, (1, 7), before=seen, first_step_s=160.0)
    costs = restart_costs({1: FIRST, 2: second, 3: third}, {2: {0: 40, 2: 700}, 3: {0: 30}})
    assert costs.restarts[1].lost_steps == 3
    assert costs.restarts[1].lost_uj == 300


def test_a_later_fall_back_takes_the_work_of_earlier_attempts_too() -> None:
    # The second began after 20; its only checkpoints were bad, and the third began after 10.
    second = attempt(2, 134.0, (2, 0), before=SEEN)
    third = attempt(2, 155.0, (1, 0), before=Seen(attempt=2, epoch=3, step=0, at_s=150.0))
    costs = restart_costs({1: FIRST, 2: second, 3: third}, {1: {1: 1000, 2: 1000, 3: 500}, 2: {3: 800}})
    assert [each.lost_steps for each in costs.restarts] == [15, 10]
    assert [each.lost_uj for each in costs.restarts] == [1500, 800]


def test_what_nobody_saw_is_unknown_but_whole_epochs_are_known_to_the_ledger() -> None:
    second = attempt(2, 134.0, (1, 3))
    costs = restart_costs({1: FIRST, 2: second}, {1: {1: 1000, 2: 1000, 3: 600}})
    (restart,) = costs.restarts
    assert (restart.lost_steps, restart.seconds, restart.lost_uj) == (None, None, 600)
    assert "unknown steps again" in lines(costs, 2600)[1]


def test_the_report_says_what_it_all_is_of_the_job() -> None:
    second = attempt(3, 134.0, (1, 3), before=SEEN, first_step_s=137.5)
    used = {1: {0: 50_000_000, 1: 1_000_000_000, 2: 1_000_000_000, 3: 600_000_000}, 2: {0: 40_000_000}}
    costs = restart_costs({1: FIRST, 2: second}, used)
    assert lines(costs, 13_400_000_000) == [
        "restarts: 1; lost work 12 steps, 1.3 kJ; setting up again 40 J; together 10.0% of the job; "
        "7.5 s without a step",
        "  attempt 2: 2 -> 3 workers, from step 13, 12 steps again (1.3 kJ), set up in 7.5 s (40 J)",
    ]


def test_an_attempt_that_died_before_it_could_write_is_left_out() -> None:
    assert read_attempts({1: FIRST.model_dump_json(), 2: "", 3: "{"}) == {1: FIRST}
