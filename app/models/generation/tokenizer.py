"""The tokenizer of a language model: text to tokens and back, and chats by the template that came with it.

Knows nothing of engines. Reads `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja` of one directory;
the template runs in transformers' own sandbox, with what transformers gives a template.

    tokenizer = ModelTokenizer(Path("pycoder/1"))
    tokenizer.encode("def ")
    tokenizer.chat([{"role": "user", "content": "sort a list"}])
    tokenizer.text_stream(stop=("\\n\\n",))

Raises InvalidInput for files that cannot be read, text that is no text, and chats that the template refuses.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from tokenizers import Tokenizer
from transformers.utils.chat_template_utils import render_jinja_template

from app.errors import InvalidInput
from app.models.generation.text import TextStream

_CONTEXT_OF_TEXT = 6
"""Tokens of the prompt that a stream of text begins after."""


class ModelTokenizer:
    """Safe for any thread."""

    def __init__(self, directory: Path) -> None:
        try:
            self._tokenizer: Tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        except Exception as error:  # the library raises bare Exception
            raise InvalidInput(f"{directory / 'tokenizer.json'} cannot be read as a tokenizer: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        told = _read(directory / "tokenizer_config.json")
        self._special = {name: _text(told.get(name)) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
        template = directory / "chat_template.jinja"
        kept = told.get("chat_template")
        self._template = template.read_text("utf-8") if template.is_file() else kept if isinstance(kept, str) else ""
        self._bytes = _byte_table() if _is_byte_level(directory) else {}

    @property
    def vocabulary(self) -> int:
        """Tokens, added ones included."""
        return int(self._tokenizer.get_vocab_size())

    @property
    def has_chat(self) -> bool:
        """Whether chats can be written as text at all."""
        return bool(self._template)

    def encode(self, text: str) -> list[int]:
        """Tokens of `text`, with those that the model expects around a text."""
        return self._encode(text, special=True)

    def chat(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> list[int]:
        """Tokens of a chat up to where the assistant is to speak. `variables` go to the template."""
        return self._encode(self.render(messages, **variables), special=False)

    def render(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
        """A chat as the model was trained to read it."""
        if not self._template:
            raise InvalidInput("this model has no chat template; use /v1/completions, or publish chat_template.jinja")
        given = {name: text for name, text in self._special.items() if text} | variables
        try:
            texts, _ = render_jinja_template(
                [list(messages)], chat_template=self._template, add_generation_prompt=True, **given
            )
        except (TemplateError, TypeError, ValueError, KeyError, ArithmeticError) as error:
            raise InvalidInput(f"the model's chat template refuses these messages: {error}") from error
        return str(texts[0])

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of `tokens`, special ones left out; bytes that are no character become U+FFFD."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))

    def text_of(self, token: int) -> str:
        """One token for people, special ones included."""
        return str(self._tokenizer.decode([token], skip_special_tokens=False))

    def bytes_of(self, token: int) -> bytes:
        """The bytes of one token, which need not be whole characters."""
        written = self._tokenizer.id_to_token(token) or ""
        if written and all(letter in self._bytes for letter in written):
            return bytes(self._bytes[letter] for letter in written)
        return self.text_of(token).encode()

    def text_stream(self, stop: Sequence[str] = (), after: Sequence[int] = ()) -> TextStream:
        """For the continuation of the tokens `after`."""
        return TextStream(self.decode, stop, after[-_CONTEXT_OF_TEXT:])

    def _encode(self, text: str, *, special: bool) -> list[int]:
        try:
            return list(self._tokenizer.encode(text, add_special_tokens=special).ids)
        except (UnicodeEncodeError, TypeError) as error:
            raise InvalidInput(f"the text holds half a character and cannot be UTF-8: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InvalidInput(f"{path} cannot be read as JSON: {error}") from error
    return found if isinstance(found, dict) else {}


def _text(token: Any) -> str:
    """A special token as tokenizer_config.json has it: text, or an object around it."""
    return str(token.get("content", "")) if isinstance(token, dict) else str(token or "")


def _is_byte_level(directory: Path) -> bool:
    return '"ByteLevel"' in json.dumps(_read(directory / "tokenizer.json").get("decoder"))


def _byte_table() -> dict[str, int]:
    """Letter to byte of byte-level tokenizers: printable bytes stand for themselves, the others for U+0100 onwards.

    The order is that of GPT-2's vocabulary (openai/gpt-2, src/encoder.py, MIT licence, read 2026-11-22).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(hidden)}
