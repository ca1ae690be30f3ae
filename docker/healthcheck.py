"""HEALTHCHECK of the images: exit status 0 while the program is ready, 1 with a reason while it starts or drains.

    healthcheck.py [HOST:PORT]

Asks /ready of the admin port. Without an address it takes the port of the variable DL_INFERENCE_ADMIN, which the
access service reads too, else 8502. It stands alone and imports little, for it runs every few seconds.
"""

import http.client
import os
import sys

TIMEOUT_S = 3.0


def main(arguments: list[str]) -> str | None:
    """Return why the program is not ready; None when it is."""
    address = arguments[0] if arguments else os.environ.get("DL_INFERENCE_ADMIN", "127.0.0.1:8502")
    host, _, port = address.rpartition(":")
    if host in ("", "0.0.0.0"):
        host = "127.0.0.1"
    elif host == "[::]":
        host = "::1"
    try:
        connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=TIMEOUT_S)
        connection.request("GET", "/ready")
        response = connection.getresponse()
        text = response.read(200).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"no answer from the admin port {address}: {error}"
    return None if response.status == 200 else f"{address}/ready answers {response.status} {text}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
