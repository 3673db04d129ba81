"""HAProxy's configuration from an `EdgeConfig`: haproxy.cfg.template with its places filled. Pure but for that file.

HTTP is routed by path, which Serve's door does; `/v1/` by the field `model` of the JSON body; gRPC by the metadata
`application`, which is set from the model's name (read_model.lua) where the client sent none.
"""

import functools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from string import Template

from app.edge.config import EdgeConfig
from app.edge.routes import PARTS

BUFFER_BYTES = 64 * 1024
"""Holds a request's head and the beginning of its body, in which a model is looked for."""
MESSAGE_PREFIX_BYTES = 16 * 1024
"""How far into a gRPC message its model is looked for."""
CONSOLE = "console"
"""The application that answers for the server, the repository, health, reflection and unknown models."""

_LUA = Path(__file__).with_name("read_model.lua")
_TEMPLATE = Path(__file__).with_name("haproxy.cfg.template")
_RESERVE_BYTES = 2048  # what HAProxy keeps of a buffer for itself

_INFER = ("ModelInfer", "ModelStreamInfer")
_OF_MODEL = (*_INFER, "ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics")

_GRPC_FAULTS = {
    400: (13, "the edge could not read this HTTP/2 request"),
    408: (4, "the message did not arrive in time"),
    500: (13, "the edge failed; try again"),
    502: (14, "Serve ended the connection; try again"),
    503: (14, "Serve does not answer; try again"),
    504: (4, "Serve did not answer in time"),
}
"""HTTP status of an answer that HAProxy itself gives, to gRPC status and message."""
_HTTP_FAULTS = {
    400: "the request is not HTTP that the edge can read",
    408: "the request did not arrive in time",
    500: "the edge failed; try again",
    502: "Serve ended the connection without an answer; try again",
    503: "Serve does not answer; try again",
    504: "Serve did not answer in time",
}
_GUARDS = """\
    tcp-request connection track-sc0 src table sources
    tcp-request connection reject if {{ sc0_conn_cur gt {per_source} }}
    acl too_often sc0_http_req_rate gt {requests}
    acl head_too_large req.hdrs,length gt {head_bytes}
    # What only the edge may say of a client, and what is said from hop to hop.
    http-request del-header ^(x-joulekeeper-(?!settle)|x-forwarded-|forwarded$|x-real-ip$|true-client-ip$) -m reg
    http-request del-header ^(keep-alive|proxy-connection|proxy-authorization|proxy-authenticate|trailer)$ -m reg
    http-request set-header x-forwarded-for %[src]
    http-request set-header x-forwarded-proto https
    http-request set-header x-forwarded-host %[req.hdr(host)] if {{ req.hdr(host) -m found }}"""
_GZIP = """\
    filter compression
    compression algo gzip
    compression type application/json text/plain text/html text/css text/csv text/javascript"""


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files of PEM as HAProxy finds them, relative to its working directory."""

    pair: str
    """Certificate and key."""
    client_ca: str | None


def render(config: EdgeConfig, certificates: Certificates) -> str:
    """The whole configuration."""
    return _template().substitute({**config.model_dump(), **_derived(config), **_blocks(config, certificates)})


def fault_files() -> dict[str, str]:
    """Name to content of the answers, in the words of each protocol, that stand in place of HAProxy's own."""
    return {
        **{f"grpc-{status}.http": _grpc_fault(code, said) for status, (code, said) in _GRPC_FAULTS.items()},
        **{f"http-{status}.http": _http_fault(status, said) for status, said in _HTTP_FAULTS.items()},
    }


def _grpc_fault(code: int, said: str) -> str:
    head = f"HTTP/1.1 200 OK\ncontent-type: application/grpc\ngrpc-status: {code}\ngrpc-message: {said}"
    return f"{head}\ncontent-length: 0\n\n".replace("\n", "\r\n")


def _http_fault(status: int, said: str) -> str:
    content = json.dumps({"error": said})
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\ncontent-type: application/json\nconnection: close"
    return f"{head}\ncontent-length: {len(content)}\n\n".replace("\n", "\r\n") + content


@functools.cache
def _template() -> Template:
    return Template(_TEMPLATE.read_text(encoding="utf-8"))


def _derived(config: EdgeConfig) -> Mapping[str, object]:
    return {
        "host": f"[{config.host}]" if ":" in config.host else config.host,
        "threads": config.threads or min(4, os.cpu_count() or 1),
        "lua": _LUA,
        "buffer_bytes": BUFFER_BYTES,
        "window_bytes": 4 * BUFFER_BYTES,
        "body_prefix_bytes": BUFFER_BYTES - _RESERVE_BYTES - config.max_header_bytes,
        "message_prefix_bytes": MESSAGE_PREFIX_BYTES,
        "parts": PARTS,
        "console": CONSOLE,
        "model_calls": _paths(_OF_MODEL),
        "infer_calls": _paths(_INFER),
        "stream_calls": _paths(_INFER[1:]),
        "json": "content-type application/json string",
    }


def _blocks(config: EdgeConfig, certificates: Certificates) -> Mapping[str, str]:
    ca = certificates.client_ca
    guards = _GUARDS.format(
        per_source=config.max_connections_per_source,
        requests=config.max_requests_per_source,
        head_bytes=config.max_header_bytes,
    )
    return {
        "pair": certificates.pair,
        "mutual": f' ca-file "{ca}" verify required' if ca else "",
        "guards": guards,
        "http_errors": "\n".join(f"    errorfile {status} http-{status}.http" for status in _HTTP_FAULTS),
        "grpc_errors": "\n".join(f"    errorfile {status} grpc-{status}.http" for status in _GRPC_FAULTS),
        "quiet": "" if config.access_log else "    option dontlog-normal",
        "gzip": _GZIP if config.gzip else "",
    }


def _paths(methods: tuple[str, ...]) -> str:
    return " ".join(f"/inference.GRPCInferenceService/{method}" for method in methods)
