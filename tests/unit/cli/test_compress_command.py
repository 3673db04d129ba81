"""models compress, and job files of kind compress: words and files reach the compression, and its refusals the user."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.config import settings

Call = Callable[..., Any]
JOBS = Path(__file__).parents[3] / "deployments" / "jobs"


@pytest.fixture(autouse=True)
def _empty_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("JOULEKEEPER_MODELS", str(tmp_path))
    settings.cache_clear()
    yield
    settings.cache_clear()


def test_a_model_that_is_not_there_is_told_before_any_work(call: Call) -> None:
    done = call("models", "compress", "digits", "--method", "int8")
    assert done.exit_code == 1
    assert "model 'digits' is not in the repository" in done.stderr


def test_a_job_file_of_kind_compress_goes_the_same_way(call: Call) -> None:
    done = call("train", str(JOBS / "digits-small.yaml"))
    assert done.exit_code == 1
    assert "model 'digits' is not in the repository" in done.stderr


def test_words_that_are_no_method_are_refused(call: Call) -> None:
    done = call("models", "compress", "digits", "--method", "shrink")
    assert done.exit_code == 1
    assert "method 'shrink' is unknown; use one of prune-random" in done.stderr
