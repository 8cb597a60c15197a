"""Frozen classes of values that are checked as they are made; what is refused is one line that names the entry.

A type and its limits stand once, in the annotation: ``depth: Annotated[int, Field(ge=2, le=10)] = 8``. Types are
strict (no "1" and no True for 1), real numbers are finite; tables stand for classes and lists for tuples. What people
read of an entry stands beside it (`Setting`, `Labels`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, dataclass_transform, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo
from pydantic_core import core_schema

from pix2pix_training.errors import SettingsError

T = TypeVar("T")
LARGEST_INTEGER = 2**63 - 1
"""That other programs store too."""
_SHOWN_CHARACTERS = 60
_CONFIG = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")
_KINDS = {"int_type": "int", "bool_type": "bool", "string_type": "str", "float_type": "number", "path_type": "path"}


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a setting is, for people.

    Attributes
    ----------
    help : one sentence, in the help of the command line and over the field of the form.
    option : of the command line, where it is not called like the setting. Of a truth value it is ``--on/--off`` or
        ``--on`` alone, else ``--name/--no-name``.
    label : in the form, where it is not the name of the setting in words.
    step : by which the field of a number changes.
    unit : of a number.
    unset : what None means.
    group : settings that belong together, in the help and in the form; else those of a table do.
    also : another setting that the same option sets, unless it has one of its own.
    """

    help: str
    option: str | None = None
    label: str | None = None
    step: float = 1
    unit: str = ""
    unset: str = "automatic"
    group: str = ""
    also: tuple[str, ...] = ()


class Labels:
    """The values of a ``Literal`` in words."""

    def __init__(self, words: Mapping[Any, str]) -> None:
        self.words = words


class Written:
    """Of a value that people write as a text, in a form or on the command line; in Python a text will do as well.

    `read` makes the value of a text and raises `ValueError`, `write` the other way round.
    """

    def __init__(self, read: Callable[[str], Any], write: Callable[[Any], str] = str, example: str = "") -> None:
        self.read, self.write, self.example = read, write, example

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        read = self.read
        return core_schema.no_info_before_validator_function(
            lambda value: read(value) if isinstance(value, str) else value, handler(source)
        )


def _checked_text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("holds bytes that are no text; write it in UTF-8") from error
    return text


Text = Annotated[str, AfterValidator(_checked_text)]


class Lenient:
    """Of a tuple: a list of the same entries will do. Of a path: its text will."""

    @staticmethod
    def __get_pydantic_core_schema__(source: Any, handler: Any) -> Any:
        return {**handler(source), "strict": False}


AnyPath = Annotated[Path, Lenient]


@dataclass_transform(frozen_default=True, kw_only_default=True)
def validated(cls: type[T]) -> type[T]:
    """A frozen keyword-only dataclass that raises `SettingsError` unless each value is what its annotation says."""
    cls.__get_pydantic_core_schema__ = classmethod(_schema)  # type: ignore[attr-defined]
    made = dataclass(frozen=True, kw_only=True, config=_CONFIG)(cls)
    check = made.__init__

    @functools.wraps(check)
    def init(self: Any, *args: Any, **values: Any) -> None:
        try:
            check(self, *args, **values)
        except ValidationError as error:
            raise SettingsError(_in_words(error, made, "")) from error

    made.__init__ = init  # type: ignore[method-assign]
    return cast(type[T], made)


def from_dict(cls: type[T], data: object, *, where: str = "") -> T:
    """A validated class from a table; nested classes from nested tables. `SettingsError` names the entry in `where`."""
    try:
        return cast(T, cls.__pydantic_validator__.validate_python(data))  # type: ignore[attr-defined]
    except ValidationError as error:
        raise SettingsError(_in_words(error, cls, where)) from error


def checked(annotation: Any, value: object, name: str) -> Any:
    """`value` as what the annotation says, of an argument called `name`; `SettingsError` where it is something else."""
    try:
        return TypeAdapter(annotation, config=ConfigDict(strict=True, allow_inf_nan=False)).validate_python(value)
    except ValidationError as error:
        raise SettingsError(_in_words(error, annotation, name)) from error


def limits(annotation: Any) -> tuple[Any, Any, bool]:
    """Smallest and greatest value, None where there is no limit; and whether the smallest is allowed itself."""
    found = dict(_limits(annotation))
    return found.get("ge", found.get("gt")), found.get("le"), "gt" not in found


