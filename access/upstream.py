"""TLS towards the endpoints of a cluster. The data plane reads the files, and follows them."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from access.fields import Section, problem


class UpstreamTls(Section):
    """TLS towards endpoints: their certificates are verified, always; unix sockets have none.

    `true` alone stands for the system's authorities and nothing of our own, `false` for no TLS. Files are read again
    when they change, for new connections. A relative path starts at the configuration's folder.
    """

    ca: str | None = Field(
        None, min_length=1, description="PEM file: authorities of endpoints' certificates; null: the system's"
    )
    certificate: str | None = Field(
        None, min_length=1, description="PEM file: what is shown to endpoints that ask for a certificate; null: nothing"
    )
    key: str | None = Field(None, min_length=1, description="PEM file of its private key")
    server_name: str | None = Field(
        None,
        min_length=1,
        description="name that endpoints' certificates are for, asked for by SNI and sent as `:authority`; "
        "null: the host of each address",
    )

    def document(self, folder: Path) -> dict[str, Any]:
        """Return what the data plane gets; relative paths start at `folder`."""
        pair = None
        if self.certificate and self.key:
            pair = {"certificate": str(folder / self.certificate), "key": str(folder / self.key)}
        return {
            "ca": None if self.ca is None else str(folder / self.ca),
            "certificate": pair,
            "server_name": self.server_name,
        }


def _whole(tls: UpstreamTls | None) -> UpstreamTls | None:
    if tls is not None and (tls.certificate is None) != (tls.key is None):
        raise problem("a certificate of our own needs its key, and the key its certificate", "set both, or neither")
    return tls


def _switch(value: Any) -> Any:
    return {True: {}, False: None}[value] if isinstance(value, bool) else value


Upstream = Annotated[UpstreamTls | None, BeforeValidator(_switch), AfterValidator(_whole)]
