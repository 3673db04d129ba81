"""The stages of a preparation on the books: a slice a block and stage, and what came of it.

Knows nothing of what a stage does. Each slice is charged to the job of the run, kind `data`, its part the number of the
stage; what Ray does between, such as moving blocks and starting workers, is Ray's (`system`).

    with meter.stage("clean", "chunk-17") as done:
        table = clean(table)
        done.rows = table.num_rows
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import ray

from app.data.tally import STAGES, Done, Stage, Tally
from app.domain.account import job_account
from app.metering import lent_client

_METER_WITHIN_S = 20.0  # the first run on a fresh cluster starts the accountant and its meter, which takes seconds


class Meter:
    """Goes with every task of a run."""

    def __init__(self, tenant: str, run: str, tally: Any) -> None:
        self._account = job_account(tenant, run, 1, "data")
        self.tally = tally

    @contextmanager
    def stage(self, stage: Stage, block: str) -> Iterator[Done]:
        """One stage of one block, by a name of it: a task that Ray runs again counts once."""
        client = lent_client.borrow()
        _await_meter(client)
        done, started = Done(), time.perf_counter()
        piece = client.begin(self._account, part=STAGES.index(stage) + 1)
        try:
            yield done
        finally:
            piece.end()
            lent_client.give_back(client)
        done.seconds = time.perf_counter() - started
        ray.get(self.tally.add.remote(stage, block, replace(done)))


@cache
def _await_meter(client: Any) -> None:
    """Once a client."""
    client.await_meter(_METER_WITHIN_S)


RemoteTally = ray.remote(num_cpus=0)(Tally)