def _limits(annotation: Any) -> Iterator[tuple[str, Any]]:
    for part in get_args(annotation):
        if isinstance(part, FieldInfo):
            for limit in part.metadata:
                yield from ((name, getattr(limit, name)) for name in ("ge", "gt", "le") if hasattr(limit, name))
        else:
            yield from _limits(part)


def choices(annotation: Any) -> tuple[Any, ...]:
    """The values that a ``Literal`` allows, also of one within ``Annotated`` or beside None."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(value for part in get_args(annotation) for value in choices(part))


def labels(annotation: Any) -> Mapping[Any, str]:
    """Values in words, of an annotation or of a part of it; empty where it has none."""
    if isinstance(annotation, Labels):
        return annotation.words
    return next((words for part in get_args(annotation) if (words := labels(part))), {})


def _schema(cls: type, source: Any, handler: Any) -> Any:
    """A table stands for the class, though the types of its entries are strict."""
    schema = handler(source)
    handler.resolve_ref_schema(schema)["strict"] = False
    return schema


def _in_words(error: ValidationError, cls: type, where: str) -> str:
    first = error.errors(include_url=False)[0]
    kind, value, place = first["type"], first["input"], first["loc"]
    annotation, entries = _found(cls, place[:-1] if kind == "missing" and isinstance(place[-1], int) else place)
    name = where + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    name = name.removeprefix(".")
    table, _, entry = name.rpartition(".")
    match kind:
        case "unexpected_keyword_argument":
            start = f"{table} has" if table else "there is"
            return f"{start} an unknown entry {shown(entry)}; known are {', '.join(entries)}"
        case "missing" if place and isinstance(place[-1], str):
            return f"{table} lacks the entry {entry!r}" if table else f"the entry {entry!r} is missing"
        case "missing" | "too_long":
            listed, wanted = name.removesuffix(f"[{place[-1]}]"), len(get_args(_container(annotation)))
            return f"{listed} should have {wanted} entries, not {place[-1] if kind == 'missing' else len(value)}"
        case "dataclass_type":
            return f"{name or 'settings'} should be a table of settings, not {type(value).__name__}"
        case "tuple_type":
            return f"{name} should be a list, not {type(value).__name__}"
        case "literal_error":
            return f"{name} is {shown(value)}; choose one of {', '.join(map(str, choices(annotation)))}"
        case "greater_than_equal" | "less_than_equal" | "greater_than":
            return f"{name} is {shown(value)}; it must {_range_in_words(*limits(annotation))}"
        case "finite_number":
            return f"{name} is {shown(value)}; it should be a finite number"
        case "value_error":
            return f"{name} {first['ctx']['error']}"
        case _ if kind in _KINDS:
            return f"{name} is {shown(value)}, a {type(value).__name__}; it should be a {_KINDS[kind]}"
    return f"{name} is {shown(value)}; {first['msg'][:1].lower()}{first['msg'][1:]}"


def _found(cls: type, place: tuple[int | str, ...]) -> tuple[Any, Mapping[str, Any]]:
    """The annotation of the innermost entry of `place` that is known, and those of the table that it is in."""
    annotation: Any = cls
    entries = get_type_hints(cls, include_extras=True) if isinstance(cls, type) else {}
    for part in place:
        if isinstance(part, str):
            if (inner := getattr(annotation, "__annotations__", None)) is not None:
                entries = get_type_hints(annotation, include_extras=True) if inner else {}
            container = _container(annotation)
            annotation = entries.get(part) if get_origin(container) is not dict else get_args(container)[1]
        else:
            parts = [each for each in get_args(_container(annotation)) if each is not Ellipsis]
            annotation = parts[min(part, len(parts) - 1)] if parts else annotation
    return annotation, entries


def _container(annotation: Any) -> Any:
    """The ``tuple`` or ``dict`` of an annotation, also of one within ``Annotated`` or beside None; else None."""
    if get_origin(annotation) in (tuple, dict):
        return annotation
    return next((found for part in get_args(annotation) if (found := _container(part)) is not None), None)


def _range_in_words(low: Any, high: Any, includes_low: bool) -> str:
    if high is None:
        return f"be {_number(low)} or more" if includes_low else f"be above {_number(low)}"
    if includes_low:
        return f"lie between {_number(low)} and {_number(high)}"
    return f"be above {_number(low)} and at most {_number(high)}"


def _number(limit: float) -> str:
    return str(int(limit)) if float(limit).is_integer() else str(limit)


def shown(value: Any) -> str:
    """A value in a message, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        return "a huge number"
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
