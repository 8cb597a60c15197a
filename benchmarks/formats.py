"""Runs every file of a collection through ``info`` and ``translate`` and judges the results by independent readers.

    python benchmarks/formats.py ../shared/data/formats docs/measurements/formats.md

A tiny generator with random weights fits the channels of each file. The input's pixels must be those that another
reader reads, and from the output the other reader must read the input's shape, type, scale and place: tifffile and
ome-types for TIFF, rasterio and rio-cogeo for GeoTIFF, zarr and yaozarrs for OME-Zarr. The table goes into the
document, between the marks.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ome_types
import rasterio
import tifffile
import torch
import zarr
from numpy.typing import NDArray
from rio_cogeo.cogeo import cog_validate
from yaozarrs import validate_zarr_store

from napari_pix2pix.cli.application import run
from napari_pix2pix.formats import ImageMetadata, ImageSource, open_image
from pix2pix_training.array_source import plane_indices, whole_plane
from pix2pix_training.errors import Pix2PixError
from pix2pix_training.image_description import ImageDescription
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.intensity import fitted_mapping
from pix2pix_training.model_file import Model, save_model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import build_generator, initialize_weights

BEGIN, END = "<!-- table of formats: begin -->", "<!-- table of formats: end -->"
AnyArray = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table; `problems` are disagreements with the other readers."""

    name: str
    understood: str
    outcome: str
    problems: tuple[str, ...] = ()


def main(collection: Path, document: Path) -> int:
    logging.disable(logging.CRITICAL)
    torch.manual_seed(0)
    rows = [_row(path, path.relative_to(collection).as_posix()) for path in _images(collection)]
    table = "\n".join(_table(rows))
    text = document.read_text(encoding="utf-8")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    document.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
    wrong = [row for row in rows if row.problems]
    for row in wrong:
        print(f"{row.name}: {'; '.join(row.problems)}")
    print(f"{len(rows)} files, {len(wrong)} with problems")
    return 1 if wrong else 0


def _images(collection: Path) -> list[Path]:
    """All files, and the OME-Zarr folders as one each."""
    stores = [path for path in sorted(collection.rglob("*.zarr")) if path.is_dir()]
    inside = {file for store in stores for file in store.rglob("*")}
    files = [path for path in sorted(collection.rglob("*")) if path.is_file() and path not in inside]
    return sorted([*files, *stores])


def _row(path: Path, name: str) -> Row:
    try:
        with open_image(path) as source, tempfile.TemporaryDirectory() as folder:
            return _translated(source, name, Path(folder))
    except Pix2PixError as error:
        return Row(name=name, understood="", outcome="refused: " + str(error).replace(str(path), name))


def _translated(source: ImageSource, name: str, folder: Path) -> Row:
    described = json.loads(_output_of(["info", str(source.path), "--json"]).splitlines()[-1])
    problems = [] if described["shape"] == list(source.shape) else ["info and reader disagree"]
    problems += _input_problems(source)
    model = folder / "model.safetensors"
    save_model(_model_for(source), model)
    out = folder / f"out{_suffix(source)}"
    result = json.loads(
        _output_of(["translate", str(source.path), "--model", str(model), "--out", str(out), "--json"]).splitlines()[-1]
    )
    written = Path(result["outputs"][0])
    problems += _output_problems(source, written)
    return Row(
        name=name,
        understood=_summary(described),
        outcome=f"translated to {_format_of(written)}",
        problems=tuple(problems),
    )


def _output_of(arguments: list[str]) -> str:
    stdout, stderr = io.StringIO(), io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr):
        code = run(arguments)
    if code:
        raise Pix2PixError(stderr.getvalue().strip().removeprefix("error: "))
    return stdout.getvalue()


def _suffix(source: ImageSource) -> str:
    if source.metadata.file_format == "ome-zarr":
        return ".ome.zarr"
    return ".ome.tif" if source.metadata.file_format == "ome-tiff" else ".tif"


def _model_for(source: ImageSource) -> Model:
    """From the image to one of as many channels, of the same type and range of values."""
    channels = source.shape[-3]
    config = GeneratorConfig(source_channels=channels, target_channels=channels, base_width=4, depth=2, norm="instance")
    network = build_generator(config)
    initialize_weights(network)
    mapping = fitted_mapping([source])
    return Model(
        generator_config=config,
        weights=network.state_dict(),
        source=ImageDescription(mapping=mapping),
        target=ImageDescription(mapping=mapping, channel_names=source.metadata.channel_names),
        inference=InferenceConfig(statistics="image"),
    )


