"""What an edge is told: doors, certificates, limits, patience. Knows nothing of HAProxy or of which models there are.

    config = build_config({**read_mapping(Path("edge.yaml")), "host": "0.0.0.0"})

Raises InvalidInput naming every fault.
"""

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from app.errors import InvalidInput


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError as error:
        raise ValueError("must be an IP address such as 127.0.0.1, 0.0.0.0 or ::") from error


def _host_and_port(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536 or any(c in value for c in " \t\n\"'#"):
        raise ValueError("must be host:port such as 127.0.0.1:8000")
    return value


def _url(value: str) -> str:
    if value and not re.fullmatch(r"https?://[^\s/]+", value):
        raise ValueError("must be http://host:port, or empty")
    return value


Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[int, Field(ge=1, le=86_400)]
Door = Annotated[str, AfterValidator(_host_and_port)]


class EdgeConfig(BaseModel):
    """One edge. Paths are absolute or seen from where the command was started."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: Annotated[str, AfterValidator(_address)] = "127.0.0.1"
    """Address both doors listen on; `0.0.0.0` or `::` for all interfaces. Loopback until somebody decides otherwise."""
    https_port: Port = 8443
    """HTTP/1.1 and HTTP/2 over TLS."""
    grpc_port: Port = 9443
    """gRPC over TLS."""
    cert: Path
    """Certificate in PEM, its chain after it. Files of the edge are looked at every second; new ones go into force
    without a connection lost."""
    key: Path
    """Private key of `cert` in PEM, not encrypted."""
    client_ca: Path | None = None
    """Authorities in PEM: a client must show a certificate of theirs (mTLS). None: clients need none."""
    serve_http: Door = "127.0.0.1:8000"
    """Serve's HTTP door."""
    serve_grpc: Door = "127.0.0.1:9000"
    """Serve's gRPC door."""
    dashboard: Annotated[str, AfterValidator(_url)] = "http://127.0.0.1:8265"
    """Ray's dashboard, asked every five seconds for the shares and aliases that models declare. Empty: not asked."""
    traffic: Path | None = None
    """File with shares and aliases, which stand in place of a model's own; looked at every second."""
    max_body_bytes: int = Field(default=256 * 1024 * 1024, ge=1024, le=2**31)
    """Largest HTTP body that says its length, and largest gRPC message. Each model has its own, smaller bound."""
    max_header_bytes: int = Field(default=16 * 1024, ge=1024, le=32 * 1024)
    """Largest head of an HTTP request, its path included."""
    max_connections: int = Field(default=2000, ge=1, le=1_000_000)
    """Connections at once, of all clients; more wait. A busy connection holds up to 0.2 MB of buffers."""
    max_connections_per_source: int = Field(default=256, ge=1, le=1_000_000)
    """Connections at once of one address; more are closed."""
    max_requests_per_source: int = Field(default=5000, ge=1, le=10_000_000)
    """Requests a second of one address, both doors together; more get 429 or RESOURCE_EXHAUSTED."""
    max_streams_per_connection: int = Field(default=256, ge=1, le=10_000)
    """HTTP/2 streams at once in one connection."""
    headers_s: Seconds = 10
    """A request's head must be complete within so many seconds."""
    body_s: Seconds = 20
    """A body must be complete, or its first 64 KiB, within so many seconds: slow senders never hold a replica."""
    client_idle_s: Seconds = 60
    """HTTP: silence of a client within a request, and of a connection between two."""
    answer_s: Seconds = 600
    """HTTP: silence of Serve; longer than the longest cold start."""
    stream_idle_s: Seconds = 3600
    """gRPC: silence of either side. Streams may rest long; deadlines are the client's."""
    drain_s: Seconds = 3600
    """How long calls under way, streams among them, may last on the old configuration after a reload."""
    stop_s: Seconds = 3
    """How long an edge that is asked to end waits for calls under way."""
    gzip: bool = True
    """Compress JSON and text for clients that accept gzip; tensors and what is compressed already go as they are."""
    access_log: bool = False
    """A line on stderr for every request, not for failed ones only. Never holds headers or bodies."""
    threads: int = Field(default=0, ge=0, le=64)
    """Threads of HAProxy. 0: one per CPU, at most 4."""

    @model_validator(mode="after")
    def _two_doors(self) -> Self:
        if self.https_port == self.grpc_port:
            raise ValueError(f"https_port and grpc_port are both {self.grpc_port}: give each its own")
        return self


def build_config(values: Mapping[str, Any]) -> EdgeConfig:
    """The edge that `values` make."""
    try:
        return EdgeConfig.model_validate(dict(values))
    except ValidationError as error:
        raise InvalidInput(f"the edge's configuration: {'; '.join(map(_sentence, error.errors()))}") from error


def _sentence(fault: ErrorDetails) -> str:
    name, told = ".".join(map(str, fault["loc"])), fault["msg"].removeprefix("Value error, ")
    if not name:
        return told
    return f"{name}: {told}" if fault["type"] == "missing" else f"{name}: {told}, got {fault['input']!r}"


def read_mapping(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping, or nothing."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}; give the path of a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise InvalidInput(f"{path} must hold names with values, got {type(content).__name__}")
    return content
