"""Writes a simulation as one HTML page that needs nothing else: the figures of all policies, and the picture."""

import html
from collections.abc import Sequence
from pathlib import Path

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{padding:.2rem .8rem;border-bottom:1px solid #ddd;text-align:right}"
    "td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}"
)


def write(path: Path, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], picture: str) -> None:
    """Write the page.

    Args:
        path: where to.
        title: of the page, one line.
        heads: of the table.
        rows: of the table, a cell for each head.
        picture: an SVG document.

    Raises:
        OSError: it cannot be written.
    """
    drawing = picture[picture.index("<svg") :]
    head = "".join(f"<th>{html.escape(each)}</th>" for each in heads)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    path.write_text(
        f'<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style>\n<h1>{html.escape(title)}</h1>\n"
        f"<table><tr>{head}</tr>\n{body}</table>\n{drawing}</html>\n"
    )
