"""What the builder makes of arguments: a deployment that fits its engine, and a version that is fixed."""

import pytest

from app.config import settings
from app.errors import NotFound
from app.models.repository import open_repository
from app.serving.build import generator
from app.serving.generation.args import GeneratorArgs
from app.serving.generation.loading import options_of
from tests.unit.models.test_remote_storage import CARD, writing


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.setenv("JOULEKEEPER_STATE_DIR", str(tmp_path))
    settings.cache_clear()
    yield open_repository(settings().repository)
    settings.cache_clear()


def test_a_replica_takes_more_calls_than_its_engine_so_that_it_can_refuse_them_itself(repository):
    repository.publish("coder", writing(b"x"), CARD.model_copy(update={"name": "coder"}))
    args = GeneratorArgs(name="coder", source="repository:coder", max_sequences=8, max_queued=24)
    deployment = generator(args)._bound_deployment
    assert deployment.name == "Model"
    assert deployment.max_ongoing_requests > 8 + 24
    autoscaling = deployment._deployment_config.autoscaling_config
    assert (autoscaling.target_ongoing_requests, autoscaling.min_replicas) == (8, 0)
    (bound,) = deployment.init_args
    assert (bound.source, bound.version) == ("repository:coder@1", "1")


def test_a_model_that_was_never_published_is_told_when_it_is_deployed(repository):
    with pytest.raises(NotFound):
        generator(GeneratorArgs(name="coder", source="repository:nonesuch"))


def test_the_engine_is_set_up_as_the_arguments_say():
    args = GeneratorArgs(
        name="m", source="repository:m", dtype="bfloat16", context_tokens=99, max_sequences=3, max_queued=5,
        cache_tokens=1000, prefix_cache_share=0.25,
    )  # fmt: skip
    options = options_of(args)
    for field in ("dtype", "context_tokens", "max_sequences", "max_queued", "cache_tokens", "prefix_cache_share"):
        assert getattr(options, field) == getattr(args, field)


@pytest.mark.parametrize(
    ("version", "named", "meant"),
    [("1", "", True), ("1", "1", True), ("1", "2", False), ("2-int8", "int8", True), ("2-int8", "2-int8", True),
     ("2-int8", "2", False), ("2", "", True)],
)  # fmt: skip
def test_a_variant_is_known_by_its_suffix(version, named, meant):
    assert GeneratorArgs(name="m", source="repository:m", version=version).is_meant(named) is meant
