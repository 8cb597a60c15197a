"""From what a user names to the data of a run: every way to name pairs and to hold some out, without overlap."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from napari_pix2pix.formats.metadata import ImageMetadata
from napari_pix2pix.formats.writing import OutputSpec, Tile, write_image
from napari_pix2pix.training_data import DataRequest, load_training_data, parse_region, parse_validation
from pix2pix_training.config import TrainingConfig
from pix2pix_training.dataset import PatchDataset
from pix2pix_training.errors import InputError, SettingsError
from pix2pix_training.image_survey import result_of
from pix2pix_training.intensity import dtype_mapping
from pix2pix_training.pairs import Pair
from pix2pix_training.patch_config import AugmentationConfig, SamplingConfig
from pix2pix_training.preparation import prepare
from pix2pix_training.regions import Region
from pix2pix_training.training import TrainingData

AnyArray = NDArray[Any]
MARK = 255


def load(patch_size: int = 16, **request: Any) -> TrainingData:
    return load_training_data(DataRequest(**request), patch_size=patch_size, seed=0)


def names(pairs: tuple[Pair, ...]) -> list[str]:
    return [pair.name for pair in pairs]


def noise(*shape: int, seed: int = 0) -> AnyArray:
    return np.random.default_rng(seed).integers(0, MARK, shape).astype(np.uint8)


def write_composites(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        Image.fromarray(noise(24, 64, 3, seed=number)).save(folder / f"{folder.name}{number}.png")
    return folder


def write_table(folder: Path, count: int) -> Path:
    """Pairs of OME-TIFFs with a pixel size and named channels."""
    folder.mkdir()
    rows = []
    for number in range(count):
        rows.append(f"s{number}.ome.tif,t{number}.ome.tif")
        for name, scale, channel in (("s", 0.5, "phase"), ("t", 0.25, "DAPI")):
            metadata = {"axes": "CYX", "PhysicalSizeX": scale, "PhysicalSizeY": scale, "Channel": {"Name": [channel]}}
            tifffile.imwrite(folder / f"{name}{number}.ome.tif", noise(1, 24, 32, seed=number), metadata=metadata)
    table = folder / "pairs.csv"
    table.write_text("\n".join(["source,target", *rows]), encoding="utf-8")
    return table


def test_a_fraction_of_folders(folders: tuple[Path, Path]) -> None:
    split = load(sources=(folders[0],), targets=(folders[1],), validation=0.5).split
    assert len(split.training) == len(split.validation) == 2
    assert not set(names(split.training)) & set(names(split.validation))


def test_a_folder_beside_folders(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """It has subfolders of the same names."""
    for name in ("source", "target"):
        (tmp_path / "held" / name).mkdir(parents=True)
        tifffile.imwrite(tmp_path / "held" / name / "9.tif", noise(40, 48))
    split = load(sources=(folders[0],), targets=(folders[1],), validation=tmp_path / "held").split
    assert names(split.training) == ["0", "1", "2", "3"]
    assert names(split.validation) == ["9"]
    with pytest.raises(SettingsError, match="other/source does not exist; the validation folder needs"):
        load(sources=(folders[0],), targets=(folders[1],), validation=tmp_path / "other")


def test_a_folder_of_composites(tmp_path: Path) -> None:
    train, held = write_composites(tmp_path / "train", 3), write_composites(tmp_path / "held", 2)
    data = load(pairs=train, validation=held)
    assert len(data.split.training) == 3
    assert names(data.split.validation) == ["held0", "held1"]
    assert data.source_traits.channel_names == ("red", "green", "blue")


def test_a_table_with_another_and_its_traits(tmp_path: Path) -> None:
    data = load(pairs=write_table(tmp_path / "train", 3), validation=write_table(tmp_path / "held", 1))
    assert names(data.split.training) == ["s0", "s1", "s2"]
    assert names(data.split.validation) == ["s0"]
    assert data.source_traits.channel_names == ("phase",)
    assert data.source_traits.pixel_size == (0.5, 0.5)
    assert data.target_traits.channel_names == ("DAPI",)
    assert data.target_traits.pixel_size == (0.25, 0.25)


def test_images_cannot_be_in_both_parts(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"0\.tif is trained on, and is in the validation images"):
        load(sources=(folders[0],), targets=(folders[1],), validation=tmp_path)
    composites = write_composites(tmp_path / "train", 2)
    with pytest.raises(SettingsError, match=r"train0\.png is trained on"):
        load(pairs=composites, validation=composites)


def test_a_region_needs_a_single_pair(folders: tuple[Path, Path]) -> None:
    with pytest.raises(SettingsError, match="needs a single pair, and there are 4"):
        load(sources=(folders[0],), targets=(folders[1],), validation=Region(0, 8, 0, 8))


def test_nothing_held_out_is_said(folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    """Of the split that is trained on, not of one that is made only to find the size of a patch."""
    split = load(sources=(folders[0],), targets=(folders[1],), validation=0.0).split
    assert not split.validation
    assert caplog.text == ""
    result_of(prepare(split, TrainingConfig()))
    assert "nothing is held out for validation" in caplog.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.25", 0.25), ("0", 0.0), ("10:20, 30:40", Region(10, 20, 30, 40)), ("..", Path(".."))],
)
def test_validation_in_words(text: str, expected: float | Region | Path) -> None:
    assert parse_validation(text) == expected


def test_validation_that_is_nothing() -> None:
    with pytest.raises(SettingsError, match="'half' is neither a fraction, nor a region y0:y1,x0:x1, nor a folder"):
        parse_validation("half")
    with pytest.raises(SettingsError, match="y0 < y1 and x0 < x1"):
        parse_region("20:10,0:5")


def stack_with_a_marked_region(region: Region) -> AnyArray:
    """Axes TZCYX; every pixel of the region is 255, and no other."""
    pixels = noise(2, 3, 2, 160, 144)
    pixels[..., region.y0 : region.y1, region.x0 : region.x1] = MARK
    return pixels


def in_chunks(pixels: AnyArray, side: int) -> Iterator[Tile]:
    for plane in np.ndindex(pixels.shape[:-3]):
        for y in range(0, pixels.shape[-2], side):
            for x in range(0, pixels.shape[-1], side):
                tile = pixels[(*plane, slice(None), slice(y, y + side), slice(x, x + side))]
                yield plane, Region(y, y + tile.shape[-2], x, x + tile.shape[-1]), tile


def write_ome_tiff(path: Path, pixels: AnyArray) -> Path:
    metadata = {"axes": "TZCYX", "Channel": {"Name": ["phase", "DAPI"]}}
    tifffile.imwrite(path.with_suffix(".ome.tif"), pixels, metadata=metadata, tile=(64, 64))
    return path.with_suffix(".ome.tif")


def write_ome_zarr(path: Path, pixels: AnyArray) -> Path:
    metadata = ImageMetadata(channel_names=("phase", "DAPI"))
    spec = OutputSpec(axes="TZCYX", shape=pixels.shape, dtype=pixels.dtype, metadata=metadata)
    return write_image(path.with_suffix(".ome.zarr"), spec, in_chunks(pixels, 64), file_format="ome-zarr")


@pytest.mark.parametrize("write", [write_ome_tiff, write_ome_zarr])
@pytest.mark.parametrize("sampling", [SamplingConfig(), SamplingConfig(placement="content")])
def test_no_patch_touches_a_region_held_out_of_a_stack(
    write: Callable[[Path, AnyArray], Path], sampling: SamplingConfig, tmp_path: Path
) -> None:
    """One channel of a file is the source, another the target; patches are enlarged, as cubic pixels reach further."""
    region = Region(100, 130, 60, 90)
    path = write(tmp_path / "stack", stack_with_a_marked_region(region))
    channels = {"source_channels": (0,), "target_channels": (1,)}
    data = load(patch_size=24, sources=(path,), targets=(path,), validation=region, z_context=1, **channels)
    (held_out,) = data.split.validation
    assert held_out.source.shape == (2, 3, 3, 30, 30)
    assert (held_out.target.read(Region(0, 30, 0, 30), (1, 2)) == MARK).all()
    assert (data.source_traits.channel_names, data.target_traits.channel_names) == (("phase",), ("DAPI",))
    sampler = PatchDataset(
        data.split.training,
        patch_size=24,
        augmentation=AugmentationConfig(scale_jitter=1.2),
        sampling=sampling,
        target_mapping=dtype_mapping(np.dtype(np.uint8), 1),
        seed=0,
    )
    patches = [sampler[number] for number in range(150)]
    assert max(patch.source.max() for patch in patches) < MARK
    assert max(patch.target.max() for patch in patches) < MARK
    assert patches[0].source.shape[0] == 3
    assert len({patch.pair_index for patch in patches}) == len(data.split.training) > 1


def test_opening_reads_no_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_ome_tiff(tmp_path / "stack", stack_with_a_marked_region(Region(100, 130, 60, 90)))

    def refuse(*_: Any) -> None:
        raise AssertionError("pixels were read")

    monkeypatch.setattr("napari_pix2pix.formats.caching.PixelCache.read", refuse)
    data = load(patch_size=16, sources=(path,), targets=(path,), source_channels=(0,), target_channels=(1,))
    assert data.split.validation
    with pytest.raises(AssertionError, match="pixels were read"):
        data.split.training[0].source.read(Region(0, 1, 0, 1), (0, 0))


@pytest.mark.parametrize(
    "request_fields",
    [{}, {"sources": (Path("a"),)}, {"pairs": Path("p"), "sources": (Path("a"),), "targets": (Path("b"),)}],
)
def test_incomplete_requests_are_refused(request_fields: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="give"):
        DataRequest(**request_fields)


def test_channels_in_another_order_from_pair_to_pair_are_trained_on_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In training and in the validation folder; the names are those of the first image, and stand in the model."""
    image = np.stack([np.full((40, 48), value, np.uint8) for value in (10, 20)])
    for folder, number, order in (("train", "2", [0, 1]), ("train", "10", [1, 0]), ("held", "1", [1, 0])):
        for side in ("source", "target"):
            (tmp_path / folder / side).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(
                tmp_path / folder / side / f"{number}.ome.tif",
                image[order],
                metadata={"axes": "CYX", "Channel": {"Name": [["DAPI", "GFP"][n] for n in order]}},
                photometric="minisblack",
            )
    request = DataRequest(
        sources=(tmp_path / "train" / "source",),
        targets=(tmp_path / "train" / "target",),
        validation=tmp_path / "held",
    )
    with caplog.at_level(logging.WARNING):
        data = load_training_data(request, patch_size=32, seed=0)
    assert data.source_traits.channel_names == ("DAPI", "GFP")
    for pair in (*data.split.training, *data.split.validation):
        for each in (pair.source, pair.target):
            assert each.read(Region(0, 1, 0, 1)).ravel().tolist() == [10, 20]
    assert sum("by name" in message for message in caplog.messages) == 4


