"""Answers given again: the response cache of one model, and what a hit used and saved.

Knows nothing of wires or runners. A hit is work, too: a slice of its own, small, from the reading of the request to
the answer found. Its receipt says `cache: hit` and in `saved_uj` what computing would have used beyond that, as the
answer's own receipt has it: settled, if its meter has got that far.
"""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.domain.account import Account
from app.protocol.model_statistics import ModelCounts
from app.serving.metered_runner import Ask, Done
from app.serving.receipts import Receipt
from app.serving.response_cache import ResponseCache, key_of

if TYPE_CHECKING:
    from app.metering.client import OpenSlice, WorkClient


class _Origin:
    """The work that an answer came from; remembers its energy once that is settled."""

    __slots__ = ("_settled_uj", "_work", "weight")

    def __init__(self, work: "OpenSlice", weight: float) -> None:
        self._work, self.weight = work, weight
        self._settled_uj: int | None = None

    @property
    def energy_uj(self) -> int:
        """As known now; 0: nobody tells."""
        if self._settled_uj is None:
            told = self._work.energy()
            if told is None:
                return 0
            if told.provisional:
                return told.energy_uj
            self._settled_uj = told.energy_uj
        return self._settled_uj


class KeptAnswers:
    """Used from one event loop, but for `key_of`."""

    def __init__(self, cache: "ResponseCache[_Origin]", client: "WorkClient", counts: ModelCounts) -> None:
        self._cache, self._client, self._counts = cache, client, counts

    @staticmethod
    def key_of(ask: Ask, outputs: Sequence[str]) -> bytes:
        """Equal for requests of one tenant with the same inputs that ask for the same outputs."""
        return key_of(ask.account.tenant, ask.inputs, outputs)

    def find(self, key: bytes, account: Account, since: int | None) -> tuple[Done, Receipt] | None:
        """The answer kept for `key`, and what its receipt says beside the energy; None: it is to be computed."""
        began_ns = time.perf_counter_ns()
        kept = self._cache.get(key)
        if kept is None:
            self._counts.cache_miss.add(time.perf_counter_ns() - began_ns)
            return None
        self._counts.cache_hit.add(time.perf_counter_ns() - began_ns)
        work = self._client.begin(account, since=since)
        work.end()
        told, computing_uj = work.energy(), kept.origin.energy_uj
        saved_uj = max(0, computing_uj - told.energy_uj) if told else 0
        self._counts.computing_uj += computing_uj
        self._counts.saved_uj += saved_uj
        return Done(kept.outputs, work, kept.origin.weight), {"cache": "hit", "saved_uj": saved_uj}

    def keep(self, key: bytes, done: Done) -> Done:
        """Keep an answer that was computed; returns it."""
        self._cache.put(key, done.outputs, _Origin(done.work, done.weight))
        return done
