"""The fraction of a build that is done, from nested phases."""

from __future__ import annotations

from pix2pix_trt.engine import BuildProgress


def test_nested_phases_add_up_and_never_fall() -> None:
    seen: list[float] = []
    progress = BuildProgress(seen.append)
    progress.start("build", None, 2)
    progress.start("tactics", "build", 4)
    for step in range(4):
        progress.step("tactics", step)
    progress.finish("tactics")
    progress.step("build", 0)
    progress.start("code", "build", 2)
    progress.step("code", 0)
    progress.finish("code")
    progress.step("build", 1)
    progress.finish("build")
    assert seen == [0.125, 0.25, 0.375, 0.5, 0.75, 1.0]


def test_steps_of_unknown_phases_are_ignored() -> None:
    seen: list[float] = []
    BuildProgress(seen.append).step("never started", 3)
    assert seen == []


def test_phases_run_side_by_side() -> None:
    seen: list[float] = []
    progress = BuildProgress(seen.append)
    progress.start("build", None, 1)
    progress.start("a", "build", 4)
    progress.start("b", "build", 2)
    progress.step("a", 0)
    progress.step("b", 0)
    progress.step("a", 1)
    assert seen == [0.25, 0.5]
