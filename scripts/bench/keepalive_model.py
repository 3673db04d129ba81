"""A model that takes a known time to load and none to run, for keepalive_live.py."""

import time
from typing import Any

import numpy as np


class Sleeper:
    """Gives back what it gets."""

    inputs = ({"name": "x", "datatype": "FP32", "shape": [-1]},)
    outputs = ({"name": "y", "datatype": "FP32", "shape": [-1]},)

    def __init__(self, load_s: float) -> None:
        time.sleep(load_s)

    def run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"y": np.asarray(inputs["x"])}
