"""The client that connectrpc's conformance suite tests: a client of the suite's, before the access service.

The suite's runner starts this once, and a server for each way to listen; it writes a ClientCompatRequest for each call
to the standard input, and reads a ClientCompatResponse of each from the standard output.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from under_test import UnderTest, under_test
from wire import field, fields, read_message, write_message

# Fields of ClientCompatRequest and of its TLSCreds (client_compat.proto, config.proto).
HOST, PORT, SERVER_CERTIFICATE, CREDENTIALS = WHERE = 6, 7, 8, 9
CERTIFICATE, KEY = 1, 2


def main(native: str, client: str) -> None:
    """Pass each request on to the client, to be sent to an access service before the server that it names.

    Args:
        native: path of the native module whose table of methods has the suite's service.
        client: path of `referenceclient` or `grpcclient`.
    """
    addresses: dict[tuple[Any, ...], str] = {}
    with under_test(native) as held, subprocess.Popen([client], stdin=subprocess.PIPE) as calls:
        assert calls.stdin is not None
        while (message := read_message(sys.stdin.buffer)) is not None:
            asked = list(fields(message))
            known: dict[int, Any] = dict(asked)
            server = tuple(known.get(each) for each in WHERE)
            if server not in addresses:
                addresses[server] = start(held, *server)
            host, port = addresses[server].rsplit(":", 1)
            kept = b"".join(field(*each) for each in asked if each[0] not in WHERE)
            write_message(calls.stdin, kept + field(HOST, host.encode()) + field(PORT, int(port)))
        calls.stdin.close()
        calls.wait()


def start(held: UnderTest, host: bytes, port: int, certificate: bytes | None, credentials: bytes | None) -> str:
    """Start an access service before a server; return its address."""
    cluster: dict[str, Any] = {}
    if certificate:
        contents = {"ca": certificate}
        own: dict[int, Any] = dict(fields(credentials or b""))
        if own:
            contents |= {"certificate": own[CERTIFICATE], "key": own[KEY]}
        cluster["tls"] = held.files(**contents)
    return held.access(f"{host.decode()}:{port}", cluster=cluster).address


if __name__ == "__main__":
    main(*sys.argv[1:])
