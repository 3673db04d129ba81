"""The audit: what batches say, recomputed from raw readings, held against everything that was derived from them.

Pure: tallies and figures in, faults out. Knows nothing of databases or Ray.

Per device and account these must agree to the microjoule: the movement of the counter recomputed from raw readings, the
postings, the running totals and the balances. The chain of digests must be unbroken, consecutive batches must join
without a hole, and no two meters may have booked one device over the same time.
"""

from collections import defaultdict
from collections.abc import Mapping
from operator import itemgetter

from app.ledger.tally import (
    MAX_FAULTS,
    ChainTally,
    DeviceTally,
    Gap,
    PartKey,
    Witness,
    account_text,
    movement_of,
    tally_chain,
)

__all__ = ["MAX_FAULTS", "ChainTally", "DeviceTally", "Gap", "Whole", "Witness", "account_text", "movement_of"]
__all__ += ["tally_chain"]

LineKey = tuple[str, str, str]
"""Device, account as text, grade."""

TOLERANCE_NS = 1_000_000_000
"""Spans of two meters that overlap by less may follow each other: a counter's stamp is as late as its last update."""


class Whole:
    """All tallies of the books added up; tallies themselves are let go one by one."""

    def __init__(self) -> None:
        self.devices: dict[str, DeviceTally] = defaultdict(DeviceTally)
        self.gaps: list[Gap] = []
        self.gaps_left_out = 0
        self.faults: list[str] = []
        self._postings: dict[LineKey, int] = defaultdict(int)
        self._parts: dict[PartKey, tuple[int, int]] = {}
        self._spans: dict[str, list[tuple[int, int, str]]] = defaultdict(list)

    def add(self, tally: ChainTally) -> None:
        """Take in what one meter's batches say."""
        self.faults += tally.faults
        self.gaps += tally.gaps
        self.gaps_left_out += tally.gaps_left_out
        for key, device in tally.devices.items():
            self.devices[key].add(device)
            if device.first_ns is not None and device.last is not None:
                self._spans[key].append((device.first_ns, device.last[0], tally.meter))
        for line, energy_uj in tally.postings.items():
            self._postings[line] += energy_uj
        for part, (energy_uj, time_ns) in tally.parts.items():
            before_uj, before_ns = self._parts.get(part, (0, 0))
            self._parts[part] = (before_uj + energy_uj, before_ns + time_ns)

    def compare_balances(self, balances: Mapping[LineKey, int], what: str = "balance") -> list[str]:
        """Faults where the balances (or running totals) are not the sum of the batches' postings."""
        return [
            f"{device}: account {account}, grade {grade}, has a {what} of {balances.get((device, account, grade), 0)} "
            f"uJ, its postings add up to {self._postings.get((device, account, grade), 0)} uJ; "
            f"the {what}s were altered"
            for device, account, grade in sorted(self._postings.keys() | balances.keys())
            if balances.get((device, account, grade), 0) != self._postings.get((device, account, grade), 0)
        ]

    def compare_parts(self, stored: Mapping[PartKey, tuple[int, int]]) -> list[str]:
        """Faults where what is stored of the parts of jobs is not what the batches say."""
        return [
            f"part {part} of worker {worker}, account {account}: {stored.get(key, (0, 0))[0]} uJ are stored, "
            f"the batches say {self._parts.get(key, (0, 0))[0]} uJ; the parts were altered"
            for key in sorted(self._parts.keys() | stored.keys())
            if stored.get(key, (0, 0)) != self._parts.get(key, (0, 0))
            for account, worker, part in [key]
        ]

    def compare_spans(self, stored: Mapping[tuple[str, str], tuple[int, int]]) -> list[str]:
        """Faults where what is stored of who booked a device, from when to when, is not what the batches say."""
        said = {(key, meter): (first, last) for key, spans in self._spans.items() for first, last, meter in spans}
        return [
            f"{device}: meter {meter} booked it over {said.get((device, meter))} ns, "
            f"the store says {stored.get((device, meter))}; the spans were altered"
            for device, meter in sorted(said.keys() | stored.keys())
            if said.get((device, meter)) != stored.get((device, meter))
        ]

    def booked_by(self) -> list[tuple[str, str]]:
        """Device and meter of everything that was booked."""
        return [(device, meter) for device, spans in self._spans.items() for _, _, meter in spans]

    def overlaps(self) -> list[str]:
        """Faults where two meters booked one device over the same time."""
        faults = []
        for device, spans in sorted(self._spans.items()):
            spans.sort()
            longest = spans[0]
            for span in spans[1:]:
                shared_ns = min(longest[1], span[1]) - span[0]
                if shared_ns > TOLERANCE_NS:
                    faults.append(
                        f"{device}: meters {longest[2]} and {span[2]} both booked {shared_ns / 1e9:.1f} s of it; "
                        "that energy counts twice: one host must have one state directory"
                    )
                longest = max(longest, span, key=itemgetter(1))
        return faults
