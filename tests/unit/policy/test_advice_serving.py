"""Advice on a served model: nothing is proposed that was not measured, and what is is worth what it says."""

import pytest

from app.domain.decision import Saving
from app.errors import InvalidInput
from app.policy.advice import ANSWERS, STANDBY, Advice, settled, together, unknown
from app.policy.advice_serving import Candidate, Floor, advise_limit, advise_variant
from app.policy.advice_standby import Standby, StayNow, advise_keep_alive
from app.policy.governed import Governed, Tried

FP32 = Candidate("m@1", 1.0, {"accuracy": 0.98})
INT8 = Candidate("m@1-int8", 0.6, {"accuracy": 0.975}, "one CPU")
INT4 = Candidate("m@1-int4", 0.4, {"accuracy": 0.90}, "one CPU")


def source(version: str) -> dict[str, object]:
    return {"args": {"source": f"repository:{version}"}}


def test_the_cheapest_variant_above_the_floor_is_proposed_with_its_measured_ratio() -> None:
    advice = advise_variant("m@1", [FP32, INT8, INT4], Floor("accuracy", 0.97), source)
    assert (advice.proposed, advice.saving.share) == ("m@1-int8", pytest.approx(0.4))
    assert (advice.saving.basis, advice.change) == ("measured", {"args": {"source": "repository:m@1-int8"}})
    assert advice.pays
    assert [course.note for course in advice.courses] == [
        "1.000 of the present energy",
        "0.600 of the present energy",
        "0.400 of the present energy; below the floor",
    ]


def test_a_variant_that_serves_is_held_against_the_others_by_their_common_base() -> None:
    advice = advise_variant("m@1-int8", [FP32, INT8, INT4], Floor("accuracy", 0.9), source)
    # 0.4 of the base's energy instead of 0.6.
    assert (advice.proposed, advice.saving.share) == ("m@1-int4", pytest.approx(1 / 3))


def test_without_a_floor_a_variant_keeps_99_percent_of_what_there_is() -> None:
    # 0.98 x 0.99 = 0.9702: int8 has it, int4 does not.
    advice = advise_variant("m@1", [FP32, INT8, INT4], None, source)
    assert (advice.proposed, advice.by_name, advice.pays) == ("m@1-int8", True, False)  # nobody set a floor: by name
    assert advise_variant("m@1", [FP32, INT4], None, source).moves is False


def test_less_is_better_where_the_metric_is_an_error() -> None:
    big = Candidate("m@1", 1.0, {"bits_per_byte": 2.0})
    small = Candidate("m@1-int4", 0.5, {"bits_per_byte": 2.3})
    assert advise_variant("m@1", [big, small], Floor("bits_per_byte", 2.2), source).moves is False
    assert advise_variant("m@1", [big, small], Floor("bits_per_byte", 2.4), source).proposed == "m@1-int4"


def test_what_was_not_measured_is_not_proposed_and_it_says_what_to_run() -> None:
    guessed = Candidate("m@1-int8", None, {"accuracy": 0.98})
    advice = advise_variant("m@1", [FP32, guessed], None, source)
    assert (advice.moves, advice.saving.basis, advice.saving.share) == (False, "not known", None)
    assert "publish the variant again" in advice.saving.note
    assert "one version" in advise_variant("m@1", [FP32], None, source).saving.note
    with pytest.raises(InvalidInput, match="not among"):
        advise_variant("m@2", [FP32], None, source)


def stays(seconds: float) -> dict[str, object]:
    return {"longest_s": seconds}


STANDBY_NOW = Standby(load_j=100.0, warm_w=10.0, sleeps=1)  # break-even 10 s


def test_a_delay_beyond_what_the_gaps_ask_for_is_shortened_and_the_joules_are_those_of_the_gaps() -> None:
    # Twenty gaps of a second, and one that outlasts everything: staying 60 s costs 600 J at its end.
    advice = advise_keep_alive(StayNow("delay", 60.0), [1.0] * 20, STANDBY_NOW, stays)
    now, best = advice.courses
    assert now.energy_j == pytest.approx(10 * 20 + 10 * 60 + 100)
    # A little more than a second bridges all of them: 20 s of staying, one delay, one load.
    assert best.energy_j == pytest.approx(10 * 20 + 10 * 1.1 + 100, rel=0.05)
    assert advice.saving.share == pytest.approx(1 - (best.energy_j or 0) / 900)
    assert (advice.of, advice.saving.basis, advice.pays) == (STANDBY, "modelled", True)
    assert advice.change == {"longest_s": pytest.approx(1.1, rel=0.15)}


