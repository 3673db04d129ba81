"""Documentation against code: settings are described, variables named in prose exist, links lead somewhere."""

import re
from pathlib import Path

import pytest

from app.config import Settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = [path for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if path.exists()]
SETTINGS = {f"JOULEKEEPER_{name.upper()}" for name in Settings.model_fields}

_VARIABLE = re.compile(r"\bJOULEKEEPER_[A-Z_]*[A-Z]\b")
_LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def variables_in_code() -> set[str]:
    """Variables that the package names outside its settings."""
    sources = (path.read_text() for path in (ROOT / "app").rglob("*.py"))
    return set().union(*(_VARIABLE.findall(text) for text in sources))


def test_every_setting_stands_in_the_configuration_page() -> None:
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    assert sorted(name for name in SETTINGS if f"`{name}`" not in page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_variables_named_in_prose_exist(page: Path) -> None:
    assert set(_VARIABLE.findall(page.read_text())) - SETTINGS - variables_in_code() == set()


def test_variables_named_in_code_are_described() -> None:
    described = set().union(*(_VARIABLE.findall(page.read_text()) for page in PAGES))
    assert variables_in_code() - described == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_to_files_lead_to_files(page: Path) -> None:
    targets = [target for target in _LINK.findall(page.read_text()) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_decisions_are_short_numbered_and_say_why() -> None:
    records = sorted((ROOT / "docs" / "adr").glob("*.md"))
    assert [path.name[:4] for path in records] == [f"{number:04d}" for number in range(1, len(records) + 1)]
    for path in records:
        text = path.read_text()
        assert len(text.splitlines()) <= 40, path.name
        assert all(f"\n## {part}\n" in text for part in ("Context", "Decision", "Consequences")), path.name
