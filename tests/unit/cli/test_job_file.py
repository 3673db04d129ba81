"""A job file's text: fields change, comments and order stay."""

from pathlib import Path

import pytest
import yaml

from app.cli.job_file import changed, difference
from app.errors import InvalidInput
from app.training.job import parse_job

TEXT = """\
# A job.
name: digits
batch_size: 8       # per worker
workers:
  min: 1
  max: 2

resources: {cpu: 0.5}
seed: 7
"""


def test_fields_change_in_place_and_comments_stay() -> None:
    new = changed(
        TEXT, {"batch_size": 16, "resources.power_limit_w": 175.0, "workers": 1, "start": {"slack_hours": 24.0}}
    )
    assert new == (
        "# A job.\nname: digits\nbatch_size: 16       # per worker\nworkers: 1\n\n"
        "resources: {cpu: 0.5, power_limit_w: 175.0}\nseed: 7\nstart: {slack_hours: 24.0}\n"
    )
    assert changed(new, {"start": None, "resources.power_limit_w": None}).endswith("resources: {cpu: 0.5}\nseed: 7\n")


def test_the_difference_is_a_diff() -> None:
    lines = difference(TEXT, changed(TEXT, {"batch_size": 16}), "digits.yaml").splitlines()
    assert lines[:2] == ["--- a/digits.yaml", "+++ b/digits.yaml"]
    assert [line for line in lines if line.startswith(("-b", "+b"))] == [
        "-batch_size: 8       # per worker",
        "+batch_size: 16       # per worker",
    ]
    assert difference(TEXT, TEXT, "digits.yaml") == ""


def test_what_cannot_be_changed_in_the_text_is_refused() -> None:
    with pytest.raises(InvalidInput, match="by hand"):
        changed("{name: digits, batch_size: 8}\n", {"batch_size": 16})
    with pytest.raises(InvalidInput, match="has no parts"):
        changed(TEXT, {"seed.inner": 1})


@pytest.mark.parametrize("name", ["digits", "mlp", "pycoder", "minilm", "seed"])
def test_every_job_of_ours_can_be_changed_and_says_the_rest_as_before(name: str) -> None:
    text = (Path(__file__).parents[3] / "deployments" / "jobs" / f"{name}.yaml").read_text()
    new = changed(text, {"batch_size": 3, "start": {"slack_hours": 24.0, "hours": 2.0}})
    before, after = parse_job(yaml.safe_load(text), name), parse_job(yaml.safe_load(new), name)
    assert after.model_copy(update={"batch_size": before.batch_size, "start": before.start}) == before
    assert (after.batch_size, after.start and after.start.slack_hours) == (3, 24.0)
