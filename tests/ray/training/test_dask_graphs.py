"""Dask collections on the cluster: every task of a graph is on the ledger under the name that was given."""

import time
from pathlib import Path

import pytest

dask = pytest.importorskip("dask", reason="the extra dask is not installed")

from ray.util.dask import ray_dask_get  # noqa: E402

from app.data.dask_meter import MeteredGraphs  # noqa: E402
from app.metering.accountant import connect_books  # noqa: E402

pytestmark = pytest.mark.ray


def test_a_graph_is_charged_to_its_job_also_when_a_task_of_it_fails(state: Path) -> None:
    import dask.array as array

    books = connect_books(create=True)
    with dask.config.set(scheduler=ray_dask_get), MeteredGraphs("sums", tenant="dask"):
        numbers = array.ones((3000, 3000), chunks=(1000, 1000))
        assert float((numbers @ numbers.T).sum().compute()) == 3000.0**3
        with pytest.raises(ZeroDivisionError):
            dask.delayed(lambda: 1 // 0)().compute()
        assert int(dask.delayed(sum)([1, 2]).compute()) == 3

    def booked() -> set[str]:
        """Who is charged, by job and by tenant."""
        return {row.group[by] for by in ("job", "tenant") for row in books.report(by).rows if row.energy_uj}

    deadline = time.monotonic() + 90
    while not {"sums", "dask"} <= booked():
        assert time.monotonic() < deadline, "nothing of the graph came to the ledger"
        time.sleep(0.25)
