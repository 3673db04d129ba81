"""A bare loop over the model, no server: what batch size answers most rows a second, and how many.

python torch_loop.py SECONDS         prints {"batch": rows a second, ...}
"""

import json
import sys
import time

import numpy as np
import torch

from app.models.runners.load import load_runner
from scripts.bench.peers.workloads import SOURCES, TEXT

BATCHES = (1, 8, 16, 32)


def rows_per_s(seconds: float) -> dict[int, float]:
    """By batch size; the tokenizer is in the loop, as it is in every side."""
    torch.set_num_threads(1)
    runner = load_runner(SOURCES["minilm"])
    found = {}
    for batch in BATCHES:
        texts = np.array([TEXT.encode()] * batch, dtype=object)
        runner.run({"text": texts.copy()})
        begun, rows = time.perf_counter(), 0
        while time.perf_counter() - begun < seconds:
            runner.run({"text": texts.copy()})  # a copy, because the runner knows the array it saw last
            rows += batch
        found[batch] = rows / (time.perf_counter() - begun)
    return found


if __name__ == "__main__":
    print(json.dumps(rows_per_s(float(sys.argv[1]))))
