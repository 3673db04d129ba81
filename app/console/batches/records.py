"""What is known of a file and of a batch: plain frozen values. Knows nothing of where they are kept."""

from dataclasses import dataclass, field
from typing import Literal

State = Literal["waiting", "running", "settling", "completed", "cancelled", "expired", "failed"]
OPEN: tuple[State, ...] = ("waiting", "running", "settling")


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file that a client sent. Times of records are Unix seconds."""

    id: str
    tenant: str
    name: str
    purpose: str
    size: int
    created_s: float


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """One batch, as it stands."""

    id: str
    tenant: str
    who: str
    """Of the caller that sent it: the id of a key, or of a token; empty with access open."""
    endpoint: str
    input_file_id: str
    window: str
    created_s: float
    deadline_s: float
    state: State = "waiting"
    ending: Literal["", "completed", "cancelled", "expired", "failed"] = ""
    """What it ends as, once it settles."""
    why_ended: str = ""
    began_s: float | None = None
    settling_s: float | None = None
    ended_s: float | None = None
    cancelled_s: float | None = None
    """When somebody asked for it."""
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether anything is still to be done."""
        return self.state in OPEN


@dataclass(frozen=True, slots=True)
class Pending:
    """A request that nobody has answered."""

    batch: str
    number: int
    custom_id: str
    url: str
    model: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to one, the model's or, with status 0, nobody's."""

    batch: str
    number: int
    status: int
    body: bytes
    receipt_id: str
    energy_uj: int
    carbon_ugco2e: int
    """As the model told it."""
    grade: str
    provisional: bool
    ended_s: float
    took_s: float
    code: str = ""
    """Why nobody answered."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests of a batch."""

    total: int
    completed: int
    failed: int
    """Answered with an error, or by nobody."""

    @property
    def left(self) -> int:
        return self.total - self.completed - self.failed


@dataclass(frozen=True, slots=True)
class Pace:
    """What requests of one kind took, one by one."""

    requests: int
    seconds: float
    """Of all of them; when several run at once each counts whole."""
    joules: float
    metered: int
    """How many of them have joules."""

    @property
    def each_s(self) -> float:
        return self.seconds / self.requests

    @property
    def each_j(self) -> float | None:
        """None: nobody metered any."""
        return self.joules / self.metered if self.metered else None


@dataclass(frozen=True, slots=True)
class Used:
    """What a batch used in a short stretch of time."""

    start_s: float
    energy_uj: int
    requests: int
    provisional: int
    took_s: float