def _summary(described: dict[str, Any]) -> str:
    """Format, axes, shape and type, and what else is special."""
    shape = " x ".join(map(str, described["shape"]))
    extra = [f"{described['bit_depth']} bits"] if "bit_depth" in described else []
    if "palette_colours" in described:
        extra.append(f"palette of {described['palette_colours']}")
    if "pixel_size" in described:
        extra.append(f"{described['pixel_size'][1]:.4g} {described['unit']}")
    extra += [described["crs"]] if "crs" in described else []
    extra += [f"nodata {described['nodata']:.4g}"] if "nodata" in described else []
    return f"{described['format']}, {described['axes']} {shape}, {described['dtype']}" + "".join(
        f", {e}" for e in extra
    )


def _input_problems(source: ImageSource) -> Iterator[str]:
    """Pixels that another reader reads otherwise."""
    path = source.path
    if source.metadata.georeference is not None:
        with rasterio.open(path) as dataset:
            expected = dataset.read()
            if dataset.nodata is not None and not np.isclose(dataset.nodata, source.nodata or np.nan):
                yield f"nodata {source.nodata} instead of {dataset.nodata}"
    elif path.suffix == ".zarr":
        expected = np.asarray(zarr.open_array(path / "0", mode="r")[...])
    elif path.suffix == ".ome":
        expected = tifffile.TiffSequence(sorted(path.parent.glob("*.ome.tiff"))).asarray()
    else:
        with tifffile.TiffFile(path) as tif:
            expected = _without_alpha(tif)
    pixels = np.stack([source.read(whole_plane(source), plane) for plane in plane_indices(source)])
    equal = pixels.size == expected.size and np.array_equal(
        pixels.ravel(), expected.ravel(), equal_nan=pixels.dtype.kind == "f"
    )
    if not equal:
        yield f"pixels differ from those of the other reader ({pixels.shape}, {expected.shape})"


def _without_alpha(tif: tifffile.TiffFile) -> AnyArray:
    """As tifffile reads it, samples first, without alpha, and with 0 for black."""
    page = tif.series[0].keyframe
    pixels: AnyArray = tif.series[0].asarray()
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        pixels = ~pixels if pixels.dtype == np.bool_ else 2**page.bitspersample - 1 - pixels
    if any(sample in (1, 2) for sample in page.extrasamples):
        pixels = pixels[..., :-1]
    return np.moveaxis(pixels, -1, -3) if tif.series[0].axes.endswith("S") else pixels


def _output_problems(source: ImageSource, written: Path) -> Iterator[str]:
    """What the other reader finds missing or different in the output."""
    if written.is_dir():
        validate_zarr_store(str(written))
        array = zarr.open_array(written / "0", mode="r")
        found, dtype = tuple(array.shape), array.dtype
    else:
        with tifffile.TiffFile(written) as tif:
            found, dtype = _without_alpha(tif).shape, tif.series[0].dtype  # which masked pixels may have
    if sorted(n for n in found if n > 1) != sorted(n for n in source.shape if n > 1):
        yield f"shape {found} for an image of {source.shape}"
    if dtype != source.dtype:
        yield f"type {dtype} instead of {source.dtype}"
    if source.metadata.georeference is not None:
        yield from _place_problems(source.path, written)
    if source.metadata.file_format == "ome-tiff":
        yield from _ome_problems(source.metadata, written)
    with open_image(written) as result:
        for name in ("pixel_size", "unit", "z_spacing", "acquisition", "time_step_s", "channel_names", "orientation"):
            if getattr(result.metadata, name) != getattr(source.metadata, name):
                yield f"{name} {getattr(result.metadata, name)} instead of {getattr(source.metadata, name)}"


def _place_problems(path: Path, written: Path) -> Iterator[str]:
    with rasterio.open(path) as before, rasterio.open(written) as after:
        for name in ("crs", "transform", "nodata", "bounds"):
            if getattr(before, name) != getattr(after, name):
                yield f"{name} {getattr(after, name)} instead of {getattr(before, name)}"
    if not cog_validate(written, strict=True)[0]:
        yield "no valid cloud-optimised GeoTIFF"


def _ome_problems(metadata: ImageMetadata, written: Path) -> Iterator[str]:
    pixels = ome_types.from_tiff(written, validate=True).images[0].pixels
    found = pixels.physical_size_y, pixels.physical_size_x
    if found != (metadata.pixel_size or (None, None)):
        yield f"ome-types reads a pixel size of {found}"
    if metadata.channel_names and tuple(channel.name for channel in pixels.channels) != metadata.channel_names:
        yield "ome-types reads other channel names"


def _format_of(path: Path) -> str:
    with open_image(path) as image:
        return image.metadata.file_format


def _table(rows: list[Row]) -> Iterator[str]:
    yield "| file | understood as | result |"
    yield "|---|---|---|"
    for row in rows:
        outcome = row.outcome + "".join(f"; **{problem}**" for problem in row.problems)
        yield f"| {row.name} | {row.understood} | {outcome} |"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
