"""What --out means for commands that write no images."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_pix2pix.output_paths import output_file, output_folder, result_path, zarr_path
from pix2pix_training.errors import OutputError


@pytest.mark.parametrize("name", ["a.onnx", "A.ONNX"])
def test_file_by_its_ending(tmp_path: Path, name: str) -> None:
    assert output_file(tmp_path / name, (".onnx",), "model") == tmp_path / name


@pytest.mark.parametrize("existing", [False, True])
def test_path_without_an_ending_is_a_folder(tmp_path: Path, existing: bool) -> None:
    if existing:
        (tmp_path / "results").mkdir()
    assert output_file(tmp_path / "results", (".pth", ".pt"), "model") == tmp_path / "results" / "model.pth"


def test_existing_folder_with_a_dot_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "results.v2").mkdir()
    assert output_file(tmp_path / "results.v2", (".pth",), "model") == tmp_path / "results.v2" / "model.pth"
    (tmp_path / "run.zip").mkdir()
    assert output_folder(tmp_path / "run.zip") == tmp_path / "run.zip"


@pytest.mark.parametrize("name", ["run", "run.v2", "run_1.5"])
def test_name_of_a_folder(tmp_path: Path, name: str) -> None:
    assert output_folder(tmp_path / name) == tmp_path / name


@pytest.mark.parametrize("name", ["a.bin", "a.safetensors"])
def test_other_endings_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"has the ending \.onnx, not"):
        output_file(tmp_path / name, (".onnx",), "model")


@pytest.mark.parametrize("letter", ["x", "ü", "漢"])
def test_proposed_names_fit_on_a_disk(tmp_path: Path, letter: str) -> None:
    for proposed in (result_path(tmp_path, letter * 300, is_geographic=False), zarr_path(tmp_path, letter * 300)):
        proposed.with_name(proposed.name + ".partial.state").mkdir()
        assert set(proposed.name.partition(".")[0]) == {letter}
