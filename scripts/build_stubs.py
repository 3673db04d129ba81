"""Generates the gRPC stubs of app/protocol/open_inference.proto into app/protocol/generated/.

Runs as hatchling's custom build hook (so `pip install` makes the stubs) and by hand:

    python scripts/build_stubs.py

Knows nothing of the protocol itself. Needs grpcio-tools and nothing of the package.
"""

import sys
from importlib import resources
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by hand, where hatchling need not be installed
    BuildHookInterface = object

ROOT = Path(__file__).resolve().parent.parent
SOURCE = Path("app", "protocol")
TARGET = SOURCE / "generated"
PROTO = "open_inference.proto"


def build_stubs(root: Path) -> Path:
    """Write the stubs below `root` and return their directory. Raises RuntimeError if protoc fails."""
    from grpc_tools import protoc

    target = root / TARGET
    target.mkdir(parents=True, exist_ok=True)
    # The virtual path makes protoc believe that the file lives in the target package. Messages then carry the
    # name of the module they are imported from, without which they cannot be pickled.
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={TARGET.as_posix()}={root / SOURCE}",
            f"--proto_path={resources.files('grpc_tools') / '_proto'}",
            f"--python_out={root}",
            f"--pyi_out={root}",
            f"--grpc_python_out={root}",
            (TARGET / PROTO).as_posix(),
        ]
    )
    if status:
        raise RuntimeError(f"protoc refused {root / SOURCE / PROTO} with status {status}; its message is above")
    (target / "__init__.py").touch()
    return target


class StubsHook(BuildHookInterface):
    """Hatchling calls this before it collects the files of a wheel, an editable install or an sdist."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        build_stubs(Path(self.root))


if __name__ == "__main__":
    print(f"stubs written to {build_stubs(ROOT)}", file=sys.stderr)
