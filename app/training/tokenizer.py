"""The tokenizer of a language-model job: byte-level BPE, trained on the texts that are learned from.

Knows nothing of torch, jobs or Ray. Every byte has a token, so whatever is UTF-8 can be written, and the bytes of a
text are the sum of its tokens' bytes: what makes bits per byte a figure that no choice of tokens can flatter.

    tokenizer = train_tokenizer(texts, vocabulary=4096)
    stream = encode(tokenizer, texts)                 # INT32: end, first text, end, second text, ..., end
    bytes_of_tokens(tokenizer)[stream].sum()          # UTF-8 bytes of all texts
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from app.models.blueprint import END_TOKEN

END_TEXT = "<|endoftext|>"
"""How END_TOKEN is written."""

_WORDS = r"\n+[ \t]*|[^\s\p{L}\p{N}]?\p{L}+ ?|\p{N}{1,3}|[^\s\p{L}\p{N}]+ ?|[ \t]+|\s+"
"""Where no token reaches across: new lines with the indentation that follows; a word with the sign before it and the
space after it (`def `, `.append`, `_name`); up to three digits; a run of signs with the space after it; other spaces.
A space belongs to what stands before it, so that a prompt that ends in one (`def `) is cut as it was in training."""
_MIN_FREQUENCY = 2

Stream = npt.NDArray[np.int32]


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """A tokenizer of `vocabulary` tokens at most, END_TEXT and the 256 bytes among them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=_MIN_FREQUENCY,
        show_progress=False,
        special_tokens=[END_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    # A text begins after the end of another: that is how the model has seen it.
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END_TEXT} $A", special_tokens=[(END_TEXT, END_TOKEN)]
    )
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[str], end: int = END_TOKEN) -> Stream:
    """All texts as one stream of tokens, `end` before, between and after them."""
    tokenizer.encode_special_tokens = True  # a text that spells a special token is text
    parts: list[list[int]] = [[end]]
    for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False):
        parts += [encoding.ids, [end]]
    return np.concatenate([np.asarray(part, dtype=np.int32) for part in parts])


def bytes_of_tokens(tokenizer: Tokenizer, end: int = END_TOKEN) -> npt.NDArray[np.int64]:
    """UTF-8 bytes that each token stands for, by id; special tokens stand for none."""
    sizes = np.zeros(tokenizer.get_vocab_size(), dtype=np.int64)
    for token, number in tokenizer.get_vocab(with_added_tokens=False).items():
        sizes[number] = len(token)  # byte-level BPE writes one character for a byte
    sizes[end] = 0
    return sizes


def is_byte_level(tokenizer: Tokenizer) -> bool:
    """Whether it writes one character for a byte, as ours do; of others nobody can tell how many bytes a token is."""
    decoder = json.loads(tokenizer.to_str())["decoder"] or {}
    return any(each.get("type") == "ByteLevel" for each in [decoder, *decoder.get("decoders", [])])


def write_tokenizer(tokenizer_json: str, context: int, directory: Path) -> None:
    """Write `tokenizer.json`, what transformers wants to know beside it, and the chat template."""
    beside: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_TEXT,
        "eos_token": END_TEXT,
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
    }
    (directory / "tokenizer.json").write_text(tokenizer_json, encoding="utf-8")
    (directory / "tokenizer_config.json").write_text(json.dumps(beside, indent=2), encoding="utf-8")
    (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")


CHAT_TEMPLATE = """\
{#- A model of code that was never taught to chat: it goes on with the file that the messages make together. -#}
{{- eos_token -}}
{%- for message in messages -%}
{%- if message.role == 'system' -%}
{{- '# ' + message.content.replace('\\n', '\\n# ') + '\\n' -}}
{%- else -%}
{{- message.content -}}
{%- if not loop.last -%}{{- '\\n' -}}{%- endif -%}
{%- endif -%}
{%- endfor -%}
"""
