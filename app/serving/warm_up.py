"""From arguments to a runner that has run: what it takes then is what the first request may expect.

Knows nothing of accounts or lanes. The first run of a model is no measure: libraries start threads and choose kernels
in it. Runs on the model's thread.
"""

import logging
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from app.domain.tensor import Datatype, TensorSpec
from app.protocol.tensors import bytes_array, dtype_of
from app.serving.args import ModelArgs

if TYPE_CHECKING:
    from app.models.runners.base import Runner

_log = logging.getLogger("ray.serve")

_MOST_RUNS = 5
_ENOUGH_NS = 20_000_000
"""Runs beyond the second are only made within this time, 20 ms."""
_FAR_FROM_SHORT_NS = 500_000_000
"""A first run longer than this is the only one, 0.5 s: a cold start is not the time for a second."""


def load_warm(args: ModelArgs, load_runner: Callable[[ModelArgs], "Runner"]) -> tuple["Runner", int]:
    """The runner, and the nanoseconds of a run of one row once it is warm. Raises what `load_runner` and runs raise."""
    began_ns = time.perf_counter_ns()
    runner = load_runner(args)
    loaded_ns = time.perf_counter_ns()
    limit_threads(args.torch_threads)
    run_ns = _warm_run_ns(runner)
    took_ms = (loaded_ns - began_ns) / 1e6, (time.perf_counter_ns() - loaded_ns) / 1e6
    _log.info("%s@%s: load %.0f ms, first runs %.0f ms", args.name, args.version, *took_ms)
    return runner, run_ns


def _warm_run_ns(runner: "Runner") -> int:
    sample = {spec.name: _sample(spec) for spec in runner.inputs}
    first_ns = best_ns = _run_ns(runner, sample)
    if first_ns > _FAR_FROM_SHORT_NS:
        return first_ns
    spent_ns = 0
    for number in range(1, _MOST_RUNS):
        took_ns = _run_ns(runner, sample)
        best_ns = took_ns if number == 1 else min(best_ns, took_ns)
        spent_ns += took_ns
        if spent_ns > _ENOUGH_NS:
            break
    return best_ns


def _run_ns(runner: "Runner", sample: dict[str, np.ndarray]) -> int:
    began_ns = time.perf_counter_ns()
    runner.run(sample)
    return time.perf_counter_ns() - began_ns


def limit_threads(count: int) -> None:
    """Let torch, where it is imported, use so many threads; 0: as many as Ray gave this process CPUs."""
    # Only where the runner brought torch. Ray derives OMP_NUM_THREADS from num_cpus when a worker becomes a replica;
    # torch reads it when it is imported, which in a prepared worker (prepared.py) was before.
    wanted = count or int(os.environ.get("OMP_NUM_THREADS") or 0)
    if wanted and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(wanted)


def _sample(spec: TensorSpec) -> np.ndarray:
    sizes = tuple(1 if size == -1 else size for size in spec.shape)
    if spec.datatype is Datatype.BYTES:
        return bytes_array([b"warm up"] * int(np.prod(sizes)), sizes)
    return np.zeros(sizes, dtype_of(spec.datatype))
