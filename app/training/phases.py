"""The phases of a worker as slices without gaps, and what they used.

Knows nothing of Ray or torch; the client that opens slices is an argument (`WorkClient` in a cluster, a
fake in tests). The next phase begins when the last ends, so that the worker's whole time is covered by its
job.

    phases = Phases(client, job_account("default", "digits-1", attempt=1))
    phases.enter("setup")
    phases.enter("step", weight=32, epoch=1)
    phases.enter("evaluate", epoch=1)
    usage = phases.usage_since_last()                 # phase -> Usage of slices that ended since the last call
    phases.close()
"""

import itertools
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from app.domain.account import Account

Phase = Literal["setup", "step", "evaluate", "checkpoint", "progress"]
_ASKED_SLICES = 8192  # beyond it, the oldest are final, also where no meter ever came
_KEPT_SLICES = 65_536  # beyond it the oldest unsettled slices count with what they have


class SliceFigures(Protocol):
    """What a slice has used so far (`SliceEnergy` of the metering client)."""

    @property
    def energy_uj(self) -> int: ...
    @property
    def carbon_ugco2e(self) -> float: ...
    @property
    def grade(self) -> str: ...
    @property
    def provisional(self) -> bool: ...


class OpenSlice(Protocol):
    """An interval of work."""

    @property
    def booked_uj(self) -> int: ...
    def end(self) -> None: ...
    def energy(self) -> SliceFigures | None: ...


class SliceClient(Protocol):
    """Opens slices. Never raises and never blocks, also without a meter."""

    def begin(self, account: Account, weight: float = 1.0, part: int = 0) -> OpenSlice: ...


@dataclass(frozen=True, slots=True)
class Usage:
    """What a number of slices used together; they add up. `known` of `slices` have a figure."""

    energy_uj: int = 0
    carbon_ugco2e: float = 0.0
    slices: int = 0
    known: int = 0
    provisional: bool = False
    grades: frozenset[str] = field(default=frozenset())

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.energy_uj + other.energy_uj,
            self.carbon_ugco2e + other.carbon_ugco2e,
            self.slices + other.slices,
            self.known + other.known,
            self.provisional or other.provisional,
            self.grades | other.grades,
        )

    @property
    def grade(self) -> str:
        """All grades in it joined by `+`; `none` when nothing is known."""
        return "+".join(sorted(self.grades)) or "none"


class Phases:
    """Opens one slice after the other and adds up what they used. One thread."""

    def __init__(self, client: SliceClient, account: Account) -> None:
        self._client, self._account = client, account
        self._current: tuple[Phase, OpenSlice] | None = None
        self._recent: list[tuple[Phase, OpenSlice]] = []
        self._unsettled: deque[tuple[Phase, OpenSlice]] = deque()
        self._settled: dict[Phase, Usage] = {}
        # Of the recent ones the first few, as many as are final, so that nobody asks them twice.
        self._final, self._final_usage = 0, Usage()

    def enter(self, phase: Phase, weight: float = 1.0, epoch: int = 0) -> None:
        """End the current phase and begin `phase` of `epoch`, from 1; 0: it belongs to none."""
        self._end_current()
        self._current = (phase, self._client.begin(self._account, weight, part=epoch))

    def close(self) -> None:
        """End the current phase; nothing follows. Safe to call twice."""
        self._end_current()

    def usage_since_last(self) -> dict[Phase, Usage]:
        """By phase, of the slices that ended since the last call. Figures just ended are provisional."""
        recent, self._recent = self._recent, []
        self._final, self._final_usage = 0, Usage()
        self._unsettled.extend(recent)
        self._settle()
        return _sum(recent)

    def latest(self, phase: Phase, most: int = 64) -> Usage:
        """Of the last slices of `phase`, `most` at most, that ended since `usage_since_last` was called."""
        ended = (piece for kind, piece in reversed(self._recent) if kind == phase)
        return sum((_usage_of(piece.energy()) for piece in itertools.islice(ended, most)), Usage())

    def so_far(self) -> tuple[Usage, Usage]:
        """Of all slices, the one that is open included: what the meter has charged to them, and what they will come to.

        The meter is behind by what it takes to settle; the second adds its estimate of that.
        """
        self._settle()
        while self._final < len(self._recent):
            figures = self._recent[self._final][1].energy()
            if (figures is None or figures.provisional) and len(self._recent) - self._final <= _ASKED_SLICES:
                break
            self._final_usage, self._final = self._final_usage + _usage_of(figures), self._final + 1
        settled = sum(self._settled.values(), self._final_usage)
        current = [self._current] if self._current else []
        rest = [piece for _, piece in (*self._unsettled, *self._recent[self._final :], *current)]
        charged = sum((_charged_part(piece) for piece in rest), settled)
        return charged, sum((_usage_of(piece.energy()) for piece in rest), settled)

    def usage(self) -> dict[Phase, Usage]:
        """By phase, of all slices that have ended, as settled as they are now."""
        self.usage_since_last()
        return merge([self._settled, _sum(self._unsettled)])

    def _end_current(self) -> None:
        if self._current is not None:
            self._current[1].end()
            self._recent.append(self._current)
            self._current = None

    def _settle(self) -> None:
        """Fold slices whose figures are final, oldest first, so that a long job keeps few of them."""
        while self._unsettled:
            phase, oldest = self._unsettled[0]
            figures = oldest.energy()
            if (figures is None or figures.provisional) and len(self._unsettled) <= _KEPT_SLICES:
                return
            self._unsettled.popleft()
            self._settled[phase] = self._settled.get(phase, Usage()) + _usage_of(figures)


def merge(parts: Iterable[dict[Phase, Usage]]) -> dict[Phase, Usage]:
    """Several workers' usage by phase, added up."""
    total: dict[Phase, Usage] = {}
    for part in parts:
        for phase, usage in part.items():
            total[phase] = total.get(phase, Usage()) + usage
    return total


def _sum(slices: Iterable[tuple[Phase, OpenSlice]]) -> dict[Phase, Usage]:
    return merge({phase: _usage_of(piece.energy())} for phase, piece in slices)


def _usage_of(figures: SliceFigures | None) -> Usage:
    if figures is None:
        return Usage(slices=1)
    return Usage(figures.energy_uj, figures.carbon_ugco2e, 1, 1, figures.provisional, frozenset({figures.grade}))


def _charged_part(piece: OpenSlice) -> Usage:
    """What the meter has charged to a slice that is not settled, carbon in proportion."""
    figures, booked_uj = piece.energy(), piece.booked_uj
    if figures is None or not booked_uj:
        return Usage()
    return Usage(booked_uj, figures.carbon_ugco2e * booked_uj / max(1, figures.energy_uj))
