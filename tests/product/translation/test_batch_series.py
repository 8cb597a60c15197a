"""Files of several images, and images of several files, through `translate`."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_pix2pix.cli.application import run
from napari_pix2pix.formats.source import open_image
from napari_pix2pix.translation.batch import Job, jobs_for
from napari_pix2pix.translation.output_description import image_identity
from pix2pix_training.errors import InputError
from pix2pix_training.model_file import save_model
from tests.product.conftest import model_for

_PIXELS = np.random.default_rng(0).integers(0, 256, (3, 40, 50), np.uint8)


@pytest.fixture
def positions(tmp_path: Path) -> Path:
    """An OME-TIFF of three images."""
    path = tmp_path / "in" / "a.ome.tif"
    path.parent.mkdir()
    with tifffile.TiffWriter(path) as tif:
        for array in _PIXELS:
            tif.write(array, metadata={"axes": "YX"})
    return path


@pytest.fixture
def translated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """Runs `translate`: exit code, report, and what it says on stderr."""

    def translate(*arguments: str | Path) -> tuple[int, dict[str, Any], str]:
        if not (tmp_path / "model.safetensors").exists():
            save_model(model_for(1, 1), tmp_path / "model.safetensors")
        code = run(["translate", *map(str, arguments), "--model", str(tmp_path / "model.safetensors"), "--json"])
        out, err = capsys.readouterr()
        return code, json.loads(out.splitlines()[-1]) if code == 0 else {}, err

    return translate


def test_each_image_of_a_file_is_an_output(
    tmp_path: Path, positions: Path, translated: Callable[..., tuple[int, dict[str, Any], str]]
) -> None:
    for given in (positions, positions.parent):
        out = tmp_path / f"out{given.is_dir()}"
        code, report, err = translated(given, "--out", out)
        assert (code, sorted(path.name for path in out.iterdir())) == (0, [f"a_{n}.ome.tif" for n in range(3)])
        assert len(report["outputs"]) == 3
        assert "warning: " in err and "holds 3 images; all are used, as a_0 to a_2" in err
        assert any("holds 3 images" in warning for warning in report["warnings"])
    arrays = [tifffile.imread(path) for path in sorted(out.iterdir())]
    assert not np.array_equal(arrays[0], arrays[1])


def test_one_image_of_a_file_by_its_number(
    tmp_path: Path, positions: Path, translated: Callable[..., tuple[int, dict[str, Any], str]]
) -> None:
    code, _, err = translated(positions, "--out", tmp_path / "o.ome.tif", "--series", 2)
    assert (code, "warning" in err) == (0, False)
    translated(positions, "--out", tmp_path / "all")
    by_number, of_all = tifffile.imread(tmp_path / "o.ome.tif"), tifffile.imread(tmp_path / "all" / "a_2.ome.tif")
    np.testing.assert_array_equal(by_number, of_all)


def test_a_name_for_one_output_takes_the_first_image_and_says_so(
    tmp_path: Path, positions: Path, translated: Callable[..., tuple[int, dict[str, Any], str]]
) -> None:
    code, report, err = translated(positions, "--out", tmp_path / "o.ome.tif")
    assert code == 0
    assert "holds 3 images and number 0 is translated; give --series for another, or a folder" in err
    assert len(report["outputs"]) == len(report["warnings"]) == 1


def test_numbers_that_no_file_holds_are_refused(tmp_path: Path, positions: Path) -> None:
    with pytest.raises(InputError, match="no image number 3; it holds 3 images"):
        jobs_for([positions], tmp_path / "out", file_format="same", series=3)
    tifffile.imwrite(tmp_path / "b.tif", _PIXELS[0])
    with pytest.raises(InputError, match="none of the inputs holds an image number 1; leave out --series"):
        jobs_for([tmp_path / "b.tif"], tmp_path / "out", file_format="same", series=1)
    jobs = jobs_for([positions, tmp_path / "b.tif"], tmp_path / "out", file_format="same", series=1)
    assert jobs == [
        Job((positions,), tmp_path / "out" / "a.ome.tif", series=1),
        Job((tmp_path / "b.tif",), tmp_path / "out" / "b.tif"),
    ]


def test_images_are_known_apart_when_work_is_resumed(positions: Path) -> None:
    """`--resume` with another number of the same file is another input."""
    identities = []
    for series in range(3):
        with open_image(positions, series) as source:
            identities.append(image_identity(source))
    assert all(first != second for first, second in combinations(identities, 2))


_PLANE = '<TiffData FirstT="{0}" IFD="0" PlaneCount="1"><UUID FileName="t{0}.ome.tif">urn:uuid:{0}</UUID></TiffData>'


def test_files_of_one_image_are_one_output(
    tmp_path: Path, translated: Callable[..., tuple[int, dict[str, Any], str]]
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for number, array in enumerate(_PIXELS):
        xml = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{number}"><Image><Pixels '
            'DimensionOrder="XYZCT" Type="uint8" SizeX="50" SizeY="40" SizeZ="1" SizeC="1" SizeT="3"><Channel/>'
            f"{''.join(map(_PLANE.format, range(3)))}</Pixels></Image></OME>"
        )
        tifffile.imwrite(folder / f"t{number}.ome.tif", array, description=xml, metadata=None)
    for given, out in ([folder], "of_folder"), (sorted(folder.iterdir()), "of_files"):
        code, report, err = translated(*given, "--out", tmp_path / out)
        assert (code, [path.name for path in (tmp_path / out).iterdir()]) == (0, ["t0.ome.tif"])
        assert tifffile.imread(tmp_path / out / "t0.ome.tif").shape == (3, 40, 50)
        assert "t0.ome.tif and 2 other files beside it belong together and are used once" in err
        assert len(report["warnings"]) == 1
    assert len(jobs_for(sorted(folder.iterdir()), tmp_path / "o.ome.tif", file_format="same")) == 1
