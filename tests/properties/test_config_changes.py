"""Any change of any config is taken back to the letter by its inverse, and is in force until then."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from app.cli.config_patch import inverse, is_in_force, patched

KEYS = st.sampled_from("abc")
LEAVES = st.integers(0, 3) | st.text("xy", max_size=2) | st.lists(st.integers(0, 2), min_size=1, max_size=2)
CONFIGS = st.recursive(LEAVES, lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=8)
CHANGES = st.recursive(LEAVES | st.none(), lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=8)
MAPS = st.dictionaries(KEYS, CONFIGS, max_size=3)


@given(MAPS, st.dictionaries(KEYS, CHANGES, max_size=3))
def test_the_inverse_of_a_change_gives_back_what_was(config: dict[str, Any], change: dict[str, Any]) -> None:
    changed = patched(config, change)
    assert is_in_force(changed, change)
    assert patched(changed, inverse(config, change)) == config
