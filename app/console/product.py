"""What this product says about itself to those who ask over a wire or on a terminal.

Knows nothing of what is deployed.
"""

from importlib import metadata

NAME = "joulekeeper"


def version_of(distribution: str = NAME) -> str:
    """Installed version of a distribution, `unknown` where it runs from source without being installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"
