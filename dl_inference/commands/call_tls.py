"""TLS of `dl-inference call`: whom it takes for genuine, and what it shows of itself."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc
import typer


@dataclass(frozen=True, slots=True)
class CallTls:
    """How a server is called with TLS.

    Attributes:
        ca: file of authorities; None: the system's.
        pair: files of a certificate and its key.
    """

    ca: Path | None
    pair: tuple[Path, Path] | None

    def credentials(self) -> grpc.ChannelCredentials:
        """Return them for gRPC."""
        # gRPC's library brings authorities of its own; the system's are meant.
        roots = self.ca or Path(ssl.get_default_verify_paths().cafile or ssl.get_default_verify_paths().openssl_cafile)
        certificate, key = (each.read_bytes() for each in self.pair) if self.pair else (None, None)
        return grpc.ssl_channel_credentials(roots.read_bytes(), key, certificate)

    def context(self) -> ssl.SSLContext:
        """Return them for HTTP."""
        context = ssl.create_default_context(cafile=self.ca)
        if self.pair is not None:
            context.load_cert_chain(*self.pair)
        return context


def read(is_wanted: bool, ca: Path | None, certificate: Path | None, key: Path | None) -> CallTls | None:
    """Return what options ask for; None: no TLS. BadParameter where one lacks another, or a file cannot be used."""
    if (certificate is None) != (key is None):
        raise typer.BadParameter("give --tls-certificate and --tls-key together", param_hint="--tls-certificate")
    if not is_wanted and ca is None and certificate is None:
        return None
    found = CallTls(ca, (certificate, key) if certificate is not None and key is not None else None)
    try:
        found.credentials()
        found.context()
    except OSError as error:  # an ssl.SSLError is one
        what = f"{error.filename or 'a file'}: {error.strerror or error}"
        raise typer.BadParameter(what, param_hint="--tls") from error
    return found
