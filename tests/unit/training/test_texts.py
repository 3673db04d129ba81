"""The texts that ship: the running Python's library, divided by name alone, digested as documented."""

import hashlib
from pathlib import Path

import pytest

from app.errors import InvalidInput
from app.training import texts
from app.training.texts import NamedTexts, load_texts


def library(monkeypatch: pytest.MonkeyPatch, root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    monkeypatch.setattr("app.training.texts.sysconfig.get_path", lambda _: str(root))


def drawn() -> NamedTexts:
    return texts.TEXT_SOURCES["builtin:stdlib-source"]()


def test_the_library_is_its_code_alone_in_the_order_of_its_paths(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library(
        monkeypatch,
        tmp_path,
        {
            "json/decoder.py": b"a = 1\r\n",
            "abc.py": b"b = 2\n",
            "test/test_abc.py": b"c = 3\n",
            "email/tests/data.py": b"c = 3\n",
            "site-packages/other.py": b"c = 3\n",
            "encodings/cp1252.py": b"c = 3\n",
            "config-3.11/python-config.py": b"c = 3\n",
            "_sysconfigdata__linux.py": b"path = '/home/somebody'\n",
            "latin.py": b"# \xe9\n",
            "empty.py": b"\n",
            "notes.txt": b"c = 3\n",
        },
    )
    assert dict(drawn().texts) == {"abc.py": "b = 2\n", "json/decoder.py": "a = 1\n"}
    assert list(drawn().texts) == ["abc.py", "json/decoder.py"]


def test_a_python_without_sources_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library(monkeypatch, tmp_path, {})
    with pytest.raises(InvalidInput, match="use a Python that ships them"):
        drawn()


def test_this_pythons_library_is_some_megabytes_and_names_its_licence() -> None:
    found = load_texts("builtin:stdlib-source", test_share=0.08, seed=7)
    assert sum(map(len, found.train)) > 3_000_000
    assert len(found.held_out_bytes) > 100_000
    assert found.card.licence == "PSF-2.0"
    assert found.card.rows == len(found.train) + len(found.held_out)


def divided(monkeypatch: pytest.MonkeyPatch, names: list[str], seed: int) -> tuple[str, ...]:
    content = {name: name for name in names}
    monkeypatch.setitem(texts.TEXT_SOURCES, "builtin:stdlib-source", lambda: NamedTexts(content, "o", "l"))
    return load_texts("builtin:stdlib-source", test_share=0.3, seed=seed).held_out


def test_a_text_is_held_out_by_its_name_whatever_else_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"module{number}.py" for number in range(200)]
    before = divided(monkeypatch, names, seed=1)
    after = divided(monkeypatch, [name for name in names if not name.endswith("0.py")], seed=1)
    assert 40 <= len(before) <= 80  # 60 expected, 6.5 the standard deviation
    assert set(after) == {name for name in before if not name.endswith("0.py")}
    assert set(divided(monkeypatch, names, seed=2)) != set(before)


def test_the_digest_is_over_name_length_and_bytes(small_texts: None) -> None:
    expected = hashlib.sha256()
    for name, text in drawn().texts.items():
        expected.update(f"{name}\0{len(text.encode())}\0{text}".encode())
    found = load_texts("builtin:stdlib-source", test_share=0.2, seed=0).card
    assert found.digest == f"sha256:{expected.hexdigest()}"
    assert (found.test_share, found.seed) == (0.2, 0)


@pytest.mark.parametrize(("share", "what"), [(1e-9, "hold out"), (1 - 1e-9, "learn from")])
def test_a_share_that_leaves_nothing_is_refused(small_texts: None, share: float, what: str) -> None:
    with pytest.raises(InvalidInput, match=f"leaves nothing to {what}"):
        load_texts("builtin:stdlib-source", test_share=share, seed=0)
