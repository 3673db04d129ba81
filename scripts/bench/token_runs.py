"""Engines of known truth on stand-in GPUs, in real time: the meter and the replicas measure, nobody is told the powers.

Knows nothing of verdicts. A device for every plan, all at once; a meter process and a replica process, as in
accuracy.py.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from side_by_side import Books, Cast, our_environment, read_books, stand_in

from tests.fixtures.token_truth import Plan, Truth
from tests.stubs.nvml.stub import StubDevice, StubScript

NS_PER_S = 1_000_000_000
_SETTLE_S = 5.0


@dataclass(frozen=True)
class TokenRun:
    """One plan and what the books say of it."""

    plan: Plan
    told: Mapping[str, Mapping[str, float | None]]
    """By request: prefill_uj, decode_uj of its settled receipt, provisional_uj as told at its end, None: not told; and
    late_ms, how late the replica was at worst to tell a step of it."""
    books: Books
    powers_mw: Mapping[str, float]
    """Of the phases, as the prices had them in the end."""

    @property
    def pairs(self) -> list[tuple[Truth, Mapping[str, float | None]]]:
        return [(truth, self.told[name]) for name, truth in self.plan.truth.items()]

    @property
    def sum_error_uj(self) -> int:
        """Receipts minus what was posted to requests."""
        return sum((told["prefill_uj"] or 0) + (told["decode_uj"] or 0) for _, told in self.pairs) - self.books.work_uj


def shifted(plan: Plan, by_ns: int) -> Plan:
    """The plan on the clock."""
    steps = [replace(step, start_ns=step.start_ns + by_ns, end_ns=step.end_ns + by_ns) for step in plan.steps]
    return replace(plan, steps=steps, phases=[(at_ns + by_ns, power_mw) for at_ns, power_mw in plan.phases])


def said(plan: Plan) -> dict:
    """What an engine says: no powers."""
    return {
        "steps": [
            [
                step.start_ns,
                step.end_ns,
                [
                    [work.prompt_id, work.prefill_tokens, work.decode_tokens, work.context_tokens, work.cached_tokens]
                    for work in step.works
                ],
                plan.first_in.get(n, []),
                plan.last_in.get(n, []),
            ]
            for n, step in enumerate(plan.steps)
        ]
    }


def run_plans(directory: Path, plans: Sequence[Plan], tick_ms: float, lib: Path | None) -> list[TokenRun]:
    """Play `plans` side by side. They begin two seconds after everybody is ready."""
    stub = stand_in(directory, lib)
    born_ns = time.monotonic_ns()

    def write(playing: Sequence[Plan]) -> None:
        idle = [[(born_ns, plan.phases[0][1])] for plan in plans]
        phases = [before + plan.phases for before, plan in zip(idle, playing, strict=True)] if playing else idle
        stub.write(StubScript(tuple(StubDevice(phases=tuple(own)) for own in phases), tick_ms))

    write([])
    uuids = [StubScript(tuple(StubDevice() for _ in plans)).uuid(n) for n in range(len(plans))]
    with Cast(directory, our_environment(stub, directory)) as cast:
        cast.start("meter", sys.executable, "joulekeeper_meter.py", "show")
        cast.start("replica", sys.executable, "joulekeeper_tokens.py", ",".join(uuids))
        for name in cast.processes:
            cast.hear(name, "ready")
        at_ns = time.monotonic_ns() + 2 * NS_PER_S
        placed = [shifted(plan, at_ns) for plan in plans]
        write(placed)
        for n, plan in enumerate(placed):
            (directory / f"plan.{n}.json").write_text(json.dumps(said(plan)))
        cast.tell("plan", {})
        left_s = (max(plan.steps[-1].end_ns for plan in placed) - time.monotonic_ns()) / NS_PER_S
        cast.hear("replica", "played", left_s + 60)
        time.sleep(_SETTLE_S)
        cast.tell("stop", {})
        cast.hear("meter", "answer")
        cast.tell("booked", {})
        answers = cast.hear("replica", "answer")
        books = read_books(directory / "state" / "journal", uuids, at_ns)
    return [
        TokenRun(plan, answers[str(n)]["requests"], books[n], answers[str(n)]["powers_mw"])
        for n, plan in enumerate(placed)
    ]
