"""What a replica does beside answering: it is healthy or not, lets go when told, and says how it is used.

Knows nothing of doors. Serve and the console find the methods by their names.
"""

from typing import Protocol

from app.errors import Unavailable
from app.protocol.model_statistics import ModelCounts


class WarmModel(Protocol):
    """What is served."""

    @property
    def label(self) -> str: ...
    @property
    def ready(self) -> bool: ...
    def stats(self) -> dict[str, float]: ...
    def close(self) -> None: ...


class WarmReplica:
    """Mixed into the replica, which sets `model` and `counts`."""

    model: WarmModel
    counts: ModelCounts
    _rested_at = -1
    """Requests answered when sleep was asked for."""

    async def wake(self) -> None:
        """Nothing: whoever is answered has woken the model."""

    async def let_sleep(self) -> None:
        """Ask to be put to sleep, as soon as nobody is served any more; the next request takes that back."""
        self._rested_at = self.counts.success.count

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What Serve's autoscaling policy (autoscale.py) hears of this replica: `BookedModel.stats`, and
        `sleep_wanted`, 1 from a wish to sleep to the next request that is answered."""
        return self.model.stats() | {"sleep_wanted": float(self._rested_at == self.counts.success.count)}

    def check_health(self) -> None:
        """Raises Unavailable when the model does not answer any more."""
        if not self.model.ready:
            raise Unavailable(f"{self.model.label} is not loaded")

    def __del__(self) -> None:
        # Absent when `__init__` failed.
        if "model" in self.__dict__:
            self.model.close()
