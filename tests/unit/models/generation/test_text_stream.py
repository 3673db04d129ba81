"""Streams of text: whole characters, stop strings across tokens, and what is held back."""

from pathlib import Path

import pytest

from app.domain.generation import Sampling
from app.models.generation.text import TextStream, choices
from tests.fixtures.language_model import train_tokenizer

TOKENIZER = train_tokenizer()


def decode(tokens: list[int]) -> str:
    return str(TOKENIZER.decode(list(tokens), skip_special_tokens=True))


def encode(text: str) -> list[int]:
    return list(TOKENIZER.encode(text).ids)


def pieces(text: str, *stop: str) -> tuple[list[str], str, TextStream]:
    stream = TextStream(decode, stop)
    shown = [stream.feed([token]) for token in encode(text)]
    return shown, stream.finish(), stream


def test_a_character_of_several_tokens_comes_when_it_is_whole() -> None:
    shown, rest, _ = pieces("a€😀b")
    assert [piece for piece in shown if piece] == ["a", "€", "😀", "b"]
    assert rest == ""


def test_half_a_character_at_the_end_is_not_shown() -> None:
    stream = TextStream(decode)
    assert stream.feed(encode("x€")[:-1]) + stream.finish() == "x"


def test_bytes_that_are_no_character_do_not_hold_up_what_follows() -> None:
    broken = [token for token in range(1, 290) if decode([token]) == "\ufffd"][:1]
    stream = TextStream(decode)
    shown = stream.feed([*broken * 40, *encode("def")]) + stream.finish()
    assert shown.endswith("def")
    assert "\ufffd" in shown


@pytest.mark.parametrize("stop", ["return", "urn", "rn s", "elf", " "])
def test_a_stop_string_is_found_across_tokens_and_never_shown(stop: str) -> None:
    text = "def return self"
    shown, rest, stream = pieces(text, stop)
    assert stream.stopped
    assert "".join(shown) + rest == text[: text.index(stop)]
    assert stream.feed(encode("more")) == ""


def test_what_only_begins_like_a_stop_string_comes_later() -> None:
    shown, rest, stream = pieces("a\nb\n\n", "\n\n\n")
    assert not stream.stopped
    assert "".join(shown) == "a\nb"
    assert rest == "\n\n"


def test_the_first_of_several_stop_strings_counts() -> None:
    shown, rest, stream = pieces("class for in", "in", "for")
    assert ("".join(shown) + rest, stream.stopped) == ("class ", True)


def test_an_empty_stop_string_stops_nothing() -> None:
    shown, rest, stream = pieces("def", "")
    assert ("".join(shown) + rest, stream.stopped) == ("def", False)


def test_a_stream_goes_on_where_the_prompt_ended(tmp_path: Path) -> None:
    """As with tokenizers that leave out the space before a first word."""

    def stripping(tokens: list[int]) -> str:
        return decode(tokens).lstrip(" ")

    prompt = encode("def")
    assert TextStream(stripping).feed(encode(" self")) == "self"
    assert TextStream(stripping, after=prompt).feed(encode(" self")) == " self"


def test_several_choices_are_prompts_with_seeds_of_their_own() -> None:
    assert [prompt.id for prompt in choices("a", [1], Sampling(max_tokens=1), 1)] == ["a"]
    several = choices("a", [1, 2], Sampling(max_tokens=1, seed=5), 3)
    assert [(prompt.id, prompt.tokens, prompt.sampling.seed) for prompt in several] == [
        ("a/0", (1, 2), 5),
        ("a/1", (1, 2), 6),
        ("a/2", (1, 2), 7),
    ]
    assert {prompt.sampling.seed for prompt in choices("a", [1], Sampling(max_tokens=1), 2)} == {None}
