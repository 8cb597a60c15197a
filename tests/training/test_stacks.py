"""Training on stacks of any axes and types, with invalid pixels anywhere, is training on their planes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pix2pix_training.array_source import AnyArray, MemorySource
from pix2pix_training.choices import Values
from pix2pix_training.errors import ImageError
from pix2pix_training.events import Finished, PreviewReady, Validated
from pix2pix_training.image_description import ImageTraits
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.model_file import load_model
from pix2pix_training.neighbouring_planes import NeighbouringPlanes
from pix2pix_training.pairs import Pair, Split
from pix2pix_training.patch_config import SamplingConfig
from pix2pix_training.training import TrainingData
from tests.training.runs import TINY, data_of, pair_of, stripes, trained


def of_type(image: AnyArray, dtype: Any) -> AnyArray:
    return (image / 255).astype(dtype) if np.dtype(dtype).kind == "f" else image.astype(dtype)


@pytest.mark.parametrize("leading", [(3,), (2, 3), (2, 1, 2), (1, 1, 1, 2)])
@pytest.mark.parametrize(("source", "target"), [("float32", "float32"), ("uint8", "float32"), ("float64", "uint16")])
@pytest.mark.parametrize("values", ["auto", "image"])
def test_stacks_of_floats_train(
    leading: tuple[int, ...], source: str, target: str, values: Values, tmp_path: Path
) -> None:
    image = stripes(0, (*leading, 2, 48, 48))
    pairs = [pair_of(of_type(image, source), of_type(255 - image[..., :1, :, :], target))]
    validation = [pair_of(of_type(image, source)[..., ::-1], of_type(image[..., :1, :, :], target)[..., ::-1], "v")]
    events = trained(tmp_path / "run", data_of(pairs, validation), source_values=values, steps=2)
    assert isinstance(events[-1], Finished)
    scores = [event.scores["mae"] for event in events if isinstance(event, Validated)]
    assert scores[0] is not None
    assert 0 < scores[0] < 2
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert (model.source.channels, model.target.channels, model.target.mapping.dtype) == (2, 1, target)


def with_holes(image: AnyArray) -> AnyArray:
    """Of four planes the first is whole, the second has a hole, the third is all hole, the fourth lacks a channel."""
    holed = of_type(image, np.float32)
    holed[1, :, 10:30, 10:30] = np.nan
    holed[2] = np.nan
    holed[3, 1] = np.inf
    return holed


def test_planes_without_valid_pixels_are_left_out(tmp_path: Path) -> None:
    image = stripes(0, (4, 2, 64, 64))
    events = trained(tmp_path / "run", data_of([pair_of(with_holes(image), 255 - image)]), steps=8)
    preview = next(event for event in events if isinstance(event, PreviewReady))
    assert torch.isfinite(preview.source).all()
    assert events[0].steps_per_epoch == 2 * 4  # type: ignore[union-attr]


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("kind", ["nan", "nodata", "transparent"])
def test_an_image_without_valid_pixels_among_others_is_left_out_with_a_word(
    side: str, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = of_type(stripes(0), np.float32)
    empty = np.full_like(good, np.nan if kind == "nan" else 7)
    source = MemorySource(
        empty,
        name="empty",
        nodata=7 if kind == "nodata" else None,
        opacity=np.zeros((48, 48), np.uint8) if kind == "transparent" else None,
    )
    images = (source, MemorySource(good, name="t"))
    bad = Pair(*(images if side == "source" else images[::-1]), "bad")
    fine = pair_of(good, 1 - good, "good")
    trained(tmp_path / "run", data_of([bad, fine], [bad, pair_of(good * 0.5, good, "v")]))
    said = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert said[0].startswith("empty: not one valid pixel")
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert (model.training["training_pairs"], model.training["validation_pairs"]) == (1, 1)
    with pytest.raises(ImageError, match=r"empty.*: not one valid pixel"):
        trained(tmp_path / "none", data_of([bad]))


def test_pairs_whose_images_are_never_valid_together_are_refused(tmp_path: Path) -> None:
    image = of_type(stripes(0, (2, 1, 48, 48)), np.float32)
    source, target = image.copy(), image.copy()
    source[0], target[1] = np.nan, np.nan
    with pytest.raises(ImageError, match="no pair has a plane with valid pixels in both"):
        trained(tmp_path / "run", data_of([pair_of(source, target)]))


def test_invalid_pixels_do_not_change_what_is_learnt_and_scored(tmp_path: Path) -> None:
    """Whatever stands under a mask, weights and scores are the same."""
    image = of_type(stripes(0, (1, 64, 64)), np.float32)
    opacity = np.full((64, 64), 255, np.uint8)
    opacity[:, 40:] = 0
    found = []
    for number, under in enumerate((0.0, 0.5)):
        source, target = image.copy(), 1 - image
        source[..., 40:], target[..., 40:] = under, under
        images = [MemorySource(side, name="x", opacity=opacity) for side in (source, target)]
        pair = Pair(images[0], images[1], "x")
        config = replace(TINY, inference=InferenceConfig(statistics="image"))
        events = trained(tmp_path / str(number), data_of([pair], [pair]), config)
        weights = torch.load(tmp_path / str(number) / "last.pt", weights_only=True)["networks"]["generator"]
        found.append((weights["down.0.conv.weight"], events[-1].scores))  # type: ignore[union-attr]
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]


def test_neighbouring_planes_of_floats_with_holes_train(tmp_path: Path) -> None:
    image = of_type(stripes(0, (5, 1, 48, 48)), np.float32)
    image[2, :, 5:20] = np.nan
    source = NeighbouringPlanes(MemorySource(image, name="stack", axes="ZCYX"), 1)
    target = MemorySource(stripes(1, (5, 1, 48, 48)), name="target", axes="ZCYX")
    split = Split((Pair(source, target, "stack"),), (Pair(source, target, "stack again"),))
    data = TrainingData(split=split, source_traits=ImageTraits(axes="ZCYX", z_context=1))
    assert isinstance(trained(tmp_path / "run", data)[-1], Finished)


@pytest.mark.parametrize("placement", ["uniform", "content"])
def test_masks_of_sparse_stacks_train(placement: Any, tmp_path: Path) -> None:
    """Small integer masks of which most planes are empty."""
    masks = np.zeros((6, 1, 64, 64), np.uint8)
    masks[4, :, 20:40, 20:40] = 1
    data = data_of([pair_of(stripes(0, (6, 1, 64, 64)), masks)])
    trained(tmp_path / "run", data, sampling=SamplingConfig(placement=placement), steps=2)
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert model.target.mapping.network_channels == 2
