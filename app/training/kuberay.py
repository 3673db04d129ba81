"""The sizes of KubeRay's worker groups, read and set through the Kubernetes API.

Two calls, GET and PATCH of one `rayclusters.ray.io`; what to write is app/policy/worker_groups.py's to say. Knows
nothing of jobs and decisions. In a pod the address, the token and the certificate are those that Kubernetes put there
(https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/, read 2026-11-23); the token is read again for
each call, since it expires. The pod's service account needs the verbs `get` and `patch` on `rayclusters`.

    with KubeRay.in_cluster() as kuberay:
        before = kuberay.size("raycluster", {"workers": Wish(replicas=3, least=0, most=3)})
        kuberay.size("raycluster", before)                # as it was

Raises Unavailable outside Kubernetes and where the API does not answer, Forbidden, Unauthenticated, NotFound and
InvalidInput as the API has it.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from app.errors import Forbidden, InvalidInput, JoulekeeperError, NotFound, Unauthenticated, Unavailable
from app.policy.worker_groups import Group, Wish, group_patch, groups_of

SECRETS = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes puts a pod's token, certificate and namespace."""
_TIMEOUT_S = 30.0
_TRIES = 3
_CHANGED_MEANWHILE = (409, 422)
"""A conflict, and a `test` of the patch that failed (Kubernetes answers it with 422, kubernetes/kubernetes#68346)."""
_JSON_PATCH = "application/json-patch+json"


class KubeRay:
    """The RayClusters of one namespace."""

    def __init__(
        self,
        url: str,
        namespace: str,
        token: Callable[[], str],
        *,
        certificate: str = "",
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`token` gives the bearer token of now, empty: none. `certificate`: file of the API's authority."""
        self.namespace, self._token = namespace, token
        context = httpx.create_ssl_context(verify=certificate) if certificate else True
        self._client = httpx.Client(base_url=url, verify=context, timeout=_TIMEOUT_S, transport=transport)

    @classmethod
    def in_cluster(cls, namespace: str = "", secrets: Path = SECRETS) -> Self:
        """As the pod that this process runs in. Raises Unavailable outside Kubernetes."""
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT_HTTPS", "443")
        try:
            own = (secrets / "namespace").read_text(encoding="utf-8").strip()
        except OSError as error:
            raise Unavailable(f"this is no pod of Kubernetes: {secrets}/namespace cannot be read") from error
        if not host:
            raise Unavailable("this is no pod of Kubernetes: KUBERNETES_SERVICE_HOST is not set")
        address = f"[{host}]" if ":" in host else host
        return cls(
            f"https://{address}:{port}",
            namespace or own,
            lambda: (secrets / "token").read_text(encoding="utf-8").strip(),
            certificate=str(secrets / "ca.crt"),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.close()

    def groups(self, name: str) -> dict[str, Group]:
        """The worker groups of a RayCluster."""
        return groups_of(self._get(name))

    def size(self, name: str, wishes: Mapping[str, Wish]) -> dict[str, Wish]:
        """Set the sizes of groups; returns what they were, which `size` takes to undo it.

        Who changed the resource in between is not overwritten blindly: it is read again, three times at most.
        """
        for _ in range(_TRIES):
            raycluster = self._get(name)
            before = {group: Wish.as_is(now) for group, now in groups_of(raycluster).items() if group in wishes}
            patch = group_patch(raycluster, wishes)
            if not patch:
                return before
            answer = self._ask("PATCH", name, json=patch)
            if answer.status_code not in _CHANGED_MEANWHILE:
                break
        _check(answer, self._named(name))
        return before

    def _get(self, name: str) -> dict[str, Any]:
        answer = self._ask("GET", name)
        _check(answer, self._named(name))
        found: dict[str, Any] = answer.json()
        return found

    def _ask(self, method: str, name: str, json: Any = None) -> httpx.Response:
        token = self._token()
        headers = {"authorization": f"Bearer {token}"} if token else {}
        if json is not None:
            headers["content-type"] = _JSON_PATCH
        path = f"/apis/ray.io/v1/namespaces/{self.namespace}/rayclusters/{name}"
        try:
            return self._client.request(method, path, headers=headers, json=json)
        except httpx.HTTPError as error:
            raise Unavailable(f"the Kubernetes API at {self._client.base_url} does not answer: {error}") from error

    def _named(self, name: str) -> str:
        return f"RayCluster {self.namespace}/{name}"


_ERRORS: dict[int, tuple[type[JoulekeeperError], str]] = {
    400: (InvalidInput, "refused the sizes"),
    401: (Unauthenticated, "does not know the token"),
    403: (Forbidden, "does not allow it: give the service account the verbs get and patch on rayclusters.ray.io"),
    404: (NotFound, "has no such RayCluster, or no KubeRay"),
    409: (Unavailable, f"has it changed by others {_TRIES} times meanwhile; try again"),
    422: (InvalidInput, f"refused the sizes {_TRIES} times, or others change it all the time"),
}


def _check(answer: httpx.Response, what: str) -> None:
    if answer.is_success:
        return
    kind, said = _ERRORS.get(answer.status_code, (Unavailable, "did not do it"))
    raise kind(f"{what}: the Kubernetes API {said} ({_told(answer)})")


def _told(answer: httpx.Response) -> str:
    """Status and message; Kubernetes answers errors with a Status object."""
    try:
        message = answer.json().get("message", "")
    except (ValueError, AttributeError):
        message = ""
    return f"{answer.status_code} {message}".strip()
