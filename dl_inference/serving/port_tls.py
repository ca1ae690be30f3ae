"""TLS of a model server's ports: three files, which are read again when they change."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

_LOGGER = logging.getLogger(__name__)


class PortTls(BaseModel):
    """The files, PEM; a unix socket is without TLS."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    certificate: Path = Field(description="The certificate, then those between it and its root.")
    key: Path = Field(description="Its private key.")
    client_ca: Path | None = Field(
        default=None, description="Authorities of callers' certificates; every caller shows one then."
    )

    def document(self) -> dict[str, Any]:
        """Return what `listen` of access.yaml has as `tls`."""
        return self.model_dump(mode="json", exclude_none=True)

    def native(self) -> dict[str, Any]:
        """Return the native front's document: ``ListenerTls`` in dataplane/crates/core/src/config.rs."""
        return {
            "certificates": [{"certificate": str(self.certificate), "key": str(self.key)}],
            "client_ca": None if self.client_ca is None else str(self.client_ca),
            "client_auth": "none" if self.client_ca is None else "required",
            "crl": None,
            "san": [],
            "min_version": "1.2",
        }

    def absolute(self) -> PortTls:
        """Return it with absolute paths, from wherever the model's code goes."""
        ca = None if self.client_ca is None else self.client_ca.absolute()
        return PortTls(certificate=self.certificate.absolute(), key=self.key.absolute(), client_ca=ca)

    def credentials(self) -> Any:
        """Return grpcio's server credentials, which follow the files; the old are kept while the new are bad.

        Raises:
            OSError: a file cannot be read.
            ValueError: the pair does not fit.
        """
        import grpc  # noqa: PLC0415  (the native front needs none)

        kept = self._read()

        def changed() -> Any:
            nonlocal kept
            try:
                found = self._read()
            except OSError as error:
                _LOGGER.warning("the TLS files cannot be read, the old ones stay in use: %s", error)
                return None
            if found == kept:
                return None
            kept = found
            return configuration(found)

        def configuration(files: tuple[bytes, bytes, bytes | None]) -> Any:
            certificate, key, authorities = files
            return grpc.ssl_server_certificate_configuration([(key, certificate)], authorities)

        return grpc.dynamic_ssl_server_credentials(
            configuration(kept), changed, require_client_authentication=self.client_ca is not None
        )

    def _read(self) -> tuple[bytes, bytes, bytes | None]:
        ca = None if self.client_ca is None else self.client_ca.read_bytes()
        return self.certificate.read_bytes(), self.key.read_bytes(), ca


def with_tls(listen: tuple[str, ...], tls: PortTls | None, document: Any) -> list[Any]:
    """Return addresses, and those of TCP with their TLS where there is one."""
    return [each if tls is None or each.startswith("unix:") else {"address": each, "tls": document} for each in listen]
