"""What a first request may expect is found in runs that are not the first, at no great price."""

from types import SimpleNamespace

import pytest

from app.domain.tensor import Datatype, TensorSpec
from app.serving import warm_up
from app.serving.args import ModelArgs

MS = 1_000_000


class Slow:
    """Each run takes what comes next, on a clock of its own."""

    inputs = (TensorSpec("text", Datatype.BYTES, (-1, 2)), TensorSpec("x", Datatype.FP16, (3, -1)))

    def __init__(self, *runs_ms):
        self.runs_ms, self.now_ns, self.seen = list(runs_ms), 0, []

    def run(self, inputs):
        self.seen.append(inputs)
        self.now_ns += round(self.runs_ms.pop(0) * MS)


@pytest.mark.parametrize(
    ("runs_ms", "found_ms", "runs"),
    [
        ([200, 0.1, 0.3, 0.2, 0.1], 0.1, 5),
        ([10, 9, 8, 7], 7, 4),
        ([400, 30], 30, 2),
        ([600], 600, 1),
    ],
    ids=["the first is none", "within 20 ms", "one more at least", "not when the first says enough"],
)
def test_the_best_run_after_the_first_counts(monkeypatch, runs_ms, found_ms, runs):
    runner = Slow(*runs_ms)
    monkeypatch.setattr(warm_up, "time", SimpleNamespace(perf_counter_ns=lambda: runner.now_ns))
    loaded, run_ns = warm_up.load_warm(ModelArgs(name="m", source="package:m", version="1"), lambda args: runner)
    assert (loaded, run_ns, len(runner.seen)) == (runner, found_ms * MS, runs)


def test_it_runs_one_row_of_every_input():
    runner = Slow(*[30] * 5)
    warm_up.load_warm(ModelArgs(name="m", source="package:m", version="1"), lambda args: runner)
    text, x = runner.seen[0]["text"], runner.seen[0]["x"]
    assert text.tolist() == [[b"warm up", b"warm up"]]
    assert (x.shape, x.dtype.str) == ((3, 1), "<f2")
