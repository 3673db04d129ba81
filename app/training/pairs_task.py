"""Learning from pairs of texts: an encoder whose embeddings of the two shall be nearer to each other than to any other.

Knows nothing of steps or energy. The loss is the cross entropy of finding a question's answer among all answers of the
pass, and the other way round (InfoNCE; van den Oord et al., arXiv:1807.03748; as sentence-transformers' multiple
negatives ranking), over the cosines times SCALE. Answers of all workers count, so that two workers learn what one would
from the same rows; with `accumulation` those of one pass only. Metrics: of the questions held out, the share whose own
answer is nearest among all that are held out (recall at 1), and the mean reciprocal rank.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, distributed, nn
from torch.distributed._functional_collectives import all_gather_single
from torch.nn import functional

from app.config import settings
from app.models.blueprint import Pretrained
from app.models.runners.encoder import embed_tokens
from app.models.runners.encoder_layout import EncoderLayout, read_layout
from app.models.runners.encoder_network import load_network, untrained_network
from app.models.sources import opened, texts_of
from app.training.causal import TOKENIZER_FILE, without_run_files
from app.training.fabric import Group
from app.training.job import TrainJob
from app.training.pairs import Pair, load_pairs
from app.training.task import RowNumbers

SCALE = 20.0
"""What cosines are multiplied by: 1 / temperature of 0.05, as in Reimers and Gurevych's sentence-transformers."""
_EVALUATED_ROWS = 64


class PairsTask:
    """`Task` of retrieval, for an encoder that exists."""

    def __init__(self, job: TrainJob, model: Pretrained, group: Group, checkpoint: Path | None) -> None:
        self._job, self._group = job, group
        pairs = load_pairs(job.data.source, test_share=job.data.test_share, seed=job.data.seed)
        self.card, self.pairs = pairs.card, len(pairs.train)
        self._take(model, checkpoint)
        self._questions, self._answers = self._encode(pairs.train)
        self._asked, self._known = self._encode(pairs.held_out)
        self._turn, self._shuffled = -1, np.empty(0, dtype=np.int64)
        self._rows = min(job.step_rows, len(pairs.train))
        self._pass_steps = len(pairs.train) // self._rows
        self.epoch_steps = job.epoch_steps or self._pass_steps

    def _take(self, model: Pretrained, checkpoint: Path | None) -> None:
        """Network, tokenizer and layout, from the model's source or from what a checkpoint keeps of it."""
        with opened(str(checkpoint) if checkpoint else model.source, settings().repository) as directory:
            self.files: Mapping[str, str] = without_run_files(texts_of(directory))
            self._layout: EncoderLayout = read_layout(directory)
            self._most_tokens = min(model.context, self._layout.max_tokens)
            self._tokenizer = Tokenizer.from_file(str(directory / TOKENIZER_FILE))
            if checkpoint:
                self._network = untrained_network(directory)
            else:
                self._network, _ = load_network(directory, torch.device("cpu"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self._most_tokens)

    def build(self) -> nn.Module:
        return self._network.train().requires_grad_(True)

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[RowNumbers]:
        """Pass after pass over the pairs, in whole batches: with fewer rows it would be easier to find an answer."""
        for step in range(epoch * self.epoch_steps + first_step, (epoch + 1) * self.epoch_steps):
            turn, place = divmod(step, self._pass_steps)
            yield self._order(turn)[place * self._rows : (place + 1) * self._rows]

    def _order(self, turn: int) -> RowNumbers:
        """Of all pairs in one pass over them."""
        if self._turn != turn:
            self._turn = turn
            self._shuffled = np.random.default_rng((self._job.seed, turn)).permutation(len(self._questions))
        return self._shuffled

    def loss(self, module: nn.Module, rows: RowNumbers) -> Tensor:
        both = [self._questions[row] for row in rows] + [self._answers[row] for row in rows]
        questions, answers = self._embed(module, both).split(len(rows))
        everybodys, first = self._of_all(torch.cat([questions, answers], 1))
        all_questions, all_answers = everybodys.chunk(2, 1)
        own = torch.arange(first, first + len(rows), device=questions.device)
        forth = functional.cross_entropy(SCALE * questions @ all_answers.T, own)
        back = functional.cross_entropy(SCALE * answers @ all_questions.T, own)
        return (forth + back) / 2

    def evaluate(self, module: nn.Module, *, whole: bool) -> dict[str, float]:
        """Always on all held-out pairs, which every worker embeds a part of."""
        asked, known = (self._embed_all(module, texts) for texts in (self._asked, self._known))
        cosines = asked @ known.T
        ranks = (cosines >= cosines.diagonal()[:, None]).sum(1).float()
        return {
            "loss": float(functional.cross_entropy(SCALE * cosines, torch.arange(len(asked)))),
            "recall_at_1": float((ranks == 1).float().mean()),
            "mrr": float((1 / ranks).mean()),
        }

    def _of_all(self, mine: Tensor) -> tuple[Tensor, int]:
        """The rows of all workers, through which gradients flow back to each, and where this worker's begin."""
        if self._group.world == 1:
            return mine, 0
        counts = self._group.gather(len(mine))
        # Collectives want equal shapes; shares differ by a row at most.
        padded = functional.pad(mine, (0, 0, 0, max(counts) - len(mine)))
        everybody = distributed.group.WORLD
        assert everybody is not None  # noqa: S101 -- several workers have a process group
        parts = all_gather_single(padded, 0, everybody).chunk(self._group.world)
        own = [part[:count] for part, count in zip(parts, counts, strict=True)]
        return torch.cat(own), sum(counts[: self._group.rank])

    def _embed_all(self, module: nn.Module, texts: list[list[int]]) -> Tensor:
        """FP32 [texts, width] on the CPU, normalised, on every worker."""
        group, by_length = self._group, sorted(range(len(texts)), key=lambda row: len(texts[row]))
        # Dealt out by length, as many to each worker: where the module is divided all must call it equally often.
        each = -(-len(texts) // group.world)
        mine = np.resize(by_length, each * group.world)[group.rank :: group.world]
        parts = [mine[start : start + _EVALUATED_ROWS] for start in range(0, each, _EVALUATED_ROWS)]
        found = [self._embed(module, [texts[row] for row in part]).float().cpu().numpy() for part in parts]
        rows, values = zip(*group.gather((mine, np.concatenate(found))), strict=True)
        whole = np.empty((len(texts), values[0].shape[1]), dtype=np.float32)
        whole[np.concatenate(rows)] = np.concatenate(values)
        return functional.normalize(torch.from_numpy(whole), dim=1)

    def _embed(self, module: nn.Module, ids: list[list[int]]) -> Tensor:
        """[texts, width], normalised, on the group's device."""
        return functional.normalize(embed_tokens(module, self._layout, ids, self._group.device), dim=1)

    def _encode(self, pairs: Sequence[Pair]) -> tuple[list[list[int]], list[list[int]]]:
        """Tokens of all questions and of all answers."""
        questions = self._tokenizer.encode_batch([pair.question for pair in pairs])
        answers = self._tokenizer.encode_batch([pair.answer for pair in pairs])
        return [each.ids for each in questions], [each.ids for each in answers]
