"""A request that lasts for many steps of an engine: one receipt, told by phase.

One process, no Ray. A request has two slices for as long as it lasts, one for its prefill and one for its decode; what
each step drew for it is told to the meter in rows (app/ledger/step_rows.py) and priced here until the books have it.
The receipt bears the id of the first slice and is settled when both are. Nothing here raises or waits.

    work = phases.begin(account)                                       # when the request is accepted
    phases.record(start_ns, end_ns, [PhaseWork(work, prefill_mw, decode_mw, 0, 1), ...])     # after a step, or a few
    work.end()
    work.receipt_id, work.told()
"""

from collections.abc import Sequence
from typing import NamedTuple

from app.domain.account import Account
from app.engine.shares import NO_SHARES, Shares
from app.engine.slices import SliceBook, SliceEnergy
from app.ledger.ring import grades_text
from app.ledger.step_rows import Fact
from app.units import exact_carbon_ug


class PhasedEnergy(NamedTuple):
    """What a request used, as far as it is known."""

    whole: SliceEnergy
    prefill_uj: int
    decode_uj: int
    """Adds up with `prefill_uj` to the whole."""
    tokens: int
    """Made so far."""

    @property
    def uj_per_token(self) -> float | None:
        """Of the whole, prefill included, per token made; None before the first."""
        return per_token(self.whole.energy_uj, self.tokens)


class PhasedSlice:
    """A request of this process; ends once, then tells its energy. While it is open, what it used so far."""

    __slots__ = ("_book", "_ended_ns", "_expected_uj", "account", "begun_ns", "sequences", "tokens")

    def __init__(
        self, book: SliceBook | None, account: Account, sequences: tuple[int, int] = (0, 0), begun_ns: int = 0
    ) -> None:
        self._book, self.account, self.sequences, self.begun_ns = book, account, sequences, begun_ns
        self._ended_ns: int | None = None
        self._expected_uj = [0.0, 0.0]
        self.tokens = 0

    @property
    def receipt_id(self) -> str:
        """Under which the receipt is found; empty when metering is off."""
        return self._book.ring.receipt_id(self.sequences[0]) if self._book else ""

    @property
    def duration_ns(self) -> int:
        """From its beginning to its end, or to now while it is open; 0 when metering is off."""
        if self._book is None:
            return 0
        return (self._book.clock.monotonic_ns() if self._ended_ns is None else self._ended_ns) - self.begun_ns

    def end(self) -> None:
        """Nothing more is done for it; a second call does nothing."""
        book = self._book
        if book is None or self._ended_ns is not None:
            return
        self._ended_ns = book.clock.monotonic_ns()
        book.ring.assign(self.sequences[1], self.tokens)
        for sequence in self.sequences:
            book.ring.end(sequence, self._ended_ns)

    @property
    def is_settled(self) -> bool:
        """Whether the meter has booked all of it; False too when its records are no longer kept."""
        booked = self._booked()
        return booked is not None and booked[2]

    def energy(self) -> SliceEnergy | None:
        """Of all phases together; None if no meter tells anything."""
        told = self.told()
        return told.whole if told else None

    def told(self) -> PhasedEnergy | None:
        """The settled figures if the meter has booked them, else an estimate; None if no meter tells anything."""
        book, booked = self._book, self._booked()
        if book is None:
            return None
        shown = book.board.present()
        if booked is not None and booked[2]:
            return self._told(booked[0], grades_text(booked[1]), book.board.intensity_g_per_kwh, False)
        if shown is None:
            return None
        so_far = booked[0] if booked else (0, 0)
        expected = (round(self._expected_uj[0]), round(self._expected_uj[1]))
        best = expected if sum(expected) >= sum(so_far) else so_far
        return self._told(best, shown.grade, shown.intensity_g_per_kwh, True)

    def shares(self, told: SliceEnergy) -> Shares:
        """What the request carries of load and warm of its process, when its energy is as `told`; to be asked once."""
        return self._book.shares(told.energy_uj) if self._book else NO_SHARES

    def add(self, prefill_uj: float, decode_uj: float, tokens: int) -> None:
        """It used about so much more, and made so many tokens more."""
        self._expected_uj[0] += prefill_uj
        self._expected_uj[1] += decode_uj
        self.tokens += tokens

    def _booked(self) -> tuple[tuple[int, int], int, bool] | None:
        """(energy of each phase, grade bits, settled) as the meter has it; None if a record was overwritten."""
        if self._book is None:
            return None
        prefill, decode = (self._book.ring.energy(sequence) for sequence in self.sequences)
        if prefill is None or decode is None:
            return None
        return (prefill[0], decode[0]), prefill[1] | decode[1], prefill[2] and decode[2]

    def _told(self, phases_uj: tuple[int, int], grade: str, intensity: float, provisional: bool) -> PhasedEnergy:
        energy_uj = sum(phases_uj)
        whole = SliceEnergy(energy_uj, exact_carbon_ug(energy_uj, intensity), grade, provisional)
        return PhasedEnergy(whole, *phases_uj, self.tokens)


class PhaseWork(NamedTuple):
    """What one request drew over an interval, and what came of it."""

    work: PhasedSlice
    prefill_mw: float
    decode_mw: float
    prompt_tokens: int
    """Computed in it; those taken from a prefix cache are not."""
    new_tokens: int
    """Made in it."""


class PhaseBook:
    """The requests of this process that last for many steps."""

    def __init__(self, book: SliceBook) -> None:
        self._book = book

    def begin(self, account: Account) -> PhasedSlice:
        """A request begins now."""
        now_ns = self._book.mark()
        return PhasedSlice(self._book, account, self._book.ring.begin_phases(account, now_ns), now_ns)

    def record(self, start_ns: int, end_ns: int, done: Sequence[PhaseWork], device_mw: float) -> float:
        """Put an interval on the books that is over: what each of `done` drew while it lasted. Returns the microjoules
        that all of it is expected to have taken; 0 while no meter tells anything.

        Their powers compare with each other. `device_mw` is what each device of the process drew, as far as that is
        known, for estimates; 0: it is not.
        """
        rows: list[tuple[int, float]] = []
        whole_mw = 0.0
        for work, prefill_mw, decode_mw, _, _ in done:
            whole_mw += prefill_mw + decode_mw
            if prefill_mw > 0:
                rows.append((work.sequences[0], prefill_mw))
            if decode_mw > 0:
                rows.append((work.sequences[1], decode_mw))
        per_mw = 0.0
        if rows:
            self._book.ring.steps.tell(start_ns, end_ns, rows)
            per_mw = self._book.worth_uj(start_ns, end_ns, device_mw) / whole_mw
        for work, prefill_mw, decode_mw, _, new_tokens in done:
            work.add(prefill_mw * per_mw, decode_mw * per_mw, new_tokens)
        return whole_mw * per_mw

    def facts(self) -> list[Fact]:
        """What the books have charged to all of them, by interval, since this was asked last."""
        return self._book.ring.steps.facts()


def per_token(energy_uj: int, tokens: int) -> float | None:
    """Microjoules per token made, to three decimals; None of none."""
    return round(energy_uj / tokens, 3) if tokens > 0 else None
