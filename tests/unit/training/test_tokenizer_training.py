"""The tokenizer: nothing of a text is lost or counted twice, and it is served as it was trained."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from app.models.generation.tokenizer import ModelTokenizer
from app.training.tokenizer import END_TEXT, bytes_of_tokens, encode, train_tokenizer, write_tokenizer

TEXTS = [f"def name_{number}(self, value):\n    return self.value + {number}\n" for number in range(50)]
STRANGE = ["", " ", "\t\r\n\n   x", "naïve = 'ß€🐍'  # \u200b\u0301", f"{END_TEXT} is text", "0123456789 == 10  ;"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, 400)


def test_every_text_comes_back_and_its_bytes_are_those_of_its_tokens(tokenizer: Tokenizer) -> None:
    stream = encode(tokenizer, STRANGE)
    assert (stream == 0).sum() == len(STRANGE) + 1  # one end before, between and after
    ends = np.flatnonzero(stream == 0)
    pieces = [stream[start + 1 : stop].tolist() for start, stop in itertools.pairwise(ends)]
    assert [tokenizer.decode(piece, skip_special_tokens=False) for piece in pieces] == STRANGE
    assert bytes_of_tokens(tokenizer)[stream].sum() == len("".join(STRANGE).encode())


def test_the_vocabulary_has_the_end_and_all_bytes_and_no_more_than_asked(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_to_id(END_TEXT) == 0
    assert 257 < tokenizer.get_vocab_size() <= 400
    assert len(train_tokenizer(["a"], 400).get_vocab()) == 257


def test_training_again_gives_the_same_tokenizer(tokenizer: Tokenizer) -> None:
    assert train_tokenizer(TEXTS, 400).to_str() == tokenizer.to_str()


def test_a_prompt_that_ends_in_a_space_is_cut_as_in_training(tokenizer: Tokenizer) -> None:
    words = [tokenizer.decode([token]) for token in tokenizer.encode("def name", add_special_tokens=False).ids]
    assert words[0] == "def "
    assert tokenizer.encode("def ", add_special_tokens=False).tokens == ["defĠ"]


def test_what_is_published_is_read_by_the_server_with_a_chat_template(tokenizer: Tokenizer, tmp_path: Path) -> None:
    write_tokenizer(tokenizer.to_str(), 64, tmp_path)
    served = ModelTokenizer(tmp_path)
    assert served.encode("def ")[0] == 0  # a text begins after the end of another
    chat = [{"role": "system", "content": "be\nbrief"}, {"role": "user", "content": "x = 1"}]
    assert served.render(chat) == f"{END_TEXT}# be\n# brief\nx = 1"
    more = [*chat, {"role": "assistant", "content": "y = 2"}, {"role": "user", "content": "z"}]
    assert served.render(more).endswith("x = 1\ny = 2\nz")
