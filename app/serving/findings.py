"""What a replica has learnt of its model: what it was asked and charged, when it rested, what its governor found.

Asked through Serve's handle while it runs, and left on its node's disk when it goes, so that a model that sleeps is not
unknown. Knows nothing of what is made of it (app/policy/advice_serving.py).

    keep_findings(settings().state_dir, replica.model.findings())
    kept_findings(settings().state_dir, "digits", "3")
"""

import contextlib
from pathlib import Path

from pydantic import Field, ValidationError

from app.domain.decision import Part
from app.policy.governed import Governed

_DIRECTORY = "findings"


class Findings(Part):
    """Of one replica, since it was loaded."""

    model: str
    version: str
    born_s: float
    """Unix seconds at which it was loaded."""
    seen_s: float
    """Unix seconds of these figures."""
    asked: int = Field(ge=0)
    """Requests that have come."""
    request_uj: int
    """Charged to them; with `load_uj` and `warm_uj` all energy of its process."""
    load_uj: int
    warm_uj: int
    """While nobody asked."""
    idle_s: float
    """So long nobody did."""
    gaps_s: tuple[float, ...]
    """Between its visits, those of a tenth of a second and more; the newest few thousand."""
    governed: Governed | None = None
    """None: no governor runs."""

    @property
    def uj_per_answer(self) -> float | None:
        """All energy of its process over the requests; None before the first."""
        return (self.request_uj + self.load_uj + self.warm_uj) / self.asked if self.asked else None


def keep_findings(state_dir: Path, findings: Findings) -> None:
    """Leave them where `kept_findings` looks; a disk that does not take them is no trouble of a replica's."""
    with contextlib.suppress(OSError):
        path = _path(state_dir, findings.model, findings.version)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(findings.model_dump_json(), encoding="utf-8")
        partial.replace(path)


def kept_findings(state_dir: Path, model: str, version: str) -> Findings | None:
    """What the last replica of a version on this node left; None: nothing that can be read."""
    try:
        return Findings.model_validate_json(_path(state_dir, model, version).read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None


def _path(state_dir: Path, model: str, version: str) -> Path:
    return state_dir / _DIRECTORY / f"{model}@{version}.json"
