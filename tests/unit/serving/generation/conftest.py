"""A language model that is a script, books without a meter, and clients without sockets."""

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace

import orjson
import pytest

from app.engine.phases import PhasedEnergy
from app.engine.shares import Shares
from app.engine.slices import SliceEnergy
from app.ledger.ring import Charged
from app.serving.generation.args import GeneratorArgs
from app.serving.generation.replica import GeneratorReplica
from tests.fixtures.scripted_engine import scripted_generator

ROOT = "/v2/models/coder"


class FakeWork:
    """A request's work: 100 uJ of prefill and 10 uJ for each token."""

    def __init__(self, client, account, number):
        self.client, self.account = client, account
        self.receipt_id = f"r-{number}" if client.metered else ""
        self.tokens, self.has_ended, self.is_settled = 0, False, False

    def add(self, prefill_uj, decode_uj, tokens):
        self.tokens += tokens

    def end(self):
        assert not self.has_ended
        self.has_ended = True
        self.client.ended.append(self)

    def told(self):
        whole = SliceEnergy(100 + 10 * self.tokens, 2.0, "counter", not self.is_settled)
        return PhasedEnergy(whole, 100, 10 * self.tokens, self.tokens)

    def energy(self):
        return self.told().whole

    def shares(self, told):
        return Shares(7, 3)


class FakeClient:
    """The books' client: remembers what was begun and ended, and every step."""

    def __init__(self, metered=True):
        self.metered, self.begun, self.ended, self.log = metered, [], [], []
        self.charged, self.g_per_kwh = Charged(5, 4, 3), 300.0

    def begin_phases(self, account):
        self.begun.append(FakeWork(self, account, len(self.begun)))
        return self.begun[-1]

    def record_steps(self, start_ns, end_ns, done, in_device_mw):
        for each in done:
            each.work.add(0.0, 0.0, each.new_tokens)
        return 1.0

    def step_facts(self):
        return []

    def begin_load(self, model, version):
        self.log.append(("load", model, version))
        return SimpleNamespace(end=lambda: self.log.append("loaded"))

    def close(self):
        self.log.append("closed")


class Served:
    """One replica on the loop of one test."""

    def __init__(self, replica, client):
        self.replica, self.client = replica, client

    @property
    def engine(self):
        return self.replica.model.generator.engine

    @property
    def parts(self):
        return self.replica.model.parts

    def request(self, path, body, headers=()):
        """What a client that takes everything gets: status, headers, body."""
        return asyncio.ensure_future(self._request(path, body, headers))

    async def _request(self, path, body, headers):
        exchange = Exchange(path, body, headers)
        await self.replica.http(exchange.scope, exchange.receive, exchange.send)
        return exchange.answer()

    async def until(self, condition):
        """Let the loop go on until `condition` holds; fail rather than wait for ever."""
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.001)

    async def until_free(self):
        """Until nobody holds anything any more."""
        await self.until(lambda: self.is_free)

    @property
    def is_free(self):
        load = self.engine.load
        return (load.running, load.waiting, len(self.parts.hub), len(self.parts.endings)) == (0, 0, 0, 0) and all(
            work.has_ended for work in self.client.begun
        )


class Exchange:
    """One HTTP request below the model's route, as ASGI has it; `taken` is set with every part that is sent."""

    def __init__(self, path, body, headers=(), method="POST"):
        path, _, query = path.partition("?")
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        self.scope = {
            "type": "http", "method": method, "path": ROOT + path, "root_path": ROOT, "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers], "client": ("127.0.0.1", 1),
        }  # fmt: skip
        self._pending = [{"type": "http.request", "body": content, "more_body": False}]
        self.sent, self.taken, self.may_send = [], asyncio.Event(), asyncio.Event()
        self.may_send.set()

    async def receive(self):
        return self._pending.pop(0) if self._pending else {"type": "http.disconnect"}

    async def send(self, message):
        await self.may_send.wait()
        self.sent.append(message)
        self.taken.set()

    def answer(self):
        if not self.sent:
            return None
        start, *parts = self.sent
        body = b"".join(part.get("body", b"") for part in parts)
        complete = bool(parts) and not parts[-1].get("more_body", False)
        names = {name.decode(): value.decode() for name, value in start["headers"]}
        return SimpleNamespace(status=start["status"], headers=names, body=body, complete=complete)


def events_of(body):
    """The data of a stream of events; comments are left out."""
    lines = [line.removeprefix(b"data: ") for line in body.split(b"\n\n") if line.startswith(b"data: ")]
    return [line.decode() if line == b"[DONE]" else orjson.loads(line) for line in lines]


@pytest.fixture
def serving():
    """`async with serving(max_queued=1) as served`: a loaded replica, closed in the end."""

    @asynccontextmanager
    async def open_replica(answers=None, metered=True, open_gate=None, **args):
        wanted = {"name": "coder", "source": "repository:coder@3", "version": "3", "tenant": "acme"} | args
        parsed, client = GeneratorArgs(**wanted), FakeClient(metered)
        gate = {} if open_gate is None else {"open_gate": open_gate}
        replica = GeneratorReplica(
            parsed,
            open_client=lambda _: client,
            load=lambda args, listener: scripted_generator(
                listener, answers=answers, max_sequences=args.max_sequences, max_queued=args.max_queued
            ),
            **gate,
        )
        await replica.load()
        try:
            yield Served(replica, client)
        finally:
            replica.model.close()

    return open_replica
