"""Variants: quantised, scored on the same held-out text, metered beside their base, published with all of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.clock import ManualClock
from app.errors import InvalidInput
from app.models.precision import Precision
from app.models.repository import ModelRepository
from app.training import texts
from app.training.texts import NamedTexts
from app.training.variants import publish_variant
from tests.learning.training.test_text_task import job, published, run

pytestmark = pytest.mark.usefixtures("small_texts")


@dataclass
class Figures:
    energy_uj: int
    grade: str = "counter"


class Meter:
    """Every block of a variant costs 3 J, every other 6 J."""

    def __init__(self, there: bool = True) -> None:
        self.there = there
        self.names: list[str] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator["Meter"]:
        self.names.append(name)
        yield self

    def settle(self, timeout_s: float) -> Figures | None:
        return Figures(6_000_000 if "base" in self.names[-1] else 3_000_000) if self.there else None


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    run(job(epochs=2), tmp_path / "run")
    return published(job(), tmp_path / "run" / "latest", tmp_path / "models")


def make(repository: ModelRepository, to: Precision, meter: Meter | None) -> list[str]:
    told: list[str] = []
    name = publish_variant(repository, "tiny", "1", to, measure=meter, clock=ManualClock(), tell=told.append)
    assert name == f"1-{to}"
    return told


@pytest.mark.parametrize("to", Precision)
def test_the_card_of_a_variant_tells_quality_and_cost(repository: ModelRepository, to: Precision) -> None:
    meter = Meter()
    told = make(repository, to, meter)
    base, variant = repository.card("tiny", "1"), repository.card("tiny", f"1-{to}")
    assert (variant.variant, variant.data, variant.job) == (to, base.data, base.job)
    assert set(variant.files) == set(base.files)
    assert set(variant.metrics) == {"loss", "bits_per_byte"}
    cost = variant.token_cost
    assert cost is not None
    # Five rounds of each, in turns, after one block that waited for the meter.
    assert meter.names == ["tiny-base-tokens"] + ["tiny-base-tokens", f"tiny-{to}-tokens"] * 5
    assert cost.uj_per_token == pytest.approx(15_000_000 / cost.tokens)
    assert cost.grade == "counter"
    assert told[0].startswith(f"held-out text: loss {variant.metrics['loss']:.4f}")


def test_without_a_meter_the_quality_is_told_all_the_same(
    repository: ModelRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.training.token_cost._METER_WITHIN_S", 0.2)
    assert make(repository, Precision.INT8, Meter(there=False))[1] == "energy per token: unknown; no meter was there"
    assert repository.card("tiny", "1-int8").token_cost is None
    assert len(make(repository, Precision.INT4, None)) == 1


def test_on_another_pythons_texts_nothing_is_measured(
    repository: ModelRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = NamedTexts({f"{number}.py": "pass\n" for number in range(40)}, "another Python", "CC0-1.0")
    monkeypatch.setitem(texts.TEXT_SOURCES, "builtin:stdlib-source", lambda: other)
    (told,) = make(repository, Precision.INT8, Meter())
    assert told == "not measured: it was trained beside the generated; here is the another Python"
    assert repository.card("tiny", "1-int8").metrics == {}


def test_a_variant_of_a_variant_is_refused(repository: ModelRepository) -> None:
    make(repository, Precision.INT8, None)
    with pytest.raises(InvalidInput, match="tiny@1-int8 is int8, not a language model as trained"):
        publish_variant(
            repository,
            "tiny",
            "1-int8",
            Precision.INT4,
            measure=None,
            clock=ManualClock(),
            tell=lambda _: None,
        )
