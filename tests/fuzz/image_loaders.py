"""Images of all formats, and what lies beside them, each damaged in its own way."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from napari_pix2pix.formats import ImageMetadata, OutputSpec, write_image
from napari_pix2pix.formats.metadata import METADATA_KEY, AxisScale, to_record
from pix2pix_training.regions import Region
from tests.fuzz.loading import HEADER, Loader, file_loader, random_pixels, read_image, saved_bytes
from tests.fuzz.mutation import as_json, byte_edits, edited, edited_document, node_edits


def _encoded(save: Callable[[io.BytesIO], Any]) -> bytes:
    content = io.BytesIO()
    save(content)
    return content.getvalue()


@cache
def png() -> bytes:
    return _encoded(lambda file: Image.fromarray(random_pixels(20, 24, 3)).save(file, "PNG", dpi=(72, 72)))


def _read_png(content: Callable[[], bytes]) -> Loader:
    """Damage behind right checksums, which a reader would else stop at."""

    def load(folder: Path, damage: Any) -> None:
        is_sealed, edits = damage
        data = edited(content(), edits)
        (folder / "image.png").write_bytes(_sealed(data) if is_sealed else data)
        read_image(folder / "image.png")

    return Loader(st.deferred(lambda: st.tuples(st.booleans(), byte_edits(len(content()), HEADER))), load)


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
        tiff(random_pixels(20, 24)),
        tiff(random_pixels(20, 24, dtype=np.uint16), tile=(16, 16), compression="zlib", predictor=True),
        tiff(random_pixels(20, 24, 3), photometric="rgb", bigtiff=True, compression="lzw"),
        tiff(random_pixels(3, 20, 24), ome=True, photometric="minisblack", metadata={"axes": "CYX"}),
        tiff(random_pixels(3, 20, 24, dtype=np.float32), imagej=True),
        tiff(random_pixels(20, 24) > 99, compression="packbits"),
    )


def _tiff_loader() -> Loader:
    def load(folder: Path, damage: Any) -> None:
        number, edits = damage
        (folder / "image.tif").write_bytes(edited(_tiff_kinds()[number], edits))
        read_image(folder / "image.tif")

    def damage() -> st.SearchStrategy[Any]:
        kinds = [
            st.tuples(st.just(number), byte_edits(len(content), HEADER)) for number, content in enumerate(_tiff_kinds())
        ]
        return st.one_of(kinds)

    return Loader(st.deferred(damage), load)


@cache
def geotiff() -> bytes:
    import rasterio
    from rasterio.transform import from_origin

    def save(path: Path) -> None:
        profile = {"driver": "GTiff", "width": 24, "height": 20, "count": 1, "dtype": "uint8", "crs": "EPSG:32632"}
        with rasterio.open(path, "w", transform=from_origin(5e5, 5e6, 1, 1), nodata=7, **profile) as file:
            file.write(random_pixels(1, 20, 24))

    return saved_bytes(save, "file.tif")


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
        folder / "image.ome.tif", random_pixels(3, 20, 24), photometric="minisblack", description=_ome_text(damage),
        metadata=None,
    )  # fmt: skip
    read_image(folder / "image.ome.tif")


def _read_companion(folder: Path, damage: Any) -> None:
    tifffile.imwrite(folder / "image.ome.tif", random_pixels(3, 20, 24), photometric="minisblack", metadata=None)
    (folder / "set.companion.ome").write_bytes(_ome_text(damage).replace(_OWN_IDENTIFIER, b"", 1))
    read_image(folder / "set.companion.ome")


@cache
def _stores() -> tuple[dict[str, bytes], ...]:
    """Files of an OME-Zarr 0.5 and of one 0.4."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        spec = OutputSpec(axes="CYX", shape=(2, 20, 24), dtype=np.dtype(np.uint8), metadata=ImageMetadata())
        whole = Region(0, 20, 0, 24)
        write_image(folder / "5.ome.zarr", spec, iter([((), whole, random_pixels(2, 20, 24))]), file_format="ome-zarr")
        group = zarr.create_group(folder / "4.ome.zarr", zarr_format=2)
        group.create_array("0", data=random_pixels(2, 20, 24), chunks=(1, 20, 24))
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
    read_image(store)


_WORLD = "0.5\n0.0\n0.0\n-0.5\n500000.25\n5000000.25\n"


def _read_world(folder: Path, damage: Any) -> None:
    ending, edits = damage
    (folder / f"image.{ending[0]}").write_bytes(png() if ending[0] == "png" else _tiff_kinds()[0])
    (folder / f"image.{ending[1]}").write_bytes(edited(_WORLD.encode(), edits))
    read_image(folder / f"image.{ending[0]}")


def _world_damage() -> st.SearchStrategy[Any]:
    endings = st.sampled_from([("tif", "tfw"), ("png", "pgw"), ("tif", "tifw"), ("png", "wld")])
    return st.tuples(endings, byte_edits(len(_WORLD), len(_WORLD)))


