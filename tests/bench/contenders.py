"""The proxies that are measured, round robin over the same endpoints, plaintext HTTP/2, started alike."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench.payloads import MODEL
from fixtures.processes import ROOT, Process

PEERS = ROOT / ".peers"
# The default admin port may be taken by a proxy that runs here.
ADMIN_PORT_OFFSET = 10
OURS = ROOT / ".venv" / "bin" / "dl-inference"


@dataclass
class Contender:
    """A started program, or no program at all between load and endpoint."""

    name: str
    version: str
    address: str
    process: Process | None = None
    config: str = ""
    """What it was configured with, for the result file."""
    notes: dict[str, list[str]] = field(default_factory=dict)


def said(*command: str | Path) -> str:
    """Return what a program prints of its version (nginx: on standard error)."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True, timeout=30)
    return (done.stdout or done.stderr).strip()


def installed(name: str, package: str) -> str:
    """Return the path of a program of Debian's.

    Raises:
        RuntimeError: it is not installed.
    """
    program = shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        raise RuntimeError(f"{name} is not installed: apt-get install {package}")
    return program


def none(address: str, endpoints: list[str], folder: Path, workers: int = 1) -> Contender:
    """No proxy: the load goes to one endpoint."""
    return Contender("none", "", endpoints[0])


def ours(
    address: str,
    endpoints: list[Any],
    folder: Path,
    workers: int = 1,
    *,
    tool: Sequence[str] = (),
    settings: Mapping[str, object] = MappingProxyType({}),
    service: Mapping[str, object] = MappingProxyType({}),
) -> Contender:
    """Start this product's access service, everything at its default but the number of workers and what is given.

    Args:
        address: where it listens.
        endpoints: whom it asks, as access.yaml has them.
        folder: its own, for its configuration.
        workers: threads.
        tool: a program to run it under, with its arguments.
        settings: of the cluster.
        service: more of access.yaml, in place of what is here.
    """
    config = json.dumps(
        {
            "listen": address,
            "admin": f"{address.rsplit(':', 1)[0]}:{int(address.rsplit(':', 1)[1]) + ADMIN_PORT_OFFSET}",
            "workers": workers,
            "clusters": {"fleet": {"endpoints": endpoints, **settings}},
            "models": {MODEL: {"cluster": "fleet"}},
            "default_cluster": "fleet",
            **service,
        },
        indent=1,
    )
    path = folder / "access.yaml"  # JSON is YAML
    path.write_text(config)
    process = Process([*tool, OURS, "access", "--config", path])
    checked = subprocess.run([OURS, "check", path], capture_output=True, text=True, check=True, timeout=60)
    notes = {"effective configuration": checked.stdout.replace(str(folder), "").splitlines()}
    return Contender("ours", said(OURS, "version"), address, process, config, notes)


def envoy(
    address: str,
    endpoints: list[str],
    folder: Path,
    workers: int = 1,
    settings: tuple[Mapping[str, object], Mapping[str, object]] = ({}, {}),
    *,
    filters: Sequence[Mapping[str, object]] = (),
    tls: Mapping[str, object] | None = None,
) -> Contender:
    """Start Envoy with a static configuration: HTTP/2 on both sides, no access log, no timeout.

    Args:
        address: where it listens.
        endpoints: whom it asks.
        folder: its own, for its configuration.
        workers: threads.
        settings: of the route and of the cluster, in place of the above.
        filters: of HTTP, before the router.
        tls: its ``DownstreamTlsContext``; without it callers speak plaintext.
    """
    made = _envoy_config(address, endpoints, settings, filters, tls)
    config = json.dumps(made, indent=1)
    path = folder / "envoy.json"
    path.write_text(config)
    program = PEERS / "envoy" / "bin" / "envoy"
    # Without hot restart two runs can share a machine; errors only in the log.
    options = ["--concurrency", str(workers), "--disable-hot-restart", "--log-level", "error"]
    version = said(program, "--version").split("version:")[1].split("/")[1]
    return Contender("envoy", version, address, Process([program, "-c", path, *options]), config)


def typed(name: str, **rest: object) -> dict[str, object]:
    """Return a part of Envoy's configuration that says of what type it is."""
    return {"@type": f"type.googleapis.com/envoy.{name}", **rest}


