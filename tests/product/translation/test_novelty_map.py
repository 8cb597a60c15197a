"""Novelty maps beside outputs, and what is said of images that are unlike those of training without being asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from napari_pix2pix.cli.application import run
from napari_pix2pix.formats import open_image
from napari_pix2pix.translation.novelty_map import found_novelty
from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.array_source import AnyArray, MemorySource
from pix2pix_training.intensity import dtype_mapping
from pix2pix_training.model_file import Model, save_model
from pix2pix_training.novelty import NoveltyMeasure
from pix2pix_training.novelty_survey import KnownImage, measured_novelty
from tests.product.conftest import model_for

HEIGHT, WIDTH = 230, 300


def texture(seed: int, height: int = 256, width: int = 256) -> AnyArray:
    rng = np.random.default_rng(seed)
    blobs = 110 + 300 * gaussian_filter(rng.normal(size=(height, width)), 2) + rng.normal(0, 4, (height, width))
    pixels: AnyArray = np.clip(blobs, 0, 255).astype(np.uint8)
    return pixels


def measure_of_textures() -> NoveltyMeasure | None:
    def known(seeds: range) -> list[KnownImage]:
        mapping = dtype_mapping(np.dtype(np.uint8), 1)
        return [KnownImage(image=MemorySource(texture(s)[None]), planes=[()], mapping=mapping) for s in seeds]

    return measured_novelty(known(range(6)), known(range(20, 24)))


@pytest.fixture(scope="module")
def model() -> Model:
    return replace(model_for(1, 1), novelty=measure_of_textures())


@pytest.fixture
def model_file(model: Model, tmp_path: Path) -> Path:
    save_model(model, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.fixture
def half_strange(tmp_path: Path) -> Path:
    """An image whose right half is dark and flat."""
    pixels = texture(40, HEIGHT, WIDTH)
    pixels[:, 160:] //= 5
    tifffile.imwrite(
        tmp_path / "half.ome.tif", pixels, metadata={"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    )
    return tmp_path / "half.ome.tif"


def translated(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, dict[str, Any], str]:
    """Exit code, the JSON object, and what stderr says."""
    code = run(["translate", *map(str, arguments), "--json"])
    out, err = capfd.readouterr()
    return code, json.loads(out.splitlines()[-1]), err


def pixels_of(path: Path) -> AnyArray:
    with open_image(path, 0) as image:
        return np.asarray(image.read(whole(image)))


def whole(image: Any) -> Any:
    from pix2pix_training.array_source import whole_plane

    return whole_plane(image)


def test_the_map_lies_beside_the_output_and_says_what_is_strange(
    capfd: pytest.CaptureFixture[str], model_file: Path, half_strange: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.ome.tif"
    code, report, err = translated(capfd, half_strange, "--model", model_file, "--out", out, "--novelty-map")
    assert code == 0
    with open_image(tmp_path / "out-novelty.ome.tif", 0) as image:
        assert image.shape == (1, HEIGHT, WIDTH)
        assert image.dtype == np.float32
        assert image.channel_names == ("p-value of novelty",)
        assert image.metadata.pixel_size == (0.5, 0.5)
        found = image.read(whole(image))[0]
    assert (found[:, 192:] < 0.01).all()
    assert (found[:, :128] < 0.01).mean() < 0.1
    assert report["novel_share"] == pytest.approx(
        (found[:, 160:].size + (found[:, 128:160] < 0.01).sum()) / found.size, abs=0.1
    )
    share = f"{100 * report['novel_share']:.0f} % of the image is unlike what the model was trained on"
    assert share in err
    assert any(share in line for line in report["warnings"])
    assert report["outputs"] == [str(out)]
    assert report["novelty_maps"] == [str(tmp_path / "out-novelty.ome.tif")]
    assert str(tmp_path / "out-novelty.ome.tif") in err.splitlines()


@pytest.mark.parametrize(
    "options",
    [["--scheme", "blend", "--tile", "64"], ["--scheme", "exact", "--tile", "32"], ["--region", "256", "--resume"]],
    ids=["blend", "exact", "regions"],
)
def test_the_map_does_not_depend_on_how_an_image_is_translated(
    capfd: pytest.CaptureFixture[str], model_file: Path, half_strange: Path, tmp_path: Path, options: list[str]
) -> None:
    common: list[str | Path] = [half_strange, "--model", model_file, "--novelty-map"]
    _, report, _ = translated(capfd, *common, "--out", tmp_path / "a.tif")
    _, other, _ = translated(capfd, *common, "--out", tmp_path / "b.tif", *options)
    assert other["novel_share"] == report["novel_share"]
    np.testing.assert_array_equal(pixels_of(tmp_path / "b-novelty.tif"), pixels_of(tmp_path / "a-novelty.tif"))


def test_one_of_several_processes_makes_the_map(
    capfd: pytest.CaptureFixture[str], model_file: Path, tmp_path: Path
) -> None:
    tifffile.imwrite(tmp_path / "image.tif", texture(41, 64, 600))
    common: list[str | Path] = [
        tmp_path / "image.tif",
        "--model",
        model_file,
        "--out",
        tmp_path / "o.tif",
        "--novelty-map",
    ]
    shares = []
    for shard in ("2/2", "1/2"):
        _, report, _ = translated(capfd, *common, "--region", "256", "--statistics", "tile", "--shard", shard)
        shares.append(report["novel_share"])
    assert shares[0] is None and shares[1] is not None
    assert pixels_of(tmp_path / "o-novelty.tif").shape == (1, 64, 600)


def test_a_map_has_all_planes(capfd: pytest.CaptureFixture[str], model_file: Path, tmp_path: Path) -> None:
    stack = np.stack([texture(42), texture(43) // 5])
    tifffile.imwrite(tmp_path / "stack.ome.tif", stack, metadata={"axes": "ZYX"})
    out = tmp_path / "out.ome.zarr"
    _, report, _ = translated(capfd, tmp_path / "stack.ome.tif", "--model", model_file, "--out", out, "--novelty-map")
    with open_image(tmp_path / "out-novelty.ome.zarr", 0) as image:
        first, second = (image.read(whole(image), (z,)) for z in range(2))
    assert (first < 0.01).mean() < 0.1
    assert (second < 0.01).all()
    assert report["novel_share"] == pytest.approx(0.5, abs=0.1)


def test_formats_without_reals_have_their_map_as_tiff(
    capfd: pytest.CaptureFixture[str], model_file: Path, half_strange: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.png"
    code, *_ = translated(capfd, half_strange, "--model", model_file, "--out", out, "--novelty-map")
    assert code == 0
    assert pixels_of(tmp_path / "out-novelty.tif").shape == (1, HEIGHT, WIDTH)


def test_places_without_data_are_not_judged(model: Model) -> None:
    pixels = texture(44).astype(np.float32)
    pixels[:, :64] = np.nan
    translator = Translator(model, TranslationSettings(convert_values="values"))
    novelty = found_novelty(translator.fit(MemorySource(pixels)), translator)
    assert np.isnan(novelty.p_values[:, :2]).all()
    assert np.isfinite(novelty.p_values[:, 2:]).all()
    assert novelty.share < 0.1
    empty = found_novelty(translator.fit(MemorySource(np.full((64, 64), np.nan, np.float32))), translator)
    assert np.isnan(empty.p_values).all() and empty.share == 0


def test_strange_images_are_warned_of_without_a_map(
    capfd: pytest.CaptureFixture[str], model_file: Path, tmp_path: Path
) -> None:
    for name, pixels in (("usual", texture(45)), ("strange", texture(45) // 5)):
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels)
        out = tmp_path / f"{name}-out.tif"
        _, report, _ = translated(capfd, tmp_path / f"{name}.tif", "--model", model_file, "--out", out)
        told = [line for line in report["warnings"] if "unlike what the model was trained on" in line]
        assert len(told) == (name == "strange")
        assert (report["novel_share"] > 0.9) == (name == "strange")
        assert not list(tmp_path.glob("*novelty*"))


def test_a_model_without_a_measure_says_nothing_unless_asked(
    capfd: pytest.CaptureFixture[str], model_path: Path, half_strange: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.tif"
    code, report, _ = translated(capfd, half_strange, "--model", model_path, "--out", out)
    assert (code, report["novel_share"]) == (0, None)
    code, report, err = translated(
        capfd, half_strange, "--model", model_path, "--out", out, "--overwrite", "--novelty-map"
    )
    assert code == 2
    assert "cannot tell what is unlike its training images" in err
    assert not list(tmp_path.glob("*novelty*"))


def test_a_map_that_is_there_is_replaced_or_kept_or_refused(
    capfd: pytest.CaptureFixture[str], model_file: Path, half_strange: Path, tmp_path: Path
) -> None:
    out, of_map = tmp_path / "out.tif", tmp_path / "out-novelty.tif"
    common: list[str | Path] = [half_strange, "--model", model_file, "--out", out]
    of_map.write_bytes(b"mine")
    code, report, _ = translated(capfd, *common, "--novelty-map")
    assert code == 2 and "out-novelty.tif" in report["error"]
    assert of_map.read_bytes() == b"mine" and not out.exists()
    code, *_ = translated(capfd, *common, "--novelty-map", "--overwrite")
    assert code == 0
    made = of_map.read_bytes()
    of_map.unlink()
    code, report, _ = translated(capfd, *common, "--novelty-map", "--resume")  # the output is complete
    assert code == 0 and report["novel_share"] is not None
    assert pixels_of(of_map).shape == (1, HEIGHT, WIDTH)
    of_map.write_bytes(made[:-1])
    code, *_ = translated(capfd, *common, "--novelty-map", "--resume")
    assert code == 0 and of_map.read_bytes() == made[:-1]


def test_an_input_is_not_replaced_by_a_map(capfd: pytest.CaptureFixture[str], model_file: Path, tmp_path: Path) -> None:
    image = tmp_path / "out-novelty.tif"
    tifffile.imwrite(image, texture(46))
    before = image.read_bytes()
    code, report, _ = translated(
        capfd, image, "--model", model_file, "--out", tmp_path / "out.tif", "--novelty-map", "--overwrite"
    )
    assert code == 2 and "would take the place of the input" in report["error"]
    assert image.read_bytes() == before
