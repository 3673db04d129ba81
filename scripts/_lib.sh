# shellcheck shell=bash
# Helpers of the scripts: progress lines, the virtual environment, the places and the variables of a local cluster.
#
# Sourced by bash, never run: what seems unused here is used there (SC2034). Knows nothing of which processes make up
# a cluster: that is cluster.py.

# shellcheck disable=SC2034

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
VENV="$ROOT/.venv"
CONSTRAINTS="$ROOT/scripts/constraints.txt"
PYTHON_MIN="3.11"

# HTTP, gRPC, dashboard, GCS, HAProxy statistics and metrics, Serve's fallback proxy (HTTP, gRPC), Ray client.
PORTS=(8000 9000 8265 6379 8404 9101 8500 9500 10001)
# The edge's, unless its file says otherwise; without them everything but the edge works.
EDGE_PORTS=(8443 9443)
DASHBOARD="http://127.0.0.1:8265"

SECONDS=0

say() {
    printf '[%3ds] %s\n' "$SECONDS" "$*"
}

warn() {
    printf '[%3ds] warning: %s\n' "$SECONDS" "$*" >&2
}

die() {
    printf '[%3ds] error: %s\n' "$SECONDS" "$*" >&2
    exit 1
}

is_recent_python() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# Prints the first interpreter that is recent enough: $PYTHON, then python3.11, python3.12, python3.
find_python() {
    local candidate
    if [[ -n "${PYTHON:-}" ]]; then
        is_recent_python "$PYTHON" || die "PYTHON=$PYTHON is not a Python >= $PYTHON_MIN: name another or unset it"
        printf '%s\n' "$PYTHON"
        return
    fi
    for candidate in python3.11 python3.12 python3; do
        if is_recent_python "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    die "no Python >= $PYTHON_MIN found (tried python3.11, python3.12, python3): install one or set PYTHON=/path/to/python"
}

# An interpreter for stdlib-only helpers: that of the environment if it works, else any recent one.
any_python() {
    if is_recent_python "$VENV/bin/python"; then
        printf '%s\n' "$VENV/bin/python"
    else
        find_python
    fi
}

ensure_venv() {
    is_recent_python "$VENV/bin/python" && return
    local python complaint
    python="$(find_python)"
    say "creating .venv with $python"
    if ! complaint="$("$python" -m venv --clear "$VENV" 2>&1)"; then
        rm -rf "$VENV"
        printf '%s\n' "$complaint" >&2
        die "$python could not make a virtual environment: on Debian and Ubuntu install python3-venv (it brings ensurepip)"
    fi
}

# with_heartbeat LOG COMMAND...: runs it with its output in LOG, telling every ten seconds where it is.
with_heartbeat() {
    local log="$1" pid ticks=0
    "${@:2}" </dev/null >"$log" 2>&1 &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        sleep 1
        ((++ticks % 10)) || say "  $(grep -v '^WARNING' "$log" | tail -n 1 | cut -c 1-90)"
    done
    wait "$pid"
}

