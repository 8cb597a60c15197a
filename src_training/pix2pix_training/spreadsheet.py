"""Tables as text, however a spreadsheet program has saved them."""

from __future__ import annotations

import csv
from dataclasses import dataclass

_DELIMITERS = (",", ";", "\t")
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Row:
    """Cells of a row, and the line of the file that it ends on."""

    line: int
    cells: tuple[str, ...]

    @property
    def is_blank(self) -> bool:
        return not any(cell.strip() for cell in self.cells)


def read_rows(content: bytes) -> list[Row]:
    """The rows of a table in UTF-8 or UTF-16, with or without a mark of that; the first one names the columns.

    Commas, semicolons or tabs separate the cells, whichever is most frequent in the first row or is named by a line
    ``sep=;`` above it. Rows without any text are left out, unless there is no other.

    Raises
    ------
    ValueError
        This is no such text; says what is wrong.
    """
    lines = _decoded(content).splitlines()
    above = next((number for number, line in enumerate(lines) if line.strip()), len(lines))
    first = lines[above] if above < len(lines) else ""
    delimiter = max(_DELIMITERS, key=first.count)
    if first.lower().startswith("sep=") and len(first) == len("sep=;"):
        delimiter, above = first[-1], above + 1
    try:
        reader = csv.reader(lines[above:], delimiter=delimiter, strict=True)
        rows = [Row(above + reader.line_num, tuple(cells)) for cells in reader]
    except csv.Error as error:
        raise ValueError(str(error)) from error
    return [row for row in rows if not row.is_blank] or rows[:1]


def _decoded(content: bytes) -> str:
    """As UTF-8, or UTF-16, which without a mark has a zero byte beside its first letter."""
    if content[:2] in _UTF_16_MARKS:
        text = content.decode("utf-16")
    elif 0 in content[:2]:
        text = content.decode("utf-16-be" if content[0] == 0 else "utf-16-le")
    else:
        text = content.decode("utf-8-sig")
    if "\0" in text:
        raise ValueError("it is no text in UTF-8 or UTF-16")
    return text
