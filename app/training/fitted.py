"""What comes back from the workers of a run: as much of Ray Train's `Result` as its driver uses."""

from typing import Any, Protocol


class Fitted(Protocol):
    """The workers have ended, well or at somebody's request."""

    @property
    def return_value(self) -> dict[str, Any]:
        """What worker.train gave."""