# A digest of all that decides what is installed: the packages, their versions, and the sources of generated code.
install_digest() {
    cat "$ROOT/pyproject.toml" "$CONSTRAINTS" "$ROOT/scripts/build_stubs.py" "$ROOT"/app/protocol/*.proto |
        sha256sum | cut -d' ' -f1
}

# install_package [EXTRA]: Joulekeeper, editable, with pinned dependencies; returns at once when nothing changed.
install_package() {
    local extra="${1:-}" digest stamp target
    ensure_venv
    digest="$(install_digest)"
    stamp="$VENV/.joulekeeper-installed${extra:+-$extra}"
    if [[ -f "$stamp" && "$(<"$stamp")" == "$digest" && -f "$ROOT/app/protocol/generated/__init__.py" ]]; then
        say "installed already (.venv)"
        return
    fi
    target="$ROOT${extra:+[$extra]}"
    say "installing joulekeeper${extra:+[$extra]} into .venv (minutes the first time)"
    rm -f "$VENV"/.joulekeeper-installed*
    with_heartbeat "$VENV/install.log" "$VENV/bin/python" -m pip install --disable-pip-version-check --no-input \
        --progress-bar off --constraint "$CONSTRAINTS" --editable "$target" || {
        grep -v '^WARNING' "$VENV/install.log" | tail -n 15 >&2
        die "pip could not install $target: its words are above, all of them in .venv/install.log"
    }
    printf '%s\n' "$digest" >"$VENV/.joulekeeper-installed"
    [[ -z "$extra" ]] || printf '%s\n' "$digest" >"$stamp"
    say "installed"
}

# Prints the state directory as app/config.py finds it, without needing the package.
state_dir() {
    local dir="${JOULEKEEPER_STATE_DIR:-${XDG_STATE_HOME:-$HOME/.local/state}/joulekeeper}"
    [[ "$dir" == /* ]] || dir="$PWD/$dir"
    printf '%s\n' "$dir"
}

# Only its owner may read the books: it is made with mode 0700, and left as it is when it is there.
make_state_dir() {
    local dir
    dir="$(state_dir)"
    # shellcheck disable=SC2174  # the mode is meant for the deepest directory only
    mkdir -p -m 0700 "$dir"
    mkdir -p "$dir/run"
}

# only_one_at_a_time [WAIT_S]: takes the lock of scripts/up and scripts/down until this script ends. What is started
# to stay must not inherit it: 9>&-.
only_one_at_a_time() {
    local wait_s="${1:-0}" lock
    lock="$(state_dir)/run/lock"
    [[ -d "${lock%/*}" ]] || return 0
    command -v flock >/dev/null || return 0
    exec 9>"$lock"
    flock -n 9 && return
    if ((wait_s)); then
        say "waiting for another scripts/up or scripts/down (up to $wait_s s)"
        flock -w "$wait_s" 9 && return
    fi
    die "another scripts/up or scripts/down is at work (lock $lock): wait for it, or end it"
}

# ledger COMMAND: says so to the books of the local cluster, in the authentication mode it was started with.
ledger() {
    local mode=disabled file
    file="$(state_dir)/run/auth_mode"
    [[ ! -f "$file" ]] || mode="$(<"$file")"
    RAY_ADDRESS=127.0.0.1:6379 RAY_AUTH_MODE="$mode" timeout 20 "$VENV/bin/joulekeeper" ledger "$1" \
        </dev/null >/dev/null 2>&1 9>&-
}

# Variables that Ray reads when it starts, for Serve's fast mode. A value already set is kept.
fast_mode() {
    # Replicas answer directly, behind the HAProxy that Ray ships.
    export RAY_SERVE_THROUGHPUT_OPTIMIZED="${RAY_SERVE_THROUGHPUT_OPTIMIZED:-1}"
    export RAY_SERVE_ENABLE_HA_PROXY="${RAY_SERVE_ENABLE_HA_PROXY:-1}"
    # Serve's own metrics of HAProxy cost a log line and its reading per request, a fifth of a small model's; replicas
    # count the same requests then, and each has its receipt.
    export RAY_SERVE_HAPROXY_METRICS_ENABLED="${RAY_SERVE_HAPROXY_METRICS_ENABLED:-0}"
    # 30 s by default, by which sleep at zero replicas would come late.
    export RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S="${RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S:-2}"
    # gRPC to a model at zero goes through the fallback proxy, which would stop at 4 MiB: 64 MiB.
    export RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH="${RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH:-67108864}"
    # A worker process asked for ahead of need prepares itself for a replica; in others this does nothing.
    export RAY_preload_python_modules="${RAY_preload_python_modules:-app.serving.prepared}"
    # Ray would start as many workers as there are CPUs with the first driver, and hand these, unprepared, to replicas.
    export RAY_prestart_worker_first_driver="${RAY_prestart_worker_first_driver:-0}"
    # Any other gRPC message is whole in memory before it can be refused, however it was compressed: 256 MiB, not 2 GiB.
    export RAY_SERVE_GRPC_MAX_MESSAGE_SIZE="${RAY_SERVE_GRPC_MAX_MESSAGE_SIZE:-268435456}"
    export RAY_USAGE_STATS_ENABLED="${RAY_USAGE_STATS_ENABLED:-0}"
}

# cluster COMMAND...: the helper that knows which processes are ours.
cluster() {
    local python
    python="$(any_python)" || return
    "$python" "$ROOT/scripts/cluster.py" --root "$ROOT" --state-dir "$(state_dir)" "$@"
}
