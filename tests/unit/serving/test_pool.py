"""A pool: every version its own model, loaded when it is asked for, its accounts its own."""

import asyncio
from types import SimpleNamespace

import numpy as np
import orjson
import pytest
from pydantic import ValidationError
from uvicorn.config import Config
from uvicorn.lifespan.on import LifespanOn

from app.access.gate import Gate
from app.domain.account import load_account, request_account
from app.errors import NotFound
from app.models.repository import RepositorySettings, open_repository
from app.models.runners.python import PythonRunner
from app.serving.pool import PoolReplica
from app.serving.pool_args import PoolArgs, args_of, variants_of
from tests.unit.models.test_remote_storage import CARD, writing
from tests.unit.serving.conftest import FakeClient

NOWHERE = RepositorySettings("/nowhere")


class Prefix:
    inputs = outputs = ({"name": "text", "datatype": "BYTES", "shape": [-1]},)
    memory_bytes = 400_000
    batch = True

    def __init__(self, prefix):
        self.prefix = prefix.encode()

    def run(self, inputs):
        return {"text": np.array([self.prefix + text for text in inputs["text"]], object)}


@pytest.fixture
def pool(monkeypatch):
    import tests.fixtures.echo

    monkeypatch.setattr(tests.fixtures.echo, "Prefix", Prefix, raising=False)
    client, loaded = FakeClient(), []

    def load(args):
        loaded.append(args.version)
        return PythonRunner("tests.fixtures.echo:Prefix", {"prefix": f"{args.version}:"})

    args = variants_of(
        PoolArgs(name="tone", variants=dict.fromkeys("abc", "python:tests.fixtures.echo:Prefix"), max_memory_mb=1),
        NOWHERE,
    )
    gate = Gate.open("default")
    gate.unbar()
    replica = PoolReplica(args, open_client=lambda _: client, load_runner=load, open_gate=lambda *_: gate)
    return SimpleNamespace(replica=replica, client=client, loaded=loaded)


async def call(replica, method, path, *texts):
    body = orjson.dumps({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}]})
    sent = []

    async def receive():
        return {"type": "http.request", "body": body if texts else b"", "more_body": False}

    async def send(message):
        sent.append(message)

    root = "/v2/models/tone"
    scope = {"type": "http", "method": method, "path": root + path, "root_path": root, "headers": []}
    await replica.__serve_build_asgi_app__()(scope | {"query_string": b"", "client": ("127.0.0.1", 1)}, receive, send)
    return sent[0]["status"], orjson.loads(sent[1]["body"])


def test_a_version_in_the_path_is_its_own_model_and_none_is_the_default(pool):
    async def test():
        for path, answer in (("/versions/a/infer", "a:x"), ("/infer", "c:x"), ("/versions/a/infer", "a:x")):
            status, body = await call(pool.replica, "POST", path, "x")
            assert (status, body["outputs"][0]["data"], body["model_version"]) == (200, [answer], answer[0])
        assert pool.loaded == ["a", "c"]
        await call(pool.replica, "POST", "/versions/b/infer", "x")
        # 0.4 MB each, 1 MB in all: c, not asked for longest, has left.
        assert [pool.replica.residents.is_held(each) for each in "abc"] == [True, True, False]

    asyncio.run(test())


def test_every_variant_has_accounts_of_its_own(pool):
    asyncio.run(call(pool.replica, "POST", "/versions/a/infer", "x"))
    begun = [what[1:] for what in pool.client.log if what[0] == "begin"]
    assert begun[0] == ("load", "tone", "a")  # the first one from the birth of the process
    assert begun[1][0] == request_account("default", "tone", "a")
    pool.client.log.clear()
    asyncio.run(call(pool.replica, "POST", "/versions/b/infer", "x"))
    assert next(what[1] for what in pool.client.log if what[0] == "begin") == load_account("tone", "b")


def test_what_is_not_here_is_told_and_nothing_is_loaded_for_a_look(pool):
    async def test():
        status, body = await call(pool.replica, "POST", "/versions/z/infer", "x")
        assert (status, body["error"]) == (404, "tone has no version 'z' here; there are a, b, c")
        assert await call(pool.replica, "GET", "/versions/b/ready") == (
            200,
            {"name": "tone", "version": "b", "ready": True},
        )
        assert pool.loaded == []

    asyncio.run(test())


def test_uvicorn_takes_it_for_asgi_3_and_its_life_begins(pool):
    async def test():
        lifespan = LifespanOn(Config(pool.replica.__serve_build_asgi_app__(), lifespan="on", log_config=None))
        await lifespan.startup()
        assert not lifespan.should_exit
        await lifespan.shutdown()
        assert pool.loaded == []

    asyncio.run(test())


def test_a_hundred_first_requests_cause_one_load(pool):
    async def test():
        answers = await asyncio.gather(*(call(pool.replica, "POST", "/infer", "x") for _ in range(100)))
        assert {status for status, _ in answers} == {200}
        assert pool.loaded == ["c"]

    asyncio.run(test())


def test_the_versions_of_a_repository_model_are_variants_by_policy(tmp_path):
    settings = RepositorySettings(str(tmp_path))
    for _ in range(3):
        open_repository(settings).publish("tiny", writing(b"x"), CARD)

    def variants(**policy):
        return variants_of(PoolArgs(name="tiny", source="repository:tiny", max_memory_mb=1, **policy), settings)

    assert list(variants().variants.values()) == [f"repository:tiny@{number}" for number in "123"]
    assert (list(variants(versions="latest").variants), variants().default) == (["3"], "3")
    assert list(variants(versions={"latest": 2}).variants) == ["2", "3"]
    assert list(variants(versions={"specific": [1, 3]}, default="1").variants) == ["1", "3"]
    assert args_of(variants(), "2").source == "repository:tiny@2"
    with pytest.raises(NotFound, match="version '7' is not in the repository"):
        variants(versions={"specific": ["7"]})
    with pytest.raises(NotFound, match="default '7' is no variant"):
        variants(default="7")


@pytest.mark.parametrize(
    "wrong",
    [{}, {"source": "package:p"}, {"source": "repository:m@1"}, {"source": "repository:m", "variants": {"a": "b"}}],
)
def test_a_pool_says_its_variants_in_one_way(wrong):
    with pytest.raises(ValidationError):
        PoolArgs(name="m", max_memory_mb=1, **wrong)
