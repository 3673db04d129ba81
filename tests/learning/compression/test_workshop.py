"""Every method on a real classifier: what is written is smaller, is served as scored, and knows digits still."""

from pathlib import Path

import numpy as np
import pytest
import torch

from app.compression.job import STEPS
from app.compression.search import word_of
from app.compression.subject import open_runner, products
from app.compression.workshop import Made, Workshop
from app.errors import InvalidInput
from app.models.blueprint import Cnn
from app.training.phases import Phases
from tests.learning.compression.conftest import Version

FEW = {"epochs": 2, "batch_size": 64, "lr": 3e-3}


def made_by(shop: Workshop, *steps: tuple[str, dict[str, object]]) -> Made:
    chain = tuple(STEPS[method].model_validate({"method": method, **fields}) for method, fields in steps)
    return shop.make(chain, word_of(chain))


@pytest.fixture
def shop(trained: Version, tmp_path: Path, phases: Phases) -> Workshop:
    card, directory = trained
    return Workshop(card, directory, tmp_path, phases, tell=lambda _: None, seed=3)


@pytest.mark.parametrize(
    ("method", "accuracy"), [("prune-random", 0.5), ("prune-global", 0.85), ("prune-layerwise", 0.85)]
)
def test_pruned_weights_are_zeros_that_the_file_does_not_hold(shop: Workshop, method: str, accuracy: float) -> None:
    made = made_by(shop, (method, {"rate": 0.5, **FEW}))
    weights = [layer.weight for layer in products(made.runner._module).values()]  # type: ignore[attr-defined]
    zeros = sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)
    assert zeros == pytest.approx(0.5, abs=0.01)
    # Half of the values of 32 bits, and a bit for each: 17 of 32, biases and names beside.
    assert 0.5 < made.told.weights_bytes / made.told.base_weights_bytes < 0.62
    assert made.card.metrics["accuracy"] >= accuracy


def test_two_of_four_neighbours_are_zeros(shop: Workshop) -> None:
    made = made_by(shop, ("prune-2-4", FEW))
    layers = products(made.runner._module)  # type: ignore[attr-defined]
    groups = layers["body.7"].weight.unflatten(1, (-1, 4))
    assert ((groups == 0).sum(2) == 2).all()
    assert made.card.metrics["accuracy"] >= 0.9


def test_without_channels_the_network_is_a_smaller_one_and_no_step_of_tuning_is_needed_for_its_shape(
    shop: Workshop,
) -> None:
    made = made_by(shop, ("prune-channels", {"rate": 0.5, **FEW}))
    assert isinstance(made.card.architecture, Cnn)
    assert (made.card.architecture.channels, made.card.architecture.hidden) == ((4, 8), 16)
    assert made.told.base_weights_bytes / made.told.weights_bytes > 2.5
    assert made.card.metrics["accuracy"] >= 0.85


@pytest.mark.parametrize(
    ("method", "smaller", "lost"),
    [("int8", 2.7, 0.01), ("int4", 3.5, 0.03), ("int8-dynamic", 2.7, 0.02), ("int8-static", 2.6, 0.02)],
)
def test_integers_are_smaller_and_nearly_as_right(shop: Workshop, method: str, smaller: float, lost: float) -> None:
    made = made_by(shop, (method, {}))
    assert made.told.base_weights_bytes / made.told.weights_bytes > smaller
    assert made.told.base_metrics["accuracy"] - made.card.metrics["accuracy"] <= lost


def test_binary_weights_have_one_size_for_each_output(shop: Workshop) -> None:
    made = made_by(shop, ("binary", {**FEW, "epochs": 4}))
    layers = products(made.runner._module)  # type: ignore[attr-defined]
    sizes = layers["body.7"].weight.abs()
    torch.testing.assert_close(sizes, sizes[:, :1].expand_as(sizes))
    assert made.card.metrics["accuracy"] >= 0.85


@pytest.mark.parametrize("method", ["distil-logits", "distil-features"])
def test_a_student_is_smaller_and_learns_from_the_original(shop: Workshop, method: str) -> None:
    made = made_by(shop, (method, {"width": 0.75, "epochs": 5, "batch_size": 32, "lr": 0.01}))
    assert made.told.base_weights_bytes / made.told.weights_bytes > 1.5
    assert made.card.metrics["accuracy"] >= 0.7


def test_rows_leave_early_and_the_exits_are_served(shop: Workshop) -> None:
    made = made_by(shop, ("early-exit", {**FEW, "epochs": 3, "tolerance": 0.01}))
    assert isinstance(made.card.architecture, Cnn)
    assert made.card.architecture.exit_confidence > 0
    assert made.card.metrics["accuracy"] >= made.told.base_metrics["accuracy"] - 0.04


def test_a_chain_is_cut_and_rounded_and_served_again_as_scored(shop: Workshop, trained: Version) -> None:
    made = made_by(shop, ("prune-channels", {"rate": 0.5, **FEW}), ("int8", {}))
    assert made.told.base_weights_bytes / made.told.weights_bytes > 6
    assert made.told.steps == ("prune-channels epochs=2 batch_size=64 lr=0.003", "int8")
    again = open_runner(made.card, made.directory, "cpu")
    rows = shop.material.questions(5, 1)[0]
    np.testing.assert_array_equal(again.run(rows)["logits"], made.runner.run(rows)["logits"])


def test_what_is_compressed_already_is_refused(shop: Workshop, tmp_path: Path, phases: Phases) -> None:
    made = made_by(shop, ("int8", {}))
    with pytest.raises(InvalidInput, match="compressed already; compress digits"):
        Workshop(made.card, made.directory, tmp_path, phases, tell=print)


def test_a_version_whose_data_is_unknown_is_refused(trained: Version, tmp_path: Path, phases: Phases) -> None:
    card, directory = trained
    with pytest.raises(InvalidInput, match="names no data that could be read again"):
        Workshop(card.model_copy(update={"data": ()}), directory, tmp_path, phases, tell=print)
    altered = card.data[0].model_copy(update={"digest": "sha256:0"})
    with pytest.raises(InvalidInput, match="whose rows differ"):
        Workshop(card.model_copy(update={"data": (altered,)}), directory, tmp_path, phases, tell=print)
