"""Whether an energy counter agrees with the power that the same device tells: a ratio and a verdict, kept up for ever.

Pure: instants, counter values and power come in as arguments. NVML documents +-5 % for power and nothing for the
counter; two figures that are each within 5 % differ by up to 10 %, which is the tolerance. More than that, beyond what
sampling can explain, is a disagreement. Who is right it cannot say: on A100 and H100 the power sensor itself looks a
quarter of the time (arXiv:2312.02741, read 2026-11-22), and both figures may come from that one sensor.

    check = CounterCheck()
    check.add(counter_at_ns, counter_uj, power_at_ns, power_mw)    # about once a second, at uneven times
    check.verdict, check.ratio
"""

from dataclasses import dataclass
from enum import StrEnum
from math import sqrt

from app.units import NS_PER_MS, NS_PER_S

TOLERANCE = 0.10
_AGREES_AGAIN = 0.08
"""A dispute ends below this, so that a ratio near the tolerance does not flap."""
_WINDOWS_TO_CHANGE = 2
_ENOUGH_SAMPLES = 30
_ENOUGH_CERTAINTY = 0.02
_SHORTEST_NS = NS_PER_S // 4
_LONGEST_NS = 600 * NS_PER_S
_LARGEST_GAP_NS = 5 * NS_PER_S
# Power fields are refreshed about every 100 ms: closer samples are no new evidence.
_INDEPENDENT_NS = 100 * NS_PER_MS
_STANDARD_ERRORS = 3
_LEAST_POWER_MW = 1_000
_MW_NS_PER_UJ = 1_000_000


class Verdict(StrEnum):
    """What the check found so far."""

    AGREES = "agrees"
    DISAGREES = "disagrees"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class _Sample:
    counter_at_ns: int
    counter_uj: int
    power_at_ns: int
    power_mw: int


class CounterCheck:
    """One device. A window is closed when it is certain enough, and two in a row decide.

    `slack_ns`: how far the time of a counter value may be off against that of the power.
    """

    def __init__(self, slack_ns: int = 0) -> None:
        self._slack_ns = slack_ns
        self.verdict = Verdict.UNKNOWN
        self.ratio: float | None = None
        """Mean power by the counter over mean power by the sensor, of the last window closed. None: none closed yet."""
        self._leaning = Verdict.UNKNOWN
        self._leant = 0
        self._first: _Sample | None = None
        self._last: _Sample | None = None
        self._area = self._squares = 0.0
        self._samples = 0

    def add(self, counter_at_ns: int, counter_uj: int, power_at_ns: int, power_mw: int) -> None:
        """One reading of both. A gap in time or a counter that fell begins the window anew."""
        sample = _Sample(counter_at_ns, counter_uj, power_at_ns, power_mw)
        last = self._last
        if last is None or counter_uj < last.counter_uj or power_at_ns - last.power_at_ns > _LARGEST_GAP_NS:
            self._begin(sample)
            return
        if counter_at_ns <= last.counter_at_ns or power_at_ns <= last.power_at_ns:
            return
        width_ns = power_at_ns - last.power_at_ns
        mean_mw = (last.power_mw + power_mw) / 2
        self._area += mean_mw * width_ns
        self._squares += mean_mw * mean_mw * width_ns
        self._samples += 1
        self._last = sample
        self._close_if_certain()

    def restart(self) -> None:
        """Forget the open window: clock, device or counter were interrupted."""
        self._begin(None)

    def _begin(self, sample: _Sample | None) -> None:
        self._first = self._last = sample
        self._area = self._squares = 0.0
        self._samples = 0

    def _close_if_certain(self) -> None:
        first, last = self._first, self._last
        if first is None or last is None:
            return
        duration_ns = last.power_at_ns - first.power_at_ns
        mean_mw = self._area / duration_ns
        enough = self._samples >= _ENOUGH_SAMPLES and duration_ns >= _SHORTEST_NS
        doubt = self._doubt(mean_mw, duration_ns) if mean_mw else 1.0
        if not (enough and doubt <= _ENOUGH_CERTAINTY) and duration_ns < _LONGEST_NS:
            return
        if mean_mw >= _LEAST_POWER_MW and enough:
            moved_ns = last.counter_at_ns - first.counter_at_ns
            self.ratio = (last.counter_uj - first.counter_uj) * _MW_NS_PER_UJ / moved_ns / mean_mw
            self._decide(self._of_window(abs(self.ratio - 1), doubt))
        self._begin(last)

    def _doubt(self, mean_mw: float, duration_ns: int) -> float:
        """How far sampling alone may move the ratio: three standard errors of the mean, and the cut at the ends."""
        variance = max(self._squares / duration_ns - mean_mw * mean_mw, 0.0)
        independent = max(min(self._samples, duration_ns // _INDEPENDENT_NS), 1)
        return _STANDARD_ERRORS * sqrt(variance / independent) / mean_mw + self._slack_ns / duration_ns

    def _of_window(self, off: float, doubt: float) -> Verdict:
        if off - doubt > TOLERANCE:
            return Verdict.DISAGREES
        if doubt > TOLERANCE:
            return Verdict.UNKNOWN
        tolerated = _AGREES_AGAIN if self.verdict is Verdict.DISAGREES else TOLERANCE
        return Verdict.AGREES if off <= tolerated else Verdict.UNKNOWN

    def _decide(self, found: Verdict) -> None:
        if found is Verdict.UNKNOWN:
            self._leant = 0
            return
        self._leant = self._leant + 1 if found is self._leaning else 1
        self._leaning = found
        first_word = self.verdict is Verdict.UNKNOWN and found is Verdict.AGREES
        if first_word or self._leant >= _WINDOWS_TO_CHANGE:
            self.verdict = found
