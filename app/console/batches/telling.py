"""A batch as clients see it: OpenAI's object, and under `joulekeeper` plan, reasons, carbon against at once.

Knows nothing of HTTP; asks the store, the grid and the decisions that are kept.
"""

from collections.abc import Callable, Iterator
from typing import Any

from app.carbon.intensity import LocationAverageSeries
from app.console.batches.figures import bucket_of, outcome
from app.console.batches.records import BatchRecord, State
from app.console.batches.runner import why_unanswered
from app.console.batches.store import BatchStore
from app.domain.decision import Choice
from app.protocol.openai_batches import answered_line, unanswered_line

_STATUS: dict[State, str] = {
    "waiting": "in_progress",
    "running": "in_progress",
    "settling": "finalizing",
    "completed": "completed",
    "cancelled": "cancelled",
    "expired": "expired",
    "failed": "failed",
}
"""Ours to OpenAI's, whose service knows no waiting."""


class BatchTeller:
    """Of one store."""

    def __init__(
        self,
        store: BatchStore,
        series: Callable[[], LocationAverageSeries],
        choices: Callable[[str], list[Choice]],
        *,
        lanes: int,
        pue: float,
    ) -> None:
        self._store, self._series, self._choices, self._lanes, self._pue = store, series, choices, lanes, pue

    def told(self, batch: BatchRecord, now_s: float) -> dict[str, Any]:
        """The whole object."""
        counts = self._store.counts(batch.id)
        is_over = not batch.is_open
        status = "cancelling" if batch.cancelled_s and batch.is_open else _STATUS[batch.state]
        errors = None
        if batch.why_ended:
            fault = {"code": "batch_failed", "message": batch.why_ended, "line": None, "param": None}
            errors = {"object": "list", "data": [fault]}
        return {
            "id": batch.id,
            "object": "batch",
            "endpoint": batch.endpoint,
            "errors": errors,
            "input_file_id": batch.input_file_id,
            "completion_window": batch.window,
            "status": status,
            "output_file_id": output_id(batch.id) if is_over and counts.completed else None,
            "error_file_id": error_id(batch.id) if is_over and counts.failed else None,
            "created_at": int(batch.created_s),
            "in_progress_at": int(batch.created_s),
            "expires_at": int(batch.deadline_s),
            "finalizing_at": _at(batch.settling_s),
            "completed_at": _at(batch.ended_s if batch.state == "completed" else None),
            "failed_at": _at(batch.ended_s if batch.state == "failed" else None),
            "expired_at": _at(batch.ended_s if batch.state == "expired" else None),
            "cancelling_at": _at(batch.cancelled_s),
            "cancelled_at": _at(batch.ended_s if batch.state == "cancelled" else None),
            "request_counts": {"total": counts.total, "completed": counts.completed, "failed": counts.failed},
            "metadata": batch.metadata or None,
            "joulekeeper": self._energy(batch, now_s) | self._decided(batch),
        }

    def results(self, batch: BatchRecord) -> Iterator[bytes]:
        """Lines of the answers that went well, in order of the file."""
        for custom_id, answer in self._store.answers(batch.id, good=True):
            extra = {
                "receipt_id": answer.receipt_id,
                "energy_uj": answer.energy_uj,
                "carbon_ugco2e": answer.carbon_ugco2e,
                "grade": answer.grade,
                "provisional": answer.provisional,
                "answered_at": answer.ended_s,
            }
            yield answered_line(
                batch.id, answer.number, custom_id, answer.status, answer.receipt_id, answer.body, extra
            )

    def errors(self, batch: BatchRecord) -> Iterator[bytes]:
        """Lines of the others."""
        for custom_id, answer in self._store.answers(batch.id, good=False):
            if answer.status:
                yield answered_line(
                    batch.id, answer.number, custom_id, answer.status, answer.receipt_id, answer.body, {}
                )
            else:
                yield unanswered_line(batch.id, answer.number, custom_id, answer.code, why_unanswered(answer.code))

    def _energy(self, batch: BatchRecord, now_s: float) -> dict[str, Any]:
        bucket_s = bucket_of((batch.ended_s or now_s) - batch.created_s)
        used = self._store.used(batch.id, bucket_s)
        came = outcome(used, self._series(), batch.created_s, lanes=self._lanes, pue=self._pue, bucket_s=bucket_s)
        return {
            "state": batch.state,
            "deadline": batch.deadline_s,
            "energy_uj": came.energy_uj,
            "carbon_ugco2e": round(came.carbon_ug),
            "at_once_ugco2e": round(came.at_once_ug),
            "saved_ugco2e": round(came.at_once_ug) - round(came.carbon_ug),
            "busy_s": round(came.busy_s, 3) if used else 0.0,
            "provisional": came.provisional,
            "grade": "+".join(self._store.grades(batch.id)),
            "grid_grade": came.grade,
        }

    def _decided(self, batch: BatchRecord) -> dict[str, Any]:
        """What the first plan should save, the newest as long as it may come true, every decision in a line."""
        choices = self._choices(batch.id)
        planned = [each for each in choices if each.action != "ended"]
        first = planned[0] if planned else None
        last = planned[-1] if planned and batch.is_open else None
        return {
            "planned": last.after.get("planned") if last else None,
            # When it came: whoever runs in a clean hour expects no more of waiting.
            "expected_saving": first.expected.share if first and first.expected else None,
            "reasons": list(planned[-1].reasons) if planned else [],
            "decisions": [{"at": each.at_s, "action": each.action, "reasons": each.reasons} for each in choices],
        }


def output_id(batch_id: str) -> str:
    """The file of a batch's answers."""
    return f"file-out-{batch_id.removeprefix('batch_')}"


def error_id(batch_id: str) -> str:
    """The file of what went badly."""
    return f"file-err-{batch_id.removeprefix('batch_')}"


def batch_of_file(file_id: str) -> str | None:
    """The batch whose results a file id means; None: it is no such id."""
    for prefix in ("file-out-", "file-err-"):
        if file_id.startswith(prefix):
            return f"batch_{file_id.removeprefix(prefix)}"
    return None


def _at(unix_s: float | None) -> int | None:
    return None if unix_s is None else int(unix_s)
