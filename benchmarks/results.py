"""Where benchmarks leave what they found, and on which processor."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

from pix2pix_training.atomic import atomic_write


def give_results(folder: Path | None, name: str, figures: Any, table: str, *, show: bool = True) -> None:
    """Print the table, in Markdown; where a folder is given write it there as NAME.md, and the figures as NAME.json."""
    if show:
        print(table)
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, content in ((".json", json.dumps(figures, indent=1)), (".md", table)):
        with atomic_write(folder / f"{name}{suffix}") as partial:
            partial.write_text(f"{content.rstrip()}\n", encoding="utf-8")


def processor() -> dict[str, Any]:
    """Name of the processor, and which of the instructions for bfloat16 it has (Linux)."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    entries = dict(line.split(":", 1) for line in lines if ":" in line)
    known = {name.strip(): value.strip() for name, value in entries.items()}
    flags = known.get("flags", "").split()
    return {
        "name": known.get("model name", platform.machine()),
        "bfloat16": [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags],
    }
