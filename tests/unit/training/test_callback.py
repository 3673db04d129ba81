"""The Ray Train callback without Ray: epochs from reports, a quiet end, and never an error."""

import pickle
import threading
from typing import Any

import pytest

from app.domain.account import Account, job_account
from app.training import callback
from app.training.callback import METERS_ITSELF, EnergyCallback, Epochs

JOB = job_account("default", "run", 1)
LAG_NS = 2_000_000_000


class Piece:
    def __init__(self, account: Account, part: int, duration_ns: int) -> None:
        self.account, self.part, self.duration_ns, self.ended = account, part, duration_ns, False

    def end(self) -> None:
        self.ended = True

    def energy(self) -> None:
        return None

    def assign(self, part: int) -> None:
        self.part = part


class Client:
    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.duration_ns = 1_000
        self.closed = False

    def begin(self, account: Account, weight: float = 1.0, part: int = 0) -> Piece:
        assert all(piece.ended for piece in self.pieces)
        self.pieces.append(Piece(account, part, self.duration_ns))
        return self.pieces[-1]

    def close(self) -> None:
        self.closed = True

    @property
    def parts(self) -> list[int]:
        return [piece.part for piece in self.pieces]


class Context:
    """What is used of Ray Train's TrainContext."""

    def __init__(self, config: Any = None) -> None:
        self.train_run_context = self
        self.train_loop_config = config
        self.report_call_index = 0

    def get_experiment_name(self) -> str:
        return "run"


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch, client: Client) -> Context:
    context = Context()
    monkeypatch.setattr(callback, "_context", lambda: context)
    monkeypatch.setattr(
        callback,
        "_open",
        lambda context, attempt: Epochs(
            client, job_account("default", "run", attempt), context.report_call_index + 1, LAG_NS
        ),
    )
    return context


def worker_copy(controller: EnergyCallback) -> EnergyCallback:
    """As Ray sends it to a worker."""
    copy: EnergyCallback = pickle.loads(pickle.dumps(controller))
    return copy


def train(metering: EnergyCallback, context: Context, reports: int, counted: bool = True) -> None:
    """A training function in a thread of its own, as Ray runs it; a report that is not counted was skipped by Ray."""

    def loop() -> None:
        for _ in range(reports):
            with metering.on_report():
                context.report_call_index += counted

    thread = threading.Thread(target=loop)
    thread.start()
    thread.join()
    for ending in threading.enumerate():
        if ending.name == "joulekeeper-end":
            ending.join()


def test_every_report_ends_an_epoch_and_what_follows_the_last_is_none(client: Client, context: Context) -> None:
    metering = EnergyCallback()
    metering.before_init_train_context([])
    metering.after_init_train_context()
    train(metering, context, 3)
    assert client.parts == [1, 2, 3, 0]
    assert all(piece.ended for piece in client.pieces)
    metering.before_worker_shutdown()
    assert client.closed


def test_a_long_end_stays_under_the_number_that_the_meter_may_have_booked_it_with(
    client: Client, context: Context
) -> None:
    client.duration_ns = LAG_NS
    metering = EnergyCallback()
    metering.after_init_train_context()
    train(metering, context, 2)
    assert client.parts == [1, 2, 3]


def test_a_training_function_that_reports_nothing_is_one_epoch(client: Client, context: Context) -> None:
    metering = EnergyCallback()
    metering.after_init_train_context()
    metering.before_worker_shutdown()
    assert client.parts == [1]


def test_a_new_start_of_the_workers_is_an_attempt_that_goes_on_counting_epochs(
    client: Client, context: Context
) -> None:
    controller = EnergyCallback()
    controller.before_init_train_context([])
    controller.before_init_train_context([])
    context.report_call_index = 7
    worker = worker_copy(controller)
    worker.after_init_train_context()
    assert (client.parts, client.pieces[0].account.attempt) == ([8], 2)
    worker.before_worker_shutdown()


def test_a_report_that_ray_skipped_does_not_count(client: Client, context: Context) -> None:
    client.duration_ns = LAG_NS
    metering = EnergyCallback()
    metering.after_init_train_context()
    train(metering, context, 1, counted=False)
    assert client.parts == [1, 1]
    metering.before_worker_shutdown()


def test_a_failing_report_fails_as_it_would_without_us(client: Client, context: Context) -> None:
    metering = EnergyCallback()
    metering.after_init_train_context()
    with pytest.raises(ValueError, match="tensors"), metering.on_report():
        raise ValueError("tensors")
    assert client.parts == [1]
    metering.before_worker_shutdown()


def test_a_run_that_meters_itself_is_left_alone(client: Client, context: Context) -> None:
    context.train_loop_config = {METERS_ITSELF: True}
    metering = EnergyCallback()
    metering.after_init_train_context()
    train(metering, context, 1)
    metering.before_worker_shutdown()
    assert client.pieces == []
    assert not client.closed


def test_our_own_jobs_meter_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    from app.training.job import load_job
    from app.training.run import _trainer

    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.25")
    trainer = _trainer(load_job(Path("deployments/jobs/digits.yaml")), "digits-1")
    assert METERS_ITSELF in trainer.train_loop_config


def test_trouble_of_ours_is_a_warning_and_never_the_runs(
    monkeypatch: pytest.MonkeyPatch, context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    def trouble(*_: object) -> Epochs:
        raise RuntimeError("no such disk")

    monkeypatch.setattr(callback, "_open", trouble)
    metering = EnergyCallback()
    metering.after_init_train_context()
    with metering.on_report():
        pass
    metering.before_worker_shutdown()
    assert "metered in part or not at all: no such disk" in caplog.text
