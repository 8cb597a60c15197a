"""What an output will be, what it says of its making, and what tells its image from others.

Work on one image is never gone on with on another: its content decides above all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from napari_pix2pix.formats.metadata import DescribedSource, ImageMetadata
from napari_pix2pix.formats.remote import RemotePath
from napari_pix2pix.formats.source import ImageSource, damage_reported
from napari_pix2pix.formats.writing import OutputSpec, holds_mask, holds_nodata
from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.array_source import ArraySource, channel_count, plane_indices, plane_size
from pix2pix_training.cancel import Cancel
from pix2pix_training.intensity import CategoryMapping
from pix2pix_training.invalid_pixels import can_have_invalid_pixels
from pix2pix_training.regions import Region

_NOT_OF_VALUES = ("device", "max_memory", "scratch", "engines")
"""Settings that say where an image is translated, not what becomes of it."""
_WHOLE_BYTES = 64 << 20
"""Up to here all of a file counts, and when it was changed does not; of larger ones samples, and when."""
_SAMPLES = 64
_SAMPLE_BYTES = 1 << 20
_STRIP_BYTES = 1 << 25


def plain_spec(source: ArraySource, translator: Translator) -> OutputSpec:
    """A file of the translation that says no more than what its channels are called."""
    names = translator.output_channel_names
    return OutputSpec(
        axes=source.axes,
        shape=translator.output_shape(source),
        dtype=translator.output_dtype,
        metadata=ImageMetadata(channel_names=names if len(names) == translator.output_channels else ()),
    )


def output_spec(source: ArraySource, translator: Translator) -> OutputSpec:
    """What the translation of an image will be: shape, dtype, and what is kept of the input's metadata."""
    mapping = translator.model.target.mapping
    palette = mapping.palette() if isinstance(mapping, CategoryMapping) else None
    return OutputSpec(
        axes=source.axes,
        shape=translator.output_shape(source),
        dtype=translator.output_dtype,
        metadata=_output_metadata(source, translator, colored=palette is not None),
        palette=palette,
        categories=isinstance(mapping, CategoryMapping),
        nodata=translator.nodata(source),
    )


def with_mask(spec: OutputSpec, source: ArraySource, file_format: str) -> OutputSpec:
    """The output with a mask beside its pixels, where some may be invalid and the format has no nodata value for them.

    Reals need none: they are NaN there.
    """
    if spec.dtype.kind == "f" or not can_have_invalid_pixels(source) or not holds_mask(spec, file_format):
        return spec
    if spec.nodata is not None and holds_nodata(spec, file_format):
        return spec
    return replace(spec, masked=True, nodata=None)


def _output_metadata(source: ArraySource, translator: Translator, *, colored: bool) -> ImageMetadata:
    """What concerns place, scale and acquisition from the input; channels of the target."""
    own = source.metadata if isinstance(source, DescribedSource) else ImageMetadata()
    channels, names = translator.output_channels, translator.output_channel_names
    return replace(
        own,
        channel_names=names if len(names) == channels else (),
        channel_colors=(),
        display_ranges=(),
        bit_depth=None,
        rgb=channels == 3 and not colored and _looks_rgb(names, own),
        white_is_zero=own.white_is_zero and source.dtype == translator.output_dtype,
        made_by=made_by(source, translator),
    )


def _looks_rgb(names: tuple[str, ...], own: ImageMetadata) -> bool:
    """Three target channels are colours where they are named so, or are unnamed as an image's colours are."""
    if names:
        return [name.lower()[:1] for name in names] == ["r", "g", "b"]
    return own.rgb or own.file_format in ("png", "jpeg", "bmp", "")


