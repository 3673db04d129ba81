"""Whatever steps an engine tells, and however late, parts add up to the whole and no weight is negative."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.account import request_account, warm_account
from app.domain.generation import Step, Work
from app.domain.reading import Delta, Device, DeviceKind, Grade
from app.engine.phases import PhaseBook, PhaseWork
from app.engine.slices import BoardCache, SliceBook
from app.ledger.attribution import Claim, Others, Steps, attribute
from app.ledger.division import Profile, divide
from app.policy.step_price import Interval, StepPrice
from app.units import NS_PER_MS
from tests.fixtures.books import GPU, Bench, charged, counter, gpu
from tests.fixtures.token_truth import Model

DEVICE = Device("m", "b", "GPU-1", DeviceKind.GPU, "H100", Grade.COUNTER)
WARM = warm_account("m", "1")

works = st.builds(
    lambda prompt, is_prefill, tokens, context: Work(
        f"p{prompt}", tokens if is_prefill else 0, 0 if is_prefill else 1, context, 0
    ),
    st.integers(0, 5),
    st.booleans(),
    st.integers(1, 5_000),
    st.integers(0, 100_000),
)
batches = st.lists(works, max_size=6, unique_by=lambda work: work.prompt_id)


@settings(deadline=None)
@given(st.lists(st.tuples(batches, st.integers(1, 10**9), st.integers(0, 10**8), st.integers(0, 10**9)), max_size=30))
def test_the_weights_of_a_step_are_positive_and_make_one_power(history):
    """However strange the durations and energies are that it learned from."""
    price, now_ns = StepPrice(Model()), 0
    for batch, length_ns, gap_ns, energy_uj in history:
        step = Step(now_ns + gap_ns, now_ns + gap_ns + length_ns, tuple(batch))
        weights = price.weigh(step)
        assert set(weights) == {work.prompt_id for work in batch}
        assert all(np.isfinite(mw) and mw >= 0 for pair in weights.values() for mw in pair)
        for work in batch:
            prefill_mw, decode_mw = weights[work.prompt_id]
            assert prefill_mw == 0 or work.prefill_tokens
            assert decode_mw == 0 or work.decode_tokens
        price.learn(Interval(now_ns, step.end_ns, energy_uj))
        now_ns = step.end_ns


@settings(deadline=None)
@given(st.lists(batches.filter(bool), min_size=1, max_size=12), st.integers(1, 500))
def test_splitting_a_batch_by_prompts_changes_no_total(history, length_ms):
    """All of a step's power is given out: before anything is learned that is 1 mW."""
    price = StepPrice(Model())
    for n, batch in enumerate(history):
        weights = price.weigh(Step(n * 10**9, n * 10**9 + length_ms * NS_PER_MS, tuple(batch)))
        assert sum(map(sum, weights.values())) == pytest.approx(1.0)


rows = st.lists(st.tuples(st.integers(0, 900), st.integers(1, 400), st.floats(0, 1e9), st.integers(0, 3)), max_size=20)


@settings(deadline=None)
@given(st.integers(0, 10**12), rows, st.floats(0, 1e9))
def test_steps_divide_a_delta_to_the_last_microjoule(energy_uj, told, floor_mw):
    delta = Delta(DEVICE, 100, 1_000, energy_uj)
    starts, lengths, powers, slices = (np.array(side) for side in zip(*told, strict=True)) if told else ([],) * 4
    steps = Steps(
        np.array(starts, np.int64),
        np.array(starts, np.int64) + np.array(lengths, np.int64),
        np.array(powers, np.float64),
        np.array(slices, np.int64),
    )
    claim = Claim(
        WARM, 1.0, None, np.array([0, 0, 300, 700]), np.array([2_000, 500, 800, 900]), np.ones(4), steps=steps
    )
    whole = attribute(delta, [claim], Others(), floor_mw)
    assert whole.total_uj == energy_uj
    profile = Profile(np.array([100, 400, 1_000]), np.array([energy_uj / 9e-4, energy_uj / 9e-4]))
    assert divide(delta, profile, [claim], Others()).total_uj == energy_uj


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 120),
            st.lists(
                st.tuples(st.integers(0, 3), st.floats(0, 1e6), st.floats(0, 1e6)), max_size=4, unique_by=lambda d: d[0]
            ),
            st.sampled_from(["", "", "end 0", "end 1", "tick", "commit", "restart"]),
        ),
        max_size=30,
    )
)
def test_receipts_add_up_to_the_account_whatever_happens_to_steps_and_meters(history):
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory), [gpu(counter((0, 317_123)))])
        bench.advance(1)  # an end at 0 is none
        ring = bench.worker(7, WARM, share=0.5)
        phases = PhaseBook(
            SliceBook(ring, BoardCache(bench.directory / "board", frozenset({GPU}), bench.clock), bench.clock)
        )
        books = bench.open()
        books.tick()
        requests = [phases.begin(request_account(f"t{n % 2}", "m", "1")) for n in range(4)]
        for length_ms, done, event in history:
            start_ns = bench.now_ns
            bench.advance(length_ms)
            phases.record(start_ns, bench.now_ns, [PhaseWork(requests[n], p, d, 1, 1) for n, p, d in done], 0.0)
            if event.startswith("end"):
                requests[int(event[-1])].end()
            elif event:
                books.tick()
            if event in ("commit", "restart"):
                books.commit()
            if event == "restart":
                books.journal.close()
                books = bench.open()
        for request in requests:
            request.end()
        bench.advance(1)
        books.tick()
        books.commit(final=True)
        bench.run(books, 200)
        books.commit(final=True)
        told = [request.told() for request in requests]
        posted = charged(books.journal.batches())
        assert all(told), "not settled"
        assert sum(each.whole.energy_uj for each in told) == posted.get("request/m", 0)
        assert all(each.prefill_uj + each.decode_uj == each.whole.energy_uj for each in told)
