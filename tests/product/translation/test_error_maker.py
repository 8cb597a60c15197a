"""Error maps beside outputs: exact, wherever and however they are made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_pix2pix import Pix2Pix
from napari_pix2pix.cli.application import run
from napari_pix2pix.formats import ImageMetadata, OutputSpec, open_image, write_image
from napari_pix2pix.translation.error_maker import error_settings
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.array_source import AnyArray, whole_plane
from pix2pix_training.error_network import ErrorNetwork, ErrorTraits
from pix2pix_training.errors import InputError, SettingsError
from pix2pix_training.image_description import ImageDescription
from pix2pix_training.intensity import dtype_mapping
from pix2pix_training.model_file import Model, load_model, save_model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import build_generator
from pix2pix_training.regions import Region


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    own = GeneratorConfig(source_channels=1, target_channels=1, base_width=4, depth=3)
    errors = GeneratorConfig(
        source_channels=1, target_channels=1, base_width=4, depth=3, norm="batch-renorm", decoder="resize"
    )
    network = build_generator(errors)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    traits = ErrorTraits(config=errors, coverage=0.9, factors=(0.5,), images=4)
    return Model(
        generator_config=own,
        weights=build_generator(own).state_dict(),
        source=ImageDescription(mapping=dtype_mapping(np.dtype("uint8"), 1)),
        target=ImageDescription(mapping=dtype_mapping(np.dtype("uint8"), 1)),
        error=ErrorNetwork(traits=traits, weights=network.state_dict()),
    )


@pytest.fixture
def files(model: Model, tmp_path: Path) -> tuple[Path, Path]:
    save_model(model, tmp_path / "model.safetensors")
    image = np.random.default_rng(0).integers(0, 256, (1, 512, 600), dtype=np.uint8)
    spec = OutputSpec(axes="CYX", shape=image.shape, dtype=image.dtype, metadata=ImageMetadata(pixel_size=(0.5, 0.5)))
    write_image(tmp_path / "cell.tif", spec, iter([((), Region.whole(512, 600), image)]), file_format="ome-tiff")
    return tmp_path / "cell.tif", tmp_path / "model.safetensors"


def pixels(path: Path) -> AnyArray:
    with open_image(path) as image:
        return image.read(whole_plane(image))


def translated(files: tuple[Path, Path], out: Path, *options: str) -> int:
    image, model = files
    return run(["translate", str(image), "--model", str(model), "--out", str(out), "--error-map", *options])


def test_the_map_lies_beside_the_output_and_is_that_of_the_array(
    files: tuple[Path, Path], model: Model, tmp_path: Path
) -> None:
    assert translated(files, tmp_path / "out.ome.tif") == 0
    widths = pixels(tmp_path / "out-error.ome.tif")
    assert widths.dtype == np.uint8
    assert widths.shape == (1, 512, 600)
    assert len(np.unique(widths)) > 20
    with open_image(tmp_path / "out-error.ome.tif") as image:
        assert image.metadata.pixel_size == (0.5, 0.5)
    np.testing.assert_array_equal(Pix2Pix(model).error_map(pixels(files[0]), axes="CYX"), widths)
    Pix2Pix(model).translate(files[0], tmp_path / "again.ome.tif", error_map=True)
    np.testing.assert_array_equal(pixels(tmp_path / "again-error.ome.tif"), widths)


@pytest.mark.parametrize(
    "options", [("--tile", "128", "--scheme", "exact"), ("--region", "256"), ("--backend", "openvino")], ids=str
)
def test_tiles_regions_and_backends_give_the_map_of_the_whole_image(
    files: tuple[Path, Path], model: Model, tmp_path: Path, options: tuple[str, ...]
) -> None:
    assert translated(files, tmp_path / "out.tif", *options) == 0
    whole = Pix2Pix(model).error_map(pixels(files[0]), axes="CYX", scheme="whole", backend="torch").astype(int)
    difference = np.abs(pixels(tmp_path / "out-error.tif").astype(int) - whole)
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3


def test_shards_share_the_map_and_resume_completes_it(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, options = tmp_path / "out.tif", ("--region", "256")
    assert translated(files, out, *options, "--shard", "1/2") == 0
    assert not (tmp_path / "out-error.tif").exists()
    assert translated(files, out, *options, "--shard", "2/2", "--json") == 0
    assert '"error_maps": ["' in capsys.readouterr().out
    assert translated(files, tmp_path / "whole.tif", *options) == 0
    np.testing.assert_array_equal(pixels(tmp_path / "out-error.tif"), pixels(tmp_path / "whole-error.tif"))
    (tmp_path / "out-error.tif").unlink()
    assert translated(files, out, *options, "--resume") == 0
    np.testing.assert_array_equal(pixels(tmp_path / "out-error.tif"), pixels(tmp_path / "whole-error.tif"))


def test_a_map_does_not_take_the_place_of_another_image(files: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "cell-error.tif").write_bytes(files[0].read_bytes())
    arguments = [str(files[0]), str(tmp_path / "cell-error.tif"), "--model", str(files[1]), "--out"]
    assert run(["translate", *arguments, str(tmp_path / "out"), "--error-map"]) == 2
    assert not (tmp_path / "out").exists()


def test_the_model_file_is_read_once(files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def noted(path: Path) -> Model:
        read.append(path)
        return load_model(path)

    monkeypatch.setattr("pix2pix_training.model_file.load_model", noted)
    assert translated(files, tmp_path / "out.tif") == 0
    assert read == [files[1]]


@pytest.mark.parametrize("changes", [{"statistics": "image"}, {"dropout": "seeded"}])
def test_a_map_is_refused_for_what_it_was_not_calibrated_for(model: Model, changes: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="in the model's own mode"):
        error_settings(model, TranslationSettings(**changes))  # type: ignore[arg-type]


def test_without_an_error_network_nothing_is_begun(model: Model, files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the model has no error map; "):
        Pix2Pix(replace(model, error=None)).translate(files[0], tmp_path / "out.tif", error_map=True)
    assert not (tmp_path / "out.tif").exists()
