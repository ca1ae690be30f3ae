"""The options that several commands have."""

from typing import Annotated

import typer

Listen = Annotated[
    list[str] | None,
    typer.Option(metavar="ADDRESS", help="Address to listen on: HOST:PORT, [V6]:PORT or unix:/PATH. Repeatable."),
]
Admin = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Address of the HTTP admin port: /metrics /ready /live /status.")
]
AllowPickle = Annotated[
    bool,
    typer.Option(
        "--allow-pickle",
        help="Also load whole pickled models. This runs code from the file: use it only for files you trust.",
    ),
]
Register = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Registry to announce the models in: zk://HOST1,HOST2/PATH, or zks:// for TLS. "
        "Default: DL_INFERENCE_REGISTER. The login is read from DL_INFERENCE_REGISTRY_USERNAME and _PASSWORD.",
    ),
]
Advertise = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Address to announce; default: the listening address, or this machine's address towards the registry.",
    ),
]
Weight = Annotated[
    int | None, typer.Option(metavar="N", help="Share of the calls among the endpoints of a model; default 1.")
]
Capacity = Annotated[
    int | None, typer.Option(metavar="N", help="Number of concurrent calls to announce as the capacity.")
]