_SIDECAR = """<PAMDataset><SRS>EPSG:32632</SRS><GeoTransform>5e5, 1, 0, 5e6, 0, -1</GeoTransform>
<Metadata><MDI key="AREA_OR_POINT">Area</MDI></Metadata><PAMRasterBand band="1"><NoDataValue>7</NoDataValue>
<Description>band</Description></PAMRasterBand></PAMDataset>"""


def _read_sidecar(folder: Path, damage: Any) -> None:
    ending, edits = damage
    (folder / f"image.{ending}").write_bytes(png() if ending == "png" else geotiff())
    (folder / f"image.{ending}.aux.xml").write_bytes(edited(_SIDECAR.encode(), edits))
    read_image(folder / f"image.{ending}")


def _sidecar_damage() -> st.SearchStrategy[Any]:
    return st.tuples(st.sampled_from(("png", "tif")), byte_edits(len(_SIDECAR), len(_SIDECAR)))


_TILEMAP = """<TileMap version="1.0.0" tilemapservice="http://tms.osgeo.org/1.0.0"><SRS>EPSG:3857</SRS>
<BoundingBox minx="-1" miny="-1" maxx="1" maxy="1"/><Origin x="-1" y="-1"/>
<TileFormat width="8" height="8" mime-type="image/png" extension="png"/>
<TileSets profile="mercator"><TileSet href="1" units-per-pixel="1" order="1"/></TileSets></TileMap>"""
_TILES = ("1/0/0.png", "1/0/1.png", "1/1/0.png", "1/1/1.png", "0/0/0.png")
_NUMBERS_OF_TILES = ("0", "1", "2", "3", "7", "29", "30", "31", "99", "4294967296", "9" * 40, "01", "-1", "²", "x")


def _tiles_damage() -> st.SearchStrategy[Any]:
    number = st.sampled_from(_NUMBERS_OF_TILES)
    place = st.builds("/".join, st.tuples(number, number, number))
    moved = st.lists(st.tuples(st.integers(0, len(_TILES) - 1), place), max_size=3)
    return st.tuples(moved, st.none() | byte_edits(len(_TILEMAP), len(_TILEMAP)), st.sampled_from((8, 8, 8, 9)))


def _read_tiles(folder: Path, damage: Any) -> None:
    moved, edits, side = damage
    names = dict(enumerate(_TILES)) | {number: f"{place}.png" for number, place in moved}
    for number, name in names.items():
        (folder / "map" / name).parent.mkdir(parents=True, exist_ok=True)
        tile = Image.fromarray(random_pixels(*((side, 8) if number == 1 else (8, 8)), 3))
        tile.save(folder / "map" / name)
    if edits is not None:
        (folder / "map" / "tilemapresource.xml").write_bytes(edited(_TILEMAP.encode(), edits))
    read_image(folder / "map")


def _record() -> Any:
    """What this program writes about its own images."""
    metadata = ImageMetadata(
        pixel_size=(0.5, 0.5),
        z_spacing=1.5,
        unit="µm",
        channel_names=("a",),
        channel_colors=((1, 2, 3),),
        bit_depth=12,
        display_ranges=((0.0, 9.0),),
        acquisition=(("make", "x"),),
        time_step_s=2.0,
        screen_dpi=(72.0, 72.0),
        name="n",
        scales=(AxisScale("t", "time", "s", 1.0, 0.0),),
    )
    return json.loads(json.dumps(to_record(metadata)))


def _read_record(folder: Path, edits: Any) -> None:
    record = edited_document(_record(), edits)
    text = json.dumps({"shape": [20, 24], METADATA_KEY: record})
    tifffile.imwrite(folder / "image.tif", random_pixels(20, 24), description=text, metadata=None)
    chunk = PngInfo()
    chunk.add_itxt(METADATA_KEY, json.dumps(record))
    Image.fromarray(random_pixels(20, 24, 3)).save(folder / "image.png", pnginfo=chunk)
    for name in ("image.tif", "image.png"):
        read_image(folder / name)


def pillow(file_format: str, mode: str = "RGB") -> Callable[[], bytes]:
    @cache
    def content() -> bytes:
        image = Image.fromarray(random_pixels(20, 24, 3)).convert(mode)
        return _encoded(lambda file: image.save(file, file_format))

    return content


IMAGE_LOADERS: dict[str, Loader] = {
    "png": _read_png(png),
    "palette png": _read_png(pillow("PNG", "P")),
    "jpeg": file_loader("image.jpg", pillow("JPEG"), read_image, header=700),
    "bmp": file_loader("image.bmp", pillow("BMP"), read_image),
    "gif": file_loader("image.gif", pillow("GIF", "P"), read_image),
    "tiff": _tiff_loader(),
    "geotiff": file_loader("image.tif", geotiff, read_image, header=700),
    "ome-xml": Loader(st.deferred(_ome_damage), _read_ome),
    "companion.ome": Loader(st.deferred(_ome_damage), _read_companion),
    "ome-zarr": Loader(st.deferred(_store_damage), _read_store),
    "metadata record": Loader(st.deferred(lambda: node_edits(_record())), _read_record),
    "map tiles": Loader(st.deferred(_tiles_damage), _read_tiles),
    "sidecar": Loader(st.deferred(_sidecar_damage), _read_sidecar),
    "world file": Loader(st.deferred(_world_damage), _read_world),
}
