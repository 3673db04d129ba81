"""Errors survive the pickling that carries them between processes, and the tree is as it is drawn."""

import inspect
import pickle
import re

import pytest

from app import errors
from app.errors import JoulekeeperError

CLASSES = [error for _, error in inspect.getmembers(errors, inspect.isclass) if issubclass(error, JoulekeeperError)]


def drawn_tree() -> dict[str, str]:
    """Name to parent as the module's docstring draws them, by indentation."""
    parents: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^([ |]*)(?:\+-- )?([A-Z]\w+)", line)
        if not found or not line.startswith("    ") or not hasattr(errors, found[2]):
            continue
        depth = line.index(found[2])
        path = [node for node in path if node[0] < depth]
        if path:
            parents[found[2]] = path[-1][1]
        path.append((depth, found[2]))
    return parents


@pytest.mark.parametrize("error", CLASSES)
@pytest.mark.parametrize("module", ["pickle", "ray.cloudpickle"])
def test_every_error_survives_pickling(error: type[JoulekeeperError], module: str):
    dumps = pickle.dumps if module == "pickle" else pytest.importorskip(module).dumps
    loaded = pickle.loads(dumps(error("weight must be > 0, got -1")))
    assert type(loaded) is error
    assert loaded.args == ("weight must be > 0, got -1",)
    assert (loaded.http_status, loaded.grpc_status) == (error.http_status, error.grpc_status)


def test_the_tree_that_is_drawn_is_the_tree():
    assert drawn_tree() == {
        error.__name__: error.__base__.__name__ for error in CLASSES if error is not JoulekeeperError and error.__base__
    }


def test_grpc_statuses_are_names_that_grpc_knows():
    grpc = pytest.importorskip("grpc")
    assert all(hasattr(grpc.StatusCode, error.grpc_status) for error in CLASSES)


def test_a_caller_at_fault_gets_4xx_and_ours_5xx():
    statuses = {error.__name__: error.http_status // 100 for error in CLASSES}
    at_fault = {"InvalidInput", "TooLarge", "NotFound", "Unauthenticated", "Forbidden", "OverQuota", "Busy"}
    assert {name for name, status in statuses.items() if status == 4} == at_fault


def test_a_used_up_quota_says_when_to_come_again_and_keeps_it_when_pickled():
    error = pickle.loads(pickle.dumps(errors.OverQuota("3 requests a second", 0.25)))
    assert (str(error), error.retry_after_s) == ("3 requests a second", 0.25)
    assert errors.OverQuota("come again").retry_after_s == 1.0
