"""A small encoder through every step that fits it: it stays an encoder, agrees with itself, and fits in less."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from app.compression.job import STEPS
from app.compression.workshop import Made, Workshop
from app.domain.tensor import Datatype, TensorSpec
from app.errors import InvalidInput
from app.models.bert import Bert, BertConfig
from app.models.card import ModelCard
from app.models.weights import save_weights
from app.training import pairs
from app.training.pairs import DrawnPairs, Pair
from app.training.phases import Phases
from tests.learning.compression.conftest import Version

WORDS = [f"w{number}" for number in range(60)]
SHAPE = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 32,
    "type_vocab_size": 2,
}
FEW = {"epochs": 1, "batch_size": 16, "lr": 1e-3}


def draw_pairs() -> DrawnPairs:
    """Sixty questions of three words, each in its answer."""
    found = []
    for number in range(60):
        words = [WORDS[(number * step + step) % 60] for step in (1, 7, 11)]
        found.append(Pair(f"m:f:{number}", " ".join(words), " ".join([*words, WORDS[number], WORDS[-number]])))
    return DrawnPairs(tuple(found), "generated", "CC0-1.0")


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Version:
    monkeypatch.setitem(pairs.PAIR_SOURCES, "builtin:stdlib-docstrings", draw_pairs)
    directory = tmp_path / "encoder"
    directory.mkdir()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    module = Bert(BertConfig.model_validate(SHAPE))
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter.requires_grad_(False), std=0.3)
    save_weights(directory / "model.safetensors", module)
    (directory / "config.json").write_text(json.dumps(SHAPE))
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(["[PAD]", "[UNK]", *WORDS])}, "[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(directory / "tokenizer.json"))
    card = ModelCard(
        name="tiny",
        version="1",
        created="2026-11-22T00:00:00+00:00",
        runner="encoder",
        inputs=(TensorSpec("text", Datatype.BYTES, (-1,)),),
        outputs=(TensorSpec("embedding", Datatype.FP32, (-1, 32)),),
        files=dict.fromkeys(("model.safetensors", "config.json", "tokenizer.json"), "0" * 64),
    )
    return card, directory


@pytest.fixture
def shop(encoder: Version, tmp_path: Path, phases: Phases) -> Workshop:
    return Workshop(*encoder, tmp_path, phases, tell=lambda _: None)


def made_by(shop: Workshop, *methods: str, **fields: object) -> Made:
    return shop.make(
        [
            STEPS[method].model_validate(
                {"method": method, **{key: value for key, value in fields.items() if key in STEPS[method].model_fields}}
            )
            for method in methods
        ],
        "small",
    )


def test_the_original_agrees_with_itself(shop: Workshop) -> None:
    assert shop.base_metrics["agreement"] == 1.0
    assert shop.base_metrics["cosine"] == pytest.approx(1.0, abs=1e-5)
    assert shop.material.metric == "agreement"


@pytest.mark.parametrize("method", ["int8", "int8-dynamic", "int8-static"])
def test_integers_agree_and_are_smaller(shop: Workshop, method: str) -> None:
    made = made_by(shop, method, calibration_rows=32)
    assert made.card.metrics["cosine"] > 0.99
    assert made.told.base_weights_bytes / made.told.weights_bytes > 2
    assert "layers.json" in made.card.files


def test_units_go_from_every_feed_forward_layer_and_the_config_tells(shop: Workshop) -> None:
    made = made_by(shop, "prune-channels", rate=0.25, **FEW)
    told = json.loads((made.directory / "config.json").read_text())
    assert (told["intermediate_size"], told["num_hidden_layers"], told["hidden_size"]) == (48, 4, 32)
    assert made.card.metrics["cosine"] > 0.8


@pytest.mark.parametrize("method", ["distil-logits", "distil-features"])
def test_a_student_has_some_of_the_layers(shop: Workshop, method: str) -> None:
    made = made_by(shop, method, "int8", layers=2, **FEW)
    assert json.loads((made.directory / "config.json").read_text())["num_hidden_layers"] == 2
    assert made.card.metrics["cosine"] > 0.5
    with pytest.raises(InvalidInput, match="layers must be < 4"):
        made_by(shop, method, layers=4, **FEW)


@pytest.mark.parametrize("method", ["prune-global", "prune-2-4", "binary"])
def test_zeros_and_signs_are_tuned_to_embed_as_the_original(shop: Workshop, method: str) -> None:
    made = made_by(shop, method, **FEW)
    assert made.told.base_weights_bytes > 1.2 * made.told.weights_bytes
    assert made.card.metrics["cosine"] > (0.2 if method == "binary" else 0.8)


@pytest.mark.parametrize("method", ["early-exit", "distil-data-free"])
def test_what_is_for_classifiers_is_refused(shop: Workshop, method: str) -> None:
    with pytest.raises(InvalidInput, match=r"is not for tiny, which is of runner encoder|tells classes apart"):
        made_by(shop, method)
