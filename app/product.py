"""Name and version of this product, as told over a wire, on a terminal and in a model's card.

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
