"""Worker groups: decisions become the patch of a RayCluster that says it, and the one that takes it back."""

from typing import Any

import pytest

from app.errors import InvalidInput
from app.policy.worker_groups import UNBOUNDED, Group, Wish, group_patch, groups_of


def raycluster(*groups: dict[str, Any], autoscaled: bool = False) -> dict[str, Any]:
    return {"spec": {"enableInTreeAutoscaling": autoscaled, "workerGroupSpecs": list(groups)}}


SMALL = {"groupName": "small", "replicas": 1, "minReplicas": 1, "maxReplicas": 5}
GPU = {"groupName": "gpu", "replicas": 2, "numOfHosts": 4}


def test_what_a_group_does_not_say_is_what_kuberay_takes_for_it() -> None:
    assert groups_of(raycluster(SMALL, GPU)) == {
        "small": Group("small", 1, 1, 5, 1),
        "gpu": Group("gpu", 2, 0, UNBOUNDED, 4),
    }
    assert groups_of({"spec": {}}) == {}


def test_a_patch_sets_the_group_by_its_place_and_tests_its_name_first() -> None:
    assert group_patch(raycluster(SMALL, GPU), {"gpu": Wish.of_workers(5, per_replica=2)}) == [
        {"op": "test", "path": "/spec/workerGroupSpecs/1/groupName", "value": "gpu"},
        {"op": "add", "path": "/spec/workerGroupSpecs/1/maxReplicas", "value": 3},
        {"op": "add", "path": "/spec/workerGroupSpecs/1/replicas", "value": 3},
    ]


def test_with_the_autoscaler_only_the_bounds_are_set() -> None:
    patch = group_patch(raycluster(SMALL, autoscaled=True), {"small": Wish.of_workers(0)})
    assert [(each["path"].rpartition("/")[2], each["value"]) for each in patch[1:]] == [
        ("minReplicas", 0),
        ("maxReplicas", 0),
    ]


def test_a_group_that_is_as_wished_needs_no_patch_and_undoing_is_wishing_what_was() -> None:
    cluster = raycluster(SMALL, GPU)
    assert group_patch(cluster, {name: Wish.as_is(group) for name, group in groups_of(cluster).items()}) == []


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"large": Wish(1, 0, 1)}, "no worker group 'large'; its groups: gpu, small"),
        ({"gpu": Wish(5, 0, 3)}, "0 <= minReplicas <= replicas <= maxReplicas"),
        ({"gpu": Wish(1, 2, 3)}, "got 2, 1 and 3"),
    ],
)
def test_sizes_that_cannot_be_are_refused(wishes: dict[str, Wish], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        group_patch(raycluster(SMALL, GPU), wishes)


def test_workers_that_cannot_be_are_refused() -> None:
    with pytest.raises(InvalidInput, match="per_replica >= 1"):
        Wish.of_workers(3, per_replica=0)