def test_a_model_that_always_stays_may_sleep_through_long_gaps() -> None:
    standby = Standby(load_j=100.0, warm_w=10.0, sleeps=0)
    gaps = [1.0] * 20 + [3600.0] * 2
    advice = advise_keep_alive(StayNow("always", 0.0), gaps, standby, stays)
    assert advice.courses[0].energy_j == pytest.approx(10 * (20 + 7200))
    assert advice.saving.share is not None
    assert advice.saving.share > 0.99


def test_a_learnt_delay_that_is_not_held_back_stays_as_it_is() -> None:
    advice = advise_keep_alive(StayNow("learnt", 900.0), [1.0] * 20, STANDBY_NOW, stays)
    assert (advice.moves, advice.change) == (False, {})


def test_a_bound_that_cuts_the_learnt_delay_short_is_raised() -> None:
    # Gaps of 5 s: sleeping after 1 s pays a load of 100 J for each 50 J of staying.
    advice = advise_keep_alive(StayNow("learnt", 1.0), [5.0] * 20, STANDBY_NOW, stays)
    assert advice.saving.share == pytest.approx(1 - (10 * 100 + 10 * 5 + 100) / (10 * 20 + 10 + 2100), rel=0.05)


def test_too_few_gaps_or_no_measured_load_is_not_known() -> None:
    few = advise_keep_alive(StayNow("delay", 60.0), [1.0] * 3, STANDBY_NOW, stays)
    assert "3 gaps were seen" in few.saving.note
    assert "10 s" in few.saving.note  # the break-even is known nevertheless
    none = advise_keep_alive(StayNow("delay", 60.0), [1.0] * 20, None, stays)
    assert (none.saving.basis, none.pays) == ("not known", False)


GOVERNED = Governed(
    unit="row",
    objective="50 ms for 95%",
    first="64 rows, 0 ms",
    best="16 rows, 6 ms",
    tried=(Tried(name="64 rows, 0 ms", uj=1000.0, meets=True), Tried(name="16 rows, 6 ms", uj=700.0, meets=True)),
)


def test_a_governor_that_runs_has_already_done_it_and_says_what_it_found() -> None:
    advice = advise_limit("batch", "governed", GOVERNED, asked="50 ms", is_asked_now=True, change={"x": 1})
    assert (advice.moves, advice.change) == (False, {})
    assert "30.0 % less energy a row than at 64 rows, 0 ms" in advice.reasons[0]
    assert [course.energy_j for course in advice.courses] == [0.001, 0.0007]


def test_an_objective_without_a_governor_is_something_to_try_never_applied_unasked() -> None:
    advice = advise_limit("batch", "64 rows", None, asked="50 ms", is_asked_now=False, change={"x": 1})
    assert (advice.proposed, advice.change, advice.pays) == ("governed, 50 ms", {"x": 1}, False)
    nobody = advise_limit("batch", "64 rows", None, asked="", is_asked_now=False, change={"x": 1})
    assert (nobody.moves, nobody.change) == (False, {})
    assert "--p95-ms" in nobody.saving.note


def advised(part: str, share: float | None) -> Advice:
    basis = "not known" if share is None else "measured"
    return Advice(setting="s", now="a", proposed="b", of=part, saving=Saving(share=share, basis=basis))


def test_savings_of_one_part_multiply_and_what_is_not_known_is_left_out() -> None:
    advices = [advised(ANSWERS, 0.5), advised(ANSWERS, 0.2), advised(STANDBY, 0.1), advised(ANSWERS, None)]
    assert together([*advices, settled("x", "a", "why"), unknown("y", "a", "todo")]) == {
        ANSWERS: pytest.approx(0.4),
        STANDBY: pytest.approx(0.9),
    }
