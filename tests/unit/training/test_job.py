"""Job files: what is accepted, and how every mistake is named at once."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from app.errors import InvalidInput
from app.training.job import TrainJob, load_job, parse_job
from app.training.parts import Budget, Target

JOBS = Path(__file__).parents[3] / "deployments" / "jobs"


def raw(**changes: Any) -> dict[str, Any]:
    known = yaml.safe_load((JOBS / "digits.yaml").read_text())
    return {**known, **changes}


def mistakes_in(job: Any) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        parse_job(job, "job.yaml")
    head, *lines = str(caught.value).split("\n")
    assert head.startswith("job file job.yaml has") or not lines
    return [line.removeprefix("  - ") for line in lines] or [head]


TRAINING = [
    path for path in sorted(JOBS.glob("*.yaml")) if yaml.safe_load(path.read_text()).get("kind", "train") == "train"
]


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.name)
def test_the_jobs_that_ship_are_right(path: Path) -> None:
    job = load_job(path)
    assert job.publish is not None
    assert job == TrainJob.model_validate(job.model_dump(mode="json"))


def test_three_mistakes_are_named_together_with_value_and_bound() -> None:
    assert mistakes_in(raw(epochs=0, workers="two", batch_size=-1)) == [
        "epochs: must be >= 1, got 0",
        "batch_size: must be >= 1, got -1",
        "workers: must be a number from 1 to 1024, or min and max, got 'two'",
    ]


def test_unknown_keys_are_answered_with_the_nearest_at_that_place() -> None:
    found = mistakes_in(
        raw(worker=2, model={"architecture": "cnn", "chanels": [8]}, data={"source": "builtin:digits", "sed": 1})
    )
    assert found == [
        "model.chanels: unknown key; did you mean channels?",
        "data.sed: unknown key; did you mean seed?",
        "worker: unknown key; did you mean workers?",
    ]


def test_a_key_like_no_other_is_answered_with_all_that_there_are() -> None:
    (found,) = mistakes_in(raw(target={"metric": "accuracy", "at_least": 0.9, "zzz": 1}))
    assert found == "target.zzz: unknown key; remove it, or use one of metric, at_least, at_most, below, stop"


def test_missing_keys_are_named() -> None:
    job = raw()
    del job["epochs"], job["loss"]
    assert mistakes_in(job) == ["loss: is required; add it", "epochs: is required; add it"]


def test_contradictions_are_named_beside_mistakes_elsewhere() -> None:
    assert mistakes_in(raw(epochs=0, loss="mse", target={"metric": "r2", "at_least": 0.5})) == [
        "epochs: must be >= 1, got 0",
        "loss: builtin:digits needs cross_entropy, got 'mse'",
        "target.metric: builtin:digits is measured by accuracy, got 'r2'",
    ]


def test_a_model_that_does_not_fit_its_data_is_refused() -> None:
    assert mistakes_in(raw(model={"architecture": "mlp", "sizes": [32, 10, 2]})) == [
        "model: builtin:digits has 64 values per row, the model takes 32",
        "model: builtin:digits needs 10 outputs, the model gives 2",
    ]


def test_unknown_architectures_and_sources_are_answered_with_the_known() -> None:
    first, second = mistakes_in(raw(model={"architecture": "gan"}, data={"source": "builtin:mnist"}))
    assert first == (
        "model: 'architecture' must be one of 'mlp', 'cnn', 'rnn', 'gru', 'lstm', 'transformer', 'module', 'llama', "
        "'transformers', got {'architecture': 'gan'}"
    )
    assert second.startswith("data.source: must be one of builtin:digits, ")
    assert second.endswith("builtin:stdlib-docstrings, or parquet:URL, got 'builtin:mnist'")


def test_too_many_convolutions_are_refused() -> None:
    model = {"architecture": "cnn", "channels": [1, 1, 1, 1]}
    expected = "model.channels: 4 convolutions, but an image of 8 pixels can be halved 3 times; use at most 3 channels"
    assert mistakes_in(raw(model=model)) == [expected]


def test_a_mistake_inside_a_list_is_named_by_its_place() -> None:
    model = {"architecture": "cnn", "channels": [16, 0]}
    assert mistakes_in(raw(model=model)) == ["model.channels.1: must be >= 1, got 0"]


@pytest.mark.parametrize(
    ("content", "message"),
    [("- a\n- b\n", "must be a mapping of keys to values, got list"), ("a: [1\n", "is not YAML"), ("", "got NoneType")],
)
def test_files_that_are_no_job_say_so(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(content)
    with pytest.raises(InvalidInput, match=message):
        load_job(path)


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        load_job(tmp_path / "none.yaml")


def pycoder(**changes: Any) -> dict[str, Any]:
    known = yaml.safe_load((JOBS / "pycoder.yaml").read_text())
    return {**known, **changes}


def test_texts_rows_losses_and_metrics_that_do_not_fit_are_named() -> None:
    assert mistakes_in(raw(data={"source": "builtin:stdlib-source"})) == [
        "model: builtin:stdlib-source gives texts, which a cnn cannot read; use architecture llama or transformers",
        "loss: builtin:stdlib-source needs next_token, got 'cross_entropy'",
        "target.metric: builtin:stdlib-source is measured by bits_per_byte, got 'accuracy'",
    ]
    assert mistakes_in(pycoder(data={"source": "builtin:digits"})) == [
        "model: builtin:digits gives rows of numbers; a llama takes one of builtin:stdlib-source, "
        "builtin:stdlib-docstrings",
        "loss: builtin:digits needs cross_entropy, got 'next_token'",
        "target.metric: builtin:digits is measured by accuracy, got 'bits_per_byte'",
        f"epoch_steps: builtin:digits is learned in whole passes, got {pycoder()['epoch_steps']}; remove it",
    ]
    assert mistakes_in(pycoder(publish={"name": "x", "format": "torch_export"})) == [
        "publish.format: a language model is published as safetensors, got 'torch_export'"
    ]


def test_a_llama_whose_heads_do_not_divide_is_refused() -> None:
    model = {"architecture": "llama", "vocabulary": 300, "hidden": 36, "layers": 1, "heads": 4}
    (found,) = mistakes_in(pycoder(model=model))
    assert found.startswith("model: hidden = 36 must be a multiple of 2 x heads = 8")
    (found,) = mistakes_in(pycoder(model={**model, "hidden": 32, "kv_heads": 3}))
    assert found.startswith("model: heads = 4 must be a multiple of kv_heads = 3")


@pytest.mark.parametrize(
    ("target", "metrics", "reached", "words"),
    [
        ({"metric": "accuracy", "at_least": 0.9}, {"accuracy": 0.9}, True, "accuracy >= 0.9"),
        ({"metric": "bits_per_byte", "at_most": 1.5}, {"bits_per_byte": 1.6}, False, "bits_per_byte <= 1.5"),
        (
            {"metric": "bits_per_byte", "below": "gzip_9"},
            {"bits_per_byte": 1.6, "gzip_9": 1.7},
            True,
            "bits_per_byte < gzip_9",
        ),
        (
            {"metric": "bits_per_byte", "below": "zstd_19"},
            {"bits_per_byte": 1.6, "zstd_19": 1.6},
            False,
            "bits_per_byte < zstd_19",
        ),
    ],
)
def test_a_target_is_a_bound_of_either_kind(
    target: dict[str, Any], metrics: dict[str, float], reached: bool, words: str
) -> None:
    found = Target.model_validate(target)
    assert (found.reached(metrics), str(found)) == (reached, words)


@pytest.mark.parametrize("target", [{"metric": "accuracy"}, {"metric": "accuracy", "at_least": 1, "at_most": 2}])
def test_a_target_has_one_bound(target: dict[str, Any]) -> None:
    (found,) = mistakes_in(raw(target=target))
    assert found.startswith("target: needs one of at_least, at_most and below, and no more, got {")


def test_five_faults_of_every_kind_are_named_together() -> None:
    assert mistakes_in(
        raw(
            epochs=0,
            budget={"kwh": -1},
            worker=2,
            strategy="fsdp",
            precision="float16",
            model={"architecture": "gru", "steps": 8, "features": 4},
        )
    ) == [
        "epochs: must be >= 1, got 0",
        "budget.kwh: must be > 0.0, got -1",
        "worker: unknown key; did you mean workers?",
        "model: builtin:digits has 64 values per row, the model takes 32",
        "precision: float16 needs its loss scaled by what all shards say, which fsdp does not do; use bfloat16",
    ]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"workers": {"min": 3, "max": 2}}, "workers: min = 3 must be <= max = 2"),
        ({"workers": 0}, "workers: must be a number from 1 to 1024, or min and max, got 0"),
        ({"budget": {}}, "budget: needs one of kwh, gco2e and hours"),
        ({"accumulation": 9}, "accumulation: 9 passes of a batch of 8 rows; use at most 8"),
        ({"optimiser": {"momentum": 0.9}}, "optimiser.momentum: adam has its own, got 0.9"),
        ({"tensor_parallel": 2}, "tensor_parallel: the layers of a cnn are not divided"),
        (
            {"model": {"architecture": "module", "code": "a.b:C", "shape": [64], "outputs": 10}},
            "publish.format: code of yours is published as torch_export",
        ),
        ({"model": {"architecture": "transformers"}}, "model: needs one of source and config, and no more"),
    ],
)
def test_each_contradiction_is_named_with_what_to_do(changes: dict[str, Any], fault: str) -> None:
    (found,) = mistakes_in(raw(**changes))
    assert found.startswith(fault)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"workers": {"min": 1, "max": 2}}, "workers: 1 to 2 workers cannot change while tensor_parallel = 2"),
        ({"workers": 3}, "tensor_parallel: 2 does not divide workers = 3"),
        ({"workers": 4}, "strategy: 2 copies of 2 workers each need fsdp, got 'ddp'"),
        ({"compile": "dynamic"}, "compile: 'dynamic' does not go with tensor_parallel = 2"),
        (
            {"model": {"architecture": "mlp", "sizes": [64, 33, 10]}},
            "tensor_parallel: 2 does not divide model.sizes [33]",
        ),
    ],
)
def test_layers_are_divided_only_where_that_can_work(changes: dict[str, Any], fault: str) -> None:
    mlp = {"architecture": "mlp", "sizes": [64, 32, 10]}
    (found,) = mistakes_in(raw(**{"tensor_parallel": 2, "workers": 2, "model": mlp, **changes}))
    assert found.startswith(fault)


def test_an_encoder_needs_weights_and_a_loss_that_fits_pairs() -> None:
    assert mistakes_in(raw(data={"source": "builtin:stdlib-docstrings"}, target=None)) == [
        "model: builtin:stdlib-docstrings gives pairs of texts, which a cnn without weights cannot compare; use "
        "architecture transformers with the source of an encoder",
        "loss: builtin:stdlib-docstrings needs contrastive, got 'cross_entropy'",
    ]


def test_what_a_step_learns_from_does_not_depend_on_how_many_workers_there_are() -> None:
    job = parse_job(raw(workers={"min": 1, "max": 4}, batch_size=8), "test")
    assert (job.step_rows, str(job.workers), job.workers.elastic) == (32, "1 to 4 workers", True)
    assert parse_job(raw(workers=2, batch_size=8), "test").step_rows == 16


def test_a_budget_in_kilowatt_hours_is_exact_in_microjoules() -> None:
    assert Budget(kwh=0.001).energy_uj == 3_600_000_000  # 3.6 MJ are a kilowatt hour
    assert Budget(hours=1).energy_uj is None
