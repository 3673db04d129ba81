"""From the repository to a language model that answers, and versions that are none."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from app.domain.generation import Prompt, Sampling
from app.errors import InvalidInput, NotFound
from app.models.generation.load import Defaults, Generator, load_generator, open_generator
from app.models.generation.network import Network
from app.models.generation.options import EngineOptions
from app.models.repository import RepositorySettings, open_repository
from app.models.runners.load import load_runner
from tests.fixtures.language_model import CONTEXT, VOCABULARY, Heard, card, train_tokenizer, write_language_model

SMALL = EngineOptions(max_sequences=2, cache_tokens=256)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> RepositorySettings:
    found = RepositorySettings(str(tmp_path_factory.mktemp("models")))
    open_repository(found).publish("tiny", write_language_model, card())
    return found


@pytest.fixture
def generator(settings: RepositorySettings) -> Iterator[Generator]:
    loaded = load_generator("repository:tiny", Heard(), repository=settings, options=SMALL)
    yield loaded
    loaded.engine.close()


def test_a_version_answers_with_its_publishers_defaults(settings: RepositorySettings) -> None:
    heard = Heard()
    generator = load_generator("repository:tiny@1", heard, repository=settings, options=SMALL)
    prompt = tuple(generator.tokenizer.encode("def return"))
    assert generator.defaults == Defaults(0.8, 0.95, 0, 48)
    generator.engine.submit(Prompt("a", prompt, Sampling(max_tokens=4, temperature=0)))
    heard.wait("a")
    generator.engine.close()
    assert 0 < len(heard.ids("a")) <= 4
    assert (generator.card.name, generator.card.version) == ("tiny", "1")


def test_the_geometry_is_that_of_the_model(generator: Generator) -> None:
    geometry = generator.engine.geometry
    # 2 layers; 2 key-value heads of 8, keys and values, 4 bytes each.
    assert (geometry.layers, geometry.hidden, geometry.kv_bytes_per_token) == (2, 32, 2 * 2 * 2 * 8 * 4)
    # A layer: queries and outputs 32 x 32, keys and values 32 x 16, three of 32 x 64; then 32 x vocabulary.
    multiplied = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64) + 32 * VOCABULARY
    assert geometry.flops_per_token == 2 * multiplied
    # Beside them two norms a layer and one at the end; tokens are looked up in the tied output matrix.
    assert geometry.weight_bytes == 4 * (multiplied + 5 * 32)
    assert (generator.engine.context_tokens, generator.engine.vocabulary) == (CONTEXT, VOCABULARY)


def test_a_shorter_context_is_kept_to(settings: RepositorySettings) -> None:
    options = EngineOptions(context_tokens=10, max_sequences=1)
    generator = load_generator("repository:tiny", Heard(), repository=settings, options=options)
    generator.engine.close()
    assert generator.engine.context_tokens == 10


def test_sixteen_bits_are_used_when_asked_for(settings: RepositorySettings) -> None:
    heard = Heard()
    options = EngineOptions(dtype="bfloat16", max_sequences=1)
    generator = load_generator("repository:tiny", heard, repository=settings, options=options)
    generator.engine.submit(Prompt("a", (1, 2, 3), Sampling(max_tokens=3, temperature=0)))
    heard.wait("a")
    generator.engine.close()
    assert heard.endings["a"][0] in ("length", "stop")
    assert generator.engine.geometry.kv_bytes_per_token == 2 * 2 * 2 * 8 * 2


@pytest.mark.parametrize("source", ["tiny", "package:tiny", "repository:", "python:a:B"])
def test_other_sources_are_refused(settings: RepositorySettings, source: str) -> None:
    with pytest.raises(InvalidInput, match=r"must be repository:NAME\[@VERSION\]"):
        load_generator(source, Heard(), repository=settings)


def test_what_is_not_there_is_not_found(settings: RepositorySettings) -> None:
    with pytest.raises(NotFound, match="did you mean tiny"):
        load_generator("repository:tinny", Heard(), repository=settings)


def test_a_language_model_is_no_runner_of_tensors(settings: RepositorySettings) -> None:
    with pytest.raises(InvalidInput, match=r"serve it with import_path app\.serving\.build:generator"):
        load_runner("repository:tiny", repository=settings)


def test_a_runner_of_tensors_is_no_language_model(settings: RepositorySettings) -> None:
    other = card("other").model_copy(update={"runner": "encoder"})
    open_repository(settings).publish("other", lambda directory: None, other)
    with pytest.raises(InvalidInput, match="other@1 has runner encoder, not generator"):
        load_generator("repository:other", Heard(), repository=settings)


@pytest.fixture
def files(settings: RepositorySettings, tmp_path: Path) -> Path:
    """A copy that may be spoilt."""
    return Path(shutil.copytree(Path(settings.root) / "tiny" / "1", tmp_path / "copy"))


def test_missing_weights_are_named(files: Path) -> None:
    (files / "model.safetensors").unlink()
    with pytest.raises(InvalidInput, match="cannot be loaded as a language model"):
        open_generator(files, card(), Heard())


def test_code_that_comes_with_a_model_is_not_run(files: Path) -> None:
    config = json.loads((files / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}}
    (files / "config.json").write_text(json.dumps(config))
    (files / "evil.py").write_text("raise SystemExit('run')")
    with pytest.raises(InvalidInput, match="cannot be loaded"):
        open_generator(files, card(), Heard())


def test_a_tokenizer_larger_than_the_model_is_refused(files: Path) -> None:
    tokenizer = train_tokenizer()
    tokenizer.add_tokens([f"word{n}" for n in range(20)])
    tokenizer.save(str(files / "tokenizer.json"))
    with pytest.raises(InvalidInput, match="its tokenizer has 308 tokens, its model 290"):
        open_generator(files, card("tiny"), Heard())


def test_layers_with_a_window_are_refused(files: Path) -> None:
    config = json.loads((files / "config.json").read_text())
    config |= {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 16}
    (files / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidInput, match="attend to everything before them, mistral has sliding_attention"):
        open_generator(files, card(), Heard())


def test_the_published_type_is_the_type_in_memory(files: Path) -> None:
    network = Network.load(files, torch.device("cpu"), EngineOptions())
    assert network.dtype == torch.float32
