"""What a model server is told at its start, whatever started it: one document, typed, without a command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from dl_inference.registry.announcing.registration import Registration
from dl_inference.serving import listening
from dl_inference.serving.given import Given
from dl_inference.serving.port_tls import PortTls

DEFAULT_LISTEN = "127.0.0.1:5000"


class ServeOptions(BaseModel):
    """What `predict` and `serve` tell a model server; the rest is in model.yaml and the environment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_dir: Path = Field(description="The model folder.")
    listen: tuple[str, ...] = Field(
        default=(DEFAULT_LISTEN,), description="Addresses: `127.0.0.1:5000`, `[::]:5000`, `unix:/path`."
    )
    tls: PortTls | None = Field(default=None, description="TLS of these addresses, but for unix sockets.")
    admin: str | None = Field(default=None, description="Address of the HTTP admin port, if any.")
    name: str | None = Field(default=None, description="What the model is called; default: as the folder.")
    version: int | None = Field(
        default=None, description="The one version to serve; default: those that model.yaml names, else the latest."
    )
    allow_pickle: bool = Field(default=False, description="Load a whole pickled model, which runs the code inside it.")
    hands: Path | None = Field(
        default=None, description="A file in which the processes of this version say which calls they have."
    )
    instance: int = Field(default=0, description="Which of the processes of this version it is: picks its device.")
    threads: int | None = Field(
        default=None, description="Threads of one operator, where no variable says; default: the number of cores."
    )
    limits: dict[str, str] = Field(
        default={}, description="Limits and other numbers of model.yaml that win over it and the environment."
    )
    metrics_file: Path | None = Field(
        default=None, description="Where metrics of the model's own code are kept for `serve`."
    )
    trusted_keys: Path | None = Field(
        default=None, description="Public keys (ssh-keygen's ALLOWED SIGNERS); only folders signed by one are loaded."
    )
    private: Path | None = Field(default=None, description="Where the checked copy of a signed folder is made.")
    is_judged: bool = Field(
        default=True, description="Not ready where its samples are answered otherwise than expected."
    )
    report: Path | None = Field(default=None, description="Where it tells how far it has come (serving/report.py).")
    registration: Registration | None = Field(
        default=None,
        exclude=True,  # it may hold a password; who hands options over as text leaves it to the environment
        description="Where it announces itself; default: from the environment, which may name nothing.",
    )

    def given(self, environment: Mapping[str, str]) -> Given:
        """Return what replaces values of model.yaml."""
        return Given(environment, self.limits)

    def checked(self) -> ServeOptions:
        """Return them with absolute paths of sockets and of TLS, once every address was found free.

        Raises:
            ValueError: an address is none, or cannot be listened on now.
        """
        listen = tuple(map(listening.absolute, self.listen))
        admin = listening.absolute(self.admin) if self.admin is not None else None
        for address in (*listen, *([admin] if admin is not None else [])):
            listening.check(address)
        tls = self.tls.absolute() if self.tls is not None else None
        return self.model_copy(update={"listen": listen, "admin": admin, "tls": tls})
