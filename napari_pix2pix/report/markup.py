"""HTML from Python: text is escaped wherever it goes in, so that no name of a file or channel can become markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_VOID = ("img", "meta", "input", "image", "rect", "circle", "line")


class Html(str):
    """Text that is markup already; made by `tag` alone, and of constants."""


Inside = str | Html


def tag(name: str, /, *inside: Inside, **attributes: object) -> Html:
    """An element. Text inside and values of attributes are escaped; ``class_`` is the attribute class, None is none.

    An underscore in the name of an attribute stands for a hyphen.
    """
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{said}/>")
    return Html(f"<{name}{said}>{joined(inside)}</{name}>")


def joined(parts: Iterable[Inside]) -> Html:
    """Parts one after the other, text escaped."""
    return Html("".join(part if isinstance(part, Html) else escape(part) for part in parts))


def table(head: Sequence[Inside], rows: Iterable[Sequence[Inside]], **attributes: object) -> Html:
    """A table; the first cell of each row is its heading."""
    header = tag("thead", tag("tr", *(cell if _is_cell(cell) else tag("th", cell, scope="col") for cell in head)))
    body = [tag("tr", tag("th", row[0], scope="row"), *(_cell(cell) for cell in row[1:])) for row in rows]
    return tag("div", tag("table", header, tag("tbody", *body), **attributes), class_="scroll")


def _cell(inside: Inside) -> Html:
    return inside if isinstance(inside, Html) and _is_cell(inside) else tag("td", inside)


def _is_cell(inside: Inside) -> bool:
    return isinstance(inside, Html) and inside.startswith(("<td", "<th"))


def facts(pairs: Iterable[tuple[str, Inside]]) -> Html:
    """Names and what is known of them."""
    return tag("dl", *(joined([tag("dt", name), tag("dd", said)]) for name, said in pairs))
