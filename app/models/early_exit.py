"""A convolutional network with a way out after every pooling: rows that are sure of their class go no further.

Knows nothing of how it is trained or where its confidence comes from. The graph is dynamic: what is computed of a batch
depends on its rows. Weights of the trunk have the names that they have in the same network without exits. Importing
this file imports torch.

    module = build(Cnn(channels=(32, 64), exit_confidence=0.9)).eval()
    module(images)                                    # [rows, classes], each from the exit where its row left
    module.leaving(images)                            # the number of that exit, the last being the network's own output
"""

import torch
from torch import Tensor, nn

LAYERS_PER_STAGE = 3
"""Convolution, activation, pooling."""


class EarlyExits(nn.Module):
    """`body` is the whole network without exits; `exits` are classifiers, one after each of its stages but the last."""

    def __init__(self, body: nn.Sequential, exits: nn.ModuleList, scale: float, confidence: float) -> None:
        super().__init__()
        self.body, self.exits = body, exits
        self.scale, self.confidence = scale, confidence

    def forward(self, x: Tensor) -> Tensor:
        """Logits of every row, from the first exit that is as sure as `confidence` of the row's likeliest class."""
        return self._routed(x)[0]

    def leaving(self, x: Tensor) -> Tensor:
        """INT64 [rows]: where each row leaves."""
        return self._routed(x)[1]

    def every_exit(self, x: Tensor) -> list[Tensor]:
        """Logits of all rows at every exit, the last one's last; for training."""
        hidden, found = x / self.scale, []
        for number, head in enumerate(self.exits):
            hidden = self._stage(number)(hidden)
            found.append(head(hidden))
        return [*found, self._rest()(hidden)]

    def _routed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden, inside = x / self.scale, torch.arange(len(x), device=x.device)
        left: list[tuple[Tensor, Tensor, int]] = []
        for number, head in enumerate(self.exits):
            hidden = self._stage(number)(hidden)
            logits = head(hidden)
            sure = logits.softmax(1).amax(1) >= self.confidence
            left.append((inside[sure], logits[sure], number))
            inside, hidden = inside[~sure], hidden[~sure]
            if not len(inside):
                break
        else:
            left.append((inside, self._rest()(hidden), len(self.exits)))
        order = torch.cat([rows for rows, _, _ in left]).argsort()
        numbers = torch.cat([torch.full_like(rows, number) for rows, _, number in left])
        return torch.cat([logits for _, logits, _ in left])[order], numbers[order]

    def _stage(self, number: int) -> nn.Module:
        return self.body[LAYERS_PER_STAGE * number : LAYERS_PER_STAGE * (number + 1)]

    def _rest(self) -> nn.Module:
        return self.body[LAYERS_PER_STAGE * len(self.exits) :]
