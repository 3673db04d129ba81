"""What stands beside the weights of a published model that reads texts, so that the transformers library could load it.

Knows nothing of repositories or cards. Importing this file imports tokenizers.
"""

from pathlib import Path

from safetensors.torch import load_file, save_file

from app.models.blueprint import LanguageModel, Llama
from app.models.sources import texts_of
from app.training.causal import TOKENIZER_FILE, without_run_files
from app.training.tokenizer import write_tokenizer

_WEIGHTS_FILE = "model.safetensors"
_WRAPPED = "model."
"""Before the names of an encoder's weights where it is the library's own (`LibraryEncoder`)."""


def write_text_files(model: LanguageModel, checkpoint: Path, target: Path, *, encoder: bool) -> None:
    """Configuration, tokenizer and layout of the model whose weights are in `target` already."""
    if isinstance(model, Llama):
        from app.models.llama import write_configs

        write_configs(model, target)
        write_tokenizer((checkpoint / TOKENIZER_FILE).read_text(encoding="utf-8"), model.context, target)
        return
    files = without_run_files(texts_of(checkpoint))
    for name, text in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(text, encoding="utf-8")
    if encoder:
        _unwrap(target / _WEIGHTS_FILE)
    elif "tokenizer_config.json" not in files:
        write_tokenizer(files[TOKENIZER_FILE], model.context, target)


def _unwrap(weights: Path) -> None:
    """Give an encoder's weights the names that its configuration's class has."""
    tensors = load_file(weights)
    if all(name.startswith(_WRAPPED) for name in tensors):
        save_file({name.removeprefix(_WRAPPED): each for name, each in tensors.items()}, weights, {"format": "pt"})
