"""Signed requests: what goes into the header ``x-signature``. Needs nothing but Python, for gRPC and HTTP alike."""

import hashlib
import hmac
import os
import time
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs requests with a secret that the access service has, too (``signing`` in callers.yaml).

    Attributes:
        id: of the secret.
        secret: the secret's bytes, 32 or more; never sent.
    """

    id: str
    secret: bytes = field(repr=False)

    def header(self, body: bytes, path: str, *, verb: str = "POST", model: str = "", version: str = "") -> str:
        """Return ``x-signature`` of one request; a retry is another one.

        Args:
            body: of gRPC the message, as it is sent; of HTTP the body.
            path: as it is sent, with the query.
            verb: of HTTP; gRPC's is POST.
            model: what is sent as ``x-model``; empty without.
            version: what is sent as ``x-model-version``; empty without.
        """
        now, nonce, digest = str(int(time.time())), os.urandom(16).hex(), hashlib.sha256(body).hexdigest()
        signed = "\n".join(["x-signature 1", verb, path, model, version, now, nonce, digest])
        mac = hmac.new(self.secret, signed.encode(), hashlib.sha256).hexdigest()
        return f"id={self.id},time={now},nonce={nonce},digest={digest},mac={mac}"
