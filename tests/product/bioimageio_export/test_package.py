"""The package: its description, and that every part of it is the same function as the model."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from napari_pix2pix.bioimageio_export.package import export_bioimageio
from napari_pix2pix.bioimageio_export.package_description import PackageInfo, block_sizes
from napari_pix2pix.translation.pipeline import translate_array
from pix2pix_training.errors import SettingsError
from pix2pix_training.inference_config import Credits, InferenceConfig
from tests.product.bioimageio_export.conftest import INFO, model_with


@pytest.fixture
def description(package: Path) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    content: dict[str, Any] = yaml.safe_load((package / "bioimageio.yaml").read_text(encoding="utf-8"))
    return content


def test_axes_state_sizes_scale_and_halo(description: dict[str, Any]) -> None:
    (source,), (target,) = description["inputs"], description["outputs"]
    batch, channel, y, x = source["axes"]
    assert batch == {"type": "batch"}
    assert channel == {"type": "channel", "channel_names": ["phase", "DAPI_405"]}
    assert (y["id"], y["size"], y["unit"], y["scale"]) == ("y", {"min": 40, "step": 8}, "micrometer", 0.5)
    assert x["scale"] == pytest.approx(0.65, rel=1e-6)
    assert all(int(n * x["scale"] / x["scale"]) == n for n in range(1, 20_000))  # as readers compute it
    assert y["concatenable"] and x["concatenable"]
    assert target["axes"][1]["channel_names"] == ["channel_0"]
    assert [axis["halo"] for axis in target["axes"][2:]] == [16, 16]
    assert target["axes"][3]["size"] == {"tensor_id": "input", "axis_id": "x"}


def test_credits_weights_and_header_are_described(description: dict[str, Any], package: Path) -> None:
    assert description["authors"] == [{"name": "A. Author"}]
    assert description["license"] == "CC-BY-4.0"
    assert "&" not in (package / "bioimageio.yaml").read_text(encoding="utf-8")  # anchors, which not all readers know
    assert [entry["doi"] for entry in description["cite"]] == ["10.1234/test.5", "10.1109/CVPR.2017.632"]
    weights = description["weights"]
    assert weights["onnx"]["parent"] == "pytorch_state_dict"
    for entry in (*weights.values(), weights["pytorch_state_dict"]["architecture"]):
        assert hashlib.sha256((package / entry["source"]).read_bytes()).hexdigest() == entry["sha256"]
    assert description["config"]["napari_pix2pix"]["source"]["pixel_size"] == [0.5, 0.65]
    assert "## Validation\n\n- mae: 0.05" in (package / "README.md").read_text(encoding="utf-8")
    with Image.open(package / "cover.png") as cover:
        assert cover.size == (512, 256)
        assert np.asarray(cover).std() > 5


def test_test_tensors_are_what_the_model_makes_of_the_sample(package: Path) -> None:
    source, target = (np.load(package / f"test_{name}.npy") for name in ("input", "output"))
    assert source.shape == (1, 2, 256, 264)
    assert (source.dtype, target.dtype) == (np.uint16, np.uint8)
    assert np.ptp(target) > 20
    np.testing.assert_array_equal(translate_array(source[0], model_with())[None], target)


def test_onnx_weights_give_the_test_output(package: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    model = model_with()
    source, target = (np.load(package / f"test_{name}.npy") for name in ("input", "output"))
    session = runtime.InferenceSession(package / "weights.onnx", providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"features": model.source.mapping.to_network(torch.from_numpy(source)).numpy()})
    found = model.target.mapping.from_network(torch.from_numpy(output)).numpy()
    assert int(np.abs(found.astype(int) - target).max()) <= 1


def test_the_description_is_valid_by_the_specification(package: Path) -> None:
    spec = pytest.importorskip("bioimageio.spec")
    loaded = spec.load_description(package / "bioimageio.yaml")
    assert not isinstance(loaded, spec.InvalidDescr), loaded.validation_summary.format()


@pytest.mark.parametrize(
    "architecture, norm", [("unet", "batch"), ("unet", "none"), ("encoder-decoder", "batch"), ("resnet", "batch")]
)
def test_a_block_with_its_halo_gives_what_the_whole_image_gives(architecture: str, norm: str) -> None:
    model = model_with(norm, architecture=architecture)
    sizes = block_sizes(model.generator_config, InferenceConfig(statistics="running"))
    network = model.generator().double()
    x = torch.rand(1, 2, sizes.minimum + 4 * sizes.step, sizes.minimum + 3 * sizes.step, dtype=torch.float64)
    y0, x0 = 2 * sizes.step, sizes.step
    block = x[..., y0 : y0 + sizes.minimum, x0 : x0 + sizes.minimum]
    inner = slice(sizes.halo, sizes.minimum - sizes.halo)
    with torch.inference_mode():
        expected = network(x)[..., y0 : y0 + sizes.minimum, x0 : x0 + sizes.minimum]
        found = network(block)
    assert float((found - expected)[..., inner, inner].abs().max()) < 1e-12
    assert float((found - expected).abs().max()) > 1e-6


def test_statistics_of_the_whole_image_allow_no_blocks() -> None:
    for architecture, smallest in (("unet", 8), ("resnet", 8)):
        config = model_with("instance", "image", architecture).generator_config
        sizes = block_sizes(config, InferenceConfig(statistics="image"))
        assert (sizes.minimum, sizes.halo) == (smallest, 0)
        with torch.inference_mode():
            network = model_with("instance", "image", architecture).generator()
            assert network(torch.rand(1, 2, smallest, smallest + sizes.step)).shape[-1] == smallest + sizes.step


@pytest.mark.parametrize(
    "name, credits, message",
    [
        ("a/b", INFO.credits, "must have 5 to 128 letters"),
        ("my model", replace(INFO.credits, authors=()), "--author"),
        ("my model", replace(INFO.credits, authors=("A/B",)), "not a name of an author"),
        ("my model", replace(INFO.credits, license=None), "--license"),
        ("my model", replace(INFO.credits, license="all rights reserved"), "SPDX"),
        ("my model", replace(INFO.credits, citation="our paper"), "needs a DOI"),
    ],
)
def test_incomplete_information_is_refused(name: str, credits: Credits, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        PackageInfo(name=name, credits=credits)


def test_a_model_that_draws_noise_is_refused(image_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    model = model_with()
    config = replace(model.generator_config, dropout="paper")
    noisy = replace(model, generator_config=config, inference=InferenceConfig(dropout="seeded"))
    with pytest.raises(SettingsError, match="set dropout to off"):
        export_bioimageio(noisy, tmp_path / "package.zip", INFO, image_file)
    assert not list(tmp_path.iterdir())
