"""What a node has on its disk when the accountant first sees it: whose receipts it holds, whether its books are open.

A raylet that crashed comes back as a new Ray node, on the old journal. Nobody may ever work there again, so the
accountant asks each node that is new to it, by one short task, and starts a meter where the last one left something to
do. It also learns so which node to call for a receipt whose meter has left.

    census = NodeCensus(ask, answer)           # a task on the node, and what it said, None while it runs
    census.look(alive_node_ids)                # nodes on which a meter has something to do
    census.node_of_tag("0a1b2c3d")
"""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from app.config import settings
from app.ledger.journal import has_open_books
from app.ledger.ring import node_tag
from app.metering.place import journal_directory, place

_log = logging.getLogger(__name__)

_TRIES = 3


@dataclass(frozen=True, slots=True)
class Leftover:
    """What one node answered."""

    tag: str
    """First part of the receipt ids of the node."""
    open_books: bool
    """See journal.has_open_books."""


def leftover() -> Leftover:
    """What this node's state directory holds. Runs on the node."""
    config = settings()
    here = place(config)
    return Leftover(node_tag(here.machine, here.boot), has_open_books(journal_directory(config)))


class NodeCensus:
    """Asks every Ray node once in the life of the accountant. Not thread-safe."""

    def __init__(self, ask: Callable[[str], Any], answer: Callable[[Any], Leftover | None]) -> None:
        self._ask, self._answer = ask, answer
        self._asked: dict[str, Any] = {}
        self._tries: dict[str, int] = {}
        self._tags: dict[str, str] = {}
        """Ray node id by tag."""
        self._looked = False

    def look(self, alive: Collection[str]) -> list[str]:
        """Ask nodes that are new, take in what was answered; returns the nodes on which a meter has something to do."""
        for gone in self._tries.keys() - set(alive):
            self._tries.pop(gone)
            self._asked.pop(gone, None)
        for node in alive:
            if node not in self._tries:
                self._tries[node] = 1
                self._asked[node] = self._ask(node)
        self._looked = True
        return [node for node in list(self._asked) if self._has_work(node)]

    def node_of_tag(self, tag: str) -> str | None:
        """The Ray node whose receipts begin with `tag`; None if none said so."""
        return self._tags.get(tag)

    @property
    def complete(self) -> bool:
        """Whether every node answered; False before the first look."""
        return self._looked and not self._asked

    def _has_work(self, node: str) -> bool:
        try:
            found = self._answer(self._asked[node])
        except Exception as error:
            _log.warning("node %s does not say what its last meter left: %s", node[:12], error)
            del self._asked[node]
            if self._tries[node] < _TRIES:
                self._tries[node] += 1
                self._asked[node] = self._ask(node)
            return False
        if found is None:
            return False
        del self._asked[node]
        self._tags[found.tag] = node
        return found.open_books
