"""Which ways of dividing a job among its workers fit together.

Knows nothing of torch: what can be said of a job file before anybody runs it. strategy.py does the dividing.
"""

from collections.abc import Mapping
from typing import Any

from app.models.blueprint import Llama, Mlp, Transformer


def parallel_faults(job: Mapping[str, Any]) -> list[str]:
    """One sentence for each contradiction among strategy, precision, compile, workers, tensor_parallel and model."""
    faults = []
    sharded, precision = job.get("strategy") == "fsdp", job.get("precision")
    if sharded and precision == "float16":
        faults.append(
            "precision: float16 needs its loss scaled by what all shards say, which fsdp does not do; use bfloat16"
        )
    ways, workers, model = job.get("tensor_parallel", 1), job.get("workers"), job.get("model")
    if ways == 1:
        return faults
    if workers is not None:
        faults += _wrong_number(ways, workers, sharded)
    if job.get("compile"):
        faults.append(f"compile: {job['compile']!r} does not go with tensor_parallel = {ways}; remove one of them")
    if precision == "float16" and not sharded:
        faults.append(f"precision: float16 does not go with tensor_parallel = {ways}; use bfloat16")
    return faults + (_indivisible(ways, model) if model is not None else [])


def _wrong_number(ways: int, workers: Any, sharded: bool) -> list[str]:
    if workers.elastic:
        return [f"workers: {workers} cannot change while tensor_parallel = {ways} divides layers; give one number"]
    if workers.max % ways:
        return [f"tensor_parallel: {ways} does not divide workers = {workers.max}"]
    if workers.max > ways and not sharded:
        return [f"strategy: {workers.max // ways} copies of {ways} workers each need fsdp, got 'ddp'"]
    return []


def _indivisible(ways: int, model: Any) -> list[str]:
    if isinstance(model, Mlp):
        sizes = [size for size in model.sizes[1:-1:2] if size % ways]
        return [f"tensor_parallel: {ways} does not divide model.sizes {sizes}"] if sizes else []
    if isinstance(model, Transformer | Llama):
        heads = {"heads": model.heads, "kv_heads": getattr(model, "kv_heads", model.heads)}
        width = model.intermediate if isinstance(model, Llama) else model.feed_forward
        odd = [f"{name} = {count}" for name, count in {**heads, "intermediate": width}.items() if count % ways]
        return [f"tensor_parallel: {ways} does not divide model.{', '.join(odd)}"] if odd else []
    return [
        f"tensor_parallel: the layers of a {model.architecture} are not divided; use mlp, transformer or llama, or "
        "strategy fsdp"
    ]
