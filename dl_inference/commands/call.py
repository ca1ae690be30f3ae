"""`dl-inference call`: one prediction from the command line."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from dl_inference import address
from dl_inference.commands.console import err
from dl_inference.commands.options import whole

Tls = Annotated[bool, typer.Option("--tls", help="Call with TLS; the system knows the server's authority.")]
TlsCa = Annotated[Path | None, typer.Option(metavar="FILE", help="Call with TLS; authority of the server (PEM).")]
TlsCertificate = Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate to show to the server (PEM).")]
TlsKey = Annotated[Path | None, typer.Option(metavar="FILE", help="Private key of --tls-certificate.")]
KeyFile = Annotated[
    Path | None, typer.Option("--api-key-file", metavar="PATH", help="File whose first line is the key to call with.")
]


def call(  # noqa: PLR0913  (the options of the command)
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")],
    value: Annotated[
        str | None,
        typer.Argument(
            metavar="INPUT",
            help="JSON; or a file: .json, .npy, .npz, an image or any bytes; or - for standard input.",
        ),
    ] = None,
    *,
    to: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address of an access service or a model server.")
    ] = "127.0.0.1:8500",
    protocol: Annotated[
        str | None, typer.Option(metavar="NAME", help="seldon, tfs or oip; default: what the model answers.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Tag of the request (seldon). Repeatable.")
    ] = None,
    model_version: Annotated[
        int | None, typer.Option(parser=whole(0), metavar="NUMBER", help="Version of the model.")
    ] = None,
    signature: Annotated[str | None, typer.Option(metavar="NAME", help="Signature of the model (tfs).")] = None,
    timeout_ms: Annotated[int, typer.Option(parser=whole(1), metavar="MS", help="Deadline of the call, ms.")] = 10_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
    api_key_file: KeyFile = None,
    http: Annotated[bool, typer.Option("--http", help="Call over HTTP and JSON in place of gRPC.")] = False,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
) -> None:
    """Make one prediction and show the answer.

    For seldon, give a whole SeldonMessage as JSON, or only its content: numbers are sent as a tensor, other lists as an
    ndarray, text as strData, other JSON as jsonData and bytes as binData. For tfs and oip, give {"x": [[1.0, 2.0]]}
    (float32; whole numbers are int64) or {"x": {"dtype": "int32", "values": [1]}}.

    Without --protocol the call is made by Seldon's protocol. Where the server does not know that, the model is asked
    what it takes, and called as it says: its only input needs no name, and JSON becomes the type that the model says.

    With --http the model is asked first, and called by the Open Inference Protocol where it answers that.
    """
    if fault := target_fault(to):
        err.print(Text(f"--to {to!r}: {fault}", style="red"), soft_wrap=True)
        raise typer.Exit(2)
    if not model:
        raise typer.BadParameter("the name of the model is empty", param_hint="MODEL")
    # numpy and grpc double the start of every other command
    from dl_inference.commands import call_send, call_tls  # noqa: PLC0415

    question = call_send.Question(protocol, model, value, tags=tag or (), version=model_version, signature=signature)
    api_key = key_in(api_key_file)
    secured = call_tls.read(tls, tls_ca, tls_certificate, tls_key)
    exit_status = call_send.send(
        question, to, timeout_ms=timeout_ms, as_json=as_json, http=http, api_key=api_key, tls=secured
    )
    raise typer.Exit(exit_status)


def key_in(path: Path | None) -> str | None:
    """Return the key that a file holds, if one is named: on the command line everybody on the machine would see it."""
    if path is None:
        return None
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            return file.readline(8192).strip()
    except OSError as error:
        err.print(Text(f"--api-key-file {path}: cannot be read: {error.strerror}", style="red"), soft_wrap=True)
        raise typer.Exit(2) from error


def target_fault(to: str) -> str | None:
    """Say what is wrong with an address to call; gRPC's own dns:///name:port is as good as ours."""
    return None if to.startswith("dns:") else address.fault(to)
