"""Engines that were compiled ahead of time, perhaps on another machine: which of a folder fit this model and GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import torch

from pix2pix_training.errors import EngineFileError
from pix2pix_training.stages import StageSpec
from pix2pix_trt.engine import ShapeRange
from pix2pix_trt.engine_file import SUFFIX, read_engine_file
from pix2pix_trt.flavours import EnginePrecision, Flavour, architecture, gpu_facts, product_name, version
from pix2pix_trt.stage_engines import REVISION

_FASTEST_FIRST: tuple[EnginePrecision, ...] = ("fp16", "bf16", "fp32")


@dataclass(frozen=True, kw_only=True)
class EngineEntry:
    """A file of a folder; `sha256` is that of all of it when the folder was opened."""

    path: Path
    key: Mapping[str, Any]
    sha256: str


class EngineFolder:
    """A folder of engines that was named explicitly. Each file is checked against its seal on opening.

    Raises
    ------
    EngineFileError
        There is no such folder, it holds no engines, or one of them was cut or altered.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise EngineFileError(f"{folder} is no folder of engines; give the one that `compile --out` has written")
        self.folder = folder
        self._entries = [_entry(path) for path in sorted(folder.glob(f"*{SUFFIX}"))]
        if not self.flavours:
            raise EngineFileError(f"{folder} holds no engines; give the folder that `compile --out` has written")

    @property
    def flavours(self) -> tuple[Flavour, ...]:
        """Packages that there are engines for."""
        found = {entry.key.get("flavour") for entry in self._entries}
        return tuple(flavour for flavour in get_args(Flavour) if flavour in found)

    def for_model(self, model_key: Mapping[str, Any], flavour: Flavour, device: torch.device) -> PreparedEngines:
        """The engines of one model that can be loaded onto the GPU `device`; `model_key` as they were compiled with.

        Raises
        ------
        EngineFileError
            There is none: they are of another model, version or GPU.
        BackendError
            The package is missing.
        """
        folder, product, installed = self.folder, product_name(flavour), version(flavour)
        here, facts = architecture(device), gpu_facts(device)
        found = _those(
            self._entries,
            lambda key: key.get("flavour") == flavour,
            lambda _: f"{folder} holds no engines for {product}; choose another --backend, or compile for it",
        )
        found = _those(
            found,
            lambda key: key["revision"] == REVISION,
            lambda _: f"the engines in {folder} were made by another version of this program; compile the model again",
        )
        found = _those(
            found,
            lambda key: all(key[name] == value for name, value in model_key.items()),
            lambda _: (
                f"the engines in {folder} are of another model, or of this one with other statistics; "
                "compile the model as it is to be used"
            ),
        )
        found = _those(
            found,
            lambda key: key["package"] == installed,
            lambda key: (
                f"the engines in {folder} are for {product} {key['package']}, installed is {installed}; compile again"
            ),
        )
        found = _those(
            found,
            lambda key: here in key["architectures"] if key["architectures"] else key["gpu"] == facts,
            lambda key: (
                f"the engines in {folder} are for {', '.join(key['architectures']) or 'another GPU or driver'}, "
                f"this GPU is {here}; compile for it"
            ),
        )
        return PreparedEngines(folder=folder, entries=tuple(found))


@dataclass(frozen=True, kw_only=True)
class PreparedEngines:
    """Engines of one model, package and GPU; what they compute has not been seen yet."""

    folder: Path
    entries: tuple[EngineEntry, ...]

    @property
    def precisions(self) -> tuple[EnginePrecision, ...]:
        """Those of the engines, the fastest first."""
        found = {entry.key["precision"] for entry in self.entries}
        return tuple(precision for precision in _FASTEST_FIRST if precision in found)

    @property
    def plan(self) -> Mapping[str, Any]:
        """What `compile_to_file` was told about the plan that the engines are for."""
        plan: Mapping[str, Any] = self.entries[0].key.get("plan", {})
        return plan

    def find(self, spec: StageSpec, shapes: Mapping[str, ShapeRange], precision: EnginePrecision) -> bytes | None:
        """The engine of a stage that takes all of `shapes`; None where there is none.

        Raises
        ------
        EngineFileError
            The file was changed since the folder was opened.
        """
        for entry in self.entries:
            fits = (entry.key["stage"], entry.key["precision"]) == (asdict(spec), precision)
            if fits and _covers(entry.key["shapes"], shapes):
                return read_engine_file(entry.path, sha256=entry.sha256).payload
        return None


def _entry(path: Path) -> EngineEntry:
    file = read_engine_file(path)
    return EngineEntry(path=path, key=file.key, sha256=file.sha256)


def _those(
    entries: list[EngineEntry], fits: Callable[[Mapping[str, Any]], bool], problem: Callable[[Mapping[str, Any]], str]
) -> list[EngineEntry]:
    """The entries whose key fits; the problem of the first in words where there is none."""
    found = [entry for entry in entries if fits(entry.key)]
    if not found:
        raise EngineFileError(problem(entries[0].key))
    return found


def _covers(held: Mapping[str, list[list[int]]], needed: Mapping[str, ShapeRange]) -> bool:
    """Whether profiles [minimum, optimum, maximum] by input include those that are needed."""
    if held.keys() != needed.keys():
        return False
    return all(
        all(low <= n for low, n in zip(held[name][0], shapes.minimum, strict=True))
        and all(n <= high for n, high in zip(shapes.maximum, held[name][2], strict=True))
        for name, shapes in needed.items()
    )
