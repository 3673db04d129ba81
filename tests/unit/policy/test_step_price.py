"""Prices of steps: whose time, at which power; worked by hand where that is possible, learned where it is not."""

import random

import pytest

from app.domain.generation import Step, Work
from app.policy.step_price import Interval, StepPrice
from app.units import NS_PER_MS
from tests.fixtures.token_truth import Model

MODEL = Model()


def decode(prompt: str, context: int = 100) -> Work:
    return Work(prompt, 0, 1, context, 0)


def prefill(prompt: str, tokens: int, context: int = 0, cached: int = 0) -> Work:
    return Work(prompt, tokens, 0, context, cached)


def step(at_ms: float, length_ms: float, *works: Work) -> Step:
    return Step(round(at_ms * NS_PER_MS), round((at_ms + length_ms) * NS_PER_MS), works)


class Engine:
    """A machine with a second phase twice as slow a token: 1 + 0.1 a token of prefill, 10 + 0.5 a sequence and
    0.001 ms a token of context of decode, each at its power; 1 ms between steps."""

    def __init__(self, price: StepPrice, prefill_mw: float = 600_000, decode_mw: float = 300_000) -> None:
        self.price, self.powers = price, (prefill_mw, decode_mw)
        self.at_ms, self.energy_uj, self.since_ms, self.gap_mw = 0.0, 0.0, 0.0, 100_000
        self.intervals: list[Interval] = []

    def times(self, works: tuple[Work, ...]) -> tuple[float, float]:
        tokens = sum(work.prefill_tokens for work in works)
        decodes = [work for work in works if work.decode_tokens]
        decode_ms = 10 + sum(0.5 + 0.001 * work.context_tokens for work in decodes) if decodes else 0.0
        return (1 + 0.1 * tokens if tokens else 0.0), decode_ms

    def does(self, *works: Work) -> dict[str, tuple[float, float]]:
        times = self.times(works)
        made = step(self.at_ms, sum(times), *works)
        weights = self.price.weigh(made)
        self.at_ms += sum(times) + 1
        self.energy_uj += times[0] * self.powers[0] + times[1] * self.powers[1] + self.gap_mw
        if self.at_ms - self.since_ms >= 100:  # told a while later, as a meter does
            self.intervals.append(
                Interval(round(self.since_ms * NS_PER_MS), round(self.at_ms * NS_PER_MS), round(self.energy_uj))
            )
            self.since_ms, self.energy_uj = self.at_ms, 0.0
            if len(self.intervals) > 1:
                self.price.learn(self.intervals.pop(0))
        return weights

    def warms_up(self, steps: int = 300) -> "Engine":
        chance = random.Random(1)
        for n in range(steps):
            works = [decode(f"d{each}", chance.randint(10, 2_000)) for each in range(chance.randint(0, 8))]
            if not works or n % 5 == 0:
                works.append(prefill(f"p{n}", chance.randint(10, 500)))
            self.does(*works)
        return self


@pytest.fixture
def price() -> StepPrice:
    return StepPrice(MODEL)


def test_a_step_of_one_phase_is_shared_within_it_before_anything_is_known(price: StepPrice):
    """Equal contexts share a pass alike; before powers are known they are proportions of 1 mW."""
    assert price.weigh(step(0, 20, decode("a"), decode("b"))) == {"a": (0, 0.5), "b": (0, 0.5)}
    assert price.weigh(step(20, 20, prefill("c", 10)))["c"] == (1.0, 0.0)
    assert not price.is_learned


def test_keys_and_values_of_a_long_context_cost_what_reading_them_takes(price: StepPrice):
    """Weights are 16 GB, shared; 61,036 tokens of context at 131,072 bytes are 8 GB more for the one that has them."""
    weights = price.weigh(step(0, 20, decode("long", 61_036), decode("short", 0)))
    assert weights["long"][1] / weights["short"][1] == pytest.approx(2.0, rel=1e-4)


