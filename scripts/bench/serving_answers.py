"""Whether every side gives the same answer, and where one says it in other words.

Knows nothing of servers. Raises LoadFailed for a wrong answer.
"""

from collections.abc import Callable

import numpy as np
import orjson
from serving_load import LoadFailed

from scripts.bench.peers.workloads import Service, request_of, tensor_values

SAME, SAME_BUT = "the same bytes", "the same bytes but for receipt or id"
VALUES = "the same values, spelt otherwise"


class Answers:
    """What the codec and the models say without any server."""

    def __init__(self) -> None:
        self._expected: dict[str, bytes] = {}

    def check(self, workload: str, answer: bytes) -> str:
        """How `answer` agrees with ours: SAME, SAME_BUT or VALUES."""
        if workload == "tensor-binary":
            return self._check(answer.endswith(tensor_values().tobytes()), workload, answer, lambda: SAME_BUT)
        if workload not in self._expected:
            request = request_of(workload)
            self._expected[workload] = Service(request.model).answer(request.body)
        expected = self._expected[workload]
        found, wanted = (np.array(orjson.loads(text)["outputs"][0]["data"]) for text in (answer, expected))
        agrees = np.allclose(found, wanted, rtol=1e-4, atol=1e-5)
        return self._check(agrees, workload, answer, lambda: _likeness(answer, expected))

    def _check(self, agrees: bool, workload: str, answer: bytes, likeness: Callable[[], str]) -> str:
        if not agrees:
            raise LoadFailed(f"{workload}: a wrong answer: {answer[:300]!r}")
        return likeness()


def _likeness(answer: bytes, expected: bytes) -> str:
    if answer == expected:
        return SAME
    message = orjson.loads(answer)
    for added in ("parameters", "id"):
        message.pop(added, None)
    return SAME_BUT if orjson.dumps(message) == expected else VALUES
