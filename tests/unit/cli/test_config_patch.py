"""Changes of a Serve config: made, told in force, and taken back to the letter."""

from typing import Any

import pytest

from app.cli.config_patch import inverse, is_in_force, patched

CONFIG: dict[str, Any] = {
    "name": "digits",
    "args": {"name": "digits", "source": "repository:digits", "batching": {"max_wait_ms": 5}},
    "deployments": [
        {"name": "Model", "num_replicas": 1, "autoscaling_config": {"min_replicas": 1}},
        {"name": "Other", "num_replicas": 2},
    ],
}
CHANGES: list[dict[str, Any]] = [
    {"args": {"source": "repository:digits@1-int8", "version": None}},
    {"args": {"batching": {"objective_p95_ms": 50, "max_wait_ms": None}}},
    {"deployments": {"Model": {"autoscaling_config": {"min_replicas": 0}, "num_replicas": None}}},
    {"deployments": {"New": {"num_replicas": 3}}},
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_in_force_once_it_is_made_and_its_inverse_gives_back_what_was(change: dict[str, Any]) -> None:
    changed = patched(CONFIG, change)
    assert is_in_force(changed, change)
    assert not is_in_force(CONFIG, change)
    assert patched(changed, inverse(CONFIG, change)) == CONFIG


def test_what_is_not_named_stays_and_names_find_their_place_in_lists() -> None:
    changed = patched(CONFIG, CHANGES[2])
    assert changed["deployments"] == [
        {"name": "Model", "autoscaling_config": {"min_replicas": 0}},
        {"name": "Other", "num_replicas": 2},
    ]
    assert changed["args"] == CONFIG["args"]


def test_a_config_without_deployments_gets_a_list_of_them_and_loses_it_again() -> None:
    bare = {"name": "minilm", "args": {}}
    change = {"deployments": {"Model": {"autoscaling_config": {"min_replicas": 0}}}}
    changed = patched(bare, change)
    assert changed["deployments"] == [{"name": "Model", "autoscaling_config": {"min_replicas": 0}}]
    assert patched(changed, inverse(bare, change)) == bare
