"""Where a run and those who want something of it meet: a few keys in the cluster's own store, gone with the cluster.

Knows nothing of training. Anyone on the cluster may ask a run to stop; the run says how far it came, four times a
second, so that what a lost worker costs can be told afterwards. Written against Ray 2.60,
`ray.experimental.internal_kv`, which answers in a fraction of a millisecond and needs no process of its own.

    ask_to_stop("digits-1", "paused")                 # by whoever; the run leaves a checkpoint and ends
    reason_to_stop("digits-1")                        # by the run: "paused"
"""

from ray.experimental import internal_kv

_SPACE = b"joulekeeper"
_QUEUE = "queue:"


def ask_to_stop(run: str, reason: str) -> None:
    """Ask `run` to leave a checkpoint and end; `reason`, not empty, is shown."""
    internal_kv._internal_kv_put(_stop_key(run), reason.encode(), namespace=_SPACE)


def reason_to_stop(run: str) -> str:
    """Why `run` is asked to stop; empty: it is not."""
    return (internal_kv._internal_kv_get(_stop_key(run), namespace=_SPACE) or b"").decode()


def begin(run: str) -> None:
    """`run` begins, or begins again: it is there to be asked, and nobody asks it yet."""
    for key in (_stop_key(run), _bound_key(run)):
        internal_kv._internal_kv_del(key, namespace=_SPACE)
    internal_kv._internal_kv_put(_running_key(run), b"1", namespace=_SPACE)


def set_aside(run: str) -> None:
    """`run` pauses: what was asked is done, and how far it came is in its checkpoint. It can still be asked to stop."""
    for key in (_stop_key(run), _progress_key(run)):
        internal_kv._internal_kv_del(key, namespace=_SPACE)


def bound_workers(run: str, most: int) -> None:
    """From now on `run` shall have `most` workers at most."""
    internal_kv._internal_kv_put(_bound_key(run), str(most).encode(), namespace=_SPACE)


def most_workers(run: str) -> int | None:
    """What `bound_workers` said last; None: nothing."""
    bound = internal_kv._internal_kv_get(_bound_key(run), namespace=_SPACE)
    return int(bound) if bound else None


def is_running(run: str) -> bool:
    """Whether `run` began on this cluster and has not ended; a driver that was killed could not say so."""
    return bool(internal_kv._internal_kv_exists(_running_key(run), namespace=_SPACE))


def tell_progress(run: str, progress: str) -> None:
    """How far `run` came."""
    internal_kv._internal_kv_put(_progress_key(run), progress.encode(), namespace=_SPACE)


def progress_of(run: str) -> str:
    """What `run` told last on this cluster; empty: nothing."""
    return (internal_kv._internal_kv_get(_progress_key(run), namespace=_SPACE) or b"").decode()


def end(run: str) -> None:
    """Forget `run`."""
    leave_queue(run)
    for key in (_stop_key(run), _progress_key(run), _running_key(run), _bound_key(run)):
        internal_kv._internal_kv_del(key, namespace=_SPACE)


def enter_queue(run: str, entry: str) -> None:
    """What `run` wants of the cluster's workers, instead of what it said before."""
    internal_kv._internal_kv_put(f"{_QUEUE}{run}".encode(), entry.encode(), namespace=_SPACE)


def leave_queue(run: str) -> None:
    """`run` wants no workers."""
    internal_kv._internal_kv_del(f"{_QUEUE}{run}".encode(), namespace=_SPACE)


def queue() -> list[str]:
    """What all runs said; drivers that were killed could not take theirs back."""
    keys = internal_kv._internal_kv_list(_QUEUE.encode(), namespace=_SPACE)
    found = (internal_kv._internal_kv_get(key, namespace=_SPACE) for key in keys)
    return [entry.decode() for entry in found if entry]


def _running_key(run: str) -> bytes:
    return f"run:{run}:running".encode()


def _bound_key(run: str) -> bytes:
    return f"run:{run}:workers".encode()


def _stop_key(run: str) -> bytes:
    return f"run:{run}:stop".encode()


def _progress_key(run: str) -> bytes:
    return f"run:{run}:progress".encode()
