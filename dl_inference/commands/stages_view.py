"""What `dl-inference check --stages` prints: a table of the samples, and where the time goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dl_inference.commands.words import plain

if TYPE_CHECKING:
    from dl_inference.local.check import Checked
    from dl_inference.local.staged import Staged

_COLUMNS = {
    "decode": "the request holds",
    **{name: name for name in ("preprocess", "model", "postprocess", "method")},
}


def show_stages(console: Console, checked: Checked) -> None:
    """Print what the samples of a model folder showed; nothing where they were not run."""
    for staged in checked.staged:
        names = [name for name in _COLUMNS if any(name in row.stages for row in staged.rows)]
        title = f"Samples of version {staged.version}: what each stage returned, and its time"
        table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
        for column in ("case", *(_COLUMNS[name] for name in names), "served"):
            table.add_column(column, overflow="fold")
        for row in staged.rows:
            cells = [_cell(*row.stages[name]) if name in row.stages else Text() for name in names]
            served = "" if row.served_ms is None else f"\n{row.served_ms:.2f} ms"
            style = "red" if row.verdict == "differs" else "green"
            table.add_row(row.label, *cells, Text.assemble((row.verdict, style), served))
        console.print(table)
        if line := _shares(staged, names):
            console.print(Text(line), soft_wrap=True)


def _cell(what: str, ms: float | None) -> Text:
    if ms is None:
        return Text(plain(what), style="yellow")
    return Text(f"{plain(what)}\n{ms:.2f} ms")


def _shares(staged: Staged, names: list[str]) -> str:
    """Say where the time of the samples that were answered goes."""
    usual = [row for row in staged.rows if "method" not in row.stages]
    done = [row for row in usual if all(ms is not None for _, ms in row.stages.values())]
    sums = {name: sum(row.stages[name][1] or 0 for row in done if name in row.stages) for name in names}
    whole = sum(sums.values())
    if not whole:
        return ""
    shares = {"decode" if name == "decode" else _COLUMNS[name]: sums[name] / whole for name in names if sums[name]}
    parts = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    return f"time: {parts}"
