"""Heads and bodies are written together: the transport by itself, and uvicorn's own class of one request with it."""

import asyncio
from unittest.mock import patch

import pytest
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.flow_control import FlowControl

from app.serving import joined_writes
from app.serving.joined_writes import HeadKeepingTransport, join_writes


class Wire:
    """What stands for a socket: keeps every write."""

    def __init__(self):
        self.writes, self.closed = [], False

    def write(self, data):
        assert not self.closed
        self.writes.append(bytes(data))

    def close(self):
        self.closed = True

    def get_write_buffer_size(self):
        return 7


def on_loop(steps):
    """Run `steps(transport)` on a loop; the writes."""
    wire = Wire()

    async def scenario():
        await steps(HeadKeepingTransport(wire))

    asyncio.run(scenario())
    return wire


def test_the_first_two_writes_are_one_and_later_ones_go_as_they_come():
    async def steps(transport):
        for piece in (b"head ", b"body", b"more"):
            transport.write(piece)

    assert on_loop(steps).writes == [b"head body", b"more"]


def test_an_interim_answer_goes_alone():
    async def steps(transport):
        for piece in (b"HTTP/1.1 100 Continue\r\n\r\n", b"head ", b"body"):
            transport.write(piece)

    assert on_loop(steps).writes == [b"HTTP/1.1 100 Continue\r\n\r\n", b"head body"]


def test_a_head_waits_for_one_turn_at_most():
    async def steps(transport):
        transport.write(b"head")
        await asyncio.sleep(0)
        transport.write(b"body")

    assert on_loop(steps).writes == [b"head", b"body"]


def test_closing_sends_what_is_kept_first():
    async def steps(transport):
        transport.write(b"head")
        transport.close()

    wire = on_loop(steps)
    assert (wire.writes, wire.closed) == ([b"head"], True)


def test_everything_else_is_the_transports_own():
    async def steps(transport):
        assert transport.get_write_buffer_size() == 7

    on_loop(steps)


@pytest.fixture
def cycle_class():
    """uvicorn's class after `join_writes`, put back afterwards."""
    with patch.object(httptools_impl, "RequestResponseCycle", httptools_impl.RequestResponseCycle):
        join_writes()
        joining = httptools_impl.RequestResponseCycle
        join_writes()
        assert httptools_impl.RequestResponseCycle is joining
        yield joining


def answered(cycle_class, method, *messages, arrived=True, rest=(), expects=False, heard=None):
    """`rest`: pieces that arrive while it is answered, the last of them the end. `heard`: what Serve, which always
    listens, is told of them."""
    wire = Wire()

    async def scenario():
        cycle = cycle_class(
            scope={"type": "http", "method": method, "path": "/", "headers": []},
            transport=wire,
            flow=FlowControl(wire),
            logger=None,
            access_logger=None,
            access_log=False,
            default_headers=[],
            message_event=asyncio.Event(),
            expect_100_continue=expects,
            keep_alive=True,
            on_response=lambda: None,
        )
        cycle.more_body = not arrived
        serve = asyncio.ensure_future(listens(cycle)) if heard is not None else None
        client = asyncio.ensure_future(sends(cycle))
        for message in messages:
            await cycle.send(message)
        await client
        if serve:
            serve.cancel()

    async def listens(cycle):
        while True:
            heard.append((await cycle.receive())["body"])
            await asyncio.sleep(0)

    async def sends(cycle):
        for number, piece in enumerate(rest, 1):
            await asyncio.sleep(0)
            cycle.body += piece
            cycle.more_body = number < len(rest)
            cycle.message_event.set()
        await asyncio.sleep(0)

    asyncio.run(scenario())
    return wire.writes


def start(length):
    headers = [] if length is None else [(b"content-length", b"%d" % length)]
    return {"type": "http.response.start", "status": 200, "headers": headers}


def body(data, more=False):
    return {"type": "http.response.body", "body": data, "more_body": more}


def test_an_answer_of_uvicorn_is_one_write(cycle_class):
    assert answered(cycle_class, "POST", start(2), body(b"ok")) == [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"]


CLOSING = [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"]


def test_an_answer_waits_for_the_rest_of_its_request_so_that_nobody_closes_on_a_sender(cycle_class):
    assert answered(cycle_class, "POST", start(2), body(b"no"), arrived=False, rest=[b"more", b"", b"end"]) == [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno"
    ]


def test_what_comes_after_the_answer_is_kept_by_nobody(cycle_class):
    heard = []
    answered(cycle_class, "POST", start(2), body(b"no"), arrived=False, rest=[b"more"] * 9 + [b"end"], heard=heard)
    assert len(heard) > 1
    assert set(heard) == {b""}


def test_an_answer_to_a_request_that_does_not_end_closes_the_connection(cycle_class, monkeypatch):
    monkeypatch.setattr(joined_writes, "_MOST_SILENCE_S", 0.01)
    assert answered(cycle_class, "POST", start(2), body(b"no"), arrived=False) == CLOSING
    monkeypatch.setattr(joined_writes, "_MOST_REST_BYTES", 5)
    rest = [b"123456", *[b""] * 20, b"end"]
    assert answered(cycle_class, "POST", start(2), body(b"no"), arrived=False, rest=rest) == CLOSING


def test_a_client_that_waits_for_leave_to_send_is_refused_at_once(cycle_class):
    assert answered(cycle_class, "POST", start(2), body(b"no"), arrived=False, expects=True) == CLOSING


def test_an_empty_answer_and_one_to_head_leave_too(cycle_class):
    assert answered(cycle_class, "GET", start(0), body(b"")) == [b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"]
    assert answered(cycle_class, "HEAD", start(2), body(b"ok")) == [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"]


def test_a_stream_is_written_piece_by_piece(cycle_class):
    writes = answered(cycle_class, "GET", start(None), body(b"a", more=True), body(b"b"))
    assert len(writes) == 2
    assert writes[0].endswith(b"\r\n\r\n1\r\na\r\n")
    assert writes[1] == b"1\r\nb\r\n0\r\n\r\n"
