"""What the standard OTEL_* variables ask for, read before anything of OpenTelemetry is imported.

Knows only which signals are pushed and by which protocol; endpoints, headers, certificates and intervals are
read by OpenTelemetry's own exporters (OpenTelemetry specification, "OTLP Exporter Configuration" and "Environment
Variable Specification"). Where the specification would push to localhost unasked, we do not push.
"""

import logging
import os
from typing import Literal

Signal = Literal["metrics", "traces"]
Protocol = Literal["grpc", "http/protobuf"]

_log = logging.getLogger(__name__)

# opentelemetry-python's own default, kept so that a known endpoint keeps working.
_DEFAULT_PROTOCOL: Protocol = "grpc"


def push_protocol(signal: Signal) -> Protocol | None:
    """By which protocol `signal` is pushed; None: it is not. An unknown protocol is logged and counts as None."""
    if _value("OTEL_SDK_DISABLED").lower() == "true" or not _asked_for(signal):
        return None
    name = _value(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL") or _value("OTEL_EXPORTER_OTLP_PROTOCOL")
    match name:
        case "":
            return _DEFAULT_PROTOCOL
        case "grpc" | "http/protobuf":
            return name
    _log.error("OTLP protocol must be grpc or http/protobuf, got %r; %s are not pushed", name, signal)
    return None


def _asked_for(signal: Signal) -> bool:
    exporters = {name.strip() for name in _value(f"OTEL_{signal.upper()}_EXPORTER").split(",") if name.strip()}
    if exporters:
        return "otlp" in exporters
    return bool(_value("OTEL_EXPORTER_OTLP_ENDPOINT") or _value(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"))


def _value(name: str) -> str:
    return os.environ.get(name, "").strip()
