"""What a request used, as answers tell it: tokens in OpenAI's words, energy beside them in ours.

Knows nothing of meters: a receipt comes in as names and values. Pure; raises nothing.

    usage = Usage(prompt_tokens=12, completion_tokens=40, cached_tokens=8, receipt={"energy_uj": 910_000, ...})
    usage.described()["joulekeeper"]["energy_uj"]
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.protocol.messages import Parameter

ENERGY_FIELDS = (
    "receipt_id",
    "energy_uj",
    "prefill_uj",
    "decode_uj",
    "uj_per_token",
    "carbon_ugco2e",
    "grade",
    "provisional",
)
"""What `usage.joulekeeper` has of a receipt, in this order; what no meter has told is absent."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one request, all its choices together."""

    prompt_tokens: int
    """Of each prompt once, however many choices continue it."""
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompts, those taken from the prefix cache."""
    receipt: Mapping[str, Parameter] = field(default_factory=dict)
    """Energy and carbon by the names of ENERGY_FIELDS; other names are left out."""

    def described(self) -> dict[str, Any]:
        """As JSON."""
        told: dict[str, Any] = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }
        return told | self._energy()

    def described_of_input(self) -> dict[str, Any]:
        """As JSON where nothing is generated."""
        return {"prompt_tokens": self.prompt_tokens, "total_tokens": self.prompt_tokens} | self._energy()

    def _energy(self) -> dict[str, Any]:
        told = {name: self.receipt[name] for name in ENERGY_FIELDS if name in self.receipt}
        return {"joulekeeper": told} if told else {}
