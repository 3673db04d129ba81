"""A user's class as a model: what it declares is checked at load, what it answers at every call."""

import sys
from types import ModuleType

import numpy as np
import pytest

from app.domain.tensor import Datatype, TensorSpec
from app.errors import InvalidInput, JoulekeeperError, NotFound, TooLarge
from app.models.runners.base import dtype_of_array
from app.models.runners.load import load_runner
from tests.fixtures.echo import DATATYPES

X = {"name": "x", "datatype": "FP32", "shape": [-1]}


@pytest.fixture
def source(monkeypatch):
    """Makes a class importable; returns its source."""

    def register(kind):
        module = ModuleType("users_own")
        module.Model = kind
        monkeypatch.setitem(sys.modules, "users_own", module)
        return "python:users_own:Model"

    return register


class Doubler:
    inputs, outputs = (TensorSpec("x", Datatype.FP32, (-1,)),), [{**X, "name": "y"}]

    def run(self, inputs):
        return {"y": inputs["x"] * 2}


def test_a_class_answers_with_its_constructor_arguments():
    runner = load_runner("python:tests.fixtures.echo:Upper", source_args={"prefix": "> "})
    assert runner.run({"text": np.array([b"a", b"b"], object)})["text"].tolist() == [b"> A", b"> B"]
    assert (runner.name, runner.version, runner.batch) == ("Upper", "1", True)
    assert runner.inputs == (TensorSpec("text", Datatype.BYTES, (-1,)),)


def test_every_datatype_passes_unchanged():
    runner = load_runner("python:tests.fixtures.echo:Echo")
    assert {spec.datatype for spec in runner.inputs} == set(Datatype) == set(DATATYPES)
    inputs = {spec.name: np.ones(2, dtype_of_array(spec.datatype)) for spec in runner.inputs}
    inputs["bytes"] = np.array([b"\x00", b"\xff"], object)
    answer = runner.run(inputs)
    assert all(answer[name] is array for name, array in inputs.items())


def test_device_is_handed_to_a_class_that_takes_it(source):
    class OnDevice(Doubler):
        def __init__(self, device):
            self.seen = device
            self.memory_bytes = 7 if device == "cuda" else 0

    assert load_runner(source(OnDevice), device="cuda").memory_bytes == 7


def test_without_words_of_its_own_rows_weigh_and_nothing_is_batched(source):
    runner = load_runner(source(Doubler))
    assert (runner.batch, runner.weight({"x": np.ones(3, np.float32)})) == (False, 3.0)
    assert runner.memory_bytes >= 0


def test_its_own_weight_and_bounds_count(source):
    class Tokens(Doubler):
        max_rows = 2

        def weight(self, inputs):
            return 10 * len(inputs["x"])

    runner = load_runner(source(Tokens))
    assert runner.weight({"x": np.ones(2, np.float32)}) == 20.0
    with pytest.raises(TooLarge):
        runner.run({"x": np.ones(3, np.float32)})


def test_inputs_of_different_lengths_are_fine_unless_rows_may_be_joined(source):
    class Two(Doubler):
        inputs = (X, {**X, "name": "z"})

    arrays = {"x": np.ones(2, np.float32), "z": np.ones(5, np.float32)}
    assert load_runner(source(Two)).run(arrays)["y"].tolist() == [2, 2]
    Two.batch = True
    with pytest.raises(InvalidInput, match="same number of rows"):
        load_runner(source(Two)).run(arrays)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run": None}, "has no method run"),
        ({"inputs": ()}, "inputs: Tuple should have at least 1"),
        ({"inputs": [{"name": "x", "datatype": "FLOAT", "shape": [-1]}]}, r"inputs\.0\.datatype"),
        ({"inputs": [X, X]}, "same name"),
        ({"inputs": [{**X, "shape": []}]}, "a shape of its inputs is empty"),
        ({"outputs": [{**X, "shape": [-2]}]}, "below -1"),
        ({"outputs": [{**X, "shape": [4]}], "batch": True}, "batch needs -1 as the first size"),
        ({"max_rows": 0}, "max_rows"),
        ({"memory_bytes": -1}, "memory_bytes"),
    ],
)
def test_what_a_class_declares_wrongly_is_refused_at_load(source, changes, message):
    with pytest.raises(InvalidInput, match=message):
        load_runner(source(type("Wrong", (Doubler,), changes)))


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        ("tests.fixtures.echo", InvalidInput, "python:package.module:Class"),
        ("tests.fixtures.echo:", InvalidInput, "python:package.module:Class"),
        ("tests.fixtures.no_such:Echo", NotFound, "PYTHONPATH"),
        ("tests.fixtures.echo:Nobody", NotFound, "has no class 'Nobody'"),
        ("tests.fixtures.echo:DATATYPES", NotFound, "has no class"),
    ],
)
def test_a_class_that_is_not_there_is_named(reference, error, message):
    with pytest.raises(error, match=message):
        load_runner(f"python:{reference}")


def test_arguments_its_constructor_does_not_take_are_refused():
    with pytest.raises(InvalidInput, match=r"source_args \['colour'\].*unexpected keyword"):
        load_runner("python:tests.fixtures.echo:Upper", source_args={"colour": "red"})


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([1], "must return a dict"),
        ({}, "output 'y' must be a numpy array of FP32, got NoneType"),
        ({"y": np.ones(2, np.float64)}, "must be a numpy array of FP32, got float64"),
        ({"y": np.ones(3, np.float32)}, r"must have shape \[2\] \(-1: free\), got \[3\]"),
        ({"y": np.ones((2, 1), np.float32)}, r"got \[2, 1\]"),
    ],
)
def test_a_wrong_answer_is_the_fault_of_the_class_not_of_the_client(source, answer, message):
    kind = type("Wrong", (Doubler,), {"batch": True, "run": lambda self, inputs: answer})
    with pytest.raises(JoulekeeperError, match=message) as caught:
        load_runner(source(kind)).run({"x": np.ones(2, np.float32)})
    assert caught.value.http_status == 500
