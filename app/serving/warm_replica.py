"""What a replica does beside answering: it is healthy or not, lets go when told, and says how it is used.

Knows nothing of doors. Serve and the console find the methods by their names.
"""

from pathlib import Path
from typing import Protocol

from app.errors import Unavailable
from app.protocol.model_statistics import ModelCounts
from app.serving.admission import Admission
from app.serving.findings import Findings, keep_findings


class WarmModel(Protocol):
    """What is served."""

    @property
    def label(self) -> str: ...
    @property
    def ready(self) -> bool: ...
    def stats(self) -> dict[str, float]: ...
    def findings(self) -> Findings: ...
    def close(self) -> None: ...


class WarmReplica:
    """Mixed into the replica, which sets `model`, `counts` and `admission`."""

    model: WarmModel
    counts: ModelCounts
    admission: Admission
    findings_directory: Path | None = None
    """Below it what was learnt is left when the replica goes; None: nowhere."""
    _rested_at = -1
    """Requests answered when sleep was asked for."""

    async def wake(self) -> None:
        """Nothing: whoever is answered has woken the model."""

    async def let_sleep(self) -> None:
        """Ask to be put to sleep, as soon as nobody is served any more; the next request takes that back."""
        self._rested_at = self.counts.success.count

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What Serve's autoscaling policies (autoscale.py, objectives.py) hear of this replica: `BookedModel.stats`,
        `sleep_wanted`, 1 from a wish to sleep to the next request that is answered, `p95_ms` of the newest answers, and
        `budget_spent`, 1 while the deployment's budget refuses everybody."""
        return self.model.stats() | {
            "sleep_wanted": float(self._rested_at == self.counts.success.count),
            "p95_ms": self.counts.success.p95_ms,
            "budget_spent": float(self.admission.is_spent),
        }

    async def findings(self) -> Findings:
        """What it has learnt of its model; `joulekeeper optimize` asks."""
        return self.model.findings()

    def check_health(self) -> None:
        """Raises Unavailable when the model does not answer any more."""
        if not self.model.ready:
            raise Unavailable(f"{self.model.label} is not loaded")

    def __del__(self) -> None:
        # Absent when `__init__` failed.
        if "model" in self.__dict__:
            if self.findings_directory is not None and self.model.ready:
                keep_findings(self.findings_directory, self.model.findings())
            self.model.close()
