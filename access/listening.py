"""Ports of access.yaml: an address, or an address with its TLS. The data plane reads the files, and follows them."""

from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from access.fields import FrozenList, ListenAddress, Section, problem

Path = Annotated[str, Field(min_length=1)]


class CertificatePair(Section):
    """A certificate and its key."""

    certificate: Path = Field(description="PEM file: the certificate, then those between it and its root")
    key: Path = Field(description="PEM file of its private key")


class ListenerTls(Section):
    """TLS of a port; files are read again when they change, and the old ones kept while the new are bad.

    A relative path starts at the configuration's folder.
    """

    certificate: Path | None = Field(None, description="PEM file: the certificate, then those between it and its root")
    key: Path | None = Field(None, description="PEM file of its private key")
    more: Annotated[tuple[CertificatePair, ...], FrozenList] = Field(
        (), description="further pairs `{certificate, key}`: a caller gets the one for the name it asks for (SNI)"
    )
    client_ca: Path | None = Field(None, description="PEM file: authorities of callers' certificates")
    client_auth: Literal["none", "optional", "required"] | None = Field(
        None, description="whether callers show a certificate; null: `required` with `client_ca`, else `none`"
    )
    crl: Path | None = Field(None, description="PEM file: lists of revoked certificates of callers")
    san: Annotated[tuple[str, ...], FrozenList] = Field(
        (), description="names (DNS, URI, IP) of which a caller's certificate has one; empty: any that is verified"
    )
    min_version: Literal["1.2", "1.3"] = Field("1.2", description="oldest version of TLS")

    def document(self, folder: FilePath) -> dict[str, Any]:
        """Return what the data plane gets; relative paths start at `folder`."""

        def absolute(path: str | None) -> str | None:
            return None if path is None else str(folder / path)

        pairs = [(self.certificate, self.key), *((each.certificate, each.key) for each in self.more)]
        return {
            "certificates": [{"certificate": absolute(one), "key": absolute(other)} for one, other in pairs],
            "client_ca": absolute(self.client_ca),
            "client_auth": self.client_auth or ("required" if self.client_ca else "none"),
            "crl": absolute(self.crl),
            "san": list(self.san),
            "min_version": self.min_version,
        }


def _fits(tls: ListenerTls) -> ListenerTls:
    if not (tls.certificate and tls.key):
        raise problem("TLS needs a certificate and its key", "set both `certificate` and `key`")
    asks = tls.client_auth not in (None, "none")
    if asks and not tls.client_ca:
        raise problem(f"client_auth {tls.client_auth} needs `client_ca`", "name the file of the callers' authorities")
    if (tls.client_ca and tls.client_auth == "none") or ((tls.crl or tls.san) and not tls.client_ca):
        raise problem(
            "client_ca, crl and san have no effect where callers show no certificate",
            "set `client_ca`, and `client_auth` to optional or required",
        )
    return tls


class SecuredListen(Section):
    """A port with TLS."""

    address: ListenAddress = Field(description="`host:port` or `[v6]:port`")
    tls: Annotated[ListenerTls, AfterValidator(_fits)] = Field(description="certificates, and who may come in")


KINDS = ("plain port", "secured port")
"""What pydantic calls the two, in the paths of its errors."""


def _kind(value: Any) -> str:
    return KINDS[0] if isinstance(value, str) else KINDS[1]


def _list(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return (value,) if isinstance(value, str | dict) else value


Port = Annotated[
    Annotated[ListenAddress, Tag(KINDS[0])] | Annotated[SecuredListen, Tag(KINDS[1])], Discriminator(_kind)
]
Listens = Annotated[tuple[Port, ...], BeforeValidator(_list), Field(min_length=1)]


def document(listen: str | SecuredListen, folder: FilePath) -> Any:
    """Return a port as the data plane gets it."""
    if isinstance(listen, str):
        return listen
    return {"address": listen.address, "tls": listen.tls.document(folder)}


def address(listen: str | SecuredListen) -> str:
    """Return a port's address."""
    return listen if isinstance(listen, str) else listen.address


def addresses(listen: Any) -> list[Any]:
    """Return the addresses in `listen` as a file has it, whatever is wrong with it."""
    entries = listen if isinstance(listen, list) else [] if listen is None else [listen]
    return [each.get("address") if isinstance(each, dict) else each for each in entries]
