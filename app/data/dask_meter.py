"""Dask collections on Ray, metered: every task of a graph that runs as a Ray task is on the books.

    from ray.util.dask import ray_dask_get
    from app.data.dask_meter import MeteredGraphs

    with dask.config.set(scheduler=ray_dask_get), MeteredGraphs("mean-by-day"):
        frame.groupby("day").mean().compute()

Each task is charged to the job `name` of `tenant`, kind `measure`, as a measured block is (app/energy.py); what Ray
does between tasks, such as moving their results, is Ray's. Needs the extra `dask`; without it importing this module
raises InvalidInput. Written against Ray 2.60, whose scheduler calls both hooks on the worker.
"""

from typing import Any

from app.energy import Measure, measure
from app.errors import InvalidInput

try:
    from ray.util.dask import RayDaskCallback
except ImportError as error:
    raise InvalidInput(f"Dask-on-Ray is not installed here ({error}); pip install 'joulekeeper[dask]'") from error

_open: list[Measure] = []
"""Of this worker: the block of a task that runs, or of one that failed, whose end Ray does not tell."""


class MeteredGraphs(RayDaskCallback):
    """While it is entered, tasks of graphs are charged to the job `name`. Raises InvalidInput for a name too long."""

    def __init__(self, name: str, tenant: str = "default") -> None:
        measure(name, tenant=tenant)  # refuses here what the workers would refuse
        self._job, self._tenant = name, tenant
        super().__init__()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._job, self._tenant)

    def _ray_pretask(self, key: Any, object_refs: Any) -> None:
        """On a worker, before a task."""
        _end()
        _open.append(measure(self._job, tenant=self._tenant))
        _open[0].__enter__()

    def _ray_posttask(self, key: Any, result: Any, pre_state: Any) -> None:
        """On the same worker, after it."""
        _end()


def _end() -> None:
    while _open:
        _open.pop().__exit__(None, None, None)
