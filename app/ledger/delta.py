"""Deltas: the energy between two readings of one device, with the rules for wraps, resets and absence.

Knows nothing of who used the energy. Integers of microjoules throughout; the same function serves the live meter,
the audit and the replay, so that all three agree.

| what was seen | rule |
|---|---|
| counter went forward | the difference |
| counter went back and its range is known | a wrap, if the power it implies is possible; else a reset |
| counter went back otherwise | a reset (driver reload): the counter's new value is what moved since |
| either is more than a device can draw in that time | a bad counter: nothing is booked, no energy is invented |
| a modelled counter went back | a correction of the kernel's statistics: nothing moved |
| two power values while a meter watched | the trapezoid |
| two power values, nobody watching | no energy is invented |
"""

from app.domain.reading import CounterReading, Delta, DeltaKind, Device, Grade, PowerReading, Reading
from app.units import NS_PER_S, energy_of_power, power_of_energy

# No single device of today draws this much: the largest accelerators are rated at 1.4 kW, a CPU package below 1 kW.
MAX_PLAUSIBLE_MW = 10_000_000
# A value may be up to two updates of a slow counter older than the time of its reading.
_AGE_NS = NS_PER_S // 4


def delta_between(device: Device, before: Reading, after: Reading, kind: DeltaKind = DeltaKind.NORMAL) -> Delta | None:
    """The delta between two readings of `device`; None when no time passed between them."""
    if after.at_ns <= before.at_ns:
        return None
    if isinstance(before, CounterReading) and isinstance(after, CounterReading):
        energy_uj = counter_movement(device, before, after)
    elif isinstance(before, PowerReading) and isinstance(after, PowerReading) and kind is DeltaKind.NORMAL:
        energy_uj = energy_of_power((before.power_mw + after.power_mw) / 2, after.at_ns - before.at_ns)
    else:
        energy_uj = 0
    return Delta(device, before.at_ns, after.at_ns, energy_uj, kind)


def counter_movement(device: Device, before: CounterReading, after: CounterReading) -> int:
    """Microjoules a cumulative counter moved, >= 0. A fall is a wrap or a reset, never negative energy."""
    elapsed_ns = after.at_ns - before.at_ns
    if after.counter_uj >= before.counter_uj:
        return _possible(after.counter_uj - before.counter_uj, elapsed_ns)
    if device.grade is Grade.MODELLED:
        return 0
    if device.wraps_at_uj is not None:
        wrapped = device.wraps_at_uj - before.counter_uj + after.counter_uj
        if wrapped >= 0 and power_of_energy(wrapped, elapsed_ns) <= MAX_PLAUSIBLE_MW:
            return wrapped
    return _possible(after.counter_uj, elapsed_ns)


def _possible(energy_uj: int, elapsed_ns: int) -> int:
    """`energy_uj`, or 0 where no device draws as much in `elapsed_ns`."""
    return energy_uj if energy_uj <= energy_of_power(MAX_PLAUSIBLE_MW, elapsed_ns + _AGE_NS) else 0
