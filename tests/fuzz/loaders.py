"""What the program reads, each with the damage that it is tried with.

A loader gets an empty folder, puts a damaged file there, and reads it as the program does. It may raise what the
program raises on purpose, `Pix2PixError`, and nothing else.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
import zarr
from hypothesis import strategies as st
from PIL import Image

from napari_pix2pix.cli.card_lines import card_lines
from napari_pix2pix.formats import ImageMetadata, OutputSpec, describe_image, open_image, write_image
from napari_pix2pix.formats.pairing import pairs_from_csv
from pix2pix_training.array_source import plane_indices, plane_size
from pix2pix_training.checkpoint import CHECKPOINT_VERSION, load_checkpoint
from pix2pix_training.config import GeneratorConfig, InferenceConfig, TrainingConfig
from pix2pix_training.model_file import load_model, save_model
from pix2pix_training.presets import preset
from pix2pix_training.reference_import import import_model
from pix2pix_training.regions import Region
from pix2pix_training.run_folder import RunFolder
from pix2pix_training.setting_options import training_config
from pix2pix_training.settings_tables import settings_from_toml, to_toml
from pix2pix_trt.engine_file import read_engine_file, write_engine_file
from tests.fuzz.mutation import as_json, byte_edits, edited, edited_document, node_edits
from tests.product.translation.conftest import random_model

_HEADER = 400
_LARGEST_READ_PX = 512


@dataclass(frozen=True)
class Loader:
    """`damage` draws what `load` puts into an empty folder, and reads."""

    damage: st.SearchStrategy[Any]
    load: Callable[[Path, Any], None]


def _read_image(path: Path) -> None:
    """Open, describe, and read a part of each plane as the program does."""
    with open_image(path) as image:
        describe_image(image)
        height, width = plane_size(image)
        region = Region(0, min(height, _LARGEST_READ_PX), 0, min(width, _LARGEST_READ_PX))
        for _, plane in zip(range(4), plane_indices(image), strict=False):
            image.read(region, plane)


def _pixels(*shape: int, dtype: Any = np.uint8) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def _file_loader(name: str, content: Callable[[], bytes], read: Callable[[Path], Any], header: int = _HEADER) -> Loader:
    def load(folder: Path, edits: Any) -> None:
        (folder / name).write_bytes(edited(content(), edits))
        read(folder / name)

    return Loader(st.deferred(lambda: byte_edits(len(content()), header)), load)


def _document_loader(
    document: Callable[[], Any], write: Callable[[Path, Any], Path], read: Callable[[Path], Any]
) -> Loader:
    def load(folder: Path, edits: Any) -> None:
        read(write(folder, edited_document(document(), edits)))

    return Loader(st.deferred(lambda: node_edits(document())), load)


# --- models and runs -------------------------------------------------------------------------------------------------


@cache
def _model_file() -> bytes:
    config = GeneratorConfig(base_width=2, depth=3, source_channels=1, target_channels=1)
    return _saved(lambda path: save_model(random_model(config, InferenceConfig()), path))


def _saved(save: Callable[[Path], Any], name: str = "file") -> bytes:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        save(Path(folder) / name)
        return (Path(folder) / name).read_bytes()


def _header_of_model() -> Any:
    (length,) = struct.unpack("<Q", _model_file()[:8])
    return json.loads(json.loads(_model_file()[8 : 8 + length])["__metadata__"]["pix2pix"])


def _model_with_header(folder: Path, header: Any) -> Path:
    content = _model_file()
    (length,) = struct.unpack("<Q", content[:8])
    container = json.loads(content[8 : 8 + length])
    container["__metadata__"]["pix2pix"] = json.dumps(header)
    text = as_json(container)
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    return path


def _use_model(path: Path) -> None:
    model = load_model(path)
    list(card_lines(model))
    model.generator()


@cache
def _checkpoint() -> dict[str, Any]:
    return {
        "version": CHECKPOINT_VERSION,
        "config": asdict(_tiny_config()),
        "data": {"training": [["a", [1, 8, 8], [1, 8, 8]]], "validation": []},
        "step": 3,
        "seconds": 1.5,
        "networks": {"generator": {"weight": torch.zeros(2, 2)}, "scaler": {}},
        "random_state": {"cpu": torch.get_rng_state()},
        "best": {"step": 2, "scores": {"mae": 0.5}},
        "latest": None,
        "stale_validations": 0,
        "average": None,
        "threads": 1,
    }


def _tiny_config() -> TrainingConfig:
    return preset("seamless")


def _plain_checkpoint() -> Any:
    """The checkpoint as JSON has it, with texts in place of tensors."""
    return json.loads(json.dumps(_checkpoint(), default=lambda tensor: f"tensor {tuple(tensor.shape)}"))


def _write_checkpoint(folder: Path, document: Any) -> Path:
    torch.save(_with_tensors(document), folder / "last.pt")
    return folder / "last.pt"


def _with_tensors(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_tensors(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_with_tensors(entry) for entry in value]
    return torch.zeros(2, 2) if isinstance(value, str) and value.startswith("tensor") else value


def _checkpoint_bytes() -> bytes:
    content = io.BytesIO()
    torch.save(_checkpoint(), content)
    return content.getvalue()


@cache
def _reference_state() -> bytes:
    from pix2pix_training.reference_weights import generator_state, write_state_dict

    config = GeneratorConfig(base_width=1, depth=5, source_channels=1, target_channels=1)
    return _saved(lambda path: write_state_dict(generator_state(random_model(config, InferenceConfig())), path))


def _import(path: Path) -> None:
    import_model(path, None, statistics="image", dropout="off")


_METRICS = """step,epoch,seconds,D_fake,D_real,G_GAN,G_L1,G_FM,mae,psnr,ssim,pearson
2,0,1.2,0.5,0.6,0.7,30,,0.2,20,0.5,0.9
4,0,2.5,0.4,0.6,0.8,25,,,,,
6,1,3.9,0.5,0.5,0.9,22,,0.1,25,0.6,0.95
"""


def _read_metrics(path: Path) -> None:
    RunFolder(path.parent).drop_metrics_after(4)


def _config_document() -> Any:
    return asdict(_tiny_config())


def _write_config(folder: Path, document: Any) -> Path:
    """As TOML, written by hand: a damaged tree need not be one that TOML can hold."""
    lines = []
    tables = document.items() if isinstance(document, dict) else [("patch_size", document)]
    for name, value in tables:
        if isinstance(value, dict):
            lines += [f"[{name}]", *(f"{key} = {_toml(entry)}" for key, entry in value.items() if entry is not None)]
        elif value is not None:
            lines.insert(0, f"{name} = {_toml(value)}")
    (folder / "config.toml").write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    return folder / "config.toml"


def _toml(value: Any) -> str:
    return json.dumps(value).replace("Infinity", "inf").replace("NaN", "nan")


def _use_config(path: Path) -> None:
    training_config({}, settings_from_toml(path))


def _config_bytes() -> bytes:
    return to_toml(_tiny_config()).encode()


@cache
def _engine() -> bytes:
    return _saved(lambda path: write_engine_file(path, {"precision": "fp16"}, b"compiled" * 9))


# --- tables ----------------------------------------------------------------------------------------------------------

_TABLE = "source,target\na.png,b.png\nb.png,a.png\n"


def _write_table(folder: Path, edits: Any) -> Path:
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(_png())
    (folder / "pairs.csv").write_bytes(edited(_TABLE.encode(), edits))
    return folder / "pairs.csv"


def _read_table(folder: Path, edits: Any) -> None:
    pairs_from_csv(_write_table(folder, edits))


# --- images ----------------------------------------------------------------------------------------------------------


def _encoded(save: Callable[[io.BytesIO], Any]) -> bytes:
    content = io.BytesIO()
    save(content)
    return content.getvalue()


@cache
def _png() -> bytes:
    return _encoded(lambda file: Image.fromarray(_pixels(20, 24, 3)).save(file, "PNG", dpi=(72, 72)))


def _read_png(content: Callable[[], bytes]) -> Loader:
    """Damage behind right checksums, which a reader would else stop at."""

    def load(folder: Path, damage: Any) -> None:
        is_sealed, edits = damage
        data = edited(content(), edits)
        (folder / "image.png").write_bytes(_sealed(data) if is_sealed else data)
        _read_image(folder / "image.png")

    return Loader(st.deferred(lambda: st.tuples(st.booleans(), byte_edits(len(content()), _HEADER))), load)


def _sealed(data: bytes) -> bytes:
    """The chunks of a PNG, as far as they can be told, with the checksums that they should have."""
    sealed, at = bytearray(data[:8]), 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunk = data[at + 4 : at + 8 + length]
        if len(chunk) < 4 + length:
            break
        sealed += data[at : at + 4] + chunk + struct.pack(">I", zlib.crc32(chunk))
        at += 12 + length
    return bytes(sealed) + data[at:]


@cache
def _tiff_kinds() -> tuple[bytes, ...]:
    def tiff(pixels: np.ndarray[Any, Any], **options: Any) -> bytes:
        return _encoded(lambda file: tifffile.imwrite(file, pixels, **options))

    return (
        tiff(_pixels(20, 24)),
        tiff(_pixels(20, 24, dtype=np.uint16), tile=(16, 16), compression="zlib", predictor=True),
        tiff(_pixels(20, 24, 3), photometric="rgb", bigtiff=True, compression="lzw"),
        tiff(_pixels(3, 20, 24), ome=True, photometric="minisblack", metadata={"axes": "CYX"}),
        tiff(_pixels(3, 20, 24, dtype=np.float32), imagej=True),
        tiff(_pixels(20, 24) > 99, compression="packbits"),
    )


def _tiff_loader() -> Loader:
    def load(folder: Path, damage: Any) -> None:
        number, edits = damage
        (folder / "image.tif").write_bytes(edited(_tiff_kinds()[number], edits))
        _read_image(folder / "image.tif")

    def damage() -> st.SearchStrategy[Any]:
        kinds = [
            st.tuples(st.just(number), byte_edits(len(content), _HEADER))
            for number, content in enumerate(_tiff_kinds())
        ]
        return st.one_of(kinds)

    return Loader(st.deferred(damage), load)


@cache
def _geotiff() -> bytes:
    import rasterio
    from rasterio.transform import from_origin

    def save(path: Path) -> None:
        profile = {"driver": "GTiff", "width": 24, "height": 20, "count": 1, "dtype": "uint8", "crs": "EPSG:32632"}
        with rasterio.open(path, "w", transform=from_origin(5e5, 5e6, 1, 1), nodata=7, **profile) as file:
            file.write(_pixels(1, 20, 24))

    return _saved(save, "file.tif")


_OME_XML = """<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:00000000-0000-0000-0000-000000000000">
<Image ID="Image:0" Name="x"><AcquisitionDate>2020-01-01T00:00:00</AcquisitionDate>
<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="24" SizeY="20" SizeC="3" SizeZ="1" SizeT="1"
 PhysicalSizeX="0.5" PhysicalSizeXUnit="um" PhysicalSizeY="0.5" BigEndian="false" SignificantBits="8">
