"""Three ways through one list of regions: at once, gone on with, in parts. The same bytes, and nothing done twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import zarr
from torch import Tensor

from napari_pix2pix.formats.output_state import Part
from napari_pix2pix.translation.backends.stage_runner import Stages
from napari_pix2pix.translation.batch import Job, translate_batch
from napari_pix2pix.translation.pipeline import translate_array, translate_file
from napari_pix2pix.translation.progress import TranslationReport, ended
from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.choices import Architecture, Decoder, Norm, Statistics
from pix2pix_training.errors import OutputError
from pix2pix_training.image_description import ImageDescription
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.intensity import LinearMapping
from pix2pix_training.model_file import Model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import pad_to_stride
from pix2pix_training.stages import StageSpec, covered_size
from tests.product.translation.conftest import random_image, random_model, stage_macs

Way = Callable[[Path, Model, Path], TranslationReport]

REGION = 256
SETTINGS = TranslationSettings(scheme="exact", tile=128, region=REGION, max_memory=1 << 30)
CONFIG = GeneratorConfig(base_width=3, depth=4, source_channels=1, target_channels=2)
SIZE = (1000, 760)
COUNT = 12
"""Regions of such an image."""


def model_of(statistics: Statistics = "running", **changes: Any) -> Model:
    return random_model(replace(CONFIG, **changes), InferenceConfig(statistics=statistics))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, random_image(1, *SIZE)[0])
    return path


class Arithmetic:
    """Multiply-accumulates of all stages that are run."""

    def __init__(self) -> None:
        self.macs = 0.0

    def since(self) -> float:
        macs, self.macs = self.macs, 0.0
        return macs


@pytest.fixture
def arithmetic(monkeypatch: pytest.MonkeyPatch) -> Arithmetic:
    counted, run = Arithmetic(), Stages.run

    def counting(self: Stages, spec: StageSpec, tensors: Mapping[str, Tensor], origin: tuple[int, int]) -> Tensor:
        height, width = covered_size(self.config, spec, tensors)
        counted.macs += height * width * stage_macs(self.config, spec)
        return run(self, spec, tensors, origin)

    monkeypatch.setattr(Stages, "run", counting)
    return counted


class _StopError(Exception):
    pass


def stopped(image: Path, model: Model, out: Path, regions: int, **options: Any) -> None:
    """Begin a translation, and stop it when so many regions are recorded."""
    records = out.with_name(out.name + ".partial.state") / "regions"

    def progress(_done: int, _total: int) -> None:
        if len(list(records.glob("*.json"))) >= regions:
            raise _StopError

    with pytest.raises(_StopError):
        translate_file(image, model, out, SETTINGS, progress=progress, **options)
    assert not out.exists()


def content(path: Path) -> dict[str, bytes]:
    if path.is_file():
        return {"": path.read_bytes()}
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def alone(image: Path, model: Model, out: Path) -> TranslationReport:
    return translate_file(image, model, out, SETTINGS)


def gone_on_with(image: Path, model: Model, out: Path) -> TranslationReport:
    stopped(image, model, out, 4)
    stopped(image, model, out, 9, resume=True)
    return translate_file(image, model, out, SETTINGS, resume=True)


def in_parts(image: Path, model: Model, out: Path) -> TranslationReport:
    for index in (3, 1, 4):
        assert not translate_file(image, model, out, SETTINGS, part=Part(index, 4)).complete
    return translate_file(image, model, out, SETTINGS, part=Part(2, 4))


def in_parts_of_other_numbers(image: Path, model: Model, out: Path) -> TranslationReport:
    translate_file(image, model, out, SETTINGS, part=Part(2, 3))
    stopped(image, model, out, 6, part=Part(1, 2))
    return translate_file(image, model, out, SETTINGS, resume=True)


@pytest.mark.parametrize("way", [gone_on_with, in_parts, in_parts_of_other_numbers])
@pytest.mark.parametrize("statistics", ["running", "image"])
@pytest.mark.parametrize("name", ["out.ome.zarr", "out.tif"])
def test_every_way_gives_the_same_output(
    tmp_path: Path,
    image: Path,
    way: Callable[[Path, Model, Path], TranslationReport],
    statistics: Statistics,
    name: str,
) -> None:
    model, expected, out = model_of(statistics), tmp_path / "alone" / name, tmp_path / "out" / name
    alone(image, model, expected)
    report = way(image, model, out)
    assert report.complete
    if name == "out.ome.zarr":
        assert content(out) == content(expected)
    else:
        np.testing.assert_array_equal(tifffile.imread(out), tifffile.imread(expected))
    assert sorted(path.name for path in out.parent.iterdir()) == [name]


@pytest.mark.parametrize("statistics", ["running", "image"])
def test_going_on_takes_what_is_missing_and_no_more(
    tmp_path: Path, image: Path, arithmetic: Arithmetic, statistics: Statistics
) -> None:
    """Stopped at 90 % of the regions, it takes at most 20 % of the arithmetic of an undisturbed run."""
    model, out = model_of(statistics), tmp_path / "out.ome.zarr"
    alone(image, model, tmp_path / "alone.ome.zarr")
    undisturbed = arithmetic.since()
    stopped(image, model, out, round(0.9 * COUNT))
    arithmetic.since()
    report = translate_file(image, model, out, SETTINGS, resume=True)
    assert 0 < arithmetic.since() <= 0.2 * undisturbed
    assert report.tiles_reused >= 0.8 * report.tiles


@pytest.mark.parametrize("statistics", ["running", "image"])
def test_parts_together_take_what_one_process_takes(
    tmp_path: Path, image: Path, arithmetic: Arithmetic, statistics: Statistics
) -> None:
    model = model_of(statistics)
    alone(image, model, tmp_path / "alone.ome.zarr")
    of_one = arithmetic.since()
    in_parts(image, model, tmp_path / "out.ome.zarr")
    assert arithmetic.since() <= 1.0001 * of_one


def test_an_image_of_one_region_takes_what_it_took(tmp_path: Path, image: Path, arithmetic: Arithmetic) -> None:
    settings = replace(SETTINGS, region=None)
    model = model_of("image")
    plan = Translator(model, settings).plan(SIZE)
    translate_file(image, model, tmp_path / "out.ome.zarr", settings)
    padded = plan.padded_size[0] * plan.padded_size[1]
    whole = padded * stage_macs(CONFIG, StageSpec(gives="up", level=0, top=CONFIG.depth, start=0))
    assert plan.regions == 1
    assert arithmetic.since() == pytest.approx(plan.mac_overhead * whole, rel=0.03)
    assert plan.mac_overhead < 1.35


def test_batches_go_through_one_list(tmp_path: Path) -> None:
    """Regions of all images are dealt out, those of small images too."""
    model, jobs = model_of(), []
    for number, size in enumerate([(100, 90), (520, 300), (60, 200), (256, 700)]):
        tifffile.imwrite(tmp_path / f"{number}.tif", random_image(1, *size, seed=number)[0])
        jobs.append(Job((tmp_path / f"{number}.tif",), tmp_path / "out" / f"{number}.ome.zarr"))
    translator = Translator(model, SETTINGS)
    totals = []
    for index in (2, 1, 3):
        report = ended(translate_batch(jobs, translator, file_format="same", overwrite=False, part=Part(index, 3)))
        assert report.total is not None
        totals.append(report.total.pixels)
    assert sum(totals) == 100 * 90 + 520 * 300 + 60 * 200 + 256 * 700
    assert min(totals) > 0
    for number, job in enumerate(jobs):
        with_one = tmp_path / "alone" / f"{number}.ome.zarr"
        translate_file(job.inputs[0], translator, with_one)
        assert content(job.output) == content(with_one)


def test_a_part_of_more_parts_than_regions_has_nothing_to_do(tmp_path: Path, image: Path) -> None:
    small = tmp_path / "small.tif"
    tifffile.imwrite(small, random_image(1, 100, 100)[0])
    report = translate_file(small, model_of(), tmp_path / "out.tif", SETTINGS, part=Part(2, 2))
    assert (report.pixels, report.complete) == (0, False)
    assert not (tmp_path / "out.tif").exists()
    assert translate_file(small, model_of(), tmp_path / "out.tif", SETTINGS, part=Part(1, 2)).complete


def test_one_part_makes_an_image_that_is_planned_as_one_region(tmp_path: Path, image: Path) -> None:
    """With the statistics of each tile an image that fits into memory is one tile; the other parts have no share."""
    settings, out = TranslationSettings(statistics="tile", region=REGION), tmp_path / "out.ome.zarr"
    report = translate_file(image, model_of(), out, settings, part=Part(2, 2))
    assert (report.pixels, report.complete) == (0, False)
    assert not out.exists()
    assert translate_file(image, model_of(), out, settings, part=Part(1, 2)).pixels == SIZE[0] * SIZE[1]


def test_a_tiff_begun_by_one_process_is_not_shared(tmp_path: Path, image: Path) -> None:
    """Its parts lie one behind the other in a file, which only one process can write."""
    out = tmp_path / "out.tif"
    stopped(image, model_of(), out, 4)
    with pytest.raises(OutputError, match=r"begun by one process alone.* use resume=True without part"):
        translate_file(image, model_of(), out, SETTINGS, part=Part(1, 2))
    assert translate_file(image, model_of(), out, SETTINGS, resume=True).tiles_reused > 0


def whole_image(model: Model, pixels: Any, inference: InferenceConfig) -> Any:
    """The definition: padded, through the network at once, and cropped."""
    network = model.generator(inference)
    x = torch.from_numpy(pixels.astype(np.float32) / 127.5 - 1)[None]
    output = network(pad_to_stride(x, model.generator_config.stride))
    return output[0, :, : pixels.shape[1], : pixels.shape[2]].numpy()


def kinds() -> Iterator[Any]:
    for norm in ("batch-renorm", "batch", "none"):
        yield pytest.param(norm, "running", "unet", "transposed", id=f"{norm}-running")
    yield pytest.param("batch", "image", "unet", "transposed", id="batch-image")
    yield pytest.param("instance", "image", "unet", "transposed", id="instance")
    yield pytest.param("batch-renorm", "image", "unet", "transposed", id="batch-renorm-image")
    yield pytest.param("batch", "running", "encoder-decoder", "transposed", id="encoder-decoder")
    yield pytest.param("batch", "running", "resnet", "transposed", id="resnet")
    yield pytest.param("instance", "image", "unet", "resize", id="resize")
    yield pytest.param("batch", "image", "unet", "pixel-shuffle", id="pixel-shuffle")


@pytest.mark.parametrize(("norm", "statistics", "architecture", "decoder"), kinds())
@pytest.mark.parametrize("dropout", ["off", "seeded"])
def test_regions_equal_the_whole_image(
    norm: Norm, statistics: Statistics, architecture: Architecture, decoder: Decoder, dropout: Any
) -> None:
    config = replace(
        CONFIG, norm=norm, architecture=architecture, decoder=decoder, dropout="reference", depth=6, blocks=2
    )
    inference = InferenceConfig(statistics=statistics, dropout=dropout, seed=4)
    as_it_is = LinearMapping(dtype="float32", scope="dtype", channels=2, low=(-1.0, -1.0), high=(1.0, 1.0))
    model = replace(random_model(config, inference), target=ImageDescription(mapping=as_it_is))
    pixels = random_image(1, 530, 600)
    expected = whole_image(model, pixels, inference)
    assert expected.std() > 0.05
    settings = TranslationSettings(tile=128, region=REGION, max_memory=1 << 30)
    plan = Translator(model, settings).plan((530, 600))
    assert (plan.scheme, plan.regions) == ("exact", 9)
    assert np.abs(translate_array(pixels, model, settings) - expected).max() <= 1e-4


def test_regions_of_planes_of_a_stack_seen_with_their_neighbours(tmp_path: Path) -> None:
    plain = model_of("image", source_channels=3)
    model = replace(plain, source=replace(plain.source, z_context=1))
    stack = np.stack([random_image(1, 300, 280, seed=z) for z in range(3)])
    found = translate_array(stack, model, SETTINGS, axes="ZCYX")
    whole = translate_array(stack, model, TranslationSettings(scheme="whole"), axes="ZCYX")
    assert np.abs(found.astype(int) - whole.astype(int)).max() <= 1
    path, out = tmp_path / "stack.ome.tif", tmp_path / "out.ome.zarr"
    tifffile.imwrite(path, stack[:, 0], metadata={"axes": "ZYX"})
    stopped(path, model, out, 5)
    translate_file(path, model, out, SETTINGS, resume=True)
    written = np.moveaxis(np.asarray(zarr.open_array(out / "0", mode="r")), 0, 1)
    np.testing.assert_array_equal(written, found)


def test_samples_of_noise_are_those_of_the_image(tmp_path: Path) -> None:
    """Mean and deviation of several seeds; norms on the statistics of the image have others for each seed."""
    config = replace(CONFIG, dropout="paper")
    model = random_model(config, InferenceConfig(statistics="image", dropout="seeded", seed=2))
    pixels = random_image(1, 300, 270)
    choices = {"dropout_samples": 3, "max_memory": 1 << 30}
    whole = translate_array(pixels, model, TranslationSettings(scheme="whole", **choices))  # type: ignore[arg-type]
    found = translate_array(pixels, model, replace(SETTINGS, dropout_samples=3))
    np.testing.assert_allclose(found, whole, atol=0.05)
