"""A model without weights, books without a meter, and a client without a socket."""

import asyncio
import math
import threading
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import orjson
import pytest

from app.domain.tensor import Datatype, TensorSpec
from app.errors import InvalidInput
from app.ledger.ring import Charged
from app.serving.args import ModelArgs
from app.serving.lane import LONG_NS
from app.serving.replica import ModelReplica


class Echo:
    """Gives back what it gets; `break` breaks it, `refuse` is refused, `wait` waits for `release`."""

    name, version, max_rows = "elsewhere", "9", 8
    batch, memory_bytes = False, 0
    inputs = (TensorSpec("text", Datatype.BYTES, (-1,)),)
    outputs = (TensorSpec("text", Datatype.BYTES, (-1,)), TensorSpec("length", Datatype.INT64, (-1,)))

    def __init__(self):
        self.calls = []
        self.release = threading.Event()

    def weight(self, inputs):
        return float(len(inputs["text"]))

    def run(self, inputs):
        texts = inputs["text"]
        self.calls.append((threading.current_thread().name, texts.tolist()))
        if b"break" in texts:
            raise ZeroDivisionError("a secret")
        if b"refuse" in texts:
            raise InvalidInput("text 'refuse' is refused; send another")
        if b"wait" in texts:
            assert self.release.wait(10)
        return {"text": texts, "length": np.array([len(text) for text in texts], np.int64)}


@dataclass
class FakeSlice:
    log: list
    what: tuple
    receipt_id: str
    told: object = None
    looks: int = 0
    """How often somebody looked whether it is settled."""
    settles_after: float = math.inf

    @property
    def is_settled(self):
        self.looks += 1
        return self.looks > self.settles_after

    def receipt(self):
        if not self.receipt_id:
            return {}
        if self.told is None:
            return {"receipt_id": self.receipt_id, "provisional": True}
        told = self.told._asdict()
        return {"receipt_id": self.receipt_id} | told | {"load_share_uj": 70, "warm_share_uj": 30}

    def end(self):
        self.log.append(("end", *self.what))

    def energy(self):
        return self.told


@dataclass
class FakeClient:
    """Writes down what it is asked; `told` is what every slice's energy() gives."""

    log: list = field(default_factory=list)
    receipt_id: str = "r-1"
    told: object = None
    settles_after: float = math.inf
    g_per_kwh: float = 300.0
    charged: Charged = field(default_factory=lambda: Charged(7_000_000, 3_000_000, 1))
    slices: list = field(default_factory=list)

    def _slice(self, *what):
        self.log.append(("begin", *what))
        self.slices.append(FakeSlice(self.log, what, self.receipt_id, self.told, 0, self.settles_after))
        return self.slices[-1]

    def mark(self):
        return None

    def begin(self, account, weight=1.0, part=0, since=None):
        return self._slice(account, weight)

    def done(self, account, weight, since):
        piece = self._slice(account, weight)
        piece.end()
        return piece

    def begin_together(self, shared, since):
        return [self._slice(account, weight) for account, weight in shared]

    def end_together(self, pieces):
        for piece in pieces:
            piece.end()

    def begin_load(self, model, version):
        return self._slice("load", model, version)

    def close(self):
        self.log.append(("close",))


@dataclass
class Served:
    replica: ModelReplica
    runner: Echo
    client: FakeClient

    def load(self):
        asyncio.run(self.replica.load())
        return self

    def call(self, method, path, body=b"", headers=(), chunks=None):
        """One HTTP request below the model's route; the answer has status, headers and body."""
        return asyncio.run(self.acall(method, path, body, headers, chunks))

    async def acall(self, method, path, body=b"", headers=(), chunks=None):
        root = "/v2/models/echo"
        pairs = [(name.encode(), value.encode()) for name, value in headers]
        path, _, query = path.partition("?")
        scope = {"type": "http", "method": method, "path": root + path, "root_path": root, "headers": pairs}
        scope["query_string"] = query.encode()
        parts = [body] if chunks is None else chunks
        pending = [
            {"type": "http.request", "body": part, "more_body": i + 1 < len(parts)} for i, part in enumerate(parts)
        ]
        sent = []

        async def receive():
            return pending.pop(0) if pending else {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        await self.replica.http(scope, receive, send)
        if not sent:
            return None
        start, content = sent
        names = {name.decode(): value.decode() for name, value in start["headers"]}
        return SimpleNamespace(status=start["status"], headers=names, body=content["body"])

    async def until_running(self, text):
        """Let the loop go on until `text` runs on the model's thread; fail rather than wait for ever."""
        async with asyncio.timeout(10):
            while ("model_0", [text]) not in self.runner.calls:
                await asyncio.sleep(0)

    def infer(self, *texts, **changes):
        body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}]} | changes
        return self.call("POST", "/infer", orjson.dumps(body))


@pytest.fixture
def unloaded():
    runner, client = Echo(), FakeClient()
    args = ModelArgs(name="echo", source="package:echo", version="2", tenant="acme", max_body_bytes=400)
    replica = ModelReplica(args, open_client=lambda _: client, load_runner=lambda _: runner)
    yield Served(replica, runner, client)
    replica.model.close()


@pytest.fixture
def served(unloaded):
    """Its work is done on the model's thread, as if it had taken long while warming up."""
    unloaded.load().replica.model.lane.begin_at(LONG_NS)
    return unloaded
