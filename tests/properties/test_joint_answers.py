"""Properties of batching: no answer tells that it was not alone, and the parts of a batch make up its whole."""

import asyncio
import itertools
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from app.clock import ManualClock
from app.domain.account import request_account, warm_account
from app.domain.slice import ProcessKey, Resident
from app.engine.slices import BoardCache, SliceBook
from app.errors import InvalidInput
from app.ledger.board import BoardWriter, Present, uuid_hash
from app.ledger.pace import Pace
from app.ledger.ring import RingHeader, RingReader, RingWriter
from app.metering.client import WorkClient
from app.policy.batching import BatchLimits
from app.protocol.model_statistics import ModelCounts
from app.serving.batch_queue import BatchQueue
from app.serving.batcher import Batcher
from app.serving.joining import kind_of, rows_of
from app.serving.lane import Lane
from app.serving.metered_runner import Ask, Done, MeteredRunner

ACCOUNTS = [request_account(tenant, "m", "1") for tenant in ("a", "b", "c")]


class Reversing:
    """Each row's answer depends on that row alone; the text `bad` is refused."""

    name = "reversing"

    def weight(self, inputs):
        if len(inputs["x"]) != len(inputs["text"]):
            raise InvalidInput("rows differ")
        return float(sum(map(len, inputs["text"]))) + 1

    def run(self, inputs):
        if b"bad" in inputs["text"]:
            raise InvalidInput("bad")
        texts = np.empty(len(inputs["text"]), object)
        texts[:] = [text[::-1] for text in inputs["text"]]
        return {"sum": inputs["x"].sum(axis=1), "text": texts}


def outcome(runner, inputs):
    """What a request gets that is alone."""
    try:
        runner.weight(inputs)
        return {name: array.tolist() for name, array in runner.run(inputs).items()}
    except InvalidInput as error:
        return str(error)


@st.composite
def requests(draw):
    rows, width = draw(st.integers(0, 3)), draw(st.integers(1, 2))
    texts = draw(st.lists(st.sampled_from([b"", b"ab", b"c\0", b"bad"]), min_size=rows, max_size=rows))
    array = np.empty(rows, object)
    array[:] = texts
    extra = draw(st.sampled_from([0, 0, 0, 1]))
    numbers = draw(st.lists(st.integers(-5, 5), min_size=(rows + extra) * width, max_size=(rows + extra) * width))
    return {"x": np.array(numbers, np.int64).reshape(rows + extra, width), "text": array}


limits = st.builds(BatchLimits, st.integers(1, 6), st.sampled_from([0.0, 0.0005]))
arrivals = st.lists(st.tuples(requests(), st.integers(0, 3), st.booleans()), max_size=12)


@settings(deadline=None, max_examples=60)
@given(arrivals, limits)
def test_answers_are_those_of_requests_alone_whatever_comes_together_and_whoever_leaves(arrivals, limits):
    runner = Reversing()
    lane = Lane()
    batcher = Batcher(lane, MeteredRunner(runner, WorkClient(None), ModelCounts()).run_together, limits, max_queued=100)

    async def scenario():
        tasks = []
        for inputs, rounds, leaves in arrivals:
            waiting = batcher.submit(Ask(inputs, ACCOUNTS[0]), kind_of(inputs), rows_of(inputs))
            tasks.append(asyncio.create_task(waiting))
            for _ in range(rounds):
                await asyncio.sleep(0)
            if leaves:
                tasks[len(tasks) // 2].cancel()
        async with asyncio.timeout(20):
            return await asyncio.gather(*tasks, return_exceptions=True)

    try:
        answers = asyncio.run(scenario())
    finally:
        lane.close()
    for (inputs, _, _), answer in zip(arrivals, answers, strict=True):
        if isinstance(answer, Done):
            assert {name: array.tolist() for name, array in answer.outputs.items()} == outcome(runner, inputs)
        elif not isinstance(answer, asyncio.CancelledError):
            assert str(answer) == outcome(runner, inputs)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from(["x", "y", None]), st.integers(1, 5)),
        st.tuples(st.just("drop"), st.integers(0, 40), st.none()),
        st.tuples(st.just("take"), st.integers(1, 6), st.sampled_from([0.0, 1.0])),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(steps)
def test_everybody_leaves_the_queue_once_in_order_and_no_batch_is_too_large(steps):
    queue, clock = BatchQueue(max_queued=1000), itertools.count()
    entries, gone = [], []
    for step, first, second in [*steps, *[("take", 4, 0.0)] * len(steps)]:
        if step == "add":
            entries.append(queue.add(len(entries), first, second, float(next(clock))))
        elif step == "drop" and first < len(entries):
            queue.drop(entries[first])
            gone.append(first) if first not in gone else None
        elif step == "take":
            limits = BatchLimits(first, second)
            waiting = [entry for entry in entries if entry.item not in gone]
            batch = queue.take(limits)
            assert sum(entry.rows for entry in batch) <= limits.max_rows or len(batch) == 1
            assert len({entry.kind for entry in batch}) <= 1
            if waiting:
                kind = [entry for entry in waiting if entry.kind == batch[0].kind]
                assert batch == kind[: len(batch)]
            gone += [entry.item for entry in batch]
    assert sorted(gone) == list(range(len(entries)))
    assert len(queue) == 0


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from(ACCOUNTS), st.floats(1, 1e6)), min_size=1, max_size=20),
    st.integers(1, 5_000_000_000),
)
def test_parts_of_a_batch_share_one_interval_and_their_estimates_make_up_that_of_the_whole(shared, duration_ns):
    clock = ManualClock(1_000_000_000)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        resident = Resident(ProcessKey(7, 99), warm_account("m", "1"), frozenset({"GPU-1"}))
        ring = RingWriter.create(path / "rings", RingHeader("m", "b", "n", resident), 64)
        book = SliceBook(ring, BoardCache(path / "board", frozenset({"GPU-1"}), clock), clock)
        board = BoardWriter(path / "board")
        whole_uj, parts_uj = [], []
        for weights in ([(ACCOUNTS[0], sum(weight for _, weight in shared))], shared):
            begun_ns = book.mark()
            pieces = book.begin_together(weights, begun_ns)
            clock.advance(duration_ns)
            clock.work(duration_ns)
            book.end_together(pieces)
            board.write(
                clock.monotonic_ns(),
                0.0,
                [
                    Present(uuid_hash("GPU-1"), False, 1, 300_000.0, 80_000.0),
                    Present(uuid_hash("cpu"), True, 4, 100_000.0, 20_000.0, Pace(30_000.0, 1e8, 1.5e8, 1e8)),
                ],
            )
            clock.advance(100_000_000)
            told = [piece.energy().energy_uj for piece in pieces]
            (whole_uj if weights is not shared else parts_uj).extend(told)
        rows = RingReader(ring.path).records[1 : 1 + len(shared)]
        assert {(int(row["start_ns"]), int(row["end_ns"])) for row in rows} == {(begun_ns, begun_ns + duration_ns)}
        assert [float(row["weight"]) for row in rows] == [weight for _, weight in shared]
    assert abs(sum(parts_uj) - whole_uj[0]) <= len(shared)