<Channel ID="Channel:0:0" Name="DAPI" SamplesPerPixel="1" Color="-16776961"/>
<Channel ID="Channel:0:1" Name="GFP" SamplesPerPixel="1"/><Channel ID="Channel:0:2" SamplesPerPixel="1"/>
<TiffData IFD="0" PlaneCount="3"><UUID FileName="image.ome.tif">urn:uuid:00000000-0000-0000-0000-000000000000</UUID>
</TiffData><Plane TheZ="0" TheT="0" TheC="0" DeltaT="1.5" PositionX="1" PositionY="2"/></Pixels></Image></OME>"""


_OWN_IDENTIFIER = b' UUID="urn:uuid:00000000-0000-0000-0000-000000000000"'


def _attributes() -> list[tuple[int, int]]:
    """Where the values of the attributes stand in the XML."""
    from re import finditer

    return [match.span(1) for match in finditer(r'="([^"]*)"', _OME_XML)]


_XML_VALUES = (
    *("", "0", "-1", "2", "3", "1e9", "999999999", "99999999999999999999", "nan", "inf", "XYZTC", "uint7", "double"),
    *("../../outside.tif", "a" * 3000, "&#0;", "&amp;", "é", "Image:1", "true", "float", "int32", "um"),
)


def _ome_damage() -> st.SearchStrategy[Any]:
    attribute = st.tuples(st.integers(0, len(_attributes()) - 1), st.sampled_from(_XML_VALUES))
    return st.tuples(st.lists(attribute, max_size=3), st.one_of(st.just([]), byte_edits(len(_OME_XML), len(_OME_XML))))


def _ome_text(damage: Any) -> bytes:
    attributes, edits = damage
    text = _OME_XML
    places = _attributes()
    for index, value in sorted(dict(attributes).items(), reverse=True):
        start, end = places[index]
        text = text[:start] + value + text[end:]
    return edited(text.encode(), edits)


def _read_ome(folder: Path, damage: Any) -> None:
    tifffile.imwrite(
        folder / "image.ome.tif", _pixels(3, 20, 24), photometric="minisblack", description=_ome_text(damage),
        metadata=None,
    )  # fmt: skip
    _read_image(folder / "image.ome.tif")


def _read_companion(folder: Path, damage: Any) -> None:
    tifffile.imwrite(folder / "image.ome.tif", _pixels(3, 20, 24), photometric="minisblack", metadata=None)
    (folder / "set.companion.ome").write_bytes(_ome_text(damage).replace(_OWN_IDENTIFIER, b"", 1))
    _read_image(folder / "set.companion.ome")


@cache
def _stores() -> tuple[dict[str, bytes], ...]:
    """Files of an OME-Zarr 0.5 and of one 0.4."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        spec = OutputSpec(axes="CYX", shape=(2, 20, 24), dtype=np.dtype(np.uint8), metadata=ImageMetadata())
        whole = Region(0, 20, 0, 24)
        write_image(folder / "5.ome.zarr", spec, iter([((), whole, _pixels(2, 20, 24))]), file_format="ome-zarr")
        group = zarr.create_group(folder / "4.ome.zarr", zarr_format=2)
        group.create_array("0", data=_pixels(2, 20, 24), chunks=(1, 20, 24))
        axes = [{"name": "c", "type": "channel"}, *({"name": n, "type": "space", "unit": "micrometer"} for n in "yx")]
        scale = [{"type": "scale", "scale": [1, 0.5, 0.5]}]
        datasets = [{"path": "0", "coordinateTransformations": scale}]
        attributes: dict[str, Any] = {"multiscales": [{"version": "0.4", "axes": axes, "datasets": datasets}]}
        attributes["omero"] = {"channels": [{"label": "a", "color": "FF0000", "window": {"start": 0, "end": 9}}, {}]}
        group.attrs.update(attributes)
        return tuple(
            {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}
            for store in (folder / "5.ome.zarr", folder / "4.ome.zarr")
        )


