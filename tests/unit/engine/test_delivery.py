"""What a meter sends: the same values after the wire, and clear refusals of anything else."""

import struct

import orjson
import pytest

from app.engine.delivery import Delivery, MeterCondition
from app.errors import InvalidInput
from app.ledger.batch import GENESIS, Batch

CONDITION = MeterCondition("machine:node:1", "node", "ray", 7, ("the disk is full (for 3 s)",))
BATCHES = tuple(Batch.sealed("machine:node:1", 1, n, GENESIS, {"n": n, "text": "ü" * n}) for n in range(3))


@pytest.mark.parametrize("batches", [(), BATCHES[:1], BATCHES])
def test_a_delivery_arrives_as_it_was_sent(batches: tuple[Batch, ...]):
    arrived = Delivery.from_bytes(Delivery(CONDITION, batches).to_bytes())
    assert arrived == Delivery(CONDITION, batches)
    assert [batch.body["n"] for batch in arrived.batches] == list(range(len(batches)))


FRAME = Delivery(CONDITION, BATCHES).to_bytes()
HEADER = orjson.dumps({"condition": {"meter": "m"}, "batches": []})


@pytest.mark.parametrize(
    "frame",
    [b"", b"abc", FRAME[:-1], FRAME + b"x", b"\xff" * 40, struct.pack("!I", len(HEADER)) + HEADER, FRAME[:20]],
)
def test_anything_else_is_refused(frame: bytes):
    with pytest.raises(InvalidInput, match="cannot be read"):
        Delivery.from_bytes(frame)
