"""Variants of a published language model: quantised, scored on the text that was held out, metered, published.

Knows nothing of clusters; who meters is an argument.

    publish_variant(repository, "pycoder", "3", Precision.INT8, measure=measure, clock=SystemClock(), tell=print)
    # "3-int8"

Raises InvalidInput for a version that is no language model or is quantised already, NotFound where there is none.
"""

import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from app.clock import Clock
from app.errors import InvalidInput
from app.models.card import DataCard, ModelCard
from app.models.precision import Precision
from app.models.quantised import CONFIG_FILE, WEIGHTS_FILE, quantise, teach_transformers
from app.models.repository import ModelRepository
from app.training.causal import TOKENIZER_FILE
from app.training.held_out import Score, score_stream
from app.training.publish import code_version
from app.training.texts import TEXT_SOURCES, Texts, load_texts
from app.training.token_cost import Measure, cost_line, prompts_of, token_costs
from app.training.tokenizer import bytes_of_tokens, encode
from app.training.windows import scoring_windows
from app.units import NS_PER_S


def publish_variant(
    repository: ModelRepository,
    name: str,
    version: str,
    to: Precision,
    *,
    measure: Measure | None,
    clock: Clock,
    tell: Callable[[str], None],
) -> str:
    """Publish `name`@`version` as a variant; returns `3-int8`. Without `measure` nobody meters it."""
    with repository.open(name, version) as (base, directory), tempfile.TemporaryDirectory() as staging:
        if base.runner != "generator" or base.variant:
            raise InvalidInput(f"{name}@{version} is {base.variant or base.runner}, not a language model as trained")
        staged = Path(staging)
        _write(directory, staged, base, to)
        card = _card(base, to, clock)
        texts = _held_out_texts(base, tell)
        if texts:
            score = _score(staged, texts)
            card = card.model_copy(update={"metrics": {"loss": score.loss, "bits_per_byte": score.bits_per_byte}})
            tell(_quality(base, score))
        if texts and measure:
            versions = ((directory, base), (staged, card))
            costs = token_costs(versions, prompts_of(texts.held_out), measure=measure)
            card = card.model_copy(update={"token_cost": costs[1] if costs else None})
            tell(cost_line(card.token_cost))
        return repository.publish(name, lambda target: _copy(staged, target), card, variant=f"{version}-{to}")


def _card(base: ModelCard, to: Precision, clock: Clock) -> ModelCard:
    """The base's, less what is not true of the variant."""
    return base.model_copy(
        update={
            "created": datetime.fromtimestamp(clock.wall_ns() / NS_PER_S, UTC).isoformat(timespec="seconds"),
            "variant": to,
            "metrics": {},
            "energy": None,
            "token_cost": None,
            "code_version": code_version(),
        }
    )


def _write(source: Path, staged: Path, base: ModelCard, to: Precision) -> None:
    """The quantised weights, and every other file as it is."""
    quantise(source, staged, to)
    for relative in base.files.keys() - {WEIGHTS_FILE, CONFIG_FILE}:
        (staged / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / relative, staged / relative)


def _copy(staged: Path, target: Path) -> None:
    shutil.copytree(staged, target, dirs_exist_ok=True)


def _held_out_texts(base: ModelCard, tell: Callable[[str], None]) -> Texts | None:
    """The very texts that were held out when the version was trained, where they can be had again."""
    data: DataCard | None = next((data for data in base.data if data.name in TEXT_SOURCES), None)
    if data is None or data.test_share is None or data.seed is None:
        tell("not measured: the card names no held-out text that could be read again")
        return None
    texts = load_texts(data.name, test_share=data.test_share, seed=data.seed)
    if texts.card.digest != data.digest:
        tell(f"not measured: it was trained beside the {data.origin}; here is the {texts.card.origin}")
        return None
    return texts


def _score(directory: Path, texts: Texts) -> Score:
    tokenizer = Tokenizer.from_file(str(directory / TOKENIZER_FILE))
    stream = encode(tokenizer, texts.held_out)
    teach_transformers()
    disable_progress_bar()
    module = AutoModelForCausalLM.from_pretrained(directory, local_files_only=True, use_safetensors=True)
    windows = scoring_windows(len(stream), module.config.max_position_embeddings)
    return score_stream(module, stream, windows, bytes_of_tokens(tokenizer), device=torch.device("cpu"))


def _quality(base: ModelCard, score: Score) -> str:
    before = base.metrics.get("bits_per_byte")
    beside = f" ({before:.4f} before)" if before is not None else ""
    return f"held-out text: loss {score.loss:.4f}, {score.bits_per_byte:.4f} bits per byte{beside}"
