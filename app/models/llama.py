"""Language models of Llama's shape: from a blueprint to the transformers library's own module, and its configuration.

Knows nothing of text, jobs or cards: token 0 ends a text, whatever the tokenizer calls it. Importing this file imports
torch and transformers.

    module = build_llama(Llama(vocabulary=4096, hidden=256, layers=6, heads=4))
    module(input_ids=tokens).logits                   # [rows, length, vocabulary]
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from app.models.blueprint import END_TOKEN, Llama


def build_llama(blueprint: Llama) -> nn.Module:
    """The module of a blueprint in float32, initialised from torch's current seed."""
    module: nn.Module = LlamaForCausalLM(llama_config(blueprint))
    return module


def llama_config(blueprint: Llama) -> Any:
    """What transformers' `config.json` says of a blueprint."""
    return LlamaConfig(
        vocab_size=blueprint.vocabulary,
        hidden_size=blueprint.hidden,
        intermediate_size=blueprint.intermediate,
        num_hidden_layers=blueprint.layers,
        num_attention_heads=blueprint.heads,
        num_key_value_heads=blueprint.kv_heads,
        max_position_embeddings=blueprint.context,
        tie_word_embeddings=blueprint.tied_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": blueprint.rope_theta},
        bos_token_id=END_TOKEN,
        eos_token_id=END_TOKEN,
        pad_token_id=None,
        architectures=["LlamaForCausalLM"],
        dtype=torch.float32,
    )


def write_configs(blueprint: Llama, directory: Path) -> None:
    """Write `config.json` and, with the defaults of a request that asks for nothing, `generation_config.json`."""
    llama_config(blueprint).to_json_file(directory / "config.json", use_diff=False)
    defaults = GenerationConfig(
        bos_token_id=END_TOKEN,
        eos_token_id=END_TOKEN,
        do_sample=True,
        temperature=0.8,
        top_p=0.95,
        max_new_tokens=min(128, blueprint.context // 2),
    )
    defaults.to_json_file(directory / "generation_config.json")
