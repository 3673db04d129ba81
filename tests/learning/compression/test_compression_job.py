"""Compression jobs: what a file and a command say, and every mistake of theirs at once."""

from pathlib import Path

import pytest

from app.compression.from_words import job_of
from app.compression.job import METHODS, STEPS, load_job, parse_job
from app.errors import InvalidInput

JOBS = Path(__file__).parents[3] / "deployments" / "jobs"


def test_the_examples_are_jobs() -> None:
    small, pruned = load_job(JOBS / "digits-small.yaml"), load_job(JOBS / "seed-cnn-pruned.yaml")
    assert [str(step) for step in small.steps] == ["prune-channels", "int8"]
    assert (small.word, pruned.word) == ("small", "pruned")


def test_a_file_with_five_faults_names_all_five() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_job(
            {
                "name": "Small",
                "kind": "compress",
                "model": "digits@int8",
                "steps": [{"method": "prune-global", "rate": 1.5, "epoch": 3}, {"method": "shrink"}],
            },
            "job file x.yaml",
        )
    told = str(caught.value)
    assert told.startswith("job file x.yaml has 5 mistakes:")
    for fault in (
        "name: must match",
        "model: must match",
        "steps.0.rate: must be < 1.0, got 1.5",
        "steps.0.epoch: unknown key; did you mean epochs or epoch_steps?",
        "must be one of 'prune-random'",
    ):
        assert fault in told, told


def test_integers_end_a_chain_and_a_job_does_something() -> None:
    with pytest.raises(InvalidInput, match="int8 ends a chain, its weights are trained no more; move it behind prune"):
        parse_job({"name": "a", "model": "m", "steps": [{"method": "int8"}, {"method": "prune-2-4"}]}, "here")
    with pytest.raises(InvalidInput, match="needs steps or search, and not both"):
        parse_job({"name": "a", "model": "m"}, "here")


def test_words_become_steps_and_options_go_where_they_belong() -> None:
    job = job_of("digits@2", ["prune-channels", "int8"], ["rate=0.75", "epochs=3"], min_accuracy=0.9)
    assert [str(step) for step in job.steps] == ["prune-channels epochs=3 rate=0.75", "int8"]
    assert (job.model, job.word, job.at_least) == ("digits@2", "prunechannelsint8", 0.9)
    assert job.name == "compress-digits-2"


@pytest.mark.parametrize(
    ("methods", "options", "fault"),
    [
        (["shrink"], [], "method 'shrink' is unknown; use one of prune-random"),
        (["int8"], ["rate=0.5"], "'rate=0.5' is not understood; write FIELD=VALUE with one of none"),
        (["prune-global"], ["rate"], "'rate' is not understood; write FIELD=VALUE with one of batch_size"),
    ],
)
def test_words_that_mean_nothing_are_refused(methods: list[str], options: list[str], fault: str) -> None:
    with pytest.raises(InvalidInput, match=fault):
        job_of("digits", methods, options)


def test_a_search_needs_to_know_what_is_good_enough() -> None:
    with pytest.raises(InvalidInput, match="needs --min-accuracy"):
        job_of("digits", [], [], search=True)
    assert job_of("digits", [], [], search=True, min_accuracy=0.9).search


def test_every_method_is_a_step_with_defaults() -> None:
    assert all(str(STEPS[method].model_validate({"method": method})) == method for method in METHODS)
