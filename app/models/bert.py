"""A BERT encoder in plain torch, with the parameter names that Hugging Face checkpoints have.

Knows nothing of text or files. It exists for the cold start: importing transformers' BertModel costs 2.8
CPU seconds on the machine where `import torch` costs 1.1, and a model that sleeps at zero pays that on
every waking. Inference only: no dropout, no pooler. Importing this file imports torch.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, Field
from torch import Tensor, arange, empty, nn, zeros_like
from torch.nn.functional import gelu, scaled_dot_product_attention

Size = Annotated[int, Field(ge=1)]


class BertConfig(BaseModel):
    """The keys of a checkpoint's `config.json` that decide its shape; the others are ignored."""

    model_type: Literal["bert"]
    hidden_act: Literal["gelu"]
    position_embedding_type: Literal["absolute"] = "absolute"
    vocab_size: Size
    hidden_size: Size
    num_hidden_layers: Size
    num_attention_heads: Size
    intermediate_size: Size
    max_position_embeddings: Size
    type_vocab_size: Size
    layer_norm_eps: float = 1e-12


class Bert(nn.Module):
    """Token ids and mask (True: a token), both [rows, length], to hidden states [rows, length, hidden]."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.embeddings = _Embeddings(config)
        self.encoder = _Encoder(config)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """`mask` None: no padding anywhere."""
        attended = None if mask is None else mask[:, None, None, :]
        hidden: Tensor = self.encoder(self.embeddings(tokens), attended)
        return hidden


def _table(rows: int, width: int) -> nn.Embedding:
    # nn.Embedding() would draw its values, and drawing on the meta device imports torch._dynamo: 1.3 s.
    table: nn.Embedding = nn.Embedding.from_pretrained(empty(rows, width))  # type: ignore[no-untyped-call]
    return table


class _Embeddings(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word_embeddings = _table(config.vocab_size, config.hidden_size)
        self.position_embeddings = _table(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = _table(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(self, tokens: Tensor) -> Tensor:
        places = arange(tokens.shape[1], device=tokens.device)
        mixed = self.word_embeddings(tokens) + self.position_embeddings(places)
        result: Tensor = self.LayerNorm(mixed + self.token_type_embeddings(zeros_like(tokens)))
        return result


class _Encoder(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        for layer in self.layer:
            hidden = layer(hidden, mask)
        return hidden


class _SelfAttention(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        rows, length, width = hidden.shape
        query, key, value = (
            part(hidden).view(rows, length, self.heads, width // self.heads).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return mixed.transpose(1, 2).reshape(rows, length, width)


class _Residual(nn.Module):
    """Dense, add what came before, normalise."""

    def __init__(self, fan_in: int, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(fan_in, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(self, hidden: Tensor, before: Tensor) -> Tensor:
        result: Tensor = self.LayerNorm(self.dense(hidden) + before)
        return result


class _Layer(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = nn.ModuleDict(
            {"self": _SelfAttention(config), "output": _Residual(config.hidden_size, config)}
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.hidden_size, config.intermediate_size)})
        self.output = _Residual(config.intermediate_size, config)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        attended = self.attention["output"](self.attention["self"](hidden, mask), hidden)
        result: Tensor = self.output(gelu(self.intermediate["dense"](attended)), attended)
        return result
