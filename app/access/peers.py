"""Where a call comes from: this machine or another one. Knows nothing of who calls."""

import functools
import ipaddress


@functools.lru_cache(maxsize=1024)
def is_loopback(peer: str) -> bool:
    """Whether `peer` is on this machine: a host, or as gRPC writes it, `ipv4:127.0.0.1:4711`.

    An empty one is: a call from within the process, or over a socket in the file system.
    """
    if not peer or peer.startswith("unix:"):
        return True
    kind, _, rest = peer.partition(":")
    host = (
        rest.replace("%5B", "[").replace("%5D", "]").rpartition(":")[0].strip("[]")
        if kind in ("ipv4", "ipv6")
        else peer
    )
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
