"""The HTTP admin port: /live /ready /metrics, in a thread of its own."""

from __future__ import annotations

import ipaddress
import os
import resource
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from dl_inference.serving import listening

if TYPE_CHECKING:
    from tf_predict.service import Service


def check(address: str) -> None:
    """Raise ValueError for the address of a unix socket, which an HTTP server of the standard library has none of."""
    if address.startswith("unix:"):
        raise ValueError(f"{address}: the admin port of this server has no unix socket: give HOST:PORT")


class AdminPort:
    """An HTTP server, from its making to `close`.

    Args:
        address: ``HOST:PORT`` or ``[V6]:PORT``.
        is_ready: whether calls are answered.
        model: the model's name, a label of the metrics.
        service: whose calls are counted.

    Raises:
        OSError: the address cannot be listened on.
    """

    def __init__(self, address: str, is_ready: Callable[[], bool], model: str, service: Service) -> None:
        pages: dict[str, Callable[[], tuple[int, str]]] = {
            "/live": lambda: (200, "live\n"),
            "/ready": lambda: (200, "ready\n") if is_ready() else (503, "draining\n"),
            "/metrics": lambda: (200, _metrics(model, service, is_ready())),
        }

        class Pages(BaseHTTPRequestHandler):
            timeout = 10  # s; of a client that says nothing

            def do_GET(self) -> None:
                known = ", ".join(pages)
                page = pages.get(self.path.partition("?")[0], lambda: (404, f"no such page; known: {known}\n"))
                status, text = page()
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing: probes come every few seconds."""

        host, port = listening.split(address)
        self._server = _server_class(host)((host, port), Pages)
        self.address = f"{address.rpartition(':')[0]}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="admin", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _server_class(host: str) -> type[ThreadingHTTPServer]:
    try:
        is_v6 = ipaddress.ip_address(host).version == 6
    except ValueError:  # a name
        is_v6 = False

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if is_v6 else socket.AF_INET
        daemon_threads = True

    return Server


def _metrics(model: str, service: Service, ready: bool) -> str:
    """Return the metrics that this server has, under the names of docs/metrics.md."""
    lines = ["# TYPE dl_requests_total counter"]
    label = model.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    for (method, code), count in sorted(service.finished.copy().items()):
        lines.append(f'dl_requests_total{{method="{method}",model="{label}",code="{code}"}} {count}')
    usage = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/statm") as statm:
        resident = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    gauges = {"dl_draining": int(not ready), "process_resident_memory_bytes": resident}
    for name, value in gauges.items():
        lines += [f"# TYPE {name} gauge", f"{name} {value}"]
    lines += ["# TYPE process_cpu_seconds_total counter"]
    lines += [f"process_cpu_seconds_total {usage.ru_utime + usage.ru_stime:.3f}"]
    return "\n".join(lines) + "\n"
