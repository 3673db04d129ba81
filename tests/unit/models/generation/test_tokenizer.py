"""The tokenizer of a language model: text, bytes, chats, and files that are not what they should be."""

import json
from pathlib import Path

import pytest

from app.errors import InvalidInput
from app.models.generation.tokenizer import ModelTokenizer
from tests.fixtures.language_model import TEMPLATE, train_tokenizer


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    train_tokenizer().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<|end|>"}}))
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE + "{{ eos_token }}")
    return tmp_path


@pytest.mark.parametrize("text", ["def f():\n    return 1\n", "Grüße €😀", "", "\x00\x7f"])
def test_text_comes_back_as_it_was(directory: Path, text: str) -> None:
    tokenizer = ModelTokenizer(directory)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_bytes_of_tokens_are_the_bytes_of_the_text(directory: Path) -> None:
    tokenizer = ModelTokenizer(directory)
    text = "x €\n"
    assert b"".join(map(tokenizer.bytes_of, tokenizer.encode(text))) == text.encode()
    assert tokenizer.bytes_of(0) == b"<|end|>"
    assert tokenizer.text_of(0) == "<|end|>"
    assert tokenizer.decode([0]) == ""


def test_a_chat_is_written_as_the_template_says(directory: Path) -> None:
    tokenizer = ModelTokenizer(directory)
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "sort"}]
    assert tokenizer.has_chat
    assert tokenizer.render(messages) == "<|system|>be brief\n<|user|>sort\n<|assistant|><|end|>"
    assert tokenizer.decode(tokenizer.chat(messages)) == "<|system|>be brief\n<|user|>sort\n<|assistant|>"


def test_what_the_template_refuses_is_the_callers_fault(directory: Path) -> None:
    with pytest.raises(InvalidInput, match="chat template refuses these messages: no role clown"):
        ModelTokenizer(directory).chat([{"role": "clown", "content": "x"}])


def test_a_template_has_no_way_out_of_its_sandbox(directory: Path) -> None:
    (directory / "chat_template.jinja").write_text("{{ messages.__class__.__mro__ }}")
    with pytest.raises(InvalidInput, match="refuses"):
        ModelTokenizer(directory).render([{"role": "user", "content": "x"}])


def test_without_a_template_there_are_no_chats(directory: Path) -> None:
    (directory / "chat_template.jinja").unlink()
    tokenizer = ModelTokenizer(directory)
    assert not tokenizer.has_chat
    with pytest.raises(InvalidInput, match="no chat template; use /v1/completions"):
        tokenizer.chat([{"role": "user", "content": "x"}])


def test_a_template_may_stand_in_the_tokenizers_configuration(directory: Path) -> None:
    (directory / "chat_template.jinja").unlink()
    (directory / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages[0].content }}!"}))
    assert ModelTokenizer(directory).render([{"role": "user", "content": "x"}]) == "x!"


def test_half_a_character_is_refused(directory: Path) -> None:
    with pytest.raises(InvalidInput, match="half a character"):
        ModelTokenizer(directory).encode("a\ud800")


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_file_is_named(directory: Path, name: str) -> None:
    (directory / name).write_text("{")
    with pytest.raises(InvalidInput, match=name):
        ModelTokenizer(directory)