def _store_damage() -> st.SearchStrategy[Any]:
    drawn: list[st.SearchStrategy[Any]] = []
    for number, files in enumerate(_stores()):
        for name, content in files.items():
            if Path(name).name in ("zarr.json", ".zattrs", ".zarray", ".zgroup"):
                trees = st.tuples(st.just(number), st.just(name), st.just("tree"), node_edits(json.loads(content)))
                drawn += [trees, trees]
            drawn.append(st.tuples(st.just(number), st.just(name), st.just("bytes"), byte_edits(len(content), 60)))
    return st.one_of(drawn)


def _read_store(folder: Path, damage: Any) -> None:
    number, damaged, kind, edits = damage
    store = folder / "image.ome.zarr"
    for name, content in _stores()[number].items():
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        if name == damaged:
            content = (
                edited(content, edits) if kind == "bytes" else as_json(edited_document(json.loads(content), edits))
            )
        (store / name).write_bytes(content)
    _read_image(store)


_WORLD = "0.5\n0.0\n0.0\n-0.5\n500000.25\n5000000.25\n"


def _read_world(folder: Path, damage: Any) -> None:
    ending, edits = damage
    (folder / f"image.{ending[0]}").write_bytes(_png() if ending[0] == "png" else _tiff_kinds()[0])
    (folder / f"image.{ending[1]}").write_bytes(edited(_WORLD.encode(), edits))
    _read_image(folder / f"image.{ending[0]}")


