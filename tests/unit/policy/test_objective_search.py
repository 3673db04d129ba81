"""The search behind `app.energy.optimize` on functions whose best setting is known."""

from collections.abc import Callable, Hashable, Mapping, Sequence

import pytest

from app.errors import InvalidInput
from app.policy.objective_search import ObjectiveSearch

Setting = Mapping[str, Hashable]


def searched(
    space: Mapping[str, Sequence[Hashable]],
    uj: Callable[..., float],
    seconds: Callable[..., float] = lambda **_: 1.0,
    quality: Callable[..., float] | None = None,
    noise: Callable[[int], float] = lambda number: 1.0,
    **bounds: float,
) -> ObjectiveSearch:
    search = ObjectiveSearch(space, **bounds)  # type: ignore[arg-type]
    while (setting := search.next()) is not None:
        units = 100.0
        energy = round(uj(**setting) * units * noise(len(search.trials)))
        search.observe(setting, units, seconds(**setting), energy, quality(**setting) if quality else None)
    return search


BATCHES = (16, 1, 2, 4, 8, 32, 64, 128)


def bowl(batch: int, threads: int = 1) -> float:
    """Least at a batch of 32 and 2 threads."""
    return 1000.0 * (1 + abs(BATCH_ORDER.index(batch) - 5) * 0.3) * (1 + abs(threads - 2) * 0.2)


BATCH_ORDER = sorted(BATCHES)


def test_it_walks_to_the_least_energy_from_the_present_setting() -> None:
    search = searched({"batch": BATCHES, "threads": (1, 2, 4)}, bowl)
    assert search.first == {"batch": 16, "threads": 1}
    assert search.best() == {"batch": 32, "threads": 2}
    assert search.uj_per_unit(search.best()) == pytest.approx(1000.0)
    assert len(search.trials) < 24  # far fewer than a sweep with a repeat of each


def test_two_percent_of_noise_do_not_lead_it_astray() -> None:
    search = searched({"batch": BATCHES}, bowl, noise=lambda number: 1 + 0.02 * (-1) ** number)
    assert search.best() == {"batch": 32}


def test_a_setting_that_is_too_slow_is_not_the_best_however_cheap() -> None:
    search = searched({"batch": BATCHES}, bowl, seconds=lambda batch: batch / 10, at_most_s=2.0)
    assert search.best() == {"batch": 16}
    assert search.is_met({"batch": 16})
    assert not search.is_met({"batch": 32})


def test_quality_is_a_floor() -> None:
    kept = {"fp32": 0.98, "bf16": 0.979, "int8": 0.9}
    cost = {"fp32": 1000.0, "bf16": 700.0, "int8": 300.0}
    search = searched(
        {"precision": tuple(kept)},
        uj=lambda precision: cost[precision],
        quality=lambda precision: kept[precision],
        at_least_quality=0.97,
    )
    assert search.best() == {"precision": "bf16"}


def test_where_nothing_keeps_the_constraint_the_least_late_is_told_and_not_met() -> None:
    search = searched({"batch": (8, 16)}, bowl, seconds=lambda batch: batch, at_most_s=2.0)
    assert search.best() == {"batch": 8}
    assert not search.is_met(search.best())


def test_a_setting_that_cannot_run_is_passed_over() -> None:
    search = ObjectiveSearch({"batch": (16, 32, 64)})
    while (setting := search.next()) is not None:
        if setting["batch"] == 32:
            search.fail(setting, "out of memory")
        else:
            search.observe(setting, 1.0, 1.0, 100)
    assert search.best() == {"batch": 16}
    assert list(search.failed.values()) == ["out of memory"]
    with pytest.raises(InvalidInput, match="must run"):
        search.fail({"batch": 16}, "out of memory")


def test_trials_are_bounded() -> None:
    assert len(searched({"batch": BATCHES}, bowl, most_trials=3).trials) == 3


@pytest.mark.parametrize("space", [{}, {"batch": ()}, {"a": range(101), "b": range(101)}])
def test_spaces_that_cannot_be_searched_are_refused(space: Mapping[str, Sequence[Hashable]]) -> None:
    with pytest.raises(InvalidInput, match=r"space"):
        ObjectiveSearch(space)


def test_a_call_must_say_how_much_it_did_and_how_well_where_that_counts() -> None:
    search = ObjectiveSearch({"batch": (1, 2)}, at_least_quality=0.9)
    with pytest.raises(InvalidInput, match="units of work"):
        search.observe({"batch": 1}, 0, 1.0, 100, 0.9)
    with pytest.raises(InvalidInput, match="at_least_quality needs"):
        search.observe({"batch": 1}, 1, 1.0, 100)
