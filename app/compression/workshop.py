"""One base version and whatever is made of it, in one process: chains of steps, their files, scores and costs.

Knows nothing of clusters or repositories; who meters is an argument. Importing this file imports torch.

    shop = Workshop(card, directory, scratch, Phases(client, account), tell=print)
    made = shop.make([Prune(method="prune-global"), ...])
    shop.price([made], measure)
    made.card.metrics, made.card.compression
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from app.compression.cost import CostPlan, inference_costs
from app.compression.data_free import learn_without_data
from app.compression.distil import smaller, teacher_of
from app.compression.exits import with_exits
from app.compression.job import (
    Binarise,
    Distil,
    DistilDataFree,
    EarlyExit,
    Prune,
    PruneChannels,
    PruneTwoOfFour,
    Quantise,
    QuantiseStatic,
)
from app.compression.material import Material, RowsMaterial, open_material
from app.compression.prune import as_sparse, pruned, without_channels
from app.compression.quantise import as_bits, binary, with_integers, with_ranges
from app.compression.subject import Subject, card_of, open_runner, open_subject, weights_bytes, write_subject
from app.compression.tuning import Lesson, Teacher, tune
from app.errors import InvalidInput
from app.models.card import CompressionCard, ModelCard
from app.models.runners.base import Runner
from app.training.phases import Phases
from app.training.token_cost import Measure


@dataclass(slots=True)
class Made:
    """One result: its files, and its card as far as it is known."""

    directory: Path
    card: ModelCard
    runner: Runner
    """What serves it."""

    @property
    def word(self) -> str:
        """The variant's name."""
        return self.card.variant

    @property
    def told(self) -> CompressionCard:
        """What the card says of how it was made."""
        assert self.card.compression is not None  # noqa: S101
        return self.card.compression


class Workshop:
    """Opens the base once, scores it, and makes versions of it."""

    def __init__(
        self,
        card: ModelCard,
        directory: Path,
        scratch: Path,
        phases: Phases,
        *,
        tell: Callable[[str], None],
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        """Raises InvalidInput for a version that cannot be compressed."""
        self._card, self._directory, self._scratch = card, directory, scratch
        self._phases, self._tell, self._seed = phases, tell, seed
        self._device = torch.device(device)
        phases.enter("setup")
        open_subject(card, directory, self._device)  # what cannot be compressed is refused before its data is read
        self.material: Material = open_material(card, directory, self._device)
        self.base = open_runner(card, directory, device)
        self.base_metrics = self._score(self.base)
        tell(f"{card.name}@{card.version}: {_said(self.base_metrics)}, {weights_bytes(directory):,} bytes")

    def make(self, steps: Sequence[Any], word: str) -> Made:
        """What `steps`, one after the other, make of the base, under the name `word`; scored, not priced."""
        original = open_subject(self._card, self._directory, self._device)
        subject = open_subject(self._card, self._directory, self._device)
        for step in steps:
            self._tell(f"{step}")
            subject = self._step(step, subject, original)
        directory = self._scratch / f"made-{word}"
        directory.mkdir()
        self._phases.enter("checkpoint")
        write_subject(subject, self._directory, self._card.files, directory)
        card = card_of(subject, self._card)
        runner = open_runner(card, directory, str(self._device))
        metrics = self._score(runner)
        self._phases.enter("setup")
        told = CompressionCard(
            base=f"{self._card.name}@{self._card.version}",
            steps=tuple(map(str, steps)),
            weights_bytes=weights_bytes(directory),
            base_weights_bytes=weights_bytes(self._directory),
            base_metrics=self.base_metrics,
        )
        self._tell(f"{word}: {_said(metrics)}, {told.weights_bytes:,} bytes, {told.compression_ratio:.1%} less")
        update = {"variant": word, "metrics": metrics, "compression": told, "energy": None, "token_cost": None}
        return Made(directory, card.model_copy(update=update), runner)

    def price(self, made: Sequence[Made], measure: Measure | None, plan: CostPlan | None = None) -> None:
        """Measure what a row costs, of all of `made` in turns with the base, and put it on their cards."""
        self._phases.close()  # what is metered here is charged to blocks of its own
        name = self._card.name
        versions = [(f"{name}-base", self.base), *((f"{name}-{each.word}", each.runner) for each in made)]
        costs = inference_costs(versions, self.material.questions, plan=plan or CostPlan(), measure=measure)
        for each, told in zip(made, costs[1:], strict=True):
            compression = each.told.model_copy(update={"costs": told})
            each.card = each.card.model_copy(update={"compression": compression})

    def _score(self, runner: Runner) -> dict[str, float]:
        self._phases.enter("evaluate")
        return self.material.score(runner)

    def _step(self, step: Any, subject: Subject, original: Subject) -> Subject:
        match step:
            case Prune() | PruneTwoOfFour():
                with pruned(subject.module, step, self._seed) as names:
                    self._tune(subject, step, self._own_teacher(original))
                return as_sparse(subject, names)
            case PruneChannels():
                thinner = without_channels(subject, step.rate)
                self._tune(thinner, step, self._own_teacher(original))
                return thinner
            case Quantise():
                return with_integers(subject, step.method)
            case QuantiseStatic():
                return with_ranges(subject, self.material, step.calibration_rows, self._seed)
            case Binarise():
                with binary(subject.module) as names:
                    self._tune(subject, step, self._own_teacher(original))
                return as_bits(subject, names)
            case Distil():
                student = smaller(subject, step, self._seed)
                features = step.method == "distil-features"
                self._tune(student, step, teacher_of(student, original, features=features), step.temperature)
                return student
            case DistilDataFree():
                student = smaller(subject, step, self._seed)
                learn_without_data(original, student, step, seed=self._seed, phases=self._phases, tell=self._tell)
                return student
            case EarlyExit() if isinstance(self.material, RowsMaterial):
                return with_exits(subject, self.material, step, seed=self._seed, phases=self._phases, tell=self._tell)
        raise InvalidInput(f"{step.method} is not for {self._card.name}, which is of runner {self._card.runner}")

    def _own_teacher(self, original: Subject) -> Teacher | None:
        """An encoder, whose texts have no labels, is tuned to embed as the original does."""
        return Teacher(original.module) if original.is_encoder else None

    def _tune(self, subject: Subject, step: Any, teacher: Teacher | None, temperature: float = 1.0) -> None:
        lesson = Lesson(step.epochs, step.lr, step.batch_size, self._seed, step.epoch_steps, temperature)
        tune(subject.module, self.material, lesson, phases=self._phases, tell=self._tell, teacher=teacher)


def _said(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
