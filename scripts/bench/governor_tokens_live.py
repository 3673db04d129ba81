"""The governor of concurrency on our engine, against fixed limits in the same run.

As many clients as the largest limit each ask for a text, read it as it comes, and ask for the next: prompts and texts
of mixed lengths, from a seed. So there is always somebody who waits under a smaller limit, and the limit alone decides
how long. Each fixed limit is measured before and after the governor, so that a machine that grows slower or faster
meanwhile does the same to both. Energy: engine_in_process.py.
"""

import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine_in_process import CLOCKS, ProcessEnergy, open_engine

from app.clock import Clock
from app.domain.generation import Ending, Prompt, Sampling, Step, Token
from app.models.generation.continuous import ContinuousEngine
from app.models.generation.options import EngineOptions
from app.policy.concurrency import ConcurrencyGovernor, TokenObjective, concurrency_grid
from app.policy.steps_seen import SeenSum, StepSeen, TokenTimes
from app.units import NS_PER_S

RATIO_BAR = 1.15
CLIENTS = 64
FIXED = (1, 2, 4, 8, 16, 24, 32, 48, 64)
QUICK_FIXED = (1, 8, 16, 32, 48, 64)
FIRST_TOKEN_S = 4.0
PROMPT_TOKENS, ANSWER_TOKENS = (16, 96), (16, 64)


@dataclass
class Window:
    """What was seen between two moments."""

    gap_s: float
    seen: SeenSum = field(default_factory=SeenSum)
    first_tokens_s: list[float] = field(default_factory=list)
    tokens_by_limit: Counter[int] = field(default_factory=Counter)

    def add(self, one: StepSeen, limit: int) -> None:
        self.seen.add(one, self.gap_s)
        self.tokens_by_limit[limit] += one.tokens
        self.first_tokens_s += one.first_tokens_s

    def row(self) -> dict[str, float]:
        waits_s = sorted(self.first_tokens_s) or [float("inf")]
        return {
            "uj_per_token": self.seen.energy_uj / max(self.seen.tokens, 1),
            "tokens_per_s": self.seen.tokens / max(self.seen.seconds, 1e-9),
            "gap_p90_ms": self.seen.gap_quantile_s(0.9) * 1e3,
            "late_gaps": self.seen.late_tokens / max(self.seen.gap_tokens, 1),
            "first_token_p95_s": waits_s[min(len(waits_s) - 1, round(0.95 * len(waits_s)))],
            "late_first_tokens": sum(wait_s > FIRST_TOKEN_S for wait_s in waits_s) / len(waits_s),
        }


class Clients:
    """Everybody who asks, and the listener of the engine that answers."""

    def __init__(self, gap_s: float, clock: Clock) -> None:
        self._clock = clock
        self.engine: ContinuousEngine | None = None
        self.governor: ConcurrencyGovernor | None = None
        self.window = Window(gap_s)
        self.limit = 0
        self.failed: list[str] = []
        self._times, self._energy = TokenTimes(), ProcessEnergy(clock)
        self._last_uj, self._asked = 0, 0
        self._chance = random.Random(1)
        self._lock = threading.Lock()

    def ask(self) -> None:
        assert self.engine is not None
        with self._lock:
            self._asked += 1
            prompt_id = str(self._asked)
            count, answer = self._chance.randint(*PROMPT_TOKENS), self._chance.randint(*ANSWER_TOKENS)
            tokens = tuple(self._chance.randrange(self.engine.vocabulary) for _ in range(count))
        self._times.asked(prompt_id, self._clock.monotonic_ns())
        self.engine.submit(Prompt(prompt_id, tokens, Sampling(max_tokens=answer, seed=self._asked)))

    def stepped(self, step: Step) -> None:
        assert self.engine is not None
        if seen := self._times.take(self._last_uj, self.engine.load.waiting):
            self.window.add(seen, self.limit)
            self._govern(seen)
        self._times.stepped(step)
        self._last_uj = self._energy.since_last()

    def tokens(self, prompt_id: str, tokens: Sequence[Token]) -> None:
        self._times.came(prompt_id, len(tokens))

    def ended(self, prompt_id: str, ending: Ending, reason: str) -> None:
        self._times.ended(prompt_id)
        if ending in ("stop", "length"):
            self.ask()
        elif ending == "failed":
            self.failed.append(reason)

    def _govern(self, seen: StepSeen) -> None:
        if self.governor is None:
            return
        self.governor.observe(seen)
        self.set_limit(self.governor.limit())

    def set_limit(self, limit: int) -> None:
        if limit != self.limit and self.engine is not None:
            self.limit = limit
            self.engine.limit(limit)

    def measure(self, seconds: float) -> Window:
        """What happens from now on."""
        self.window = window = Window(self.window.gap_s)
        self.wait(seconds)
        self.window = Window(window.gap_s)
        return window

    def wait(self, seconds: float) -> None:
        """On the engine's clock."""
        until_ns = self._clock.monotonic_ns() + round(seconds * NS_PER_S)
        while self._clock.monotonic_ns() < until_ns:
            time.sleep(0.02)

    def fixed(self, limit: int, settle_s: float, seconds: float) -> dict[str, float]:
        self.set_limit(limit)
        self.wait(settle_s)
        return {"limit": limit} | self.measure(seconds).row()


