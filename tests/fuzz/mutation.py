"""Damage, as hypothesis draws it: edits of bytes, of texts, and of trees of JSON values. Each prints as it is."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

_NUMBERS = (0, 1, 2, 3, 7, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    3,
    0.5,
    -0.0,
    1e308,
    float("inf"),
    float("-inf"),
    float("nan"),
    2**31,
    2**63,
    10**30,
    10**400,
    "",
    " ",
    "0",
    "nan",
    "x" * 5000,
    "../../outside",
    "/etc/passwd",
    "\x00",
    "\ud800",
    "é",
    [],
    {},
    [[]],
    [None],
    [0] * 300,
    [1, 2, 3],
    {"": ""},
    {"name": "x"},
)


@dataclass(frozen=True)
class Edit:
    """One change of a file, at a byte counted from its start."""

    kind: str
    at: int
    value: int = 0
    width: int = 1
    big: bool = False


def byte_edits(length: int, header: int) -> st.SearchStrategy[list[Edit]]:
    """Changes of a file of `length` bytes, most of them within its first `header` ones."""
    places = st.one_of(
        st.integers(0, min(header, length) - 1), st.integers(0, min(header, length) - 1), st.integers(0, length - 1)
    )
    number = st.builds(
        Edit,
        kind=st.just("number"),
        at=places,
        value=st.sampled_from(_NUMBERS),
        width=st.sampled_from((1, 2, 4, 8)),
        big=st.booleans(),
    )
    other = st.builds(
        Edit,
        kind=st.sampled_from(("set", "flip", "cut", "insert", "remove", "repeat")),
        at=places,
        value=st.integers(0, 255),
        width=st.sampled_from((1, 2, 4, 16, 100)),
    )
    return st.lists(st.one_of(number, other), min_size=1, max_size=4)


def edited(content: bytes, edits: Sequence[Edit]) -> bytes:
    data = bytearray(content)
    for edit in edits:
        at, width = min(edit.at, max(len(data) - 1, 0)), edit.width
        match edit.kind:
            case "number":
                kind = {1: "B", 2: "H", 4: "I", 8: "Q"}[width]
                packed = struct.pack((">" if edit.big else "<") + kind, edit.value & (256**width - 1))
                data[at : at + width] = packed
            case "set":
                data[at : at + 1] = bytes([edit.value])
            case "flip" if data:
                data[at] ^= 1 << edit.value % 8
            case "cut":
                del data[at:]
            case "insert":
                data[at:at] = bytes([edit.value]) * width
            case "remove":
                del data[at : at + width]
            case "repeat":
                data[at:at] = data[at : at + width]
    return bytes(data)


@dataclass(frozen=True)
class NodeEdit:
    """One change of a tree of JSON values, at a node counted in the order of the text."""

    kind: str
    at: int
    value: Any = None


def values() -> st.SearchStrategy[Any]:
    """Values that a careless reader would not expect."""
    simple = st.sampled_from(_VALUES)
    return st.one_of(simple, simple, st.lists(simple, max_size=4), st.integers(), st.floats(), st.text(max_size=8))


def node_edits(document: Any) -> st.SearchStrategy[list[NodeEdit]]:
    count = len(_nodes(document))
    kinds = st.sampled_from(("set", "set", "set", "remove", "rename", "repeat", "wrap"))
    edit = st.builds(NodeEdit, kind=kinds, at=st.integers(0, max(count - 1, 0)), value=values())
    return st.lists(edit, min_size=1, max_size=3)


def edited_document(document: Any, edits: Sequence[NodeEdit]) -> Any:
    root = {"": copy.deepcopy(document)}
    for edit in edits:
        nodes = _nodes(root)
        if not nodes:
            break
        owner, key = nodes[(edit.at + 1) % len(nodes)]
        match edit.kind:
            case "set":
                owner[key] = copy.deepcopy(edit.value)
            case "remove":
                del owner[key]
            case "rename" if isinstance(owner, dict):
                owner[str(edit.value)[:50]] = owner.pop(key)
            case "repeat" if isinstance(owner, list):
                owner.extend(copy.deepcopy(owner) * 2)
            case "wrap":
                owner[key] = [owner[key]]
    return root.get("")


def _nodes(document: Any) -> list[tuple[Any, Any]]:
    """Owner and key of every value."""
    found: list[tuple[Any, Any]] = []
    waiting = [document]
    while waiting:
        owner = waiting.pop()
        entries = list(owner.items()) if isinstance(owner, dict) else list(enumerate(owner))
        for key, value in entries:
            found.append((owner, key))
            if isinstance(value, dict | list):
                waiting.append(value)
    return found


def as_json(document: Any) -> bytes:
    return json.dumps(document).encode("utf-8", "surrogatepass")
