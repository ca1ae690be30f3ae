"""The server that connectrpc's conformance suite tests: the access service, before a server of the suite's.

The suite's runner starts this for each way to listen, writes a ServerCompatRequest to its standard input, reads a
ServerCompatResponse from its standard output, and ends it with SIGTERM.
"""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

from under_test import UnderTest, under_test
from wire import field, fields, read_message, write_message

# Fields of ServerCompatRequest, of its TLSCreds and of ServerCompatResponse (server_compat.proto, config.proto).
USE_TLS, CLIENT_CERTIFICATE, MESSAGE_LIMIT, CREDENTIALS = 4, 5, 6, 7
CERTIFICATE, KEY = 1, 2
HOST, PORT, PEM = 1, 2, 3


def main(native: str, server: str) -> None:
    """Start both, answer, and wait for the end.

    Args:
        native: path of the native module whose table of methods has the suite's service.
        server: path of `referenceserver` or `grpcserver`.
    """
    message = read_message(sys.stdin.buffer)
    assert message is not None
    asked: dict[int, Any] = dict(fields(message))
    credentials: dict[int, Any] = dict(fields(asked.get(CREDENTIALS, b"")))
    with under_test(native) as held:
        endpoint = held.run([server, "-json"])
        # Ours would hold for answers too, which repeat the request, and count compressed bytes: the endpoint limits.
        limit = asked[MESSAGE_LIMIT]
        wanted = {"protocol": "PROTOCOL_GRPC", "httpVersion": "HTTP_VERSION_2", "messageReceiveLimit": limit}
        endpoint.send_line(json.dumps(wanted))
        port = endpoint.wait_line(r'"port": *(\d+)')[1]
        access = held.access(f"127.0.0.1:{port}", listen=listen(held, asked, credentials))
        host, port = access.address.rsplit(":", 1)
        pem = credentials.get(CERTIFICATE, b"")
        write_message(sys.stdout.buffer, field(HOST, host.encode()) + field(PORT, int(port)) + field(PEM, pem))
        while True:
            signal.pause()


def listen(held: UnderTest, asked: dict[int, Any], credentials: dict[int, Any]) -> Any:
    """Where to listen, by TLS or not."""
    address = "127.0.0.1:0"
    if not asked.get(USE_TLS):
        return address
    contents = {"certificate": credentials[CERTIFICATE], "key": credentials[KEY]}
    if client := asked.get(CLIENT_CERTIFICATE):
        contents["client_ca"] = client
    return {"address": address, "tls": held.files(**contents)}


if __name__ == "__main__":
    main(*sys.argv[1:])
