"""``doctor``: what is installed, which device would be used, which backends can run and why not."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Annotated, Any

import typer

from napari_pix2pix.cli.console import print_json, print_line
from pix2pix_training.errors import Pix2PixError

_OPTIONAL = (
    *("napari", "PyQt6", "PySide6", "openvino", "tensorrt", "tensorrt-rtx-cu13", "onnx"),
    *("openslide-python", "bioio", "s3fs", "distributed", "tensorboard"),
)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:

    facts = diagnose()
    if as_json:
        print_json(facts)
    else:
        for name, value in facts.items():
            if isinstance(value, dict):
                print_line(f"{name}:")
                for key, text in value.items():
                    print_line(f"  {key}: {text or 'missing'}")
            elif name != "problems":
                print_line(f"{name}: {value}")
    if facts["problems"]:
        raise Pix2PixError("; ".join(facts["problems"]))


def diagnose() -> dict[str, Any]:
    """Facts for ``doctor``; `problems` lists what needs attention, in words."""
    import torch

    from pix2pix_training.device import has_bfloat16, has_int8, resolve_device
    from pix2pix_training.machine import available_memory_bytes

    required = {name: _version(name) for name in _required()}
    has = [(has_bfloat16(), "bfloat16"), (has_int8(), "int8 (VNNI)")]
    instructions = ", ".join(f"{'with' if found else 'no'} {name} instructions" for found, name in has)
    devices = {"cpu": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {instructions}"}
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        devices[f"cuda:{index}"] = f"{properties.name}, {properties.total_memory / 2**30:.1f} GiB"
    if torch.backends.mps.is_available():
        devices["mps"] = "Apple GPU"
    return {
        "napari_pix2pix": _version("napari-pix2pix"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": required,
        "optional_packages": {name: _version(name) or "not installed" for name in _OPTIONAL},
        "devices": devices,
        "default_device": str(resolve_device("auto")),
        "available_memory_bytes": available_memory_bytes(),
        "backends": _backends(),
        "problems": [f"{name} is missing: pip install {name}" for name, v in required.items() if v is None],
    }


def _backends() -> dict[str, str]:
    """Each backend, with "ready" or the reason why it cannot run."""
    from napari_pix2pix.translation.backends.selection import unavailable_reasons

    return {name: reason or "ready" for name, reason in unavailable_reasons().items()}


def _required() -> list[str]:
    """The packages that this one cannot do without, as it was installed."""
    needed = (text for text in requires("napari-pix2pix") or () if "extra ==" not in text)
    return [re.split(r"[^\w.-]", text, maxsplit=1)[0] for text in needed]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
