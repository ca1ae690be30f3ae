"""`dl-inference status`: ask a running access service or model server what it sees."""

import http
import http.client
import json
import socket
import ssl
import time
import urllib.parse
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.text import Text

from dl_inference import address
from dl_inference.commands.console import err, out
from dl_inference.commands.status_view import render

TIMEOUT_S = 5.0
WATCH_S = 1.0
_TLS = "https://"


class StatusError(Exception):
    """The admin port gave no status; the message says what to do."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)


def admin_fault(admin: str) -> str | None:
    """Say what is wrong with the address of an admin port; `https://` before it stands for TLS."""
    return address.fault(admin.removeprefix(_TLS))


def ask(admin: str, path: str) -> tuple[int, dict[str, Any]]:
    """Return HTTP status and document of a page of the admin port at ``host:port`` or ``unix:/path``.

    Raises:
        StatusError: nobody answers there, or not with a document.
    """
    status, body = _exchange(admin, "GET", path)
    if status == http.HTTPStatus.BAD_REQUEST and b"speaks TLS" in body:
        raise StatusError(f"the port {admin} speaks TLS: --admin https://{admin}")
    try:
        document = json.loads(body)
    except ValueError as error:
        raise _lost(admin, path, error) from error
    if not isinstance(document, dict):
        raise StatusError(f"{admin} answers HTTP {status}: is it the admin port of an access service?")
    return status, document


def order(admin: str, model: str, action: str) -> int:
    """Order a `serve` to load, unload or reload a model; return the order's number.

    Raises:
        StatusError: nobody takes it there.
    """
    path = f"/models/{urllib.parse.quote(model, safe='')}/{action}"
    status, body = _exchange(admin, "POST", path)
    if status == http.HTTPStatus.ACCEPTED:
        return int(json.loads(body)["order"])
    why = body.decode(errors="replace").partition("\n")[0]
    if status == http.HTTPStatus.NOT_FOUND:
        why = "it is not the admin port of `dl-inference serve`, which alone loads and unloads models"
    raise StatusError(f"{admin} does not take the order (HTTP {status}): {why}")


def _exchange(admin: str, method: str, path: str) -> tuple[int, bytes]:
    # http.client and not urllib.request: a proxy from the environment has no business here.
    try:
        connection = _connection(admin)
        try:
            # A web page cannot send this header elsewhere: the admin port takes no order without it.
            connection.request(method, path, headers={"x-dl-inference": "command"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _lost(admin, path, error) from error


def _connection(admin: str) -> http.client.HTTPConnection:
    if admin.startswith("unix:"):
        return _UnixConnection(admin[5:])
    if admin.startswith(_TLS):
        # Of the system's authorities, or of those in the file that SSL_CERT_FILE names.
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(admin.removeprefix(_TLS), timeout=TIMEOUT_S, context=context)
    return http.client.HTTPConnection(admin, timeout=TIMEOUT_S)


def _lost(admin: str, path: str, error: Exception) -> StatusError:
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    remedy = f"is a service running there? Name its admin port: --admin, here {admin}"
    return StatusError(f"no {path[1:].partition('/')[0]} from {admin}: {why}; {remedy}")


def fetch(admin: str) -> dict[str, Any]:
    """Return /status of the admin port at ``host:port`` or ``unix:/path``.

    Raises:
        StatusError: nobody answers there, or something else does.
    """
    code, document = ask(admin, "/status")
    if code != 200:
        raise StatusError(f"{admin} answers HTTP {code}: is it the admin port of an access service?")
    return document


def status(
    admin: Annotated[str, typer.Option(metavar="ADDRESS", help="Address of the admin port.")] = "127.0.0.1:8502",
    watch: Annotated[
        bool, typer.Option("--watch", help="Repeat once a second, with rates, until interrupted.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print /status as it is.")] = False,
) -> None:
    """Show what a running access service sees.

    Models, endpoints, effective weights, state, requests, errors and latencies; with --watch rates too.
    """
    if fault := admin_fault(admin):
        err.print(Text(f"--admin {admin!r}: {fault}", style="red"), soft_wrap=True)
        raise typer.Exit(2)
    try:
        found = fetch(admin)
        if as_json:
            print(json.dumps(found))
        elif watch:
            _watch(admin, found)
        else:
            out.print(render(found))
    except StatusError as error:
        err.print(Text(str(error), style="red"), soft_wrap=True)
        raise typer.Exit(1) from error


def _watch(admin: str, found: dict[str, Any]) -> None:
    before, at = found, time.monotonic()
    screen = out if out.is_terminal else None
    with Live(render(found, screen=screen), console=out, auto_refresh=False, screen=out.is_terminal) as live:
        try:
            while True:
                time.sleep(WATCH_S)
                found, now = fetch(admin), time.monotonic()
                live.update(render(found, before, now - at, screen=screen), refresh=True)
                before, at = found, now
        except KeyboardInterrupt:
            return
