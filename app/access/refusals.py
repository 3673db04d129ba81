"""What a refusal tells beside its sentence: which header says how to be known, or when to come again.

The same names serve as HTTP headers and as trailing metadata of gRPC. Knows nothing of servers.
"""

import math

from app.errors import Busy, JoulekeeperError, OverQuota, Unauthenticated, Unavailable


def headers_of(error: JoulekeeperError, challenge: str = 'Bearer realm="joulekeeper"') -> list[tuple[str, str]]:
    """Names in lower case, and values; none for most errors."""
    match error:
        case Unauthenticated():
            return [("www-authenticate", challenge)]
        case OverQuota() | Busy():
            return [("retry-after", str(max(1, math.ceil(error.retry_after_s))))]
        case Unavailable():
            return [("retry-after", "1")]
        case _:
            return []