@pytest.mark.parametrize("name", ["a.lsm", "a.stk", "a.qptiff", "a.ome.tif", "a.dat", "without an ending"])
def test_files_of_any_name_are_images_where_they_are_named(tmp_path: Path, name: str) -> None:
    """What a file is, its first bytes say."""
    for side in ("source", "target"):
        (tmp_path / side).mkdir()
        tifffile.imwrite(tmp_path / side / name, noise(24, 32), metadata=None)
    data = load(sources=(tmp_path / "source" / name,), targets=(tmp_path / "target" / name,), validation=0.0)
    assert data.source_traits.axes == "CYX"
    (tmp_path / "pairs.csv").write_text(f"source,target\nsource/{name},target/{name}\n", encoding="utf-8")
    assert len(load(pairs=tmp_path / "pairs.csv", validation=0.0).split.training) == 1


@pytest.mark.parametrize("named", [".", "a.companion.ome"])
def test_a_companion_file_is_an_image_by_its_name_and_in_a_folder(tmp_path: Path, named: str) -> None:
    plane = '<TiffData FirstZ="{0}" IFD="0" PlaneCount="1"><UUID FileName="{1}">urn:uuid:{0}</UUID></TiffData>'
    for side in ("source", "target"):
        folder = tmp_path / side
        folder.mkdir()
        planes = "".join(plane.format(z, f"z{z}.ome.tif") for z in range(2))
        (folder / "a.companion.ome").write_text(
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image><Pixels DimensionOrder="XYZCT" '
            f'Type="uint8" SizeX="32" SizeY="24" SizeZ="2" SizeC="1" SizeT="1">{planes}</Pixels></Image></OME>',
            encoding="utf-8",
        )
        for z in range(2):
            tifffile.imwrite(folder / f"z{z}.ome.tif", noise(24, 32, seed=z), metadata=None, description="a part")
    data = load(sources=(tmp_path / "source" / named,), targets=(tmp_path / "target" / named,), validation=0.0)
    assert names(data.split.training) == ["a"]
    assert data.source_traits.axes == "ZCYX"


def test_several_images_in_a_file_are_pairs_and_one_can_be_chosen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("s.ome.tif", "t.ome.tif"):
        with tifffile.TiffWriter(tmp_path / name) as tif:
            for number in range(3):
                tif.write(noise(24, 32, seed=number), metadata={"axes": "YX", "PhysicalSizeX": number + 1.0})
    files: dict[str, Any] = {"sources": (tmp_path / "s.ome.tif",), "targets": (tmp_path / "t.ome.tif",)}
    with caplog.at_level(logging.WARNING):
        assert names(load(**files, validation=0.0).split.training) == ["s_0", "s_1", "s_2"]
    assert "s.ome.tif holds 3 images; all are used, as s_0 to s_2" in caplog.text
    (pair,) = load(**files, validation=0.0, series=2).split.training
    np.testing.assert_array_equal(pair.source.read(Region(0, 24, 0, 32))[0], noise(24, 32, seed=2))
