"""Where a node's books belong: the identity of the host, and its name for people."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """A node for good: machine and boot name it in device keys, `node` in reports."""

    machine: str
    boot: str
    node: str
