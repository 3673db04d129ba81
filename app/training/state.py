"""What a training run is made of, so that it can be kept and gone on with: weights, optimiser, how far it came.

Knows nothing of files. There are no random numbers in it: every step is seeded from the job's seed, its place and the
worker's rank, so that a run resumed at any step draws what it would have drawn.

    state = TrainState(module, optimiser)
    torch.distributed.checkpoint.save({"train": state}, ...)      # a Stateful: sharded tensors stay sharded
    state.facts()                                     # {"epoch": 3, "step": 17, "energy_uj": ...}
"""

from dataclasses import dataclass, field, fields
from typing import Any

from torch import nn
from torch.amp import GradScaler
from torch.distributed.checkpoint.state_dict import (
    get_state_dict,
    set_state_dict,
)
from torch.optim import Optimizer

from app.training.position import Position, Spent


@dataclass(slots=True)
class TrainState:
    """Everything that a checkpoint must hold. `Stateful` in the sense of torch.distributed.checkpoint."""

    module: nn.Module
    """Whose weights are kept: whole (ddp) or this worker's part (fsdp, tensor parallel). Not wrapped, not compiled."""
    optimiser: Optimizer
    scaler: GradScaler | None = None
    """Of float16 alone."""
    position: Position = field(default_factory=Position)
    spent: Spent = field(default_factory=Spent)
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the last evaluation; empty before the first."""

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimiser by name, as tensors or, where they are divided, DTensors. All workers must call it."""
        weights, optimiser = get_state_dict(self.module, self.optimiser)
        scaler = {"scaler": self.scaler.state_dict()} if self.scaler else {}
        return {"module": weights, "optimiser": optimiser, **scaler}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what `state_dict` gave, here or on other workers. All workers must call it."""
        set_state_dict(
            self.module, self.optimiser, model_state_dict=state["module"], optim_state_dict=state["optimiser"]
        )
        if self.scaler:
            self.scaler.load_state_dict(state["scaler"])

    def facts(self) -> dict[str, Any]:
        """All but the tensors, as JSON takes it."""
        flat = {each.name: getattr(part, each.name) for part in (self.position, self.spent) for each in fields(part)}
        return {**flat, "metrics": self.metrics}

    def take_facts(self, facts: dict[str, Any]) -> None:
        """What `facts` gave."""
        self.position = Position(*(facts[each.name] for each in fields(Position)))
        self.spent = Spent(*(facts[each.name] for each in fields(Spent)))
        self.metrics = dict(facts["metrics"])
