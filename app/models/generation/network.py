"""A language model of the transformers library: from its files to logits and hidden states of one pass.

Knows nothing of prompts, sampling or text. Reads a directory of `config.json` and safetensors weights; no code comes
with a model. Importing this file imports torch and transformers.

    network = Network.load(Path("pycoder/1"), torch.device("cpu"), EngineOptions())
    network.geometry.kv_bytes_per_token
"""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
from transformers.utils.logging import disable_progress_bar

import app.models.quantised  # noqa: F401  teaches transformers to load what `models quantize` wrote
from app.errors import InvalidInput
from app.models.generation.attention import NAME
from app.models.generation.engine import Geometry
from app.models.generation.options import Dtype, EngineOptions
from app.models.generation.paging import CacheSizes
from app.models.generation.passes import PassInput
from app.models.quantised import teach_transformers

MIB = 1024 * 1024

_CPU_CACHE_BYTES = 1024 * MIB
_ACCELERATOR_SHARE = 0.8
_PAGE_TOKENS = 16
_FLOAT_CPU = "float32"


class Network:
    """The model on its device, and what of its shape others need to know."""

    def __init__(self, model: Any, device: torch.device, end_tokens: frozenset[int]) -> None:
        """`model` is a causal language model of transformers, built with `attn_implementation=NAME`."""
        self._model = model.to(device).eval()
        self.device, self.end_tokens = device, end_tokens
        self.config: Any = model.config
        self.dtype: torch.dtype = model.dtype
        self.vocabulary: int = self.config.vocab_size
        self.max_context: int = self.config.max_position_embeddings
        self.geometry = _geometry(model)

    @classmethod
    def load(cls, directory: Path, device: torch.device, options: EngineOptions) -> "Network":
        """Read the model in `directory`. Raises InvalidInput for what is not a language model that this engine runs."""
        teach_transformers()
        disable_progress_bar()
        try:
            config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
            model = AutoModelForCausalLM.from_pretrained(
                directory,
                config=config,
                dtype=_dtype(options.dtype, config, device),
                attn_implementation=NAME,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise InvalidInput(f"{directory} cannot be loaded as a language model: {error}") from error
        return cls(model, device, _end_tokens(directory, config))

    def logits(self, given: PassInput) -> Tensor:
        """[emitting rows, vocabulary], float32."""
        found = self._model(
            input_ids=given.tokens[None],
            position_ids=given.positions[None],
            use_cache=False,
            logits_to_keep=given.emitting,
            attention_pass=given.attention,
        )
        return cast(Tensor, found.logits[0].float())

    def embed(self, given: PassInput, lengths: list[int]) -> Tensor:
        """The mean of the last hidden states of each text, of length 1: [texts, hidden], float32."""
        found = self._model.base_model(
            input_ids=given.tokens[None],
            position_ids=given.positions[None],
            use_cache=False,
            attention_pass=given.attention,
        )
        hidden = found.last_hidden_state[0].float()
        return normalize(torch.stack([text.mean(0) for text in hidden.split(lengths)]), dim=-1)

    def cache_sizes(self, options: EngineOptions, context_tokens: int) -> CacheSizes:
        """Pages that `options` ask for, at least one full context of them."""
        page_tokens = options.page_tokens or _PAGE_TOKENS
        tokens = options.cache_tokens or self._room(context_tokens * options.max_sequences)
        pages = max(tokens, context_tokens) // page_tokens + 2
        return CacheSizes(pages, page_tokens, options.prefix_cache_share)

    def _room(self, wanted_tokens: int) -> int:
        if self.device.type == "cpu":
            return min(wanted_tokens, _CPU_CACHE_BYTES // self.geometry.kv_bytes_per_token)
        free, _ = torch.cuda.mem_get_info(self.device)
        return int(free * _ACCELERATOR_SHARE) // self.geometry.kv_bytes_per_token


def _geometry(model: Any) -> Geometry:
    config = model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rows_only = model.get_input_embeddings().weight
    tied = rows_only is model.get_output_embeddings().weight
    held = sum(tensor.nbytes for tensor in {id(t): t for t in model.state_dict(keep_vars=True).values()}.values())
    multiplied = sum(each.in_features * each.out_features for each in _linears(model))
    return Geometry(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        kv_bytes_per_token=2 * config.num_hidden_layers * config.num_key_value_heads * width * model.dtype.itemsize,
        weight_bytes=held if tied else held - rows_only.nbytes,
        flops_per_token=2 * multiplied,
    )


def _linears(model: Any) -> list[Any]:
    return [module for module in model.modules() if hasattr(module, "in_features") and hasattr(module, "out_features")]


def _dtype(wanted: Dtype, config: Any, device: torch.device) -> torch.dtype:
    published = str(config.dtype or _FLOAT_CPU).removeprefix("torch.")
    name = published if wanted == "auto" else wanted
    if wanted == "auto" and device.type == "cpu" and name != _FLOAT_CPU and not _cpu_computes(name):
        name = _FLOAT_CPU
    return cast(torch.dtype, getattr(torch, name))


def _cpu_computes(name: str) -> bool:
    """Whether this CPU has arithmetic of the 16-bit type `name`, and does not emulate it."""
    can = torch.cpu.get_capabilities()
    flags = {"bfloat16": ("avx512_bf16", "amx_bf16", "bf16"), "float16": ("avx512_fp16", "amx_fp16", "fp16_arith")}
    return any(can.get(flag, False) for flag in flags.get(name, ()))


def _end_tokens(directory: Path, config: Any) -> frozenset[int]:
    """Tokens that end a text: the generation's configuration says, else the model's."""
    told = config.eos_token_id
    if (directory / "generation_config.json").is_file():
        told = GenerationConfig.from_pretrained(directory, local_files_only=True).eos_token_id or told
    return frozenset(told if isinstance(told, list) else [] if told is None else [told])
