"""A table that is as narrow as the terminal: what counts least leaves it first, and no cell is folded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions
from rich.text import Text

_GAP = "  "
_ENOUGH = 20
"""Cells that a text needs before other columns have to leave."""
_LEAST = 4
"""Cells that a text keeps when not even the columns that stay have room."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        title: its head.
        rank: 0: it stays in any case; of the others the highest leaves first.
        is_number: it stands at the right and is never cut.
    """

    title: str
    rank: int = 0
    is_number: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One row: a cell for each column, and whether it is among the first to be shown where not all can be."""

    cells: tuple[Text, ...]
    is_urgent: bool = False


@dataclass(frozen=True, slots=True)
class FittedTable:
    """Columns and rows that print in the width there is. A column without any content is left out.

    Attributes:
        columns: from left to right. A first cell that says the same as the one above it stays empty.
        rows: from top to bottom.
        lines: most lines that it may have, at least 3; urgent rows are shown first, and how many are not shown.
    """

    columns: Sequence[Column]
    rows: Sequence[Row]
    lines: int | None = None

    @property
    def length(self) -> int:
        """Return how many lines all of it needs: the head and one for each row; none without rows."""
        return len(self.rows) + 1 if self.rows else 0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Yield a line for each row."""
        if not self.rows:
            return
        rows = self._shown()
        widths = self._widths(rows, options.max_width)
        yield self._line([Text(column.title, "bold") for column in self.columns], widths)
        above = ""
        for row in rows:
            first, *others = row.cells
            yield self._line([Text() if first.plain == above else first, *others], widths)
            above = first.plain
        if hidden := len(self.rows) - len(rows):
            yield Text(f"and {hidden} more", style="bold")

    def _shown(self) -> Sequence[Row]:
        if self.lines is None or self.length <= self.lines:
            return self.rows
        urgent_first = sorted(range(len(self.rows)), key=lambda index: not self.rows[index].is_urgent)
        return [self.rows[index] for index in sorted(urgent_first[: self.lines - 2])]

    def _widths(self, rows: Sequence[Row], room: int) -> dict[int, int]:
        """Return the width of each column that is shown."""
        full = {
            index: max(cells, len(column.title))
            for index, column in enumerate(self.columns)
            if (cells := max(row.cells[index].cell_len for row in rows)) or column.rank == 0
        }
        widths = {
            index: cells if self.columns[index].is_number else min(cells, _ENOUGH) for index, cells in full.items()
        }
        for index in sorted(full, key=lambda index: -self.columns[index].rank):
            if _total(widths) > room and self.columns[index].rank > 0:
                del widths[index]
        for index in sorted(widths, key=lambda index: self.columns[index].rank):
            spare = room - _total(widths)
            if spare > 0:
                widths[index] += min(spare, full[index] - widths[index])
            elif not self.columns[index].is_number:
                widths[index] -= max(0, min(-spare, widths[index] - _LEAST))
        return widths

    def _line(self, cells: Sequence[Text], widths: dict[int, int]) -> Text:
        line = Text(no_wrap=True, overflow="crop")
        for index, width in widths.items():
            cell = cells[index].copy()
            cell.truncate(width, overflow="ellipsis")
            cell.align("right" if self.columns[index].is_number else "left", width)
            line.append_text(cell).append(_GAP)
        line.rstrip()
        return line


def _total(widths: dict[int, int]) -> int:
    return sum(widths.values()) + len(_GAP) * (len(widths) - 1)
