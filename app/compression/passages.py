"""What an encoder is tuned and measured on: functions of the standard library and what their docstrings say of them.

Knows nothing of how anything is compressed. There are no labels: a compressed encoder learns to embed as the original
does, and is measured by agreement, the share of questions whose nearest passage is the same as the original's. Pairs
are those that the version's card names, else those of DEFAULT. Importing this file imports torch.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from app.compression.material import Batch
from app.models.card import DataCard, ModelCard
from app.models.runners.base import Arrays, Runner
from app.models.runners.encoder import EncoderRunner, embed_tokens
from app.models.runners.encoder_layout import read_layout
from app.training.pairs import PAIR_SOURCES, load_pairs

DEFAULT = ("builtin:stdlib-docstrings", 0.1, 7)
"""Source, share held out, seed."""
_MOST_TOKENS = 64
_MOST_PAIRS = 250
"""Of those held out, evenly spread: a point of agreement is then two or three questions."""
_MOST_CHARACTERS = 400
"""Of a passage when it is measured, so that no encoder refuses it."""
Vectors = npt.NDArray[np.float32]


class PassagesMaterial:
    """`Material` of an encoder."""

    metric = "agreement"

    def __init__(self, card: ModelCard, directory: Path, device: torch.device) -> None:
        source, test_share, seed = _named(card)
        pairs = load_pairs(source, test_share=test_share, seed=seed)
        every = max(1, -(-len(pairs.held_out) // _MOST_PAIRS))
        self._questions = [pair.question[:_MOST_CHARACTERS] for pair in pairs.held_out[::every]]
        self._passages = [pair.answer[:_MOST_CHARACTERS] for pair in pairs.held_out[::every]]
        self._device, self._layout = device, read_layout(directory)
        tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(min(_MOST_TOKENS, self._layout.max_tokens))
        texts = [text for pair in pairs.train for text in (pair.question, pair.answer)]
        self._tokens = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
        self._original = _embedded(EncoderRunner(directory, card.name, card.version, device=str(device)), self._all)

    @property
    def _all(self) -> list[str]:
        return self._questions + self._passages

    def batches(self, size: int, seed: int, epoch: int) -> Iterator[Batch]:
        order = np.random.default_rng((seed, epoch)).permutation(len(self._tokens))
        for start in range(0, len(order), size):
            yield [self._tokens[row] for row in order[start : start + size]]

    def answer(self, module: nn.Module, batch: Batch) -> Tensor:
        return embed_tokens(module, self._layout, batch, self._device)

    def loss(self, answer: Tensor, batch: Batch, taught: Tensor | None, temperature: float = 1.0) -> Tensor:
        """How far the embeddings point elsewhere than the original's, and how far the batch is otherwise arranged.

        The second, over the cosines between the texts of the batch: Park et al., arXiv 1904.05068, section 3.2.1, with
        cosines for distances.
        """
        assert taught is not None  # noqa: S101
        ours, theirs = functional.normalize(answer, dim=1), functional.normalize(taught, dim=1)
        return (1 - (ours * theirs).sum(1)).mean() + functional.mse_loss(ours @ ours.T, theirs @ theirs.T)

    def score(self, runner: Runner) -> dict[str, float]:
        """Agreement with the original; how often a question's nearest passage is its own; how like the vectors are."""
        found = _embedded(runner, self._all)
        nearest, before = self._nearest(found), self._nearest(self._original)
        norms = np.linalg.norm(found, axis=1) * np.linalg.norm(self._original, axis=1)
        return {
            "agreement": float((nearest == before).mean()),
            "recall_at_1": float((nearest == np.arange(len(nearest))).mean()),
            "cosine": float(((found * self._original).sum(1) / norms).mean()),
        }

    def _nearest(self, vectors: Vectors) -> npt.NDArray[np.intp]:
        """Of each question, the number of the passage whose direction is nearest."""
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        count = len(self._questions)
        found: npt.NDArray[np.intp] = (unit[:count] @ unit[count:].T).argmax(1)
        return found

    def questions(self, rows: int, count: int) -> list[Arrays]:
        picked = np.random.default_rng(0).integers(len(self._questions), size=(count, rows))
        return [_texts([self._questions[row] for row in each]) for each in picked]


def _named(card: ModelCard) -> tuple[str, float, int]:
    """Source, share held out and seed of the pairs that a version was trained on."""
    named: DataCard | None = next((each for each in card.data if each.name in PAIR_SOURCES), None)
    if named is None or named.test_share is None or named.seed is None:
        return DEFAULT
    return named.name, named.test_share, named.seed


def _texts(texts: Sequence[str]) -> Arrays:
    return {"text": np.array([text.encode() for text in texts], dtype=object)}


def _embedded(runner: Runner, texts: Sequence[str]) -> Vectors:
    """FP32 [texts, width], as it is served."""
    parts = [texts[start : start + runner.max_rows] for start in range(0, len(texts), runner.max_rows)]
    found: Vectors = np.concatenate([runner.run(_texts(part))["embedding"] for part in parts])
    return found
