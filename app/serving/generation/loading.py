"""From arguments to a language model that has generated: what a replica does before it is ready.

Knows nothing of accounts. Imports torch and transformers only when `load` is called. The first pass of a model is slow:
libraries start threads and choose kernels in it.
"""

import hashlib
from typing import TYPE_CHECKING

from app.config import settings
from app.domain.generation import Prompt, Sampling
from app.errors import Unavailable
from app.models.generation.options import EngineOptions
from app.protocol.sampling import ModelLimits
from app.serving.generation.args import GeneratorArgs
from app.serving.generation.hub import Hub
from app.serving.replica import device_of
from app.serving.warm_up import limit_threads

if TYPE_CHECKING:
    from app.models.generation.engine import Listener
    from app.models.generation.load import Generator

_WARM_UP = "warm-up"


def load(args: GeneratorArgs, listener: "Listener") -> "Generator":
    """The model that `args` ask for, its engine running. Raises what app/models/generation/load.py raises."""
    from app.models.generation.load import load_generator

    limit_threads(args.torch_threads)
    return load_generator(
        args.source, listener, repository=settings().repository, device=device_of(args.device), options=options_of(args)
    )


def options_of(args: GeneratorArgs) -> EngineOptions:
    """How the engine is set up."""
    return EngineOptions(
        dtype=args.dtype,
        context_tokens=args.context_tokens,
        max_sequences=args.max_sequences,
        max_queued=args.max_queued,
        cache_tokens=args.cache_tokens,
        prefix_cache_share=args.prefix_cache_share,
    )


async def warm_up(generator: "Generator", hub: Hub) -> None:
    """Generate two tokens. Raises Unavailable where the model gives none."""
    inbox = hub.open([_WARM_UP])
    try:
        generator.engine.submit(Prompt(_WARM_UP, (0, 0), Sampling(max_tokens=2, temperature=0)))
        while inbox.left:
            for news in await inbox.news():
                if news.ending == "failed":
                    raise Unavailable(f"the model generates nothing: {news.reason}")
    finally:
        hub.close(inbox)


def fingerprint(args: GeneratorArgs, generator: "Generator") -> str:
    """Of all that decides which tokens a seed gives: files, precision, device, engine."""
    said = [*sorted(generator.card.files.items()), args.dtype, args.device, type(generator.engine).__qualname__]
    return f"fp_{hashlib.sha256(repr(said).encode()).hexdigest()[:10]}"


def limits_of(args: GeneratorArgs, generator: "Generator") -> ModelLimits:
    """What the model allows, and how it generates where a request does not say."""
    chosen, told = args.sampling, generator.defaults
    return ModelLimits(
        context_tokens=generator.engine.context_tokens,
        max_tokens=chosen.max_tokens or told.max_tokens,
        temperature=told.temperature if chosen.temperature is None else chosen.temperature,
        top_p=told.top_p if chosen.top_p is None else chosen.top_p,
        top_k=told.top_k if chosen.top_k is None else chosen.top_k,
    )
