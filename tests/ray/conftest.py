"""A directory below this one is a cluster: what its conftest makes with scope "package" lives as long as its modules.

So the modules of a directory share what takes longest, and two directories never hold the same ports at once, in
whatever process. scripts/test gives each directory, and each module that lies beside them, a process of its own.
"""

from pathlib import Path

import pytest


class SharedDirectory(pytest.Package):
    """To pytest a package is what has an `__init__.py`; tests have none."""

    def setup(self) -> None:
        """There is nothing to import."""


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector:
    """A directory whose fixtures can have a scope of their own."""
    return SharedDirectory.from_parent(parent, path=path)
