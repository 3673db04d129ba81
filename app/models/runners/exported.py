"""Runner of torch.export programs: `model.pt2`, inspected before it is read.

Knows nothing of the network inside. What is safe and what is not (torch 2.13): `torch.export.load` reads
plain weights without pickle, but falls back to unrestricted unpickling for sample inputs, tensor subclasses
and custom objects. So the archive is read once into memory and refused unless it holds only plain tensors,
and sample inputs that `torch.load(weights_only=True)` accepts. The graph itself is a program: its symbolic
sizes are parsed by sympy, which evaluates them. Digests say that it is the program that was published;
publish only what you trust. Importing this file imports torch.
"""

import io
import json
import re
import zipfile
from pathlib import Path
from pickle import UnpicklingError

import torch

from app.errors import InvalidInput
from app.models.card import ModelCard
from app.models.runners.base import Array, Arrays, check_inputs, held_bytes, rows_are_free

PROGRAM_FILE = "model.pt2"

_SAMPLE_INPUTS = "data/sample_inputs/model.pt"
_PAYLOADS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_MEMBER = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)|models/model\.json"
    r"|data/weights/weight_\d+|data/constants/tensor_\d+|" + "|".join(map(re.escape, (_SAMPLE_INPUTS, *_PAYLOADS)))
)


class ExportedRunner:
    """Inputs and outputs in the card's order; weight: rows."""

    def __init__(self, card: ModelCard, directory: Path, *, device: str = "cpu") -> None:
        """Inspect and load the program. Raises InvalidInput when it is refused."""
        if PROGRAM_FILE not in card.files:
            raise InvalidInput(f"the card of {card.name}@{card.version} does not list {PROGRAM_FILE}")
        self.name, self.version, self.max_rows = card.name, card.version, card.max_rows
        self.inputs, self.outputs = card.inputs, card.outputs
        self._device = torch.device(device)
        archive = (directory / PROGRAM_FILE).read_bytes()
        inspect_archive(archive, str(directory / PROGRAM_FILE))
        self._module = torch.export.load(io.BytesIO(archive)).module().to(self._device)
        self.batch = rows_are_free((*card.inputs, *card.outputs))
        self.memory_bytes = held_bytes(self._module.state_dict().values())

    def weight(self, inputs: Arrays) -> float:
        """Rows."""
        return float(max(1, check_inputs(inputs, self.inputs, self.max_rows)))

    def run(self, inputs: Arrays) -> dict[str, Array]:
        rows = check_inputs(inputs, self.inputs, self.max_rows)
        if not rows:
            return {spec.name: torch.zeros(0, *spec.shape[1:]).numpy() for spec in self.outputs}
        arguments = [torch.from_numpy(inputs[spec.name]).to(self._device) for spec in self.inputs]
        with torch.inference_mode():
            results = self._module(*arguments)
        results = results if isinstance(results, tuple | list) else (results,)
        return {spec.name: value.cpu().numpy() for spec, value in zip(self.outputs, results, strict=True)}


def inspect_archive(archive: bytes, where: str) -> None:
    """Raise InvalidInput unless everything in the archive can be read without unrestricted unpickling."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as members:
            names = {name.partition("/")[2]: name for name in members.namelist()}
            _refuse_strangers(names, where)
            for payload in _PAYLOADS:
                _refuse_pickles(members.read(names[payload]), f"{where}:{payload}")
            torch.load(io.BytesIO(members.read(names[_SAMPLE_INPUTS])), weights_only=True)
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise InvalidInput(f"{where} is not a torch.export archive: {error}; export the model again") from error
    except UnpicklingError as error:
        raise InvalidInput(f"{where} holds sample inputs other than plain tensors and is refused: {error}") from error


def _refuse_strangers(names: dict[str, str], where: str) -> None:
    strangers = sorted(name for name in names if not _MEMBER.fullmatch(name))
    if strangers:
        raise InvalidInput(
            f"{where} holds {strangers[0]!r}, which a plain exported program does not; custom objects and "
            "compiled code are refused, export the model without them"
        )


def _refuse_pickles(config: bytes, where: str) -> None:
    for name, payload in json.loads(config)["config"].items():
        if payload.get("use_pickle") is not False:
            raise InvalidInput(f"{where}: tensor {name!r} is pickled and therefore refused; export plain tensors")
