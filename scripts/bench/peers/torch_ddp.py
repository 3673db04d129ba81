"""What a good engineer writes without Joulekeeper: torch's DDP, the model, the data in memory, a loop of five lines.

Knows nothing of energy, checkpoints or stopping. It learns from the same rows, shuffled anew each epoch, with torch's
own optimiser as the job sets it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from app.training.data import load_data
from app.training.job import TrainJob
from app.training.pairs_task import PairsTask
from app.training.text_task import TextTask

Batch = Callable[[Any], Tensor]


def bare_loop(job: TrainJob, task: Any, module: nn.Module, rank: int, world: int) -> Callable[[], int]:
    """An epoch at a time; gives the rows that all workers learned from in it."""
    model = DistributedDataParallel(module) if world > 1 else module
    optimiser = _optimiser(job, model)
    steps, rows = task.epoch_steps, job.batch_size
    loss, total = _loss(job, task, model)
    clip = job.optimiser.clip_norm

    def epoch() -> int:
        model.train()
        mine = torch.randperm(total)[rank::world]
        learned = 0
        for step in range(steps):
            places = mine[(step * rows) % len(mine) :][:rows]
            learned += len(places)
            optimiser.zero_grad(set_to_none=True)
            loss(places).backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimiser.step()
        return learned * world

    return epoch


def _optimiser(job: TrainJob, model: nn.Module) -> torch.optim.Optimizer:
    kinds: dict[str, Any] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    return kinds[job.optimiser.name](model.parameters(), lr=job.optimiser.lr, weight_decay=job.optimiser.weight_decay)


def _loss(job: TrainJob, task: Any, model: nn.Module) -> tuple[Batch, int]:
    if isinstance(task, TextTask):
        stream = torch.from_numpy(task.stream.astype("int64"))
        context = job.model.context
        reach = torch.arange(context + 1)

        def next_token(places: Tensor) -> Tensor:
            tokens = stream[places[:, None] * context + reach]
            logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
            return functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

        return next_token, (len(stream) - 1) // context
    if isinstance(task, PairsTask):
        return lambda places: task.loss(model, places.numpy()), task.pairs
    data = load_data(job.data.source, test_share=job.data.test_share, seed=job.data.seed)
    x = torch.from_numpy(data.train_x).reshape(len(data.train_x), *job.model.input_shape)
    y = torch.from_numpy(data.train_y)
    function = functional.cross_entropy if job.loss == "cross_entropy" else functional.mse_loss
    return lambda places: function(model(x[places]), y[places]), len(x)
