"""How a generation engine puts its steps on the books: who took part in each, at what price, under one receipt.

Knows nothing of engines but their steps. Never raises, never waits; with metering off it only counts tokens.

    steps = StepClient(client, StepPrice(engine.geometry))
    work = steps.begin(account, ["p-1", "p-2"])     # a request and its prompts, before they are submitted
    steps.stepped(step)                             # from Listener.stepped
    steps.tokens("p-1", 1)                          # from Listener.tokens
    steps.ended("p-1")                              # from Listener.ended, in any case
    work.receipt_id, work.told()                    # what it used so far, or all of it

Short steps are told together, up to 20 ms of decode, up to 5 ms with prompts in them: a row costs half a microsecond,
and a meter reads ten times a second.
"""

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from app.domain.account import Account
from app.domain.generation import Step
from app.engine.phases import PhasedSlice, PhaseWork
from app.policy.step_price import LONGEST_GAP_NS, Interval, StepPrice
from app.units import NS_PER_MS

if TYPE_CHECKING:
    from app.metering.client import WorkClient

_TOGETHER_NS, _PREFILL_TOGETHER_NS = 20 * NS_PER_MS, 5 * NS_PER_MS


class _Sum:
    """What one request drew since steps were told last."""

    __slots__ = ("decode_mw_ns", "new_tokens", "prefill_mw_ns", "prompt_tokens")

    def __init__(self) -> None:
        self.prefill_mw_ns = self.decode_mw_ns = 0.0
        self.prompt_tokens = self.new_tokens = 0


class StepClient:
    """The steps of one engine, for the client of its process. Safe from several threads."""

    def __init__(self, client: "WorkClient", price: StepPrice) -> None:
        self._client, self._price = client, price
        self._works: dict[str, PhasedSlice] = {}
        self._open_prompts: dict[PhasedSlice, int] = {}
        self._sums: dict[PhasedSlice, _Sum] = {}
        self._start_ns: int | None = None
        """Since when steps are added up; None: none are."""
        self._end_ns = self._told_ns = self._worked_ns = 0
        """When the last step ended, the last that was told, and the time of those that are added up."""
        self._has_prefill = False
        """Whether those that are added up have prompts in them."""
        self.expected_uj = 0.0
        """What all steps told so far are expected to have taken."""
        self._lock = threading.Lock()

    def begin(self, account: Account, prompt_ids: Iterable[str]) -> PhasedSlice:
        """A request of one or more prompts begins; it ends with the last of them."""
        work = self._client.begin_phases(account)
        with self._lock:
            ids = dict.fromkeys(prompt_ids, work)
            self._open_prompts[work] = len(ids)
            self._works |= ids
        return work

    def tokens(self, prompt_id: str, count: int) -> None:
        """A prompt has so many new tokens."""
        with self._lock:
            work = self._works.get(prompt_id)
            if work is not None:
                self._sum_of(work).new_tokens += count

    def ended(self, prompt_id: str) -> None:
        """Nothing more will be done for a prompt; of an unknown one nothing happens."""
        with self._lock:
            work = self._works.pop(prompt_id, None)
            if work is None:
                return
            self._open_prompts[work] -= 1
            if not self._open_prompts[work]:
                del self._open_prompts[work]
                if work in self._sums:
                    self._tell()
                work.end()

    def stepped(self, step: Step) -> None:
        """A pass was made. What it did for prompts that have ended is shared by the others."""
        with self._lock:
            has_prefill = any(done.prefill_tokens for done in step.works)
            if step.start_ns - self._end_ns > _TOGETHER_NS or has_prefill is not self._has_prefill:
                self._tell()
            self._has_prefill = has_prefill
            powers = self._price.weigh(step)
            duration_ns = step.end_ns - step.start_ns
            start_ns = self._start_ns = step.start_ns if self._start_ns is None else self._start_ns
            self._end_ns = step.end_ns
            self._worked_ns += duration_ns
            for done in step.works:
                work = self._works.get(done.prompt_id)
                if work is not None:
                    prefill_mw, decode_mw = powers[done.prompt_id]
                    found = self._sum_of(work)
                    found.prefill_mw_ns += prefill_mw * duration_ns
                    found.decode_mw_ns += decode_mw * duration_ns
                    found.prompt_tokens += done.prefill_tokens
            if step.end_ns - start_ns >= (_PREFILL_TOGETHER_NS if has_prefill else _TOGETHER_NS):
                self._tell()

    def _sum_of(self, work: PhasedSlice) -> _Sum:
        found = self._sums.get(work)
        if found is None:
            found = self._sums[work] = _Sum()
        return found

    def _tell(self) -> None:
        """Put what was added up on the books, and learn from what they say."""
        sums, start_ns = self._sums, self._end_ns if self._start_ns is None else self._start_ns
        length_ns = max(1, self._end_ns - start_ns)
        device_mw = self._device_mw(sums.values(), start_ns, length_ns)
        self._sums, self._start_ns, self._told_ns, self._worked_ns = {}, None, self._end_ns, 0
        if sums:
            done = [
                PhaseWork(
                    work,
                    each.prefill_mw_ns / length_ns,
                    each.decode_mw_ns / length_ns,
                    each.prompt_tokens,
                    each.new_tokens,
                )
                for work, each in sums.items()
            ]
            self.expected_uj += self._client.record_steps(start_ns, self._end_ns, done, device_mw)
        for fact in self._client.step_facts():
            self._price.learn(Interval(*fact))

    def _device_mw(self, sums: Iterable[_Sum], start_ns: int, length_ns: int) -> float:
        """What a device draws for the steps that are added up, the pauses in and before them included; 0: not known."""
        if not self._price.is_learned:
            return 0.0
        steps_mw_ns = sum(each.prefill_mw_ns + each.decode_mw_ns for each in sums)
        before_ns = start_ns - self._told_ns
        pauses_ns = length_ns - self._worked_ns + (before_ns if before_ns <= LONGEST_GAP_NS else 0)
        return (steps_mw_ns + self._price.powers.between_mw * pauses_ns) / length_ns
