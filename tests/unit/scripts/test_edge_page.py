"""The page of the edge against its configuration: every setting, in the words of its docstring."""

import re
from pathlib import Path

import gen_reference

from app.edge.config import EdgeConfig

PAGE = Path(__file__).resolve().parents[3] / "docs" / "serving" / "edge.md"


def test_every_setting_of_the_edge_stands_in_its_page_with_its_meaning() -> None:
    page = PAGE.read_text()
    meanings = gen_reference.field_docs(EdgeConfig)
    missing = [
        name for name, told in meanings.items() if not re.search(rf"\| `{name}` \|.*\| {re.escape(told)} \|", page)
    ]
    assert missing == []
