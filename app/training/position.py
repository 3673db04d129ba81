"""How far a run came and what it has used: what a checkpoint says beside its tensors.

Plain figures; knows nothing of torch, Ray or files.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Position:
    """How far a run came."""

    epoch: int = 0
    """Epochs done."""
    step: int = 0
    """Optimiser steps done of the epoch that follows."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run has used up to now, over its attempts."""

    energy_uj: int = 0
    carbon_ugco2e: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(
            self.energy_uj + other.energy_uj,
            self.carbon_ugco2e + other.carbon_ugco2e,
            self.seconds + other.seconds,
        )
