"""Puts the batch endpoint together for one console: the store, who its requests are known as, the thread that works.

The thread has an event loop of its own, so that no batch is in the way of a page. Of several consoles on a host (one
that starts while another ends) the one that holds the lease runs batches; all of them take new ones. Knows of Ray what
its arguments do.

    service = BatchService(settings(), clock, gate, serve_details, serve_address, connect_books)
    api.include_router(service.router(now)); service.start()
"""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from fastapi import APIRouter

from app.access.gate import Gate
from app.access.scopes import infer_scope
from app.access.tickets import TicketOffice
from app.carbon.grid import Grid, open_grid
from app.carbon.intensity import LocationAverageSeries
from app.clock import Clock
from app.config import Settings
from app.console.batches.api import batches_router
from app.console.batches.planning import Lane
from app.console.batches.records import BatchRecord
from app.console.batches.runner import BatchRunner
from app.console.batches.sending import Sender
from app.console.batches.store import BatchStore
from app.console.batches.telling import BatchTeller
from app.console.books import Books, MendingBooks
from app.console.catalogue import ServeCatalogue
from app.console.forward import ServeDoor
from app.domain.decision import Choice
from app.engine.decision_files import choices_in, directory_of, keep_choice
from app.errors import Forbidden, JoulekeeperError
from app.metering.lease import DirectoryLease
from app.training.live_grid import live_grid
from app.units import NS_PER_S

_log = logging.getLogger("ray.serve")

_LOOK_EVERY_S, _AFTER_FAULT_S = 1.0, 5.0
_FORGET_EVERY_S, _DAY_S = 3_600.0, 86_400.0


class BatchService:
    """Of one console."""

    def __init__(
        self,
        config: Settings,
        clock: Clock,
        gate: Gate,
        details: Callable[[], Awaitable[Mapping[str, Any]]],
        address: Callable[[], Awaitable[str]],
        connect: Callable[[], Awaitable[Books]],
    ) -> None:
        self._config, self._clock, self._gate = config, clock, gate
        self._details, self._address, self._connect = details, address, connect
        self._path = config.state_dir / "batches.sqlite"
        self._store = BatchStore(self._path)
        self._office = TicketOffice(config.access_directory, clock)
        self._grid: Grid | None = None
        self._lock = threading.Lock()
        self._forgot_s = 0.0

    def router(self, now: Callable[[], datetime]) -> APIRouter:
        """Its routes."""
        lanes, pue = self._config.batch_requests, self._config.pue
        teller = BatchTeller(self._store, self._series, self._choices, lanes=lanes, pue=pue)
        return batches_router(self._store, teller, self._gate, now)

    def start(self) -> None:
        """Run batches, those of before included, until the process ends."""
        threading.Thread(target=self._run, name="batches", daemon=True).start()

    def credential(self, batch: BatchRecord, models: Sequence[str]) -> str | None:
        """What a batch's requests are known by. Raises Forbidden, Unavailable."""
        if self._gate.is_open:
            return None
        if not self._gate.still_knows(batch.who):
            raise Forbidden(f"the key {batch.who or '(none)'} that sent it was revoked, or has expired")
        scopes = sorted({infer_scope(model.partition("@")[0]) for model in models})
        return self._office.ticket(batch.tenant, scopes, batch.id)

    def _run(self) -> None:
        lease = DirectoryLease(self._config.state_dir / "batches.lock")
        while True:
            try:
                if not self._gate.is_open:
                    self._office.open()  # gates hear of its key in time
                if lease.acquire() and self._path.exists() and self._store.open_batches():
                    asyncio.run(self._work())
            except Exception:
                _log.exception("batches stand still for a moment")
                time.sleep(_AFTER_FAULT_S)
            time.sleep(_LOOK_EVERY_S)

    async def _work(self) -> None:
        """Until nothing is open."""
        config, door = self._config, ServeDoor(self._address)
        books, lane = MendingBooks(self._connect), Lane(config.batch_requests, config.pue)
        sender = Sender(door, ServeCatalogue(self._details, self._clock), self._clock)
        with live_grid(self._clock) as grid:
            runner = BatchRunner(
                self._store,
                sender,
                lane,
                grid,
                books.areceipts,
                self.credential,
                self._keep,
                self._clock,
                pue=config.pue,
                settle_lag_s=config.settle_lag_s + 2 * config.flush_s,
            )
            try:
                await runner.step()
                while not runner.is_idle:
                    await runner.step()
                    self._forget_old()
            finally:
                await runner.close()
                await door.close()

    def _keep(self, choice: Choice) -> int:
        return keep_choice(directory_of(self._config.state_dir, choice.subject), choice)

    def _choices(self, batch_id: str) -> list[Choice]:
        try:
            return list(choices_in(directory_of(self._config.state_dir, batch_id)).values())
        except JoulekeeperError:
            return []

    def _series(self) -> LocationAverageSeries:
        """What the grid did, as the processes of this host know it."""
        with self._lock:
            if self._grid is None:
                self._grid = open_grid(self._config.grid, self._clock)
            return self._grid.average()

    def _forget_old(self) -> None:
        now_s = self._clock.wall_ns() / NS_PER_S
        if now_s - self._forgot_s >= _FORGET_EVERY_S:
            self._forgot_s = now_s
            self._store.forget_before(now_s - self._config.batch_days * _DAY_S)
