"""`dl-inference predict`: one model folder alone."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from access import document
from dl_inference.commands.console import err, say_what_is_missing
from dl_inference.commands.options import Admin, Advertise, AllowPickle, Capacity, Listen, Register, Weight


def predict(  # noqa: PLR0913  (the options of the command)
    model_dir: Annotated[Path, typer.Argument(metavar="MODEL_DIR", help="The model folder.")],
    *,
    listen: Listen = None,
    admin: Admin = None,
    model_version: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", help="Version to serve; default: the latest of those that model.yaml names."),
    ] = None,
    model_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What the model is called; default: as the folder.")
    ] = None,
    allow_pickle: AllowPickle = False,
    register: Register = None,
    advertise: Advertise = None,
    weight: Weight = None,
    capacity: Capacity = None,
) -> None:
    """Serve one model folder alone, until SIGTERM.

    Options win over variables (DL_INFERENCE_LISTEN=..., DL_INFERENCE_ADMIN=...). Without either it listens on
    127.0.0.1:5000.
    """
    from dl_inference.registry import zookeeper  # noqa: PLC0415  (not for the other commands)
    from dl_inference.registry.announcing import registration  # noqa: PLC0415  (not for the other commands)
    from tf_predict.repository import is_saved_model_folder  # noqa: PLC0415

    addresses = listen or _listed("DL_INFERENCE_LISTEN") or ["127.0.0.1:5000"]
    admin = next(iter(_listed("DL_INFERENCE_ADMIN")), None) if admin is None else admin or None
    try:
        place = registration.read(os.environ, register=register, advertise=advertise, weight=weight, capacity=capacity)
        if is_saved_model_folder(model_dir):
            from tf_predict import server as tensorflow_server  # noqa: PLC0415  (not for the other commands)

            exit_status = tensorflow_server.serve(
                model_dir,
                addresses,
                admin,
                model_name=model_name,
                model_version=model_version,
                registration=place,
            )
        else:
            from torch_predict import server  # noqa: PLC0415  (torch is an extra, and takes seconds to import)

            exit_status = server.serve(
                model_dir,
                addresses,
                admin,
                allow_pickle,
                version=model_version,
                name=model_name,
                registration=place,
            )
    except zookeeper.RegistryError as error:
        err.print(Text(f"cannot start: {error}", style="red"), soft_wrap=True)
        raise typer.Exit(1) from error
    except ModuleNotFoundError as error:
        say_what_is_missing(error)
        raise typer.Exit(1) from error
    raise typer.Exit(exit_status)


def _listed(variable: str) -> list[str]:
    """Return the addresses that a variable names, written as in access.yaml: one, or a list in brackets."""
    text = os.environ.get(variable, "")
    value = document.scalar(text)
    if isinstance(value, list):
        return [str(each) for each in value]
    return [text] if value is not None and text else []
