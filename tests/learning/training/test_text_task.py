"""A language model learned in one process: better than guessing, resumed exactly, published as others read it."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models
from torch.optim import SGD, AdamW
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from app.clock import ManualClock
from app.domain.account import job_account
from app.errors import InvalidInput
from app.models.card import EnergyCard
from app.models.repository import ModelRepository, RepositorySettings, open_repository
from app.training.fabric import SoloFabric
from app.training.job import TrainJob, parse_job
from app.training.optimiser import build_optimiser, set_rate
from app.training.parts import Optimiser
from app.training.phases import Phases
from app.training.publish import card_of, publish
from app.training.texts import load_texts
from app.training.worker import train
from tests.unit.training.test_worker_loop import Client

pytestmark = pytest.mark.usefixtures("small_texts")


def job(**changes: Any) -> TrainJob:
    return parse_job(
        {
            "name": "tiny",
            "model": {"architecture": "llama", "vocabulary": 300, "hidden": 32, "layers": 2, "heads": 2, "context": 64},
            "data": {"source": "builtin:stdlib-source", "test_share": 0.2, "seed": 3},
            "optimiser": {"name": "adamw", "lr": 0.01, "clip_norm": 1.0, "warmup_steps": 4, "schedule": "cosine"},
            "loss": "next_token",
            "epochs": 4,
            "epoch_steps": 8,
            "batch_size": 8,
            "seed": 5,
            "publish": {"name": "tiny"},
            **changes,
        },
        "test",
    )


def run(training: TrainJob, directory: Path, client: Client | None = None) -> tuple[dict[str, Any], list[str]]:
    directory.mkdir(exist_ok=True)
    lines: list[str] = []
    torch.set_num_threads(1)
    phases = Phases(client or Client(None), job_account("default", "tiny-1", 1))
    fabric = SoloFabric(directory)
    return train(training, fabric, phases, attempt=fabric.next_attempt(), tell=lines.append), lines


def published(training: TrainJob, checkpoint: Path, root: Path) -> ModelRepository:
    """What `training` left in `checkpoint`, in a repository below `root`."""
    assert training.publish is not None
    data = load_texts("builtin:stdlib-source", test_share=0.2, seed=3).card
    energy = EnergyCard(energy_uj=7, carbon_ugco2e=1, grade="counter", source="ledger")
    card = card_of(
        training,
        training.publish,
        checkpoint=checkpoint,
        run="x-1",
        metrics={},
        data=data,
        energy=energy,
        clock=ManualClock(),
    )
    repository = open_repository(RepositorySettings(str(root)))
    publish(repository, training.publish, training, checkpoint, card)
    return repository


def test_it_learns_and_is_printed_beside_gzip_and_zstd(tmp_path: Path) -> None:
    client = Client(None)
    outcome, lines = run(job(), tmp_path, client)
    metrics = outcome["metrics"]
    assert metrics["loss"] < math.log(300) / 2
    assert set(metrics) == {"loss", "bits_per_byte", "gzip_9", "zstd_19"}
    assert "gzip_9" not in lines[1]  # only the last epoch scores the whole of the held-out text
    assert f"bits_per_byte {metrics['bits_per_byte']:.4f}  gzip_9 {metrics['gzip_9']:.4f}  zstd_19" in lines[-1]
    assert client.weights.count(8.0) == 4 * 8  # a step is a slice that weighs its windows
    assert client.parts.count(1) == 8 + 2  # an epoch: its steps, its evaluation, its checkpoint


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_resumed_job_ends_with_the_very_same_weights(tmp_path: Path, precision: str) -> None:
    run(job(precision=precision), tmp_path / "whole")
    # The course of the learning rate is that of four epochs, so the first two are stopped, not asked for.
    fabric = SoloFabric(tmp_path / "halves")
    (tmp_path / "halves").mkdir()

    class Died(Exception):
        pass

    def die_after_two(metrics: dict[str, Any], directory: Path | None) -> None:
        SoloFabric.report(fabric, metrics, directory)
        if metrics["epoch"] == 2:
            raise Died

    fabric.report = die_after_two  # type: ignore[method-assign]
    phases = Phases(Client(None), job_account("default", "tiny-1", 1))
    with pytest.raises(Died):
        train(job(precision=precision), fabric, phases, attempt=1, tell=lambda _: None)
    outcome, _ = run(job(precision=precision), tmp_path / "halves")
    assert outcome["resumed_after"] == 2
    expected = load_file(tmp_path / "whole" / "latest" / "model.safetensors")
    found = load_file(tmp_path / "halves" / "latest" / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_tied_embeddings_are_kept_once_and_untied_ones_twice(tmp_path: Path) -> None:
    run(job(epochs=1), tmp_path / "tied")
    run(job(epochs=1, model={**job().model.model_dump(), "tied_embeddings": False}), tmp_path / "untied")
    tied, untied = (load_file(tmp_path / name / "latest" / "model.safetensors") for name in ("tied", "untied"))
    assert set(untied) - set(tied) == {"lm_head.weight"}


def test_what_is_published_is_a_checkpoint_that_transformers_loads(tmp_path: Path) -> None:
    training = job()
    outcome, _ = run(training, tmp_path / "run")
    repository = published(training, tmp_path / "run" / "latest", tmp_path / "models")
    with repository.open("tiny", "1") as (card, directory):
        assert (card.runner, card.architecture) == ("generator", training.model)
        assert {"transformers", "tokenizers"} <= set(card.framework)
        assert set(card.files) == {
            "model.safetensors",
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "chat_template.jinja",
        }
        model = AutoModelForCausalLM.from_pretrained(directory)
        tokenizer = AutoTokenizer.from_pretrained(directory)
        assert GenerationConfig.from_pretrained(directory).eos_token_id == 0
    text = load_texts("builtin:stdlib-source", test_share=0.2, seed=3).held_out[0]
    tokens = tokenizer(text, return_tensors="pt").input_ids[:, :64]
    assert tokens[0, 0] == 0
    with torch.inference_mode():
        loss = float(model(input_ids=tokens, labels=tokens).loss)
    assert loss == pytest.approx(outcome["metrics"]["loss"], abs=0.5)


def test_a_model_of_the_library_starts_from_its_configuration_and_another_goes_on_with_it(tmp_path: Path) -> None:
    gpt = {"model_type": "gpt2", "vocab_size": 300, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}
    library = {"architecture": "transformers", "config": gpt, "context": 64}
    training = job(model=library, epochs=2)
    outcome, _ = run(training, tmp_path / "run")
    assert outcome["metrics"]["loss"] < math.log(300)
    again, lines = run(job(model=library, epochs=3), tmp_path / "run")
    assert lines[0].startswith("tiny: attempt 1, resumed after epoch 2")
    assert again["metrics"]["loss"] < outcome["metrics"]["loss"]

    repository = published(job(model=library, epochs=3), tmp_path / "run" / "latest", tmp_path / "models")
    with repository.open("tiny", "1") as (card, directory):
        assert card.runner == "generator"
        model = AutoModelForCausalLM.from_pretrained(directory)
        tuned = {"architecture": "transformers", "source": str(directory), "context": 64}
        after, _ = run(job(model=tuned, epochs=1, optimiser={"name": "adamw", "lr": 1e-5}), tmp_path / "tuned")
    assert model.config.model_type == "gpt2"
    # It goes on from the weights and the tokenizer: with hardly a step taken it is as good as it was.
    assert after["metrics"]["loss"] == pytest.approx(again["metrics"]["loss"], rel=0.1)


def test_a_source_whose_tokens_nobody_can_count_in_bytes_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "words"
    directory.mkdir()
    Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(directory / "tokenizer.json"))
    (directory / "config.json").write_text('{"model_type": "gpt2", "vocab_size": 1}')
    library = {"architecture": "transformers", "source": str(directory), "context": 64}
    with pytest.raises(InvalidInput, match="has no byte-level tokenizer"):
        run(job(model=library), tmp_path / "run")


def test_the_rate_warms_up_by_step_and_falls_by_epoch() -> None:
    settings = Optimiser(name="adamw", lr=0.1, warmup_steps=4, schedule="cosine")
    optimiser = SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    rates = []
    for epoch, step in [(0, 0), (0, 3), (1, 8), (2, 16)]:
        set_rate(optimiser, settings, epoch, 4, step)
        rates.append(optimiser.param_groups[0]["lr"])
    # A quarter of the way up, all of it; then half a cosine: (1 + cos 45°) / 2 and (1 + cos 90°) / 2.
    assert rates == pytest.approx([0.025, 0.1, 0.1 * (1 + math.sqrt(0.5)) / 2, 0.05])


def test_adamw_decays_matrices_and_leaves_vectors_alone() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    built = build_optimiser(Optimiser(name="adamw", weight_decay=0.1, beta2=0.95), module)
    assert isinstance(built, AdamW)
    decays = {tuple(each.shape): group["weight_decay"] for group in built.param_groups for each in group["params"]}
    assert decays == {(2, 3): 0.1, (2,): 0.0}
    assert built.param_groups[0]["betas"] == (0.9, 0.95)