def run(model: Path | None, gap_ms: float, quick: bool, clock: str) -> tuple[dict[str, Any], bool]:
    limits = QUICK_FIXED if quick else FIXED
    settle_s, seconds, learning_s, governed_s = (1.0, 2.5, 24.0, 15.0) if quick else (2.0, 8.0, 60.0, 40.0)
    clients = Clients(gap_ms / 1e3, CLOCKS[clock])
    options = EngineOptions(max_sequences=CLIENTS, max_queued=CLIENTS, prefix_cache_share=0)
    with open_engine(model, clients, options, CLOCKS[clock]) as engine:
        clients.engine = engine
        for _ in range(CLIENTS):
            clients.ask()
        sweeps = [[clients.fixed(limit, settle_s, seconds) for limit in limits]]
        objective = TokenObjective(gap_s=gap_ms / 1e3, first_token_s=FIRST_TOKEN_S)
        clients.governor = governor = ConcurrencyGovernor(objective, concurrency_grid(CLIENTS))
        learning = clients.measure(learning_s)
        governed = clients.measure(governed_s)
        clients.governor = None
        sweeps.append([clients.fixed(limit, settle_s, seconds) for limit in reversed(limits)])
        told = governor.explain()
    if clients.failed:
        raise RuntimeError(f"the engine failed: {clients.failed[0]}")
    for one in told.alternatives:
        waits = "not known" if one.late_first_tokens is None else f"{one.late_first_tokens:.1%}"
        verdict = "meets" if one.meets else "misses" if one.misses else "not sure"
        print(f"learnt: {one.limit:3d} {one.uj_per_token:7.0f} uJ, late {one.late_gaps:.1%}, first {waits}: {verdict}")
    return compared(
        _means(sweeps), learning.row(), governed.row(), governed.tokens_by_limit, gap_ms, told.limit, told.reason
    )


def _means(sweeps: Sequence[Sequence[dict[str, float]]]) -> list[dict[str, float]]:
    before, after = ({row["limit"]: row for row in sweep} for sweep in sweeps)
    return [
        {name: statistics.mean((before[limit][name], after[limit][name])) for name in row}
        for limit, row in before.items()
    ]


def _meets(row: dict[str, float]) -> bool:
    return row["late_gaps"] <= 0.1 and row["late_first_tokens"] <= 0.05


def compared(
    sweep: list[dict[str, float]],
    learning: dict[str, float],
    governed: dict[str, float],
    used: Counter[int],
    gap_ms: float,
    limit: int,
    reason: str,
) -> tuple[dict[str, Any], bool]:
    print(f"{CLIENTS} clients; gaps of {gap_ms:g} ms at p90, first tokens after {FIRST_TOKEN_S:g} s at p95")
    print("   limit  uJ/token  tokens/s  gap p90 ms    late  first token p95 s    late  objectives")
    named = [(f"{row['limit']:.0f}", row) for row in sweep] + [("learning", learning), ("governed", governed)]
    for name, row in named:
        print(
            f"{name:>8s} {row['uj_per_token']:9.0f} {row['tokens_per_s']:9.1f} {row['gap_p90_ms']:11.1f} "
            f"{row['late_gaps']:7.1%} {row['first_token_p95_s']:18.2f} {row['late_first_tokens']:7.1%}  "
            f"{'met' if _meets(row) else 'missed'}"
        )
    shares = ", ".join(f"{count / used.total():.0%} under {one}" for one, count in used.most_common())
    print(f"governed tokens: {shares}; the governor ended at {limit}: {reason}")
    result = {"gap_p90_ms": gap_ms, "first_token_p95_s": FIRST_TOKEN_S, "sweep": sweep, "learning": learning}
    result |= {"governed": governed, "limit": limit, "tokens_by_limit": dict(used)}
    feasible = [row["uj_per_token"] for row in sweep if _meets(row)]
    if not feasible:
        print("no fixed limit meets the objectives: the machine is too busy or too slow to tell")
        return result | {"ratio": None}, False
    ratio = governed["uj_per_token"] / min(feasible)
    met = ratio <= RATIO_BAR and _meets(governed)
    print(f"{ratio:.3f} x the best fixed limit (bar {RATIO_BAR}): {'met' if met else 'MISSED'}")
    return result | {"ratio": ratio}, met