def _world_damage() -> st.SearchStrategy[Any]:
    endings = st.sampled_from([("tif", "tfw"), ("png", "pgw"), ("tif", "tifw"), ("png", "wld")])
    return st.tuples(endings, byte_edits(len(_WORLD), len(_WORLD)))


def _pillow(file_format: str, mode: str = "RGB") -> Callable[[], bytes]:
    @cache
    def content() -> bytes:
        image = Image.fromarray(_pixels(20, 24, 3)).convert(mode)
        return _encoded(lambda file: image.save(file, file_format))

    return content


LOADERS: dict[str, Loader] = {
    "model header": _document_loader(_header_of_model, _model_with_header, _use_model),
    "model file": _file_loader("model.safetensors", _model_file, _use_model),
    "checkpoint": _document_loader(_plain_checkpoint, _write_checkpoint, load_checkpoint),
    "checkpoint file": _file_loader("last.pt", _checkpoint_bytes, load_checkpoint, header=10**9),
    "reference weights": _file_loader("latest_net_G.pth", _reference_state, _import, header=10**9),
    "metrics.csv": _file_loader("metrics.csv", _METRICS.encode, _read_metrics, header=10**9),
    "settings": _document_loader(_config_document, _write_config, _use_config),
    "config.toml": _file_loader("config.toml", _config_bytes, _use_config, header=10**9),
    "engine": _file_loader("model.engine", _engine, read_engine_file),
    "pairs.csv": Loader(byte_edits(len(_TABLE), len(_TABLE)), _read_table),
    "png": _read_png(_png),
    "palette png": _read_png(_pillow("PNG", "P")),
    "jpeg": _file_loader("image.jpg", _pillow("JPEG"), _read_image, header=700),
    "bmp": _file_loader("image.bmp", _pillow("BMP"), _read_image),
    "gif": _file_loader("image.gif", _pillow("GIF", "P"), _read_image),
    "tiff": _tiff_loader(),
    "geotiff": _file_loader("image.tif", _geotiff, _read_image, header=700),
    "ome-xml": Loader(st.deferred(_ome_damage), _read_ome),
    "companion.ome": Loader(st.deferred(_ome_damage), _read_companion),
    "ome-zarr": Loader(st.deferred(_store_damage), _read_store),
    "world file": Loader(st.deferred(_world_damage), _read_world),
}


def clear(folder: Path) -> None:
    """Remove what a loader has put into its folder."""
    import shutil

    for path in folder.iterdir():
        with suppress(OSError):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
