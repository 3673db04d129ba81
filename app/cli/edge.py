"""`edge`: the TLS door in front of Serve, in the foreground; `certificate`: a pair for a first try.

Knows how an edge is told what to be; what it does is in app/edge/. Needs no Ray in this process.
"""

import datetime
import ipaddress
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from app.edge.config import EdgeConfig

_FILE = typer.Option(help="YAML file of the edge. Else what JOULEKEEPER_EDGE names; else none.")


def edge(
    config: Annotated[Path | None, _FILE] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = None,
    https_port: Annotated[int | None, typer.Option(help="HTTPS, HTTP/1.1 and HTTP/2.")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="gRPC over TLS.")] = None,
    cert: Annotated[Path | None, typer.Option(help="Certificate, PEM. Else the one `certificate` made.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    client_ca: Annotated[Path | None, typer.Option(help="Demand client certificates of these authorities.")] = None,
    serve_http: Annotated[str | None, typer.Option(help="Serve's HTTP door, host:port.")] = None,
    serve_grpc: Annotated[str | None, typer.Option(help="Serve's gRPC door, host:port.")] = None,
    dashboard: Annotated[str | None, typer.Option(help="Ray's dashboard, for the shares that models declare.")] = None,
    traffic: Annotated[Path | None, typer.Option(help="File that divides traffic between versions.")] = None,
) -> None:
    """Run the edge: TLS for HTTP and gRPC in front of Serve, in step with its models. Ends with Ctrl-C."""
    from app.config import settings
    from app.edge.supervisor import Supervisor

    options = {
        "host": host, "https_port": https_port, "grpc_port": grpc_port, "cert": cert, "key": key,
        "client_ca": client_ca, "serve_http": serve_http, "serve_grpc": serve_grpc, "dashboard": dashboard,
        "traffic": traffic,
    }  # fmt: skip
    told = {name: value for name, value in options.items() if value is not None}
    file = config or (Path(settings().edge) if settings().edge else None)
    stop = threading.Event()
    for kind in (signal.SIGTERM, signal.SIGINT):
        signal.signal(kind, lambda *_: stop.set())
    with Supervisor(lambda: effective(file, told), settings().state_dir / "run" / "edge", _tell) as running:
        _tell(running.summary)
        running.run(stop)
        _tell("ending")


def certificate(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Host names, addresses.")] = None,
    days: Annotated[int, typer.Option(min=1, max=825, help="How long it holds.")] = 90,
    renew: Annotated[bool, typer.Option("--renew", help="Replace one that is there.")] = False,
) -> None:
    """Make a certificate that vouches for itself, for a first try. Default names: localhost, 127.0.0.1, ::1."""
    from app.edge.certificates import make_pair, valid_until

    cert, key = _own_pair()
    now = datetime.datetime.now(datetime.UTC)
    if cert.exists() and key.exists() and not renew and valid_until(cert.read_bytes()) > now:
        typer.echo(f"kept {cert}")
        return
    cert_pem, key_pem = make_pair(names or ["localhost", "127.0.0.1", "::1"], now, days)
    cert.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path, content, mode in ((key, key_pem, 0o600), (cert, cert_pem, 0o644)):
        path.unlink(missing_ok=True)
        path.touch(mode)
        path.write_bytes(content)
    typer.echo(f"wrote {cert}")


def effective(file: Path | None, told: Mapping[str, object]) -> "EdgeConfig":
    """The edge of file and options; our own pair and traffic file where they name none. Raises InvalidInput."""
    from app.config import settings
    from app.edge.config import build_config, read_mapping
    from app.errors import InvalidInput

    content = read_mapping(file) if file else {}
    cert, key = _own_pair()
    traffic = cert.with_name("traffic.yaml")
    own: dict[str, object] = {}
    if not {"cert", "key"} & (content.keys() | told.keys()):
        if not cert.exists():
            raise InvalidInput(
                f"the edge has no certificate: give --cert and --key, or make one for a first try at {cert} with "
                "`joulekeeper certificate`"
            )
        own |= {"cert": cert, "key": key}
    if traffic.exists():
        own["traffic"] = traffic
    config = build_config({**own, **content, **told})
    if settings().access == "open" and config.client_ca is None and not ipaddress.ip_address(config.host).is_loopback:
        raise InvalidInput(
            f"host {config.host} would let the network in while JOULEKEEPER_ACCESS=open asks nobody for a key: set it "
            "to required, or demand client certificates with --client-ca"
        )
    return config


def _own_pair() -> tuple[Path, Path]:
    from app.config import settings

    directory = settings().state_dir / "edge"
    return directory / "cert.pem", directory / "key.pem"


def _tell(sentence: str) -> None:
    typer.echo(f"edge: {sentence}", err=True)
