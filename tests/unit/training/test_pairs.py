"""Pairs of texts: where they come from, and an encoder that learns to find the one by the other."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from app.clock import ManualClock
from app.domain.account import job_account
from app.models.bert import Bert, BertConfig
from app.models.card import EnergyCard
from app.models.repository import RepositorySettings, open_repository
from app.models.runners.load import load_runner
from app.training import pairs as pairs_module
from app.training.fabric import SoloFabric
from app.training.job import TrainJob, parse_job
from app.training.pairs import DrawnPairs, Pair, load_pairs
from app.training.pairs_task import PairsTask
from app.training.phases import Phases
from app.training.publish import card_of, publish
from app.training.texts import NamedTexts
from app.training.worker import train
from tests.unit.training.test_worker_loop import Client

WORDS = [f"w{number}" for number in range(40)]


def draw_pairs() -> DrawnPairs:
    """Forty words, each with its number twice: what belongs together shares a word."""
    pairs = [Pair(f"p{n}", f"w{n} w{(n * 7) % 40}", f"w{n} w{(n * 3) % 40} w{n}") for n in range(40)]
    return DrawnPairs(tuple(pairs), "generated", "CC0-1.0")


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A BERT of two small layers with random weights, and the small source of pairs in place of the docstrings."""
    monkeypatch.setitem(pairs_module.PAIR_SOURCES, "builtin:stdlib-docstrings", draw_pairs)
    directory = tmp_path / "encoder"
    directory.mkdir()
    config: dict[str, Any] = {
        "model_type": "bert",
        "hidden_act": "gelu",
        "vocab_size": 41,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 16,
        "type_vocab_size": 2,
        "pad_token_id": 0,
    }
    (directory / "config.json").write_text(json.dumps(config))
    # A layout as sentence-transformers writes it, a directory of its own included.
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (path, kind) in enumerate(kinds)
    ]
    (directory / "modules.json").write_text(json.dumps(modules))
    (directory / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True}
    (directory / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    vocabulary = {"[PAD]": 0, **{word: place + 1 for place, word in enumerate(WORDS)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(directory / "tokenizer.json"))
    torch.manual_seed(0)
    module = Bert(BertConfig.model_validate(config))
    for each in module.parameters():
        if each.ndim == 2:
            torch.nn.init.normal_(each, std=0.3)
    save_file(module.state_dict(), directory / "model.safetensors")
    return directory


def job(encoder: Path, **changes: Any) -> TrainJob:
    return parse_job(
        {
            "name": "pairs",
            "model": {"architecture": "transformers", "source": str(encoder), "context": 16},
            "data": {"source": "builtin:stdlib-docstrings", "test_share": 0.3, "seed": 1},
            "optimiser": {"name": "adamw", "lr": 0.005, "schedule": "linear"},
            "loss": "contrastive",
            "epochs": 6,
            "batch_size": 8,
            "publish": {"name": "pairs"},
            **changes,
        },
        "test",
    )


def run(training: TrainJob, fabric: SoloFabric) -> dict[str, Any]:
    torch.set_num_threads(1)
    phases = Phases(Client(None), job_account("default", "pairs-1", 1))
    return train(training, fabric, phases, attempt=fabric.next_attempt(), tell=lambda _: None)


def test_an_encoder_goes_on_from_its_weights_and_is_served_as_it_was_measured(tmp_path: Path, encoder: Path) -> None:
    fabric = SoloFabric(tmp_path)
    training = job(encoder)
    before = PairsTask(training, training.model, fabric, None)  # type: ignore[arg-type]
    with torch.no_grad():
        untrained = before.evaluate(before.build().eval(), whole=True)
    outcome = run(training, fabric)
    assert set(outcome["metrics"]) == {"loss", "recall_at_1", "mrr"}
    assert outcome["metrics"]["loss"] < untrained["loss"]

    assert training.publish is not None
    repository = open_repository(RepositorySettings(str(tmp_path / "models")))
    energy = EnergyCard(energy_uj=7, carbon_ugco2e=1, grade="counter", source="ledger")
    card = card_of(
        training,
        training.publish,
        checkpoint=tmp_path / "latest",
        run="x-1",
        metrics=outcome["metrics"],
        data=before.card,
        energy=energy,
        clock=ManualClock(),
    )
    publish(repository, training.publish, training, tmp_path / "latest", card)
    assert (card.runner, card.architecture, card.outputs[0].shape) == ("encoder", None, (-1, 16))
    runner = load_runner("repository:pairs", repository=RepositorySettings(str(tmp_path / "models")))
    held_out = load_pairs("builtin:stdlib-docstrings", test_share=0.3, seed=1).held_out
    asked, known = (
        runner.run({"text": np.array([getattr(pair, side).encode() for pair in held_out], dtype=object)})["embedding"]
        for side in ("question", "answer")
    )
    asked, known = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (asked, known))
    right = float(((asked @ known.T).argmax(1) == np.arange(len(asked))).mean())
    assert right == pytest.approx(outcome["metrics"]["recall_at_1"], abs=1 / len(held_out))


def test_a_resumed_encoder_needs_its_source_no_more(tmp_path: Path, encoder: Path) -> None:
    fabric = SoloFabric(tmp_path)
    run(job(encoder, epochs=1), fabric)
    (encoder / "model.safetensors").unlink()
    outcome = run(job(encoder, epochs=2), fabric)
    assert outcome["resumed_after"] == 1


def test_passes_over_the_pairs_go_on_where_epochs_end(tmp_path: Path, encoder: Path) -> None:
    training = job(encoder, epoch_steps=2)
    task = PairsTask(training, training.model, SoloFabric(tmp_path), None)  # type: ignore[arg-type]
    assert task.pairs // 8 == 3  # steps of a pass
    steps = [rows for epoch in range(3) for rows in task.batches(epoch)]
    first, second = sorted(row for rows in steps[:3] for row in rows), sorted(row for rows in steps[3:] for row in rows)
    assert len(set(first)) == len(first) == len(set(second)) == 24
    assert [list(rows) for rows in task.batches(1, 1)] == [list(steps[3])]


def test_functions_become_pairs_of_what_is_said_and_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    source = (
        'def add(a, b):\n    """Return the sum of both.\n\n    More of it."""\n    return a + b\n\n'
        'def bare(a):\n    return a\n\ndef short(a):\n    """Two words."""\n    return a\n\n'
        'class C:\n    @property\n    def again(self):\n        """Return the sum of both."""\n        return 1\n'
    )
    drawn = NamedTexts({"m.py": source, "broken.py": "def ("}, "here", "CC0-1.0")
    monkeypatch.setattr(pairs_module, "draw_stdlib", lambda: drawn)
    found = pairs_module._draw_docstrings()
    assert [(pair.question, pair.answer) for pair in found.pairs] == [
        ("Return the sum of both.", "def add(a, b):\n    return a + b")
    ]
    assert found.licence == "CC0-1.0"
