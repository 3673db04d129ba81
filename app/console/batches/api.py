"""Files and batches over HTTP, as OpenAI's clients speak of them.

    POST /v1/files (multipart: purpose=batch, file=...)      GET /v1/files, /v1/files/{id}, /v1/files/{id}/content
    POST /v1/batches                                         GET /v1/batches, /v1/batches/{id}
    POST /v1/batches/{id}/cancel                             DELETE /v1/files/{id}

A client sees its tenant's own, an admin all; each model of a batch takes the scope to ask it when the batch comes.
Knows nothing of Ray, nor of when anything runs (runner.py). What blocks (the disk) is done on a thread.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.datastructures import UploadFile

from app.access.gate import Gate, credential
from app.access.scopes import infer_scope
from app.console.batches.records import BatchRecord, FileRecord
from app.console.batches.store import BatchStore
from app.console.batches.telling import BatchTeller, batch_of_file, output_id
from app.console.guard import caller_of, tenant_of
from app.errors import InvalidInput, NotFound
from app.protocol.openai_batches import (
    CALLS,
    INFER,
    MAX_METADATA,
    CreateBatch,
    file_object,
    list_object,
    models_of,
    parse_lines,
)
from app.protocol.openai_errors import WireFault

PURPOSE = "batch"
_JSONL = "application/jsonl"
_MAX_NAME_CHARS = 200
_TEXT = {"type": "string"}
_UPLOAD = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"purpose": {"const": PURPOSE}, "file": {"type": "string", "format": "binary"}},
                "required": ["purpose", "file"],
            }
        }
    },
}
_CREATE = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {
                    "input_file_id": _TEXT,
                    "endpoint": {"type": "string", "examples": [*CALLS, INFER]},
                    "completion_window": {"type": "string", "default": "24h", "pattern": "^[0-9]+[smhd]$"},
                    "metadata": {"type": "object", "additionalProperties": _TEXT, "maxProperties": MAX_METADATA},
                },
                "required": ["input_file_id", "endpoint"],
            }
        }
    },
}


def batches_router(store: BatchStore, teller: BatchTeller, gate: Gate, now: Callable[[], datetime]) -> APIRouter:
    """All the routes."""
    router, files, batches = APIRouter(tags=["openai"]), _Files(store, teller, now), _Batches(store, teller, gate, now)
    add = router.add_api_route
    add("/v1/files", files.upload, methods=["POST"], openapi_extra={"requestBody": _UPLOAD})
    add("/v1/files", files.listed, methods=["GET"])
    add("/v1/files/{file_id}", files.file, methods=["GET"])
    add("/v1/files/{file_id}/content", files.content, methods=["GET"], response_class=Response)
    add("/v1/files/{file_id}", files.delete, methods=["DELETE"])
    add("/v1/batches", batches.create, methods=["POST"], openapi_extra={"requestBody": _CREATE})
    add("/v1/batches", batches.listed, methods=["GET"])
    add("/v1/batches/{batch_id}", batches.batch, methods=["GET"])
    add("/v1/batches/{batch_id}/cancel", batches.cancel, methods=["POST"])
    return router


class _Files:
    """Below `/v1/files`."""

    def __init__(self, store: BatchStore, teller: BatchTeller, now: Callable[[], datetime]) -> None:
        self._store, self._teller, self._now = store, teller, now

    async def upload(self, request: Request) -> JSONResponse:
        """Keep a file of requests, one JSON object a line: multipart with `purpose=batch` and `file`."""
        async with request.form(max_files=1, max_fields=8) as form:
            purpose, sent = form.get("purpose"), form.get("file")
            if purpose != PURPOSE:
                raise WireFault(f"purpose must be {PURPOSE!r}, got {purpose!r}", "purpose", "invalid_value")
            if not isinstance(sent, UploadFile):
                raise WireFault("file is missing; send it as multipart/form-data", "file", "missing_required_parameter")
            content, name = await sent.read(), (sent.filename or "requests.jsonl")[:_MAX_NAME_CHARS]
        file_id, tenant = f"file-{secrets.token_hex(12)}", caller_of(request).tenant
        record = FileRecord(file_id, tenant, name, PURPOSE, len(content), self._now().timestamp())
        await asyncio.to_thread(self._store.add_file, record, content)
        return JSONResponse(_told(record))

    async def listed(self, request: Request, purpose: str | None = None) -> JSONResponse:
        """Files that were sent, newest first."""
        found = await asyncio.to_thread(self._store.files, tenant_of(request))
        told = [_told(each) for each in found if purpose in (None, each.purpose)]
        return JSONResponse(list_object(told, has_more=False))

    async def file(self, request: Request, file_id: str) -> JSONResponse:
        """One file, a batch's results included."""
        if batch_of_file(file_id) is None:
            return JSONResponse(_told(await asyncio.to_thread(self._store.file, file_id, tenant_of(request))))
        batch = await self._finished(request, file_id)
        size = await asyncio.to_thread(lambda: sum(map(len, self._lines(batch, file_id))))
        made_s = batch.ended_s or batch.created_s
        return JSONResponse(file_object(file_id, f"{file_id}.jsonl", "batch_output", size, made_s))

    async def content(self, request: Request, file_id: str) -> Response:
        """What is in a file; of a batch's results one line for each request."""
        if batch_of_file(file_id) is None:
            found = await asyncio.to_thread(self._store.content, file_id, tenant_of(request))
            return Response(found, media_type=_JSONL)
        batch = await self._finished(request, file_id)
        return StreamingResponse(self._lines(batch, file_id), media_type=_JSONL)

    async def delete(self, request: Request, file_id: str) -> JSONResponse:
        """Forget a file that was sent; batches made of it go on."""
        await asyncio.to_thread(self._store.delete_file, file_id, tenant_of(request))
        return JSONResponse({"id": file_id, "object": "file", "deleted": True})

    async def _finished(self, request: Request, file_id: str) -> BatchRecord:
        """The batch whose results are asked for. Raises NotFound where it has none yet."""
        batch = await asyncio.to_thread(self._store.batch, batch_of_file(file_id) or "", tenant_of(request))
        if batch.is_open:
            raise NotFound(f"file {file_id!r} is not there yet: batch {batch.id} is {batch.state}")
        return batch

    def _lines(self, batch: BatchRecord, file_id: str) -> Iterator[bytes]:
        return self._teller.results(batch) if file_id == output_id(batch.id) else self._teller.errors(batch)


