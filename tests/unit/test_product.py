"""The product's version, installed or not."""

from importlib import metadata

from app.product import NAME, version_of


def test_the_version_is_that_of_the_installed_distribution() -> None:
    assert version_of("ray") == metadata.version("ray")
    assert version_of() == version_of(NAME)


def test_what_is_not_installed_has_an_unknown_version() -> None:
    assert version_of("no-such-distribution") == "unknown"
