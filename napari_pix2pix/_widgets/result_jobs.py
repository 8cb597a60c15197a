"""The work behind the buttons that save a result, and export its model. No napari, no Qt."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_pix2pix._widgets.translation_job import Translated
from napari_pix2pix.formats.opacity import to_opacity, with_opacity
from pix2pix_training.array_source import AnyArray, ArraySource, MemorySource, plane_indices, whole_plane
from pix2pix_training.errors import OutputError, SettingsError
from pix2pix_training.invalid_pixels import OPAQUE, invalid_values
from pix2pix_training.regions import Region

if TYPE_CHECKING:
    from napari_pix2pix.formats.writing import OutputSpec
    from pix2pix_training.model_file import Model

_STRIP_ROWS = 1024


@dataclass(frozen=True, kw_only=True)
class Saved:
    """The file is complete; `extras` names what it says besides pixels, see `save_image`."""

    path: Path
    extras: tuple[str, ...] = ()


def export_events(
    model: Path, path: Path, *, author: str, license: str, sample: ArraySource | None
) -> Generator[Saved, None, None]:
    """Write a model to ``.onnx``, or ``.zip`` for the BioImage Model Zoo, in place of a file that is there.

    `author` and `license` are for a package whose model does not name them; `sample` is an image to test it with.

    Raises
    ------
    SettingsError
        The file has another ending, or the package lacks an author, a licence or a sample.
    BackendError
        The packages of the extra ``onnx`` are missing.
    """
    from pix2pix_training.model_file import load_model

    loaded = load_model(model)
    if path.suffix == ".onnx":
        from pix2pix_training.onnx_export import export_model

        export_model(loaded, path)
    elif path.suffix == ".zip":
        _export_package(loaded, path, author, license, sample)
    else:
        raise SettingsError(f"{path.name}: choose a name that ends in .onnx or .zip")
    yield Saved(path=path)


def _export_package(model: Model, path: Path, author: str, license: str, image: ArraySource | None) -> None:
    from napari_pix2pix.bioimageio_export.package import export_bioimageio
    from napari_pix2pix.bioimageio_export.package_description import PackageInfo
    from napari_pix2pix.formats.metadata import ImageMetadata
    from napari_pix2pix.formats.writing import OutputSpec
    from pix2pix_training.atomic import temporary_folder

    if image is None:
        raise SettingsError("a package is tested with an image; tick a layer that the model is made for")
    authors = tuple(name.strip() for name in author.split(",") if name.strip()) or model.credits.authors
    if not authors or not (license or model.credits.license):
        raise SettingsError("a package for the BioImage Model Zoo names its author and licence; fill in both fields")
    credits = replace(model.credits, authors=authors, license=license or model.credits.license)
    info = PackageInfo(name=path.stem, credits=credits)
    with temporary_folder() as folder:
        sample = Path(folder) / "sample.tif"
        spec = OutputSpec(axes=image.axes, shape=image.shape, dtype=image.dtype, metadata=ImageMetadata())
        save_image(sample, spec, image)
        export_bioimageio(model, path, info, sample)


def saving_events(result: Translated, path: Path, *, sources: Sequence[Path] = ()) -> Generator[Saved, None, None]:
    """Write a result in memory to a file, in place of one that is there, unless that is one of its `sources`.

    Raises
    ------
    OutputError
        The format cannot hold the image, or the file cannot be written, or is a source.
    """
    for source in sources:
        if os.path.exists(path) and os.path.exists(source) and path.samefile(source):  # noqa: PTH110 (any name)
            raise OutputError(f"{path} would take the place of the image that it was made of; choose another name")
    yield Saved(path=path, extras=save_image(path, replace(result.spec, masked=False), as_image(result)))


def save_image(path: Path, spec: OutputSpec, image: ArraySource) -> tuple[str, ...]:
    """Write the file of an image, in place of one that is there; see `saving_events`.

    Given back are words for its place on the Earth and its mask, where it has them.
    """
    from napari_pix2pix.formats.writing import check_output, resolve_format, write_image
    from napari_pix2pix.translation.output_description import with_mask

    file_format = resolve_format(path, "same", None)
    if file_format == "tiff" and spec.metadata.georeference is not None:
        file_format = "geotiff"
    chosen = check_output(path, spec, file_format=file_format, overwrite=True)
    spec = with_mask(spec, image, chosen)
    write_image(path, spec, _strips(image, masked=spec.masked), file_format=chosen, overwrite=True)
    place = spec.metadata.georeference if chosen == "geotiff" else None
    extras = [] if place is None else [place.crs_name or "its place on the Earth"]
    return (*extras, "a mask of the pixels without data") if spec.masked else tuple(extras)


def as_image(result: Translated) -> MemorySource:
    """A result in memory as an image that knows which of its pixels hold no data."""
    samples, spec = result.pixels, result.spec
    assert isinstance(samples, np.ndarray)  # other results are files already
    opacity = to_opacity(samples[..., -1, :, :]) if spec.masked else None
    return MemorySource(
        samples[..., : spec.channels, :, :],
        name=f"the result of {result.provenance['source']}",
        axes=spec.axes,
        nodata=spec.nodata,
        opacity=opacity,
    )


def _strips(image: ArraySource, *, masked: bool) -> Iterator[tuple[tuple[int, ...], Region, AnyArray]]:
    for plane in plane_indices(image):
        for region in whole_plane(image).strips(_STRIP_ROWS):
            pixels, opacity = image.read_with_opacity(region, plane)
            if opacity is None and masked:
                opacity = np.where(invalid_values(pixels, image.nodata).any(0), 0, OPAQUE).astype(np.uint8)
            yield plane, region, with_opacity(pixels, opacity) if masked else pixels
