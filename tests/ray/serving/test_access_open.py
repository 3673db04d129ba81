"""Access left open on a Serve of this machine alone: this machine alone is served."""

import grpc
import httpx
import pytest

from tests.fixtures.access_table import (
    MODEL,
    await_status,
    code_of,
    config,
    grpc_calls,
    listening,
    own_address,
)

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]


def test_open_serves_loopback_alone(running):
    address = own_address()
    if not address:
        pytest.skip("this machine has no address but loopback")
    running.deploy(config())
    await_status(f"http://127.0.0.1:8000/v2/models/{MODEL}", {}, 200)
    await_status("http://127.0.0.1:8000/v2", {}, 200)
    for port in (8000, 8500, *listening(range(30_000, 30_010))):
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://{address}:{port}/v2/models/{MODEL}")
    for port in (9500, *listening(range(40_000, 40_010))):
        with grpc.insecure_channel(f"{address}:{port}") as channel:
            told = code_of(grpc_calls(channel)["ModelInfer"], [("application", MODEL)])
        # NOT_FOUND is Serve's: the console's port does not know this application
        assert told in ("PERMISSION_DENIED", "UNAVAILABLE", "NOT_FOUND"), port
    with grpc.insecure_channel("127.0.0.1:9000") as channel:
        assert code_of(grpc_calls(channel)["ModelInfer"], [("application", MODEL)]) == "OK"
