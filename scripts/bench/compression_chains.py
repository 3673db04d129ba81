"""What scripts/bench/compression.py tries on each model, by the name of the result, and what it leaves out and why."""

from typing import Any

from pydantic import TypeAdapter

from app.compression.job import Step

_STEP: TypeAdapter[Any] = TypeAdapter(Step)
_TEXTS = {"epochs": 1, "epoch_steps": 24, "batch_size": 16, "lr": 2e-4}
"""Of MiniLM: so many batches are minutes on two CPUs, not hours."""
_QUICK = ("prunelayerwise", "prunechannelsint8", "int8", "int8dynamic", "int8static", "distildatafree")
_QUICK_TEXTS = ("int8", "int8dynamic")

SKIPPED = {
    "digits": {},
    "seed-cnn": {"early-exit": "it has one convolution, after which there is nothing to save"},
    "minilm": {
        "distil-data-free": "a generator of texts is another matter, and an encoder tells no classes apart",
        "early-exit": "it is for convolutional networks; an embedding has no class to be sure of",
    },
}
Chains = dict[str, tuple[Any, ...]]


def chains_of(name: str, quick: bool) -> Chains:
    """By name of the result, the steps."""
    tuning: dict[str, Any] = dict(_TEXTS) if name == "minilm" else {"epochs": 8}
    without_data = {"method": "distil-data-free", "width": 0.5} | ({"rounds": 250} if quick else {})
    chains = _common(tuning)
    if name == "minilm":
        chains |= {
            "prunechannels25": _steps({"method": "prune-channels", "rate": 0.25, **tuning}),
            "distillogits": _steps({"method": "distil-logits", "layers": 3, **tuning}),
            "distilfeatures": _steps({"method": "distil-features", "layers": 3, **tuning}),
            "distilfeaturesint8": _steps({"method": "distil-features", "layers": 3, **tuning}, "int8"),
        }
    else:
        chains |= {
            "prunechannels": _steps({"method": "prune-channels", "rate": 0.5, **tuning}),
            "prunechannelsint8": _steps({"method": "prune-channels", "rate": 0.5, **tuning}, "int8"),
            "distillogits": _steps({"method": "distil-logits", "width": 0.5}),
            "distilfeatures": _steps({"method": "distil-features", "width": 0.5}),
            "distildatafree": _steps(without_data),
            "distildatafreeint8": _steps(without_data, "int8"),
        }
    if name == "digits":
        chains["earlyexit"] = _steps({"method": "early-exit", **tuning})
    if name == "seed-cnn":
        chains.pop("binary")  # nothing lies between its first and its last layer
    quick_names = _QUICK_TEXTS if name == "minilm" else _QUICK
    return {word: chain for word, chain in chains.items() if not quick or word in quick_names}


def _common(tuning: dict[str, Any]) -> Chains:
    return {
        "prunerandom": _steps({"method": "prune-random", "rate": 0.5, **tuning}),
        "pruneglobal": _steps({"method": "prune-global", "rate": 0.5, **tuning}),
        "pruneglobal75": _steps({"method": "prune-global", "rate": 0.75, **tuning}),
        "prunelayerwise": _steps({"method": "prune-layerwise", "rate": 0.5, **tuning}),
        "prune24": _steps({"method": "prune-2-4", **tuning}),
        "int8": _steps("int8"),
        "int4": _steps("int4"),
        "int8dynamic": _steps("int8-dynamic"),
        "int8static": _steps("int8-static"),
        "binary": _steps({"method": "binary", **tuning}),
    }


def _steps(*steps: str | dict[str, Any]) -> tuple[Any, ...]:
    return tuple(_STEP.validate_python({"method": step} if isinstance(step, str) else step) for step in steps)
