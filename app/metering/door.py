"""The door through which deliveries reach the accountant: one TCP connection per meter, many deliveries on it.

A Ray call costs the called actor half a millisecond of CPU, more than booking a batch does; a message here costs a
fiftieth of that, so that one accountant keeps up with a thousand meters. The door is opened on the node's own address,
on any free port; Ray hands address and key to the meters. Who does not begin with the key is shown out. All that
waits when a transaction ends goes into the next one, and each meter is answered when its own batches are committed.

A message is its length (4 bytes, big-endian) and so many bytes: the key first, then deliveries. Each delivery is
answered by one byte and, unless that says that it is booked, a reason. Knows nothing of Ray.
"""

import asyncio
import contextlib
import hmac
import logging
import math
import resource
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from app.engine.delivery import Delivery
from app.errors import BooksDamaged, InvalidInput, JoulekeeperError, Unavailable

_log = logging.getLogger(__name__)

Book = Callable[[Sequence[Delivery]], Sequence[JoulekeeperError | None]]
"""Books deliveries, each wholly or not at all; what went wrong with each."""

Answer = Callable[[JoulekeeperError | None], None]

_LENGTH = struct.Struct("!I")
_MAX_MESSAGE = 64 * 1024 * 1024
_BACKLOG = 4096
_BOOKED, _UNAVAILABLE, _DAMAGED = b"\0", b"\1", b"\2"
_MAX_GROUP = 256
"""Deliveries in one transaction: a meter waits for the one that runs and then for its own."""
_PACE_S = 0.25
"""From one transaction's begin to the next's: each costs some milliseconds, whatever is in it."""


@dataclass(frozen=True, slots=True)
class DoorPlate:
    """Where the door is, and what opens it."""

    host: str
    port: int
    key: bytes

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    __repr__ = __str__  # the key is for nobody's log


class Door:
    """Takes deliveries until the process ends. Two threads: one talks to the meters, one books."""

    def __init__(self, book: Book, host: str) -> None:
        self._book = book
        self._waiting: list[tuple[Delivery, Answer]] = []
        self._some = threading.Condition()
        self._loop = asyncio.new_event_loop()
        _allow_connections()
        self._listener = _listener(host)
        key = secrets.token_bytes(32)
        bound = self._listener.getsockname()
        self.plate = DoorPlate(bound[0], bound[1], key)
        threading.Thread(target=self._talk, name="door", daemon=True).start()
        threading.Thread(target=self._book_for_ever, name="booking", daemon=True).start()

    def deliver(self, delivery: Delivery) -> None:
        """Book one delivery from within this process, with those that come by the door. Raises what booking raises."""
        booked: Future[JoulekeeperError | None] = Future()
        self.submit(delivery, booked.set_result)
        error = booked.result()
        if error is not None:
            raise error

    def submit(self, delivery: Delivery, answer: Answer) -> None:
        """Have a delivery booked; `answer` is called with what went wrong, on the door's thread, and must be quick."""
        with self._some:
            self._waiting.append((delivery, answer))
            self._some.notify()

    def _book_for_ever(self) -> None:
        begun = -math.inf
        while True:
            with self._some:
                while not self._waiting:
                    self._some.wait()
                some_wait_on = len(self._waiting) < _MAX_GROUP
            if some_wait_on:
                time.sleep(max(0.0, begun + _PACE_S - time.monotonic()))
            begun = time.monotonic()
            with self._some:
                group, self._waiting = self._waiting[:_MAX_GROUP], self._waiting[_MAX_GROUP:]
            try:
                errors = self._book([delivery for delivery, _ in group])
            except Exception as error:
                _log.exception("deliveries could not be booked; their meters try again")
                errors = [Unavailable(f"the accountant failed: {error!r}")] * len(group)
            answers = [(answer, error) for (_, answer), error in zip(group, errors, strict=True)]
            self._loop.call_soon_threadsafe(_answer_all, answers)

    def _talk(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(
            self._loop.create_server(lambda: _Guest(self.plate.key, self.submit), sock=self._listener, backlog=_BACKLOG)
        )
        self._loop.run_forever()


def _listener(host: str) -> socket.socket:
    """On `host`; on the loopback interface where that is no address of this machine: others deliver by Ray then."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, 0), family=family, backlog=_BACKLOG)
    except OSError as error:
        _log.warning("the accountant's door cannot be opened on %s (%s); other nodes deliver by Ray calls", host, error)
        return socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)


def _allow_connections() -> None:
    """A connection is a file: as many as the process may have, not as few as it was started with."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _answer_all(answers: Sequence[tuple[Answer, JoulekeeperError | None]]) -> None:
    for answer, error in answers:
        answer(error)


class _Guest(asyncio.Protocol):
    """One connection, seen from the accountant."""

    def __init__(self, key: bytes, submit: Callable[[Delivery, Answer], None]) -> None:
        self._key, self._submit = key, submit
        self._known = False
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._buffer)
            if size > (_MAX_MESSAGE if self._known else len(self._key)):
                self._show_out("a message is too long")
                return
            end = _LENGTH.size + size
            if len(self._buffer) < end:
                return
            message = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            self._take(message)

    def _take(self, message: bytes) -> None:
        if not self._known:
            self._known = hmac.compare_digest(message, self._key)
            if not self._known:
                self._show_out("it does not have the key")
            return
        try:
            self._submit(Delivery.from_bytes(message), self._answer)
        except InvalidInput as error:
            self._show_out(str(error))

    def _answer(self, error: JoulekeeperError | None) -> None:
        if self._transport is None:
            return  # the meter has gone; it delivers again
        match error:
            case None:
                answer = _BOOKED
            case BooksDamaged():
                answer = _DAMAGED + str(error).encode()
            case _:
                answer = _UNAVAILABLE + str(error).encode()
        self._transport.write(_LENGTH.pack(len(answer)) + answer)

    def _show_out(self, reason: str) -> None:
        if self._transport is not None:
            peer = self._transport.get_extra_info("peername")
            _log.warning("a connection from %s to the accountant is closed: %s", peer, reason)
            self._transport.abort()


class Caller:
    """The meter's end of a connection. Not thread-safe."""

    def __init__(self, plate: DoorPlate, timeout_s: float) -> None:
        """Raises Unavailable when nobody opens."""
        try:
            self._socket = socket.create_connection((plate.host, plate.port), timeout_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.sendall(_LENGTH.pack(len(plate.key)) + plate.key)
        except OSError as error:
            raise Unavailable(
                f"the accountant's door at {plate.host}:{plate.port} cannot be reached: {error}"
            ) from error

    def deliver(self, delivery: Delivery) -> None:
        """Returns when all of it is committed. Raises Unavailable (deliver again) and BooksDamaged (never taken)."""
        frame = delivery.to_bytes()
        try:
            self._socket.sendall(_LENGTH.pack(len(frame)) + frame)
            (size,) = _LENGTH.unpack(self._receive(_LENGTH.size))
            answer = self._receive(size)
        except OSError as error:
            raise Unavailable(f"the accountant did not answer a delivery: {error}") from error
        reason = answer[1:].decode(errors="replace")
        match answer[:1]:
            case code if code == _BOOKED:
                return
            case code if code == _DAMAGED:
                raise BooksDamaged(reason)
            case _:
                raise Unavailable(reason)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _receive(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            part = self._socket.recv(size - len(parts))
            if not part:
                raise ConnectionResetError("the connection was closed")
            parts += part
        return bytes(parts)
