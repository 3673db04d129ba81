"""Whatever happens to a run, what its restarts cost is a part of what its attempts used."""

from hypothesis import given
from hypothesis import strategies as some

from app.training.attempts import Attempt, Seen
from app.training.restarts import restart_costs

STEPS = 5


@some.composite
def histories(draw: some.DrawFn) -> tuple[dict[int, Attempt], dict[int, dict[int, int]]]:
    """Attempts that resume anywhere up to the farthest step so far, and the energy of the epochs that each was in."""
    attempts: dict[int, Attempt] = {}
    energy: dict[int, dict[int, int]] = {}
    farthest, seen = 0, None
    for number in range(1, draw(some.integers(1, 6)) + 1):
        begun = draw(some.integers(0, farthest)) if number > 1 else 0
        reached = begun + draw(some.integers(0, 4 * STEPS))
        attempts[number] = Attempt(
            world=draw(some.integers(1, 4)),
            begun_s=float(number),
            epoch=begun // STEPS,
            step=begun % STEPS,
            epoch_steps=STEPS,
            before=seen,
        )
        epochs = range(begun // STEPS + 1, max(begun, reached - 1) // STEPS + 2)
        energy[number] = {0: draw(some.integers(0, 1000)), **{epoch: draw(some.integers(0, 10**9)) for epoch in epochs}}
        position = {"epoch": reached // STEPS, "step": reached % STEPS}
        seen = draw(some.sampled_from([Seen(attempt=number, at_s=float(number), **position), None]))
        farthest = max(farthest, reached)
    return attempts, energy


@given(histories())
def test_lost_work_and_setting_up_are_parts_of_what_was_used(
    history: tuple[dict[int, Attempt], dict[int, dict[int, int]]],
) -> None:
    attempts, energy = history
    costs = restart_costs(attempts, energy)
    assert len(costs.restarts) == len(attempts) - 1
    for number, restart in enumerate(costs.restarts, 1):
        in_epochs = sum(used for epoch, used in energy[number].items() if epoch)
        assert 0 <= restart.lost_uj <= in_epochs
        assert restart.lost_steps is None or restart.lost_steps >= 0
        if restart.lost_steps == 0 and restart.resumed_after >= attempts[number].resumed_after:
            later = [attempts[each].resumed_after for each in attempts if each > number]
            whole = [used for epoch, used in energy[number].items() if epoch and (epoch - 1) * STEPS >= min(later)]
            assert restart.lost_uj == sum(whole)
    assert costs.lost_uj + costs.setup_uj <= sum(sum(each.values()) for each in energy.values())
