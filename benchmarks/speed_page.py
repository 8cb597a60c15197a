"""Writes docs/measurements/speed.md from what `benchmarks.run_all` has kept.

python -m benchmarks.speed_page
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from benchmarks.kept_runs import BENCHMARKS, ROOT, Entry, kept

PAGE = ROOT / "docs" / "measurements" / "speed.md"
NOTICED = 0.1
"""Share of the processors that others take, and change of the speed of the machine, from which on it is said."""
HEAD = """# Speed of this version

This page is written by two commands, from what they measure:

```
python -m benchmarks.run_all --quick    # about five minutes on two cores
python -m benchmarks.run_all --full     # hours; needs MONAI, napari and a display
```

Both are to be run on a machine that does nothing else. A test fails where figures are of an earlier release, or of a
benchmark that was changed since. Logs of earlier measurements are on the other pages of this chapter.
"""
_KINDS = {"quick": "Quick", "full": "Full"}


def speed_page() -> str:
    """The page as Markdown."""
    return "\n".join([HEAD, *(line for kind in _KINDS for line in _section(kind))])


def _section(kind: str) -> Iterator[str]:
    entries = kept(kind)
    yield f"## {_KINDS[kind]}\n"
    if entries:
        yield f"All turns are in [{kind}.json](runs/{kind}.json).\n"
    for name, benchmark in BENCHMARKS.items():
        if name in entries:
            yield f"### {_KINDS[kind]}: {benchmark.title}\n"
            yield from _measured(name, entries[name])
    missing = [
        benchmark.title for name, benchmark in BENCHMARKS.items() if kind in benchmark.options and name not in entries
    ]
    if missing:
        yield f"Not measured yet: {'; '.join(missing)}.\n"


def _measured(name: str, entry: Entry) -> Iterator[str]:
    before, after, versions = entry["before"], entry["after"], entry["versions"]
    said = {"PyTorch": "torch", "OpenVINO": "openvino", "MONAI": "monai", "napari": "napari", "Python": "python"}
    named = ", ".join(f"{title} {versions[package]}" for title, package in said.items() if package in versions)
    yield "```\n" + shlex.join(["python", "-m", f"benchmarks.{name}", *entry["options"]]) + "\n```\n"
    yield (
        f"{entry['when'][:10]}, version {versions['napari-pix2pix']} ({entry['commit']}), {named}; "
        f"{entry['processor']['name']}, {entry['cores']} cores, {entry['threads']} threads, "
        f"{entry['memory_bytes'] / 1e9:.0f} GB; {entry['seconds'] / 60:.1f} minutes.\n"
    )
    yield "| the machine | load | a matrix product, GFLOP/s | a sum, GB/s |\n|---|---|---|---|"
    for when, state in (("before", before), ("after", after)):
        flops, byte_rate = state["matrix_product_flops"] / 1e9, state["sum_bytes_per_second"] / 1e9
        yield f"| {when} | {state['load']:.1f} | {flops:.0f} | {byte_rate:.1f} |"
    yield ""
    yield from (f"**{warning}** Times of this table say little.\n" for warning in _warnings(before, after))
    yield from (*entry["table"], "")


def _warnings(before: dict[str, float], after: dict[str, float]) -> Iterator[str]:
    busy = max(before["busy"], after["busy"])
    if busy > NOTICED:
        yield f"Other programs took {busy:.0%} of the processors."
    change = after["matrix_product_flops"] / before["matrix_product_flops"] - 1
    if abs(change) > NOTICED:
        yield f"The speed of the machine changed by {change:+.0%} meanwhile."


def write_page() -> None:
    PAGE.write_text(speed_page(), encoding="utf-8")


if __name__ == "__main__":
    write_page()
