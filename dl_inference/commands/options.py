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
        help="Load whole pickled models too. That runs code inside the file: only for files you trust.",
    ),
]
Register = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Registry to announce the models in: zk://HOST1,HOST2/PATH, or zks:// for TLS. "
        "Also DL_INFERENCE_REGISTER; the login is DL_INFERENCE_REGISTRY_USERNAME and _PASSWORD.",
    ),
]
Advertise = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Address to announce; default: the one listened on, or the one that leads to the registry.",
    ),
]
Weight = Annotated[
    int | None, typer.Option(metavar="N", help="Share of the calls among the endpoints of a model; default 1.")
]
Capacity = Annotated[int | None, typer.Option(metavar="N", help="Calls at once to announce that it can take.")]
