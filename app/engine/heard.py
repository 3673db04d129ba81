"""What the accountant last heard of each meter, and what it should warn of. Pure: instants come in as Unix seconds.

Keeps of a meter's last batch only what is shown. Not thread-safe.

    heard = Heard()
    heard.condition(delivery.condition, now_s)
    heard.booked(delivery.batches, now_s)
    heard.warnings(now_s)
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.engine.delivery import MeterCondition
from app.engine.views import NodeStatus
from app.ledger.batch import Batch
from app.ledger.ring import node_tag

_SILENT_S = 15.0
_MANY_WAITING = 30
_SHOWN = ("machine", "boot", "node", "vitals", "residents", "failures", "lost_slices", "conditions")


@dataclass(slots=True)
class MeterHeard:
    """The last things a meter said."""

    at_s: float
    body: dict[str, Any] = field(default_factory=dict)
    """What is shown of its last batch; empty before the first."""
    clean: bool = False
    """Its last batch was a closing one."""
    batches: int = 0
    said: MeterCondition | None = None

    @property
    def tag(self) -> str:
        """First part of the receipt ids of its node."""
        return node_tag(self.body["machine"], self.body["boot"]) if self.body else ""

    def status(self, now_s: float) -> NodeStatus:
        """The node as it is shown."""
        age_s = max(0.0, now_s - self.at_s)
        return NodeStatus(
            node=self.body["node"],
            metered=not self.clean and age_s < _SILENT_S,
            last_heard_s=age_s,
            residents=tuple(self.body["residents"]),
        )

    def warnings(self) -> Iterator[str]:
        """What is wrong on the node."""
        if self.said is not None:
            yield from (f"{self.said.node}: {text}" for text in self.said.warnings)
            if self.said.waiting >= _MANY_WAITING:
                yield f"{self.said.node}: {self.said.waiting} batches wait in the node's journal"
        body = self.body
        if body:
            yield from (f"{body['node']}: {uuid} cannot be read: {reason}" for uuid, reason in body["failures"].items())
            if body["lost_slices"]:
                yield f"{body['node']}: {body['lost_slices']} slices were overwritten before the meter read them"


class Heard:
    """All meters that spoke since the accountant started, and whether the store took what they brought."""

    def __init__(self) -> None:
        self._meters: dict[str, MeterHeard] = {}
        self._refused_since_s: float | None = None
        self._reason = ""

    def condition(self, said: MeterCondition, now_s: float) -> None:
        """A meter says how it fares."""
        self._of(said.meter, now_s).said = said

    def booked(self, batches: Sequence[Batch], now_s: float) -> None:
        """Batches of one meter, in order, are in the store."""
        self._refused_since_s = None
        if batches:
            meter = self._of(batches[0].meter, now_s)
            body = batches[-1].body
            meter.body = {name: body.get(name, {}) for name in _SHOWN}
            meter.clean = body["resume"]["clean"]
            meter.batches += len(batches)

    def refused(self, reason: str, now_s: float) -> None:
        """The store does not do its part."""
        if self._refused_since_s is None:
            self._refused_since_s = now_s
        self._reason = reason

    def shown(self) -> list[MeterHeard]:
        """The meters of which a batch was booked."""
        return [meter for meter in self._meters.values() if meter.body]

    def by_tag(self, tag: str) -> MeterHeard | None:
        """The meter whose receipt ids begin with `tag`."""
        return next((meter for meter in self._meters.values() if meter.tag == tag), None)

    def waiting(self) -> dict[str, int]:
        """Batches that wait for the accountant, by node."""
        found: dict[str, int] = {}
        for meter in self._meters.values():
            if meter.said is not None:
                found[meter.said.node] = found.get(meter.said.node, 0) + meter.said.waiting
        return found

    def warnings(self, now_s: float) -> Iterable[str]:
        """One sentence per thing that somebody should know."""
        if self._refused_since_s is not None:
            waiting = [meter.said for meter in self._meters.values() if meter.said and meter.said.waiting]
            yield (
                f"the store has taken nothing for {now_s - self._refused_since_s:.0f} s: {self._reason}; "
                f"{sum(said.waiting for said in waiting)} batches of {len(waiting)} meters wait in node journals"
            )
        for meter in self._meters.values():
            yield from meter.warnings()

    def _of(self, name: str, now_s: float) -> MeterHeard:
        meter = self._meters.setdefault(name, MeterHeard(now_s))
        meter.at_s = now_s
        return meter
