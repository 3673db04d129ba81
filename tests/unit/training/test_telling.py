"""What a worker tells of its epochs: the others' figures, lines, loggers, and the rows that its checkpoints keep."""

from collections.abc import Mapping

import pytest
import torch

from app.domain.account import job_account
from app.training.history import HISTORY_FILE, History
from app.training.phases import Phases, Usage
from app.training.progress import EpochFigures, WorkerFigures, worker_lines
from app.training.telling import Telling, Voice
from app.training.tracking import Trackers
from app.training.waiting import StepWatch


class Slice:
    def end(self) -> None: ...

    def energy(self) -> None:
        return None


class Client:
    def begin(self, *_: object, **__: object) -> Slice:
        return Slice()


class Logger:
    def __init__(self) -> None:
        self.spent_j: list[float] = []
        self.closed: list[bool] = []

    def log(self, figures: Mapping[str, float], epoch: int, spent_j: float) -> None:
        self.spent_j.append(spent_j)

    def close(self, finished: bool) -> None:
        self.closed.append(finished)


def worker(energy_j: float, waiting_s: float) -> WorkerFigures:
    energy_uj = round(energy_j * 1e6)
    return WorkerFigures(energy_uj, energy_uj, 10_000_000_000, round(waiting_s * 1e9), round(waiting_s * 1e5))


def figures(epoch: int, *workers: WorkerFigures) -> EpochFigures:
    usage = {"step": Usage(energy_uj=10_000_000, slices=1, known=1, grades=frozenset({"counter"}))}
    return EpochFigures(epoch, {"loss": 0.5}, 2.0, 10, 80, usage, workers)


def telling(history: History | None = None) -> Telling:
    phases = Phases(Client(), job_account("default", "tiny-1", 1))
    return Telling(phases, StepWatch(torch.device("cpu")), history or History(), attempt=2, epochs=4)


def test_an_epoch_is_told_logged_and_kept_with_all_that_was_spent_before() -> None:
    told: list[str] = []
    logger = Logger()
    first = telling()
    first.epoch_ended(figures(1))
    again = telling(History.of_json(first.files[HISTORY_FILE]))
    again.voice = Voice(told.append, trackers=Trackers({"kept": lambda: logger}, told.append))
    again.epoch_ended(figures(2, worker(6, 0.0), worker(4, 2.5)))
    again.close(finished=True)
    assert [text.strip()[:12] for text in told] == ["epoch 2/4  l", "by worker: 0"]
    assert logger.spent_j == [20.0]
    assert logger.closed == [True]
    assert [(row.epoch, row.attempt) for row in History.of_json(again.files[HISTORY_FILE]).rows] == [(1, 2), (2, 2)]


def test_steps_of_a_worker_are_what_it_says_to_the_others() -> None:
    one = telling()
    for step in range(3):
        one.step_begins()
        loss = torch.ones(2, requires_grad=True).sum()
        one.watch.of_loss(loss)
        loss.backward()
        one.step_ended(1, step + 1, samples=8)
    one.steps_ended()
    usage, times = one.share()
    assert usage == {}
    assert len(times.own_ns) == 3


def test_workers_are_told_with_their_waiting_and_the_slowest_is_named_when_it_matters() -> None:
    assert worker_lines(figures(1, worker(6, 0.0), worker(4, 2.5))) == [
        "  by worker: 0: 6 J, waited 0.00 s (0 uJ); 1: 4 J, waited 2.50 s (250 mJ); held up by worker 0"
    ]
    assert "held up" not in worker_lines(figures(1, worker(6, 0.0), worker(4, 0.9)))[0]


@pytest.mark.parametrize("workers", [(), (worker(6, 0.0),)])
def test_a_worker_alone_has_no_such_line(workers: tuple[WorkerFigures, ...]) -> None:
    assert worker_lines(figures(1, *workers)) == []


def test_of_many_workers_the_slowest_and_those_that_waited_longest_are_told() -> None:
    (text,) = worker_lines(figures(1, *(worker(1, rank / 10) for rank in range(20))))
    assert text.count("waited") == 8
    assert text.startswith("  by worker: 0: ")
    assert "19: " in text
    assert "held up by worker 0" in text
