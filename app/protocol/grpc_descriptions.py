"""What a model says of itself over gRPC: metadata, configuration, statistics.

Knows nothing of gRPC servers or contexts. The configuration is Triton's, as far as it means something here: shapes are
whole, so that `max_batch_size` is 0. Messages out, nothing in; raises nothing.
"""

from app.domain.tensor import TensorSpec
from app.protocol.descriptions import triton_type
from app.protocol.generated import open_inference_pb2 as pb
from app.protocol.messages import ModelSignature
from app.protocol.model_statistics import ModelCounts


def build_metadata(signature: ModelSignature, platform: str) -> pb.ModelMetadataResponse:
    """The message that describes the model."""
    return pb.ModelMetadataResponse(
        name=signature.name,
        versions=[signature.version],
        platform=platform,
        inputs=[_described(spec) for spec in signature.inputs.values()],
        outputs=[_described(spec) for spec in signature.outputs.values()],
    )


def build_config(signature: ModelSignature, platform: str) -> pb.ModelConfigResponse:
    """The message with the model's configuration."""
    config = pb.ModelConfig(name=signature.name, platform=platform, backend=platform, max_batch_size=0)
    for spec in signature.inputs.values():
        config.input.add(name=spec.name, data_type=triton_type(spec.datatype), dims=spec.shape)
    for spec in signature.outputs.values():
        config.output.add(name=spec.name, data_type=triton_type(spec.datatype), dims=spec.shape)
    config.model_transaction_policy.decoupled = False
    return pb.ModelConfigResponse(config=config)


def build_statistics(signature: ModelSignature, counts: ModelCounts) -> pb.ModelStatisticsResponse:
    """The message with what this replica has counted since it was loaded."""
    told = pb.ModelStatistics(
        name=signature.name,
        version=signature.version,
        last_inference=counts.last_inference_ms,
        inference_count=counts.success.count,
        execution_count=counts.executions,
    )
    for name, duration in counts.durations():
        getattr(told.inference_stats, name).MergeFrom(pb.StatisticDuration(count=duration.count, ns=duration.ns))
    return pb.ModelStatisticsResponse(model_stats=[told])


def _described(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)