def test_attention_makes_the_second_half_of_a_long_prompt_dearer_than_the_first(price: StepPrice):
    """16,000 tokens: 2.56e14 FLOP in both halves; attention looks at 32e6 pairs, then 96e6, at 524,288 FLOP each."""
    weights = price.weigh(step(0, 20, prefill("first", 8_000), prefill("second", 8_000, 8_000)))
    expected = (1.28e14 + 96.0e6 * 524_288) / (1.28e14 + 32.0e6 * 524_288)
    assert weights["second"][0] / weights["first"][0] == pytest.approx(expected, rel=1e-3)


def test_cached_tokens_cost_no_products_but_attention_reads_them(price: StepPrice):
    whole, tail, alone = prefill("whole", 1_000), prefill("tail", 250, 750, 750), prefill("alone", 250)
    weights = {prompt: mw for prompt, (mw, _) in price.weigh(step(0, 20, whole, tail, alone)).items()}
    assert weights["alone"] < weights["tail"] < 0.3 * weights["whole"]


def test_phases_are_told_apart_though_no_interval_shows_one_alone(price: StepPrice):
    Engine(price).warms_up()
    assert price.is_learned
    assert price.powers.prefill_mw == pytest.approx(600_000, rel=0.02)
    assert price.powers.decode_mw + 4 * price.powers.per_sequence_mw == pytest.approx(300_000, rel=0.02)


def test_a_mixed_step_is_divided_by_what_each_phase_would_take_alone_at_its_power(price: StepPrice):
    """100 tokens: 11 ms at 600 W; three sequences of 100 tokens: 11.8 ms at 300 W: 6.6 and 3.54 J in 22.8 ms."""
    engine = Engine(price).warms_up()
    weights = engine.does(prefill("p", 100), decode("a"), decode("b"), decode("c"))
    assert weights["p"][0] * 22.8 / 1e6 == pytest.approx(6.6, rel=0.03)
    assert sum(mw for _, mw in weights.values()) * 22.8 / 1e6 == pytest.approx(3.54, rel=0.03)
    assert weights["a"][1] == weights["b"][1]


def test_a_pass_that_does_both_at_once_is_cheaper_for_both_alike(price: StepPrice):
    """The same step in 17.1 ms instead of 22.8: each phase has three quarters of its energy."""
    engine = Engine(price).warms_up()
    works = (prefill("p", 100), decode("a"), decode("b"), decode("c"))
    weights = price.weigh(step(engine.at_ms, 17.1, *works))
    assert weights["p"][0] * 17.1 / 1e6 == pytest.approx(0.75 * 6.6, rel=0.03)


def test_powers_follow_a_device_that_changes(price: StepPrice):
    engine = Engine(price).warms_up()
    engine.powers = (400_000, 350_000)
    engine.warms_up(3_000)
    assert price.powers.prefill_mw / price.powers.decode_mw == pytest.approx(400 / 350, rel=0.1)


def test_as_long_as_no_prompt_was_read_prefill_is_taken_to_draw_like_decode(price: StepPrice):
    engine = Engine(price)
    for _ in range(100):
        engine.does(decode("a"), decode("b"))
    assert price.powers.prefill_mw == pytest.approx(price.powers.decode_mw, rel=0.15)


def test_a_first_pass_that_took_a_hundred_times_as_long_is_forgotten_soon(price: StepPrice):
    """Kernels are compiled in it."""
    price.weigh(step(0, 2_000, prefill("a", 100)))
    engine = Engine(price)
    engine.at_ms = engine.since_ms = 2_001
    engine.warms_up()
    weights = engine.does(prefill("p", 100), decode("a"), decode("b"), decode("c"))
    assert weights["p"][0] * 22.8 / 1e6 == pytest.approx(6.6, rel=0.05)


def test_intervals_that_steps_do_not_fill_teach_nothing(price: StepPrice):
    price.weigh(step(0, 20, decode("a")))
    price.learn(Interval(0, 100 * NS_PER_MS, 10_000_000))
    assert not price.is_learned


def test_an_empty_step_is_nobodys(price: StepPrice):
    assert price.weigh(step(0, 20)) == {}


def test_the_same_steps_and_intervals_give_the_same_prices():
    first, second = (Engine(StepPrice(MODEL)).warms_up() for _ in range(2))
    works = (prefill("p", 100), decode("a", 7), decode("b", 900))
    assert first.does(*works) == second.does(*works)
