"""Shadow copies: by share, bounded, and never anybody's trouble."""

import asyncio

import numpy as np
import orjson
import pytest

from app.domain.account import request_account
from app.protocol.messages import InferRequest
from app.serving import shadow as shadow_module
from app.serving.shadow import ShadowSender

INPUTS = {"x": np.ones(4, np.float32)}


def test_every_version_gets_its_share_of_copies():
    async def test():
        seen, chances = [], iter([0.4, 0.9, 0.6, 0.2])

        async def send(version, inputs):
            seen.append((version, inputs))

        sender = ShadowSender({"3": 0.5, "4": 1.0}, send, lambda: next(chances))
        sender.offer(INPUTS)
        sender.offer(INPUTS)
        assert seen == []  # whoever offers does not wait
        await asyncio.sleep(0)
        # 0.4 < 0.5, 0.9 < 1; 0.6 is no turn of 3, 0.2 < 1
        assert [version for version, _ in seen] == ["3", "4", "4"]
        assert (sender.counts["3"].sent, sender.counts["4"].sent) == (1, 2)

    asyncio.run(test())


def test_a_version_that_fails_is_counted_and_nothing_else():
    async def test():
        async def send(version, inputs):
            raise ConnectionError(version)

        sender = ShadowSender({"3": 1.0}, send)
        sender.offer(INPUTS)
        await asyncio.sleep(0.01)
        assert sender.counts["3"].failed == 1

    asyncio.run(test())


@pytest.mark.parametrize(("bound", "value"), [("MAX_PENDING", 2), ("MAX_PENDING_BYTES", 40)])
def test_what_is_on_its_way_is_bounded_by_count_and_bytes(monkeypatch, bound, value):
    monkeypatch.setattr(shadow_module, bound, value)

    async def test():
        release = asyncio.Event()

        async def send(version, inputs):
            await release.wait()

        sender = ShadowSender({"3": 1.0}, send)
        for _ in range(5):
            sender.offer(INPUTS)  # 16 bytes each
        assert sender.counts["3"].dropped == 3
        release.set()
        await asyncio.sleep(0.01)
        sender.offer(INPUTS)
        await asyncio.sleep(0.01)
        assert (sender.counts["3"].sent, sender.counts["3"].dropped) == (3, 3)

    asyncio.run(test())


def test_bytes_count_by_their_length():
    assert shadow_module._size_bytes(np.array([b"ab", b"cde"], object)) == 5


def test_a_copy_is_of_what_was_decoded():
    copy = ShadowSender({}, None).copied(lambda: InferRequest("1", dict(INPUTS)))
    assert copy().id == "1"
    assert copy.inputs["x"] is INPUTS["x"]


def test_an_answer_is_copied_once_it_is_given_and_a_copy_is_not_copied_again(served):
    seen = []

    async def send(version, inputs):
        seen.append((version, inputs["text"].tolist()))

    async def test():
        served.replica.model.shadow = ShadowSender({"3": 1.0}, send)
        tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]}
        answer = await served.acall("POST", "/infer", orjson.dumps({"inputs": [tensor]}))
        await asyncio.sleep(0)
        assert (answer.status, seen) == (200, [("3", [b"a"])])
        await served.replica.take_copy({"text": np.array([b"b"], object)})
        await asyncio.sleep(0)
        assert len(seen) == 1
        charged = [what[1] for what in served.client.log if what[0] == "begin"]
        assert charged[-1] == request_account("shadow", "echo", "2")

    asyncio.run(test())
