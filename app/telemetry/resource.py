"""Who speaks: the OpenTelemetry resource of this process, from the standard variables."""

from collections.abc import Mapping

from opentelemetry.sdk.resources import SERVICE_NAME, Resource

_DEFAULT_SERVICE = "joulekeeper"


def process_resource(more: Mapping[str, str] | None = None) -> Resource:
    """OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME, and `more`; the service is `joulekeeper` unless they name it."""
    found = Resource.create(dict(more or {}))
    if str(found.attributes[SERVICE_NAME]).startswith("unknown_service"):
        return found.merge(Resource({SERVICE_NAME: _DEFAULT_SERVICE}))
    return found
