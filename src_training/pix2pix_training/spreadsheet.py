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
    ``sep=;`` above it. Rows without any text but the first are left out.

    Raises
    ------
    ValueError
        This is no such text; says what is wrong.
    """
    lines = _decoded(content).splitlines()
    above = 0
    delimiter = max(_DELIMITERS, key=lines[0].count) if lines else ","
    if lines and lines[0].lower().startswith("sep=") and len(lines[0]) == len("sep=;"):
        delimiter, above = lines[0][-1], 1
    try:
        reader = csv.reader(lines[above:], delimiter=delimiter, strict=True)
        rows = [Row(above + reader.line_num, tuple(cells)) for cells in reader]
    except csv.Error as error:
        raise ValueError(str(error)) from error
    return [row for number, row in enumerate(rows) if number == 0 or not row.is_blank]


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
