"""Code that knows nothing of the product, or one line of it, on a real cluster: what it used is on the ledger."""

import asyncio
import csv
import io
import os
import re
import subprocess
import sys
import time

import pytest
import ray

from app.config import settings
from app.energy import measure
from app.ledger.ring import RingReader, ring_paths
from app.metering.accountant import connect_books
from tests.fixtures.ray_cluster import ROOT, RayCluster

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

SCRIPT = """
import ray, time
from app.energy import measure
ray.init(log_to_driver=False)
with measure("script"):
    end = time.monotonic() + 0.2
    while time.monotonic() < end: pass
"""
PAGE = ROOT / "docs" / "measure.md"
EXAMPLE = "ray.train.examples.pytorch.torch_linear_example"


def spin(seconds):
    """Host energy goes by CPU time: sleeping would be free."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@ray.remote(num_cpus=0.1)
def short_task():
    with measure("task") as block:
        spin(0.05)
    return block.receipt_id


@ray.remote(num_cpus=0)
class Fetcher:
    """An asyncio actor with a measured method."""

    @measure("actor", tenant="acme")
    async def fetch(self):
        await asyncio.sleep(0)
        spin(0.1)


@pytest.fixture(scope="module")
def books(running, state):
    patch = pytest.MonkeyPatch()
    for name, value in {"JOULEKEEPER_STATE_DIR": str(state), "RAY_AUTH_MODE": "disabled"}.items():
        patch.setenv(name, value)
    settings.cache_clear()
    ray.init(address=RayCluster.address, log_to_driver=False)
    try:
        books = connect_books(create=True)
        await_that(lambda: books.status().devices, "a meter has told something")
        yield books
    finally:
        ray.shutdown()
        patch.undo()
        settings.cache_clear()


def await_that(condition, what, timeout_s=90):  # Ray gives its workers a low priority: slow on a busy machine
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s} s in vain until {what}"
        time.sleep(0.25)
    return found


def run(*arguments, cwd, **environment):
    """A program of its own beside this one: what it printed."""
    command = [sys.executable, *arguments]
    environment = os.environ | {"RAY_ADDRESS": RayCluster.address, "PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


def energy_of_jobs(books):
    return {row.group["job"]: row.energy_uj for row in books.report("job").rows if row.group["job"]}


def test_measured_blocks_of_a_script_a_task_and_an_actor_are_jobs_on_the_ledger(books, tmp_path):
    with measure("driver") as block:
        spin(0.2)
    receipt_ids = ray.get([short_task.remote() for _ in range(4)], timeout=90)
    ray.get(Fetcher.remote().fetch.remote(), timeout=90)
    run("-c", SCRIPT, cwd=tmp_path)  # gone before anybody can have booked it
    _, on_the_page = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert run("-c", on_the_page, cwd=tmp_path).split()[0] == "[333332833333500000,"

    names = {"driver", "task", "actor", "script", "squares"}
    await_that(lambda: names <= energy_of_jobs(books).keys(), "all are on the ledger")
    figures = block.settle(30)
    assert (figures.provisional, figures.energy_uj) == (False, energy_of_jobs(books)["driver"])
    receipts = [books.receipt(receipt_id, settle_timeout_s=30) for receipt_id in receipt_ids]
    assert [receipt.provisional for receipt in receipts] == [False] * 4
    assert sum(receipt.energy_uj for receipt in receipts) == energy_of_jobs(books)["task"] > 0
    assert {row.group["tenant"] for row in books.report("tenant").rows} >= {"acme", "default"}


def in_rings(state, job):
    """What slices of a job were booked, by worker and part, as their own records say."""
    sums = {}
    for path in ring_paths(state / "rings"):
        ring = RingReader(path)
        if ring.header.resident.account.job == job:
            for row in ring.records[ring.records["number"] > 0]:
                key = (ring.header.worker, int(row["part"]))
                sums[key] = sums.get(key, 0) + int(row["energy_uj"])
        ring.close()
    return {key: energy_uj for key, energy_uj in sums.items() if energy_uj}


def test_an_unmodified_ray_train_script_is_metered_by_worker_and_epoch(books, state, tmp_path):
    callback = {"RAY_TRAIN_CALLBACKS": "app.training.callback.EnergyCallback", "HOME": str(tmp_path)}
    run("-m", EXAMPLE, "--address", RayCluster.address, cwd=tmp_path, **callback)

    def settled():
        """The run, once the ledger has all that its slices were booked."""
        jobs = [job for job in books.report("job").jobs if job.job.startswith("ray_train_run-")]
        rings = in_rings(state, jobs[0].job) if jobs else {}
        shares = [share for job in jobs for share in job.shares if share.energy_uj]  # an end of 1 ms can have none
        booked = {(share.worker, share.epoch): share.energy_uj for share in shares}
        return jobs[0] if {(rank, 3) for rank in (0, 1)} <= booked.keys() and booked == rings else None

    job = await_that(settled, "its workers and epochs are on the ledger")
    assert (job.attempt, job.kind, job.tenant) == (1, "train", "default")
    assert [share.worker for share in job.by_worker] == [0, 1]
    epochs = [share for share in job.by_epoch if share.epoch]
    assert [share.epoch for share in epochs] == [1, 2, 3]
    assert min(share.energy_uj for share in (*job.by_worker, *epochs)) > 0
    for shares in (job.by_worker, job.by_epoch, job.shares):
        assert sum(share.energy_uj for share in shares) == job.energy_uj
    assert job.energy_uj <= energy_of_jobs(books)[job.job]

    table = run("-m", "app", "report", "--by", "job", cwd=ROOT)
    assert f"{job.job}, attempt 1: by worker" in table
    assert f"{job.job}, attempt 1: by epoch" in table
    parts = csv.DictReader(io.StringIO(run("-m", "app", "report", "--by", "job", "--format", "parts", cwd=ROOT)))
    assert sum(int(row["energy_uj"]) for row in parts if row["job"] == job.job) == job.energy_uj
    assert books.audit().ok
