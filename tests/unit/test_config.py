"""Settings: what the environment says, with all faults at once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.config import Settings, settings
from app.errors import InvalidInput


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import os

    for name in [name for name in os.environ if name.startswith("JOULEKEEPER_")]:
        monkeypatch.delenv(name)
    settings.cache_clear()
    yield
    settings.cache_clear()


def test_books_live_in_the_xdg_state_directory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
    found = settings()
    assert found.state_dir == Path("/var/state/joulekeeper")
    assert found.store_url == "sqlite:////var/state/joulekeeper/books.sqlite"
    assert found.models_root == "/var/state/joulekeeper/models"


def test_without_xdg_books_live_in_the_home_directory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert settings().state_dir == Path("/home/somebody/.local/state/joulekeeper")


def test_sensors_are_a_comma_separated_list(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JOULEKEEPER_SENSORS", " nvml, cpu_model,")
    assert settings().sensors == ("nvml", "cpu_model")


@pytest.mark.parametrize(("text", "value"), [("on", True), ("off", False), ("0", False)])
def test_metering_is_on_or_off(monkeypatch: pytest.MonkeyPatch, text: str, value: bool):
    monkeypatch.setenv("JOULEKEEPER_METERING", text)
    assert settings().metering is value


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JOULEKEEPER_ZONE", "")
    assert settings().zone == "world"


def test_urls_and_roots_that_are_given_are_taken(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JOULEKEEPER_DATABASE_URL", "postgresql+psycopg://books")
    monkeypatch.setenv("JOULEKEEPER_MODELS", "/models")
    assert (settings().store_url, settings().models_root) == ("postgresql+psycopg://books", "/models")


def test_every_fault_is_named_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JOULEKEEPER_PUE", "0.9")
    monkeypatch.setenv("JOULEKEEPER_SAMPLE_HZ", "fast")
    with pytest.raises(InvalidInput) as caught:
        settings()
    assert "JOULEKEEPER_PUE" in str(caught.value)
    assert "got '0.9'" in str(caught.value)
    assert "JOULEKEEPER_SAMPLE_HZ" in str(caught.value)


def test_settings_do_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        settings().zone = "FRA"  # type: ignore[misc]


def test_settings_are_read_once(monkeypatch: pytest.MonkeyPatch):
    first = settings()
    monkeypatch.setenv("JOULEKEEPER_ZONE", "FRA")
    assert settings() is first


def test_a_setting_nobody_knows_is_refused():
    with pytest.raises(ValidationError, match="colour"):
        Settings(colour="red")  # type: ignore[call-arg]