def _envoy_config(
    address: str,
    endpoints: list[str],
    settings: tuple[Mapping[str, object], Mapping[str, object]],
    filters: Sequence[Mapping[str, object]],
    tls: Mapping[str, object] | None,
) -> dict[str, object]:
    routed, clustered = settings

    def socket(place: str) -> dict[str, object]:
        host, port = place.rsplit(":", 1)
        return {"socket_address": {"address": host, "port_value": int(port)}}

    route = {"match": {"prefix": "/"}, "route": {"cluster": "fleet", "timeout": "0s", **routed}}
    manager = typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="bench",
        codec_type="HTTP2",
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        http_filters=[
            *filters,
            {"name": "envoy.filters.http.router", "typed_config": typed("extensions.filters.http.router.v3.Router")},
        ],
    )
    chain: dict[str, object] = {
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    }
    if tls is not None:
        chain["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": tls}
    http2 = typed(
        "extensions.upstreams.http.v3.HttpProtocolOptions",
        explicit_http_config={"http2_protocol_options": {}},
    )
    cluster = {
        "name": "fleet",
        "type": "STATIC",
        "lb_policy": "ROUND_ROBIN",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
        "load_assignment": {
            "cluster_name": "fleet",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(place)}} for place in endpoints]}],
        },
        **clustered,
    }
    listener = {"name": "bench", "address": socket(address), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def nginx(
    address: str, endpoints: list[str], folder: Path, workers: int = 1, settings: tuple[str, str] = ("", "")
) -> Contender:
    """Start nginx with ``grpc_pass``; kept connections to the endpoints, no limits that end a run.

    Args:
        address: where it listens.
        endpoints: whom it asks, each with what its ``server`` line says besides.
        folder: its own, for its configuration.
        workers: processes.
        settings: lines for ``upstream`` (the method) and ``location``.
    """
    method, rules = settings
    servers = " ".join(f"server {place};" for place in endpoints)
    temporary = "\n  ".join(
        f"{name}_temp_path {folder}/nginx;" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = f"""worker_processes {workers};
daemon off;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  {temporary}
  access_log off;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  upstream fleet {{ {method} {servers} keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen {address} http2;
    location / {{ grpc_pass grpc://fleet; {rules} }}
  }}
}}
"""
    path = folder / "nginx.conf"
    path.write_text(config)
    program = installed("nginx", "nginx-light")
    version = said(program, "-v").split("/")[1]
    process = Process([program, "-e", "stderr", "-p", folder, "-c", path])
    return Contender("nginx", version, address, process, config.replace(str(folder), "."))


def aio(address: str, endpoints: list[str], folder: Path, workers: int = 1) -> Contender:
    """Start the grpc.aio pass-through (aio_proxy.py), which has one worker."""
    python = PEERS / "aio" / "bin" / "python"
    process = Process([python, Path(__file__).with_name("aio_proxy.py"), address, *endpoints])
    version = said(
        python, "-c", "import grpc, uvloop; print(f'grpcio {grpc.__version__}, uvloop {uvloop.__version__}')"
    )
    return Contender("grpc.aio", version, address, process)


def haproxy(address: str, endpoints: list[str], folder: Path, workers: int = 1) -> Contender:
    """Start HAProxy in HTTP mode, HTTP/2 on both sides; its windows and tables are its own."""
    servers = "\n".join(f"  server e{index} {place} proto h2" for index, place in enumerate(endpoints))
    config = f"""global
  nbthread {workers}
  maxconn 9000
defaults
  mode http
  timeout connect 1s
  timeout client 1h
  timeout server 1h
  http-reuse always
frontend calls
  bind {address} proto h2
  default_backend fleet
backend fleet
  balance roundrobin
{servers}
"""
    path = folder / "haproxy.cfg"
    path.write_text(config)
    program = installed("haproxy", "haproxy")
    version = said(program, "-v").split()[2]
    return Contender("haproxy", version, address, Process([program, "-db", "-q", "-f", path]), config)


CONTENDERS = {"ours": ours, "envoy": envoy, "nginx": nginx, "haproxy": haproxy, "grpc.aio": aio, "none": none}
