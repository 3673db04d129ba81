"""One slice for each request, one interval for a batch, and one fault for one."""

import logging

import numpy as np
import pytest

from app.domain.account import request_account
from app.errors import InvalidInput
from app.protocol.model_statistics import ModelCounts
from app.serving.metered_runner import Ask, Done, MeteredRunner

ALICE, BOB = (request_account(tenant, "echo", "2") for tenant in ("alice", "bob"))


def ask(account, *items):
    array = np.empty(len(items), object)
    array[:] = items
    return Ask({"text": array}, account)


@pytest.fixture
def metered(served):
    del served.client.log[:], served.runner.calls[:]
    return MeteredRunner(served.runner, served.client, ModelCounts())


def texts(answers):
    return [answer.outputs["text"].tolist() if isinstance(answer, Done) else type(answer) for answer in answers]


def test_a_batch_is_one_call_and_a_slice_for_each(metered, served):
    answers = metered.run_together([ask(ALICE, b"a", b"b"), ask(BOB, b"c")])
    assert texts(answers) == [[b"a", b"b"], [b"c"]]
    assert [call for _, call in served.runner.calls] == [[b"a", b"b", b"c"]]
    slices = [("begin", ALICE, 2.0), ("begin", BOB, 1.0), ("end", ALICE, 2.0), ("end", BOB, 1.0)]
    assert served.client.log == slices


def test_one_alone_is_a_slice_as_without_batching(metered, served):
    assert texts(metered.run_together([ask(ALICE, b"a")])) == [[b"a"]]
    assert served.client.log == [("begin", ALICE, 1.0), ("end", ALICE, 1.0)]


@pytest.mark.parametrize(("poison", "fault"), [(b"break", ZeroDivisionError), (b"refuse", InvalidInput)])
def test_a_fault_when_it_runs_is_its_own_and_its_work_is_charged(metered, served, poison, fault):
    answers = metered.run_together([ask(ALICE, b"a"), ask(BOB, poison), ask(ALICE, b"c")])
    assert texts(answers) == [[b"a"], fault, [b"c"]]
    assert [entry[:2] for entry in served.client.log] == [
        *[("begin", account) for account in (ALICE, BOB, ALICE)],
        *[("end", account) for account in (ALICE, BOB, ALICE)],
    ]


def test_what_cannot_be_weighed_has_no_slice_and_is_not_run(metered, served, monkeypatch):
    def weight(inputs):
        if inputs["text"][0] == b"unreadable":
            raise InvalidInput("no")
        return 1.0

    monkeypatch.setattr(served.runner, "weight", weight, raising=False)
    answers = metered.run_together([ask(ALICE, b"unreadable"), ask(BOB, b"b"), ask(BOB, b"c")])
    assert texts(answers) == [InvalidInput, [b"b"], [b"c"]]
    assert [call for _, call in served.runner.calls] == [[b"b", b"c"]]
    assert {entry[1] for entry in served.client.log} == {BOB}


def test_nobody_is_run_when_nobody_can_be_weighed(metered, served, monkeypatch):
    def weight(inputs):
        raise InvalidInput("no")

    monkeypatch.setattr(served.runner, "weight", weight, raising=False)
    assert texts(metered.run_together([ask(ALICE, b"a"), ask(BOB, b"b")])) == [InvalidInput, InvalidInput]
    assert served.runner.calls == []


def test_a_runner_that_cannot_be_joined_after_all_is_found_out_and_left_alone(metered, served, monkeypatch, caplog):
    run = served.runner.run

    def mean(inputs):
        return {name: array[:1] for name, array in run(inputs).items()}

    monkeypatch.setattr(served.runner, "run", mean)
    caplog.set_level(logging.WARNING, "ray.serve")
    for _ in range(5):
        assert texts(metered.run_together([ask(ALICE, b"a"), ask(BOB, b"b")])) == [[b"a"], [b"b"]]
    joint = [call for _, call in served.runner.calls if len(call) == 2]
    assert len(joint) == len(caplog.records) == 3
    assert "must have 2 rows" in caplog.text
