"""A batch: what a meter commits at once, as compressed bytes that are made once and travel to the store unchanged.

The JSON is made and compressed when the batch enters the journal. Delivering, booking and storing it handle the same
bytes; only who needs a figure decodes the body, once per copy of the batch. Knows nothing of files or databases.

    batch = Batch.sealed("machine:node", 1, 0, GENESIS, body)
    batch.packed                         # what is delivered and stored
    batch.body["postings"]               # decoded when first asked for
"""

import contextlib
import hashlib
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

Body = dict[str, Any]

GENESIS = "0" * 64
"""Digest before the first batch of a journal."""

_LEVEL = 1  # a batch of eight GPUs shrinks to a fifth; higher levels cost twice the time for a tenth less


def canonical(body: Body) -> bytes:
    """JSON with sorted keys and no spaces: the bytes that the digest is taken over."""
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)


def digest_of(previous: str, body: Body) -> str:
    """SHA-256 over the previous digest and the canonical JSON of a batch: changing any figure breaks the chain."""
    return _chained(previous, canonical(body))


def _chained(previous: str, payload: bytes) -> str:
    return hashlib.sha256(previous.encode() + payload).hexdigest()


@dataclass(frozen=True)
class Batch:
    """What a meter commits at once. (meter, epoch, sequence) names it for ever."""

    meter: str
    epoch: int
    sequence: int
    previous: str
    digest: str
    packed: bytes
    """The body's JSON, deflated (zlib). Canonical but for batches of version 0.1, whose keys are not sorted."""

    @classmethod
    def sealed(
        cls, meter: str, epoch: int, sequence: int, previous: str, body: Body, digest: str | None = None
    ) -> "Batch":
        """A batch of `body` with its own digest, or with the one given."""
        payload = canonical(body)
        return cls.of_payload(meter, epoch, sequence, previous, digest or _chained(previous, payload), payload)

    @classmethod
    def of_payload(cls, meter: str, epoch: int, sequence: int, previous: str, digest: str, payload: bytes) -> "Batch":
        """A batch of the JSON `payload`."""
        batch = cls(meter, epoch, sequence, previous, digest, zlib.compress(payload, _LEVEL))
        batch.__dict__["payload"] = payload
        return batch

    @cached_property
    def payload(self) -> bytes:
        """The body's JSON. Raises zlib.error when the bytes are damaged."""
        return zlib.decompress(self.packed)

    @cached_property
    def body(self) -> Body:
        """The decoded body; do not change it. Raises zlib.error or ValueError when the bytes are damaged."""
        found: Body = orjson.loads(self.payload)
        return found

    @property
    def position(self) -> tuple[int, int]:
        """Order of batches of one meter."""
        return self.epoch, self.sequence

    @property
    def is_genuine(self) -> bool:
        """The digest matches the contents. Raises like `body`."""
        if self.digest == _chained(self.previous, self.payload):
            return True
        return self.digest == digest_of(self.previous, self.body)

    def altered(self, body: Body, redigest: bool = False) -> "Batch":
        """The same place in the chain with other contents; its own digest again if asked. For tests and repairs."""
        digest = None if redigest else self.digest
        return Batch.sealed(self.meter, self.epoch, self.sequence, self.previous, body, digest)

    def abridge(self) -> None:
        """Decode now, and keep of each device's readings the first and the last: what booking needs.

        Most of a body are readings; a group of a thousand whole bodies would not fit the processor's caches. Raises
        like `body`, and nothing else: a body without the usual parts is left as it is.
        """
        body = self.body
        with contextlib.suppress(KeyError, TypeError, IndexError):
            for device in body["devices"]:
                device["raw"] = [device["raw"][0], device["raw"][-1]]
            body["resume"] = {"clean": body["resume"]["clean"]}
        self.__dict__.pop("payload", None)

    def forget(self) -> None:
        """Keep the bytes only; what was decoded from them is decoded again when asked for."""
        for name in ("payload", "body"):
            self.__dict__.pop(name, None)

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: the bytes, not what was decoded from them."""
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}
