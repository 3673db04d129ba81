"""Spec files: the shipped ones are right, and a wrong one is told all its mistakes at once."""

from pathlib import Path

import pytest

from app.data.spec import Near, Rows, load_spec, parse_spec
from app.errors import InvalidInput

SPECS = Path(__file__).parents[3] / "deployments" / "data"
RIGHT = {
    "name": "a",
    "source": {"url": "/x", "licence": "CC0-1.0"},
    "content": {"kind": "texts"},
    "write": {"url": "/y"},
}


@pytest.mark.parametrize("path", sorted(SPECS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_specs_that_ship_are_right(path):
    assert load_spec(path).name == path.stem


def test_defaults_remove_equal_texts_only():
    spec = parse_spec(RIGHT, "here")
    assert (spec.deduplicate.exact, spec.deduplicate.near) == (True, None)


def test_all_mistakes_are_named_at_once():
    wrong = {
        "name": "Not Good",
        "source": {"url": "/x", "format": "xml", "licence": "CC0-1.0"},
        "content": {"kind": "texts", "txt": "text"},
        "deduplicate": {"near": {"similarity": 1.5}},
        "write": {"zstd_level": 99},
    }
    with pytest.raises(InvalidInput) as caught:
        parse_spec(wrong, "spec.yaml")
    told = str(caught.value)
    assert "has 6 mistakes" in told
    for part in (
        "name:",
        "source.format:",
        "txt: unknown key",
        "similarity: must be < 1",
        "url: is required",
        "zstd_level",
    ):
        assert part in told, part


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"content": {"kind": "rows", "label": "y"}}, "source.format: files gives texts"),
        (
            {
                "source": {"url": "/x", "format": "csv", "licence": "CC0-1.0"},
                "content": {"kind": "rows", "label": "y"},
                "deduplicate": {"near": {}},
            },
            "deduplicate.near: rows of numbers have no words",
        ),
    ],
)
def test_contradictions_are_named(change, told):
    with pytest.raises(InvalidInput, match=told):
        parse_spec(RIGHT | change, "here")


def test_a_file_that_is_no_yaml_or_not_there_is_named(tmp_path):
    (tmp_path / "spec.yaml").write_text("a: [")
    for path in (tmp_path / "spec.yaml", tmp_path / "none.yaml"):
        with pytest.raises(InvalidInput, match=path.name):
            load_spec(path)
    with pytest.raises(InvalidInput, match="mapping"):
        parse_spec([1], "here")


def test_parts_are_what_they_say():
    assert Near().hashes == 128
    assert Rows(label="y").features == ()
