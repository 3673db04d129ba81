"""Postings of the batch that is being built: sums by device, account and grade. Knows nothing of journals."""

from collections.abc import Sequence
from typing import Any

from app.domain.account import FOREIGN, IDLE_WATCHED, Account
from app.domain.reading import Delta, Grade
from app.engine.ring_watch import WatchedRing
from app.ledger.attribution import NOBODY, Attribution, Claim

Credits = Sequence[tuple[WatchedRing, Claim, dict[int, int]]]
"""For each claim, who made it and the energy of its slices by the number of their account."""


class PostingSums:
    """Energy and uncertainty, added up until a batch takes them."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, Account, Grade], list[int]] = {}

    def add(self, delta: Delta, grade: Grade, result: Attribution, credits: Credits) -> None:
        """Take in one divided delta."""
        sums: dict[tuple[Account, Grade], list[int]] = {}
        for account, energy_uj in result.by_account.items():
            sums[account, grade] = [energy_uj, 0]
        for account, energy_uj in result.apportioned.items():
            sums[account, Grade.APPORTIONED] = [energy_uj, 0]
        for ring, claim, by_owner in credits:
            for owner, energy_uj in by_owner.items():
                key = ring.reader.account(owner), Grade.APPORTIONED if claim.apportioned else grade
                sums.setdefault(key, [0, 0])[0] += energy_uj
        self._doubt(sums, delta, grade, result, credits)
        for (account, graded), (energy_uj, doubt_uj) in sums.items():
            entry = self._sums.setdefault((delta.device.key, account, graded), [0, 0])
            entry[0] += energy_uj
            entry[1] += min(doubt_uj, delta.energy_uj)

    def _doubt(
        self,
        sums: dict[tuple[Account, Grade], list[int]],
        delta: Delta,
        grade: Grade,
        result: Attribution,
        credits: Credits,
    ) -> None:
        if result.doubt_uj is None:
            if len(sums) > 1 and 0 < result.covered_ns < delta.duration_ns:
                for entry in sums.values():
                    entry[1] = min(entry[0], delta.energy_uj - entry[0])
            return
        for (index, owner), doubt_uj in result.doubt_uj.items():
            account, graded = IDLE_WATCHED, grade
            if index != NOBODY:
                ring, claim, _ = credits[index]
                account = claim.resident if owner == NOBODY else ring.reader.account(owner)
                graded = Grade.APPORTIONED if claim.apportioned else grade
            sums.setdefault((account, graded), [0, 0])[1] += doubt_uj
        if (FOREIGN, grade) in sums:
            part_uj = sums[FOREIGN, grade][0]
            sums[FOREIGN, grade][1] = min(part_uj, delta.energy_uj - part_uj)

    def records(self) -> list[dict[str, Any]]:
        """The postings for a batch."""
        return [
            {
                "device": key,
                "account": account.labels(),
                "grade": grade.value,
                "energy_uj": energy_uj,
                "uncertainty_uj": uncertainty_uj,
            }
            for (key, account, grade), (energy_uj, uncertainty_uj) in self._sums.items()
            if energy_uj or uncertainty_uj
        ]

    def clear(self) -> None:
        """Forget what a batch has taken."""
        self._sums.clear()
