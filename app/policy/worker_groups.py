"""From decisions about workers to the sizes of KubeRay's worker groups, as a JSON patch of a RayCluster.

Pure: the resource comes in as the Kubernetes API gives it, a patch (RFC 6902) goes out. Knows nothing of HTTP. Fields
are those of `ray.io/v1` (KubeRay, ray-operator/apis/ray/v1/raycluster_types.go, read 2026-11-23): `groupName`,
`replicas` (wanted), `minReplicas` (0 by default), `maxReplicas` (2**31 - 1 by default), `numOfHosts` (pods that one
replica is made of, 1 by default). KubeRay holds `replicas` within the two bounds (controllers/ray/utils/util.go,
GetWorkerGroupDesiredReplicas).

    wish = Wish.of_workers(group, workers=5, per_replica=2)       # 3 replicas
    patch = group_patch(raycluster, {"workers": wish})

With `enableInTreeAutoscaling` the number of replicas is the Ray autoscaler's to find, and only its bounds are set;
which pods go is its choice, those that were idle longest first. Without it `replicas` is set, too, and KubeRay chooses.
Raises InvalidInput for a group that is not there and for sizes that cannot be.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.errors import InvalidInput

UNBOUNDED = 2_147_483_647
_GROUPS = "workerGroupSpecs"
Operation = dict[str, Any]
"""Of a JSON patch: op, path, value."""


@dataclass(frozen=True, slots=True)
class Group:
    """One worker group as it is."""

    name: str
    replicas: int
    least: int
    most: int
    hosts: int
    """Pods of one replica."""


@dataclass(frozen=True, slots=True)
class Wish:
    """How large a group should be, in replicas."""

    replicas: int
    least: int
    most: int

    @classmethod
    def of_workers(cls, workers: int, per_replica: int = 1) -> "Wish":
        """Room for so many workers and for no more; 0: it is paused, and its pods may go."""
        if workers < 0 or per_replica < 1:
            raise InvalidInput(f"workers must be >= 0 and per_replica >= 1, got {workers} and {per_replica}")
        replicas = math.ceil(workers / per_replica)
        return cls(replicas=replicas, least=0, most=replicas)

    @classmethod
    def as_is(cls, group: Group) -> "Wish":
        """To put it back."""
        return cls(group.replicas, group.least, group.most)

    def check(self, group: str) -> None:
        """Raises InvalidInput unless 0 <= least <= replicas <= most."""
        if not 0 <= self.least <= self.replicas <= self.most <= UNBOUNDED:
            raise InvalidInput(
                f"group {group!r}: sizes must be 0 <= minReplicas <= replicas <= maxReplicas <= {UNBOUNDED}, got "
                f"{self.least}, {self.replicas} and {self.most}"
            )


def groups_of(raycluster: Mapping[str, Any]) -> dict[str, Group]:
    """Its worker groups by name."""
    return {
        spec["groupName"]: Group(
            name=spec["groupName"],
            replicas=_number(spec, "replicas", _number(spec, "minReplicas", 0)),
            least=_number(spec, "minReplicas", 0),
            most=_number(spec, "maxReplicas", UNBOUNDED),
            hosts=_number(spec, "numOfHosts", 1),
        )
        for spec in raycluster.get("spec", {}).get(_GROUPS) or ()
    }


def is_autoscaled(raycluster: Mapping[str, Any]) -> bool:
    """Whether Ray's autoscaler, and not who writes the resource, finds the number of replicas."""
    return bool(raycluster.get("spec", {}).get("enableInTreeAutoscaling"))


def group_patch(raycluster: Mapping[str, Any], wishes: Mapping[str, Wish]) -> list[Operation]:
    """What makes the groups as large as wished; empty where they are.

    It begins with tests of the names that it counts on: where somebody put the groups into another order meanwhile, the
    server refuses all of it.
    """
    present = groups_of(raycluster)
    patch: list[Operation] = []
    for name, wish in wishes.items():
        if name not in present:
            known = ", ".join(sorted(present)) or "none"
            raise InvalidInput(f"the RayCluster has no worker group {name!r}; its groups: {known}")
        wish.check(name)
        changes = _changes(present[name], wish, is_autoscaled(raycluster))
        if changes:
            path = f"/spec/{_GROUPS}/{list(present).index(name)}"
            patch.append({"op": "test", "path": f"{path}/groupName", "value": name})
            # `add` sets a field whether or not it is there.
            patch += [{"op": "add", "path": f"{path}/{field}", "value": value} for field, value in changes.items()]
    return patch


def _changes(group: Group, wish: Wish, autoscaled: bool) -> dict[str, int]:
    wanted = {"minReplicas": (group.least, wish.least), "maxReplicas": (group.most, wish.most)}
    if not autoscaled:
        wanted["replicas"] = (group.replicas, wish.replicas)
    return {field: value for field, (now, value) in wanted.items() if now != value}


def _number(spec: Mapping[str, Any], field: str, default: int) -> int:
    value = spec.get(field)
    return default if value is None else int(value)
