"""The standard health service of gRPC, grpc.health.v1, for the server and every model.

Knows nothing of what makes a model healthy: a model that is deployed serves, asleep or awake, because a request wakes
it. Serve finds the methods by name.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse

from app.console.catalogue import Catalogue
from app.errors import Unavailable
from app.protocol.generated import open_inference_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
_LOOK_S = 1.0


class HealthCalls:
    """Mixed into the deployment, which sets `catalogue`."""

    catalogue: Catalogue

    async def Check(self, request: HealthCheckRequest, grpc_context: Any) -> HealthCheckResponse:
        """Of the server, the service, or a model by name."""
        status = await self._status(request.service)
        if status == HealthCheckResponse.SERVICE_UNKNOWN:
            grpc_context.set_code(grpc.StatusCode.NOT_FOUND)
            grpc_context.set_details(f"service {request.service!r} is unknown; ask for {SERVICE} or a deployed model")
        return HealthCheckResponse(status=status)

    async def Watch(self, request: HealthCheckRequest, grpc_context: Any) -> AsyncIterator[HealthCheckResponse]:
        """The same, again whenever it changes, until the client leaves."""
        told = None
        while True:
            status = await self._status(request.service)
            if status != told:
                told = status
                yield HealthCheckResponse(status=status)
            await asyncio.sleep(_LOOK_S)

    async def List(self, request: HealthListRequest, grpc_context: Any) -> HealthListResponse:
        """Of the server, the service and every model."""
        try:
            names = ["", SERVICE, *(model.name for model in await self.catalogue.models())]
        except Unavailable:
            names = ["", SERVICE]
        return HealthListResponse(
            statuses={name: HealthCheckResponse(status=await self._status(name)) for name in names}
        )

    async def _status(self, service: str) -> "HealthCheckResponse.ServingStatus":
        try:
            models = {model.name: model.status for model in await self.catalogue.models()}
        except Unavailable:
            return HealthCheckResponse.NOT_SERVING
        if service in ("", SERVICE):
            return HealthCheckResponse.SERVING
        if service not in models:
            return HealthCheckResponse.SERVICE_UNKNOWN
        return HealthCheckResponse.SERVING if models[service] == "RUNNING" else HealthCheckResponse.NOT_SERVING