class _Batches:
    """Below `/v1/batches`."""

    def __init__(self, store: BatchStore, teller: BatchTeller, gate: Gate, now: Callable[[], datetime]) -> None:
        self._store, self._teller, self._gate, self._now = store, teller, gate, now

    async def create(self, request: Request) -> JSONResponse:
        """Have the requests of a file answered before `completion_window` ends, at the hours with least carbon."""
        wanted, caller = CreateBatch.parse(await request.body()), caller_of(request)
        try:
            content = await asyncio.to_thread(self._store.content, wanted.input_file_id, tenant_of(request))
        except NotFound as error:
            raise WireFault(str(error), "input_file_id", "file_not_found") from error
        lines = await asyncio.to_thread(parse_lines, content, wanted.endpoint)
        for model in models_of(lines):
            self._check_scope(request, model)
        created_s = self._now().timestamp()
        record = BatchRecord(
            id=f"batch_{secrets.token_hex(12)}",
            tenant=caller.tenant,
            who=caller.key_id,
            endpoint=wanted.endpoint,
            input_file_id=wanted.input_file_id,
            window=wanted.completion_window,
            created_s=created_s,
            deadline_s=created_s + wanted.window_s,
            metadata=dict(wanted.metadata),
        )
        await asyncio.to_thread(self._store.add_batch, record, lines)
        return await self._shown(record)

    async def listed(
        self, request: Request, limit: Annotated[int, Query(ge=1, le=100)] = 20, after: str | None = None
    ) -> JSONResponse:
        """Batches, newest first."""
        found = await asyncio.to_thread(self._store.batches, tenant_of(request))
        if after is not None:
            place = next((number for number, each in enumerate(found, 1) if each.id == after), None)
            if place is None:
                raise WireFault(f"after: there is no batch {after!r}", "after", "invalid_value")
            found = found[place:]
        at_s = self._now().timestamp()
        told = [await asyncio.to_thread(self._teller.told, each, at_s) for each in found[:limit]]
        return JSONResponse(list_object(told, has_more=len(found) > limit))

    async def batch(self, request: Request, batch_id: str) -> JSONResponse:
        """One batch: how far it is, when it runs, what it emitted and would have emitted at once."""
        return await self._shown(await asyncio.to_thread(self._store.batch, batch_id, tenant_of(request)))

    async def cancel(self, request: Request, batch_id: str) -> JSONResponse:
        """Ask no more of its requests; what was answered is kept."""
        found = await asyncio.to_thread(self._store.batch, batch_id, tenant_of(request))
        if not found.is_open:
            raise InvalidInput(f"batch {batch_id} is {found.state}; only one that is not over can be cancelled")
        if not found.cancelled_s and found.state != "settling":
            at_s = self._now().timestamp()
            found = await asyncio.to_thread(lambda: self._store.change(batch_id, cancelled_s=at_s))
        return await self._shown(found)

    async def _shown(self, batch: BatchRecord) -> JSONResponse:
        return JSONResponse(await asyncio.to_thread(self._teller.told, batch, self._now().timestamp()))

    def _check_scope(self, request: Request, model: str) -> None:
        """Raises what Gate.admit raises."""
        known_by = None if self._gate.is_open else credential(request.scope["headers"])
        peer = request.client.host if request.client else ""
        self._gate.admit(known_by, infer_scope(model), requests=0, peer=peer, route="POST /v1/batches")


def _told(record: FileRecord) -> dict[str, Any]:
    return file_object(record.id, record.name, record.purpose, record.size, record.created_s)
