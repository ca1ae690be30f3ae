"""`dl-inference simulate`: what balancing policies do in a scenario, in virtual time."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from dl_inference._native import NativeError
from dl_inference.commands.console import err, out
from dl_inference.commands.options import whole
from dl_inference.commands.simulate_view import cells, show, show_names, title
from dl_inference.simulation import page
from dl_inference.simulation.outcome import ALL, DEFAULT_POLICIES, Outcome
from dl_inference.simulation.outcome import simulate as run
from dl_inference.simulation.plots import NoPlotsError, draw
from dl_inference.simulation.scenario import ScenarioError, load


def simulate(
    scenario: Annotated[
        str | None,
        typer.Argument(
            metavar="SCENARIO", help="A name, a TOML or JSON file, or an access log. Without: list the names."
        ),
    ] = None,
    policies: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            metavar="NAME",
            help=f"Policy, repeatable; all: each. Default: {', '.join(DEFAULT_POLICIES)}.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(parser=whole(1, 1000), metavar="N", help="Runs of each policy.")] = 3,
    folder: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Also draw it, as NAME.png, .svg and .html in this folder."),
    ] = None,
) -> None:
    """Compare balancing policies in virtual time.

    Ours run the access service's own code while endpoints fail, slow down or fill up; others are ports of other
    programs' rules. The table shows medians over the seeds.
    """
    if scenario is None:
        show_names(out)
        return
    try:
        document = load(scenario)
        chosen = ALL if policies == ["all"] else policies or DEFAULT_POLICIES
        outcomes = run(document, chosen, range(1, seeds + 1))
    except (ScenarioError, NativeError) as error:
        err.print(Text(str(error), style="red"), soft_wrap=True)
        raise typer.Exit(2) from error
    show(out, scenario, document, outcomes)
    if folder is not None:
        _draw(Path(scenario).stem, document, outcomes, folder)


def _draw(name: str, document: dict[str, Any], outcomes: list[Outcome], folder: Path) -> None:
    try:
        png, svg = draw(name, document, outcomes, folder)
        path = folder / f"{name}.html"
        page.write(path, title(name, document), *cells(document, outcomes), svg.read_text())
    except (NoPlotsError, OSError) as error:
        err.print(Text(f"cannot draw into {folder}: {error}", style="red"), soft_wrap=True)
        raise typer.Exit(1) from error
    out.print(Text(f"drawn: {png}, {svg}, {path}"), soft_wrap=True)
