"""Networks that read a row as a sequence of steps: recurrent ones and a transformer encoder.

Knows nothing of files, jobs or cards. Both take [rows, steps, features] and give [rows, outputs]; names of projections
are Llama's, so that one plan divides the layers of either among workers (strategy.py). Importing this file imports
torch.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from app.models.blueprint import Recurrent, Transformer

_CELLS: dict[str, type[nn.RNN] | type[nn.GRU] | type[nn.LSTM]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
_PLACES_WITHIN = 0.02


class RecurrentNetwork(nn.Module):
    """A stack of recurrent layers; the last hidden state of the top one is read."""

    def __init__(self, blueprint: Recurrent) -> None:
        super().__init__()
        between = blueprint.dropout if blueprint.layers > 1 else 0.0  # torch warns of a dropout between one layer
        cell = _CELLS[blueprint.architecture]
        self.cell = cell(blueprint.features, blueprint.hidden, blueprint.layers, batch_first=True, dropout=between)
        self.head = nn.Linear(blueprint.hidden, blueprint.outputs)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.cell(x)
        result: Tensor = self.head(states[:, -1])
        return result


class TransformerNetwork(nn.Module):
    """Steps become vectors with a learned position each; layers of attention; the mean over the steps is read."""

    def __init__(self, blueprint: Transformer, activation: type[nn.Module]) -> None:
        super().__init__()
        self.embed = nn.Linear(blueprint.features, blueprint.hidden)
        self.places = nn.Parameter(torch.empty(blueprint.steps, blueprint.hidden))
        nn.init.uniform_(self.places, -_PLACES_WITHIN, _PLACES_WITHIN)
        self.layers = nn.ModuleList(_Layer(blueprint, activation) for _ in range(blueprint.layers))
        self.norm = nn.LayerNorm(blueprint.hidden)
        self.head = nn.Linear(blueprint.hidden, blueprint.outputs)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.embed(x) + self.places
        for layer in self.layers:
            hidden = layer(hidden)
        result: Tensor = self.head(self.norm(hidden).mean(1))
        return result


class _Attention(nn.Module):
    def __init__(self, blueprint: Transformer) -> None:
        super().__init__()
        self.head_width = blueprint.hidden // blueprint.heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (
            nn.Linear(blueprint.hidden, blueprint.hidden) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        # As many heads as there are columns for here: a tensor-parallel worker holds a part of them.
        query, key, value = (
            each(x).unflatten(2, (-1, self.head_width)).transpose(1, 2)
            for each in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = scaled_dot_product_attention(query, key, value)
        result: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))
        return result


class _FeedForward(nn.Module):
    def __init__(self, blueprint: Transformer, activation: type[nn.Module]) -> None:
        super().__init__()
        self.up_proj = nn.Linear(blueprint.hidden, blueprint.feed_forward)
        self.activation = activation()
        self.down_proj = nn.Linear(blueprint.feed_forward, blueprint.hidden)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.down_proj(self.activation(self.up_proj(x)))
        return result


class _Layer(nn.Module):
    def __init__(self, blueprint: Transformer, activation: type[nn.Module]) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(blueprint.hidden)
        self.self_attn = _Attention(blueprint)
        self.before_mlp = nn.LayerNorm(blueprint.hidden)
        self.mlp = _FeedForward(blueprint, activation)
        self.dropout = nn.Dropout(blueprint.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.self_attn(self.before_attention(x)))
        result: Tensor = x + self.dropout(self.mlp(self.before_mlp(x)))
        return result
