"""What a model says of itself over HTTP: metadata, configuration, readiness, statistics; and every refusal.

Knows nothing of HTTP servers. The configuration is Triton's, as far as it means something here: shapes are whole, so
that `max_batch_size` is 0. Bodies out, nothing in; raises nothing.
"""

from typing import Any

import orjson

from app.domain.tensor import Datatype, TensorSpec
from app.protocol.messages import ModelSignature
from app.protocol.model_statistics import ModelCounts

EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "statistics")
"""What is understood beyond the protocol's core, by Triton's names."""


def build_metadata(signature: ModelSignature, platform: str) -> bytes:
    """The body that describes the model."""
    return orjson.dumps(
        {
            "name": signature.name,
            "versions": [signature.version],
            "platform": platform,
            "inputs": [_described(spec) for spec in signature.inputs.values()],
            "outputs": [_described(spec) for spec in signature.outputs.values()],
        }
    )


def build_config(signature: ModelSignature, platform: str) -> bytes:
    """The body with the model's configuration."""
    return orjson.dumps(
        {
            "name": signature.name,
            "platform": platform,
            "backend": platform,
            "version_policy": {"specific": {"versions": [signature.version]}},
            "max_batch_size": 0,
            "input": [_configured(spec) for spec in signature.inputs.values()],
            "output": [_configured(spec) for spec in signature.outputs.values()],
            "model_transaction_policy": {"decoupled": False},
        }
    )


def build_statistics(signature: ModelSignature, counts: ModelCounts) -> bytes:
    """The body with what this replica has counted since it was loaded."""
    return orjson.dumps(
        {
            "model_stats": [
                {
                    "name": signature.name,
                    "version": signature.version,
                    "last_inference": counts.last_inference_ms,
                    "inference_count": counts.success.count,
                    "execution_count": counts.executions,
                    "inference_stats": {
                        name: {"count": duration.count, "ns": duration.ns} for name, duration in counts.durations()
                    },
                    "batch_stats": [],
                    "compression": {"before_bytes": counts.plain_bytes, "after_bytes": counts.coded_bytes},
                    "cache": {"computing_uj": counts.computing_uj, "saved_uj": counts.saved_uj},
                }
            ]
        }
    )


def build_readiness(name: str, version: str, ready: bool) -> bytes:
    """The body that says whether the model answers."""
    return orjson.dumps({"name": name, "version": version, "ready": ready})


def build_error(message: str) -> bytes:
    """The body of every refusal."""
    return orjson.dumps({"error": message})


def triton_type(datatype: Datatype) -> str:
    """What Triton's model configuration calls `datatype`."""
    return "TYPE_STRING" if datatype is Datatype.BYTES else f"TYPE_{datatype}"


def _described(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}


def _configured(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "data_type": triton_type(spec.datatype), "dims": spec.shape}
