"""Seals: what is kept of batches that are dropped because of their age.

A seal holds what the audit needs of the batches it stands for: their sums, where each device's readings end, and the
digest at which the next batch joins. A meter's seals are chained by digest like its batches. Pure: no database here.

    seal = Seal.of(meter, tally, previous_digest)
    tally = tally_seals(meter, seals)        # continues with the batches after the last seal
"""

import hashlib
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import orjson

from app.ledger.batch import GENESIS
from app.ledger.tally import ChainTally, DeviceTally, Gap


@dataclass(frozen=True)
class Seal:
    """Stands for the batches of a meter after the seal before it, up to (epoch, sequence)."""

    meter: str
    epoch: int
    sequence: int
    previous: str
    """Digest of the meter's seal before this one; GENESIS for the first."""
    digest: str
    packed: bytes
    """The body's canonical JSON, deflated (zlib)."""

    @classmethod
    def of(cls, tally: ChainTally, previous: str) -> "Seal":
        """A seal on all batches of a tally, which must have some, and no faults."""
        epoch, sequence = tally.end
        payload = orjson.dumps(_body(tally), option=orjson.OPT_SORT_KEYS)
        return cls(tally.meter, epoch, sequence, previous, _chained(previous, payload), zlib.compress(payload))

    @cached_property
    def body(self) -> dict[str, Any]:
        """The decoded body. Raises zlib.error or ValueError when the bytes are damaged."""
        found: dict[str, Any] = orjson.loads(zlib.decompress(self.packed))
        return found

    @property
    def is_genuine(self) -> bool:
        """The digest matches the contents, and the contents the name. Raises like `body`."""
        named = (self.body["meter"], *self.body["end"]) == (self.meter, self.epoch, self.sequence)
        return named and self.digest == _chained(self.previous, zlib.decompress(self.packed))


def tally_seals(meter: str, seals: Iterable[Seal]) -> ChainTally:
    """What the seals of a meter (in order) say, ready to go on with the batches after the last."""
    tally = ChainTally(meter)
    previous = GENESIS
    for seal in seals:
        where = f"meter {meter}, seal up to batch {seal.epoch}.{seal.sequence}"
        try:
            genuine = seal.is_genuine
            _add(tally, seal.body)
        except (zlib.error, ValueError, KeyError, TypeError) as error:
            tally.fault(f"{where}: unreadable: {error}")
            continue
        if seal.previous != previous:
            tally.fault(f"{where}: the chain of seals is broken; one before it was removed, added or altered")
        if not genuine:
            tally.fault(f"{where}: its digest does not match its contents; the seal was altered")
        previous = seal.digest
    return tally


def _chained(previous: str, payload: bytes) -> str:
    return hashlib.sha256(previous.encode() + payload).hexdigest()


def _body(tally: ChainTally) -> dict[str, Any]:
    return {
        "meter": tally.meter,
        "end": list(tally.end),
        "end_digest": tally.end_digest,
        "batches": tally.batches,
        "devices": {key: asdict(device) for key, device in tally.devices.items()},
        "postings": [[*key, energy_uj] for key, energy_uj in sorted(tally.postings.items())],
        "parts": [[*key, *figures] for key, figures in sorted(tally.parts.items())],
        "gaps": [asdict(gap) for gap in tally.gaps],
        "gaps_left_out": tally.gaps_left_out,
    }


def _add(tally: ChainTally, body: dict[str, Any]) -> None:
    for key, fields in body["devices"].items():
        last = tuple(fields["last"]) if fields["last"] else None
        tally.devices[key].add(DeviceTally(**(fields | {"last": last})))
    for device, account, grade, energy_uj in body["postings"]:
        tally.postings[device, account, grade] += energy_uj
    for account, worker, part, energy_uj, time_ns in body["parts"]:
        tally.add_part((account, worker, part), energy_uj, time_ns)
    for gap in body["gaps"]:
        tally.add_gap(Gap(**gap))
    tally.gaps_left_out += body["gaps_left_out"]
    tally.batches += body["batches"]
    tally.end, tally.end_digest = tuple(body["end"]), body["end_digest"]