def made_by(source: ArraySource, translator: Translator) -> tuple[tuple[str, str], ...]:
    """What an output says of its making, see `ImageMetadata.made_by`: settings that differ from their defaults."""
    asked, usual = asdict(translator.settings), asdict(TranslationSettings())
    changed = {name: value for name, value in asked.items() if name not in _NOT_OF_VALUES and value != usual[name]}
    names = " + ".join(Path(name).name for name in source.name.split(" + "))
    texts = {
        "program": f"napari-pix2pix {version('napari-pix2pix')}",
        "model": translator.model_digest,
        "source": names.encode(errors="replace").decode(),
        **changed,
        **asdict(translator.inference),
    }
    return tuple((name, str(value)) for name, value in texts.items())


def made_otherwise(found: Iterable[tuple[str, str]], wanted: Iterable[tuple[str, str]]) -> str:
    """What to say of a complete output that is left as it is, after its name: whether it is what would be made now."""
    theirs, ours = dict(found), dict(wanted)
    if not theirs:
        return "is complete already, nothing to do; it does not say which model and settings made it"
    names = [name for name in {**theirs, **ours} if name != "program" and theirs.get(name) != ours.get(name)]
    if not names:
        return "is complete already, nothing to do"
    differences = (f"{name} {theirs.get(name, 'as usual')} instead of {ours.get(name, 'as usual')}" for name in names)
    return (
        f"is complete already and is left as it is, though it was made with {', '.join(differences)}; give "
        "another name, or --overwrite without --resume"
    )


def image_identity(source: ImageSource) -> list[Any]:
    """Of an open image, ready for JSON: of all files that hold it, and which image in them it is."""
    identity: list[Any] = []
    for path in source.files:
        with damage_reported(path):
            identity.append(file_identity(path))
    return [*identity, *([source.series] if source.series else [])]


def content_identity(source: ArraySource, cancel: Cancel) -> list[Any]:
    """What tells the content of an image from others, ready for JSON: every pixel counts, its name does not.

    All of it is read, a strip at a time; raises `Interrupted` where `cancel` is set.
    """
    content = blake2b(digest_size=16)
    height, width = plane_size(source)
    rows = max(1, _STRIP_BYTES // max(1, channel_count(source) * width * source.dtype.itemsize))
    for plane in plane_indices(source):
        for strip in Region.whole(height, width).strips(rows):
            cancel.check()
            pixels, opacity = source.read_with_opacity(strip, plane)
            content.update(np.ascontiguousarray(pixels).data)
            content.update(b"" if opacity is None else np.ascontiguousarray(opacity).data)
    return [list(source.shape), source.dtype.name, source.nodata, content.hexdigest()]


def file_identity(path: Path) -> list[Any]:
    """Of a file, or of a folder that holds an image, ready for JSON: name, size and content.

    Of more than 64 MB, samples of the content and the times of change; of addresses see `RemotePath.identity`.
    """
    if isinstance(path, RemotePath):
        return path.identity()
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    stats = [file.stat() for file in files]
    total = sum(stat.st_size for stat in stats)
    digest = blake2b(digest_size=16)
    for file, stat in zip(files, stats, strict=True):
        digest.update(f"{file.relative_to(path).as_posix()} {stat.st_size}\n".encode())
        if total > _WHOLE_BYTES:
            digest.update(f"{stat.st_mtime_ns}\n".encode())
    for file, start, length in _pieces(files, [stat.st_size for stat in stats]):
        with file.open("rb") as opened:
            opened.seek(start)
            digest.update(opened.read(length))
    return [path.name, total, digest.hexdigest()]


def _pieces(files: Sequence[Path], sizes: Sequence[int]) -> list[tuple[Path, int, int]]:
    """Parts of files to be read, each with its start and length: evenly spread over all of them, with both ends."""
    total = sum(sizes)
    if total <= _WHOLE_BYTES:
        return [(file, 0, size) for file, size in zip(files, sizes, strict=True)]
    starts = [number * (total - _SAMPLE_BYTES) // (_SAMPLES - 1) for number in range(_SAMPLES)]
    pieces, before = [], 0
    for file, size in zip(files, sizes, strict=True):
        pieces += [(file, start - before, _SAMPLE_BYTES) for start in starts if before <= start < before + size]
        before += size
    return pieces
