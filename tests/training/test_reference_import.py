"""Checkpoints of the reference implementation open as models that compute the same."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pix2pix_training.config import GeneratorConfig
from pix2pix_training.errors import ModelFileError, SettingsError
from pix2pix_training.model_file import load_model, save_model
from pix2pix_training.networks import build_generator
from pix2pix_training.reference_import import import_generator
from tests.training.textbook import NestedUNet, patchgan


@pytest.mark.parametrize("instance", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_unet_is_recognised_and_computes_the_same(instance: bool, prefix: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = NestedUNet(4, 2, 3, 5, instance=instance)
    path = tmp_path / "net_G.pth"
    torch.save({prefix + name: value for name, value in network.state_dict().items()}, path)
    save_model(import_generator(path), tmp_path / "model.safetensors")
    model = load_model(tmp_path / "model.safetensors")
    norm = "instance" if instance else "batch"
    assert model.generator_config == GeneratorConfig(
        source_channels=4,
        target_channels=2,
        base_width=3,
        depth=5,
        norm=norm,  # type: ignore[arg-type]
    )
    x = torch.randn(1, 4, 32, 64)
    with torch.no_grad():
        assert torch.allclose(model.generator()(x), network.train()(x), atol=1e-6)


@pytest.mark.parametrize("dropout", ["none", "reference"])
@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("blocks", [6, 9])
def test_resnet_is_recognised(dropout: str, norm: str, blocks: int, tmp_path: Path) -> None:
    config = GeneratorConfig(architecture="resnet", blocks=blocks, base_width=2, norm=norm, dropout=dropout)  # type: ignore[arg-type]
    torch.save(build_generator(config).state_dict(), tmp_path / "net_G.pth")
    found = import_generator(tmp_path / "net_G.pth").generator_config
    assert (found.architecture, found.blocks, found.norm, found.dropout) == ("resnet", blocks, norm, dropout)


@pytest.mark.parametrize(
    "name", ["unet_d5_ngf8_bn", "unet_d6_ngf4_bn_dropout_1to2", "unet_d5_ngf8_in", "resnet_3blocks_ngf8_in"]
)
def test_checkpoints_of_the_reference_reproduce_its_output(name: str, reference_folder: Path) -> None:
    vectors = np.load(reference_folder / f"{name}.npz")
    statistics = "running" if "_bn" in name else "image"
    model = import_generator(reference_folder / f"{name}.pth", statistics=statistics)  # type: ignore[arg-type]
    expected = torch.from_numpy(vectors["y_eval"])
    with torch.no_grad():
        found = model.generator()(torch.from_numpy(vectors["x"]))
    assert float((found - expected).norm() / expected.norm()) < 1e-5


def test_old_checkpoints_without_counters_open(tmp_path: Path) -> None:
    state = {k: v for k, v in NestedUNet(1, 1, 2, 4).state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    assert import_generator(tmp_path / "old.pth").generator_config.depth == 4


def test_dropout_is_placed_where_asked(tmp_path: Path) -> None:
    torch.save(NestedUNet(1, 1, 2, 6).state_dict(), tmp_path / "unet.pth")
    model = import_generator(tmp_path / "unet.pth", dropout="seeded")
    assert (model.generator_config.dropout, model.inference.dropout) == ("reference", "seeded")
    resnet = build_generator(GeneratorConfig(architecture="resnet", blocks=1, base_width=1))
    torch.save(resnet.state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(SettingsError, match="without dropout"):
        import_generator(tmp_path / "resnet.pth", dropout="seeded")


def test_what_is_no_generator_is_refused(tmp_path: Path) -> None:
    def refused(content: Any, message: str) -> None:
        torch.save(content, tmp_path / "x.pth")
        with pytest.raises(ModelFileError, match=message) as caught:
            import_generator(tmp_path / "x.pth")
        assert "\n" not in str(caught.value)

    refused({f"model.{k}": v for k, v in patchgan(6, 2).state_dict().items()}, "holds a discriminator")
    refused(nn.Linear(2, 2).state_dict(), "not a generator of the reference")
    refused({"epoch": 3}, "no state_dict")
    refused(nn.Linear(2, 2), "execute code")
    incomplete = NestedUNet(1, 1, 2, 4).state_dict()
    del incomplete["model.model.1.model.5.weight"]
    refused(incomplete, "lack")
    (tmp_path / "x.pth").write_bytes(pickle.dumps(Path("x")))
    with pytest.raises(ModelFileError):
        import_generator(tmp_path / "x.pth")
    with pytest.raises(ModelFileError, match="does not exist"):
        import_generator(tmp_path / "none.pth")
