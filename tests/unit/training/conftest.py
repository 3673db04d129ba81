"""What language models of tests learn from."""

from tests.fixtures.small_texts import small_texts

__all__ = ["small_texts"]
