"""Steps of an engine on their way to the books: who took part, told in time, one receipt for several prompts."""

from pathlib import Path

import pytest

from app.domain.account import request_account, warm_account
from app.domain.generation import Step, Work
from app.engine.slices import BoardCache, SliceBook
from app.ledger.ring import RingReader
from app.ledger.step_rows import Fact
from app.metering.client import WorkClient
from app.metering.step_client import StepClient
from app.policy.step_price import StepPrice
from app.units import NS_PER_MS
from tests.fixtures.books import GPU, Bench
from tests.fixtures.token_truth import Model

ACCOUNT = request_account("acme", "m", "1")


class Served:
    def __init__(self, directory: Path) -> None:
        self.bench = Bench(directory, [])
        self.ring = self.bench.worker(7, warm_account("m", "1"))
        board = BoardCache(directory / "board", frozenset({GPU}), self.bench.clock)
        self.price = StepPrice(Model())
        self.steps = StepClient(WorkClient(SliceBook(self.ring, board, self.bench.clock)), self.price)
        self.reader = RingReader(self.ring.path)

    def step(self, length_ms: float, *works: Work, pause_ms: float = 0.0) -> None:
        self.bench.advance(pause_ms)
        start_ns = self.bench.now_ns
        self.bench.advance(length_ms)
        self.steps.stepped(Step(start_ns, self.bench.now_ns, works))

    def rows(self) -> list[tuple[float, float, float, int]]:
        """(start ms, end ms, part of all that was told of this time, sequence)."""
        rows = self.reader.steps.poll()
        sums = {start: rows["power_mw"][rows["start_ns"] == start].sum() for start in set(rows["start_ns"].tolist())}
        return [
            (row["start_ns"] / NS_PER_MS, row["end_ns"] / NS_PER_MS, row["power_mw"] / sums[row["start_ns"]], n)
            for row in rows
            for n in [int(row["sequence"])]
        ]


def decode(prompt: str) -> Work:
    return Work(prompt, 0, 1, 10, 0)


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path)


def test_a_step_is_a_row_for_each_phase_of_each_request(served: Served):
    a, b = served.steps.begin(ACCOUNT, ["a"]), served.steps.begin(ACCOUNT, ["b"])
    served.step(30, Work("a", 100, 0, 0, 0))
    served.step(40, decode("a"), decode("b"))
    assert [a.receipt_id[-2:], b.receipt_id[-2:]] == ["-0", "-2"]  # prefill of a is record 0, decode 1; b has 2 and 3
    assert served.rows() == [(0, 30, 1.0, 0), (30, 70, 0.5, 1), (30, 70, 0.5, 3)]


def test_short_steps_are_told_together(served: Served):
    served.steps.begin(ACCOUNT, ["a"])
    for _ in range(5):
        served.step(6, decode("a"))
    assert served.rows() == [(0, 24, 1.0, 1)]


def test_a_prompt_is_told_apart_from_the_decode_around_it(served: Served):
    served.steps.begin(ACCOUNT, ["a"])
    served.step(6, decode("a"))
    served.step(6, decode("a"), Work("b", 10, 0, 0, 0))
    served.step(30, decode("a"))
    assert [row[:2] for row in served.rows()] == [(0, 6), (6, 12), (12, 42)]


def test_after_a_pause_what_came_before_it_is_told_by_itself(served: Served):
    served.steps.begin(ACCOUNT, ["a"])
    served.step(6, decode("a"))
    served.step(30, decode("a"), pause_ms=500)
    assert served.rows() == [(0, 6, 1.0, 1), (506, 536, 1.0, 1)]


def test_the_end_of_a_request_tells_what_was_not_told(served: Served):
    work = served.steps.begin(ACCOUNT, ["a"])
    served.step(6, decode("a"))
    served.steps.tokens("a", 1)
    served.steps.ended("a")
    assert served.rows() == [(0, 6, 1.0, 1)]
    assert served.reader.record(1)["end_ns"] == served.bench.now_ns
    assert served.reader.record(1)["part"] == work.tokens == 1


def test_several_prompts_of_a_request_have_one_receipt_that_ends_with_the_last(served: Served):
    served.steps.begin(ACCOUNT, ["a", "b"])
    served.step(30, decode("a"), decode("b"))
    served.steps.ended("a")
    assert served.reader.record(0)["end_ns"] == 0
    served.steps.ended("b")
    served.steps.ended("b")
    assert served.reader.record(0)["end_ns"] == served.bench.now_ns
    assert served.rows() == [(0, 30, 1.0, 1)]


def test_the_work_for_a_prompt_that_has_ended_is_the_others(served: Served):
    served.steps.begin(ACCOUNT, ["a"])
    served.steps.begin(ACCOUNT, ["b"])
    served.steps.ended("a")
    served.step(30, decode("a"), decode("b"))
    assert served.rows() == [(0, 30, 1.0, 3)]


def test_prices_learn_from_what_the_books_say(served: Served):
    served.steps.begin(ACCOUNT, ["a"])
    for n in range(6):
        served.step(25, decode("a"))
        served.reader.steps.show(Fact(25 * n * NS_PER_MS, 25 * (n + 1) * NS_PER_MS, 25 * 400_000))
    assert served.price.powers.decode_mw == pytest.approx(400_000, rel=0.01)
    assert served.reader.steps.poll()["power_mw"][-1] == pytest.approx(400_000, rel=0.01)


def test_with_metering_off_tokens_are_counted_and_nothing_else_happens():
    steps = StepClient(WorkClient(None), StepPrice(Model()))
    work = steps.begin(ACCOUNT, ["a"])
    steps.stepped(Step(0, 30 * NS_PER_MS, (Work("a", 5, 0, 0, 0),)))
    steps.tokens("a", 2)
    steps.ended("a")
    assert (work.tokens, work.receipt_id) == (2, "")
