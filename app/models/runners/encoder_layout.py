"""What the files beside an encoder's weights say: how it pools, whether it normalises, how long a text may be.

Knows nothing of torch. Reads sentence-transformers layout, and without `modules.json` a plain transformers checkpoint,
which is pooled by the mean as sentence-transformers does with one. Raises InvalidInput for what is not supported.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from app.errors import InvalidInput

Pooling = Literal["mean", "cls", "max"]

_OLD_NAMES = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max"}
"""As sentence-transformers wrote them before version 6."""
_UNBOUNDED_TOKENS = 10**6
"""transformers writes 10**30 for a tokenizer that has no limit of its own."""


@dataclass(frozen=True, slots=True)
class EncoderLayout:
    """How hidden states become an embedding."""

    pooling: Pooling
    normalised: bool
    max_tokens: int
    pad_token: int


def read_layout(directory: Path) -> EncoderLayout:
    """The layout of an encoder in `directory`."""
    config = read_json(directory / "config.json")
    pooling: Pooling = "mean"
    normalised = False
    if (directory / "modules.json").is_file():
        pooling, normalised = _read_modules(directory)
    return EncoderLayout(pooling, normalised, _max_tokens(directory, config), int(config.get("pad_token_id") or 0))


def read_json(path: Path) -> Any:
    """The JSON in a file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read as JSON: {error}; is this a transformers encoder?") from error


def _read_modules(directory: Path) -> tuple[Pooling, bool]:
    modules = read_json(directory / "modules.json")
    kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise InvalidInput(
            f"{directory / 'modules.json'} is {kinds}; this runner knows Transformer, Pooling, Normalize"
        )
    path = directory / modules[1]["path"]
    told = read_json(path / "config.json")
    modes = [told["pooling_mode"]] if "pooling_mode" in told else _old_modes(told)
    if len(modes) != 1 or modes[0] not in _OLD_NAMES.values():
        raise InvalidInput(f"{path} pools by {modes}; this runner knows one of {', '.join(_OLD_NAMES.values())}")
    return modes[0], kinds[-1] == "Normalize"


def _old_modes(told: dict[str, Any]) -> list[Any]:
    named = [key for key, value in told.items() if key.startswith("pooling_mode") and value is True]
    return [_OLD_NAMES.get(key, key) for key in named]


def _max_tokens(directory: Path, config: dict[str, Any]) -> int:
    """The smallest of the limits that are told."""
    told = [config.get("max_position_embeddings")]
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        if (directory / name).is_file():
            told.append(read_json(directory / name).get(key))
    limits = [int(limit) for limit in told if limit and limit < _UNBOUNDED_TOKENS]
    if not limits:
        raise InvalidInput(f"{directory} does not tell how many tokens a text may have; add sentence_bert_config.json")
    # RoBERTa's positions begin after the padding token's.
    if config.get("model_type") in ("roberta", "xlm-roberta", "camembert", "mpnet") and len(limits) == 1:
        return limits[0] - int(config.get("pad_token_id") or 0) - 1
    return min(limits)
