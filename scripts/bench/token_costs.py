"""What it costs to put the steps of an engine on the books: the replica's end and the meter's, CPU time.

In simulated time with real rings, prices and books; 64 sequences decode in every step, and one reads its prompt.
"""

import tempfile
import time
from pathlib import Path

from app.domain.account import request_account
from app.domain.generation import Step, Work
from app.units import NS_PER_MS
from tests.fixtures.token_truth import Machine, Model, Plan
from tests.fixtures.token_world import TokenWorld

_SEQUENCES, _STEP_MS, _STEPS = 64, 25, 2_000


def recording_us() -> dict[str, float]:
    """step_us: of the replica for a step, price_us of it for prices; tick_ms: of the meter for a tick."""
    steps = [_step(n) for n in range(_STEPS)]
    plan = Plan("costs", Model(), steps, [(0, Machine().floor_mw), (NS_PER_MS, Machine().decode_mw)])
    with tempfile.TemporaryDirectory(prefix="token-costs-") as directory:
        world = TokenWorld(Path(directory), plan)
        books = world.bench.open()
        names = {work.prompt_id for step in steps for work in step.works}
        for name in sorted(names):
            world.steps.begin(request_account("t", "m", "1"), [name])
        told_s = tick_s = 0.0
        ticks, next_tick_ns = 0, 100 * NS_PER_MS
        for step in steps:
            world.bench.clock.advance(step.end_ns - world.bench.now_ns)
            begun = time.thread_time()
            world.steps.stepped(step)
            for work in step.works:
                world.steps.tokens(work.prompt_id, 1)
            told_s += time.thread_time() - begun
            if step.end_ns >= next_tick_ns:
                begun = time.thread_time()
                books.tick()
                tick_s += time.thread_time() - begun
                ticks, next_tick_ns = ticks + 1, next_tick_ns + 100 * NS_PER_MS
                if ticks % 10 == 0:
                    books.commit()
        begun = time.thread_time()
        for step in steps:
            world.price.weigh(step)
        price_s = time.thread_time() - begun
    return {
        "step_us": told_s / _STEPS * 1e6,
        "price_us": price_s / _STEPS * 1e6,
        "tick_ms": tick_s / ticks * 1e3,
        "steps_per_s": 1_000 / _STEP_MS,
    }


def _step(n: int) -> Step:
    works = [Work(f"d{each}", 0, 1, 100 + n, 0) for each in range(_SEQUENCES)]
    start_ns = (n * _STEP_MS + 1) * NS_PER_MS
    return Step(start_ns, start_ns + (_STEP_MS - 1) * NS_PER_MS, (*works, Work("p", 64, 0, 64 * (n % 8), 0)))
