"""What these models learn from."""

from tests.fixtures.small_texts import small_texts

__all__ = ["small_texts"]
