"""Streams of text against the text all at once, for any text, stop strings and cuts."""

from hypothesis import example, given
from hypothesis import strategies as st

from app.models.generation.text import TextStream
from tests.fixtures.language_model import train_tokenizer

TOKENIZER = train_tokenizer()
TEXTS = st.text(alphabet=st.sampled_from("abé€😀\n de"), max_size=40)


def decode(tokens: list[int]) -> str:
    return str(TOKENIZER.decode(list(tokens), skip_special_tokens=True))


@given(TEXTS, st.lists(st.text(alphabet="abé\n d", min_size=1, max_size=4), max_size=3), st.data())
@example("aba", ["b", "aba"], None)
def test_a_stream_shows_the_text_up_to_the_stop_string_that_is_complete_first(
    text: str, stop: list[str], data: st.DataObject | None
) -> None:
    tokens = list(TOKENIZER.encode(text).ids)
    stream, shown = TextStream(decode, stop), ""
    while tokens and not stream.stopped:
        count = data.draw(st.integers(1, len(tokens))) if data else len(tokens)
        shown += stream.feed(tokens[:count])
        assert text.startswith(shown)
        assert not any(each in shown for each in stop)
        del tokens[:count]
    shown += stream.finish()
    found = [(place + len(each), place) for each in stop if (place := text.find(each)) >= 0]
    assert stream.stopped == bool(found)
    assert shown == (text[: min(found)[1]] if found else text)


@given(st.lists(st.integers(1, 287), max_size=30))
def test_any_tokens_at_all_give_a_beginning_of_their_text(tokens: list[int]) -> None:
    stream = TextStream(decode)
    shown = "".join(stream.feed([token]) for token in tokens) + stream.finish()
    shown.encode()
    assert len(shown) <= len(decode(tokens)) or "\ufffd" in shown
