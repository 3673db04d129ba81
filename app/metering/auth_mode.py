"""Whether a running cluster demands Ray's token, and how this process takes over its mode before it joins.

Knows nothing of why it joins. Ray 2.60 turns authentication on in a process that finds ~/.ray/auth_token, whatever the
cluster does. A driver in mode `token` beside a cluster in mode `disabled` joins well, and then refuses the workers
that fetch its objects: they ask for ever.
"""

import os

import grpc

AUTH_MODE = "RAY_AUTH_MODE"
_WITHIN_S = 3.0


def take_over_auth_mode() -> None:
    """Set RAY_AUTH_MODE to what the cluster does that `ray.init()` would join; what is set already stays.

    Nothing is changed where there is no such cluster, or where it does not answer: Ray's own errors say so better.
    """
    if os.environ.get(AUTH_MODE):
        return
    address = _running_cluster()
    demands_token = None if address is None else _demands_token(address)
    if demands_token is None:
        return
    from ray._raylet import Config  # type: ignore[attr-defined]

    os.environ[AUTH_MODE] = "token" if demands_token else "disabled"
    Config.initialize("")  # Ray keeps what the environment said when it was first asked


def _running_cluster() -> str | None:
    from ray._private.services import canonicalize_bootstrap_address

    try:
        return canonicalize_bootstrap_address(os.environ.get("RAY_ADDRESS") or "auto")
    except (ConnectionError, ValueError):
        return None


def _demands_token(address: str) -> bool | None:
    """Asked without a token. None: no answer."""
    from ray.core.generated.gcs_service_pb2 import CheckAliveRequest
    from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub

    with grpc.insecure_channel(address) as channel:
        try:
            NodeInfoGcsServiceStub(channel).CheckAlive(CheckAliveRequest(), timeout=_WITHIN_S)
        except grpc.RpcError as error:
            return True if error.code() == grpc.StatusCode.UNAUTHENTICATED else None
    return False
