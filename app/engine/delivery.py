"""What a meter sends to the accountant: batches, and how the meter fares. As values, and as bytes on a connection.

Nothing here is pickled: whoever reaches the accountant's door can at worst send nonsense, which is refused.
Knows nothing of connections.

    frame = Delivery(condition, batches).to_bytes()
    Delivery.from_bytes(frame).batches[0].body
"""

import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import orjson

from app.errors import InvalidInput
from app.ledger.batch import Batch

_LENGTH = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class MeterCondition:
    """How a meter fares, in its own words."""

    meter: str
    """Name of its journal."""
    node: str
    ray_node: str
    """Where Ray can call the meter back; empty outside Ray."""
    waiting: int = 0
    """Batches in its journal that were not acknowledged when it sent this."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a meter sends at once; without batches it only says how the meter fares."""

    condition: MeterCondition
    batches: tuple[Batch, ...] = ()

    def to_bytes(self) -> bytes:
        """A JSON header with its length in front, then the packed batches one after the other."""
        header = orjson.dumps(
            {"condition": asdict(self.condition), "batches": [_described(batch) for batch in self.batches]}
        )
        return b"".join((_LENGTH.pack(len(header)), header, *(batch.packed for batch in self.batches)))

    @classmethod
    def from_bytes(cls, frame: bytes) -> "Delivery":
        """Raises InvalidInput for bytes that are no delivery; contents of batches are not looked at."""
        try:
            return cls._read(frame)
        except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidInput(f"a delivery of {len(frame)} bytes cannot be read: {error!r}") from error

    @classmethod
    def _read(cls, frame: bytes) -> "Delivery":
        (size,) = _LENGTH.unpack_from(frame)
        at = _LENGTH.size + size
        header = orjson.loads(frame[_LENGTH.size : at])
        condition = header["condition"]
        batches = []
        for meter, epoch, sequence, previous, digest, length in header["batches"]:
            batches.append(Batch(meter, epoch, sequence, previous, digest, frame[at : at + length]))
            at += length
        if at != len(frame):
            raise ValueError(f"{len(frame)} bytes, announced {at}")
        return cls(MeterCondition(**condition | {"warnings": tuple(condition["warnings"])}), tuple(batches))


def _described(batch: Batch) -> Sequence[str | int]:
    return batch.meter, batch.epoch, batch.sequence, batch.previous, batch.digest, len(batch.packed)
