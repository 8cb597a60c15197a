"""A run is resumed on the images that it was started on, told by their content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pix2pix_training.array_source import CroppedSource, MemorySource
from pix2pix_training.errors import CheckpointError
from pix2pix_training.events import Finished, StepDone
from pix2pix_training.pairs import Pair
from pix2pix_training.regions import Region
from pix2pix_training.training import TrainingData, train
from tests.training.runs import TINY, data_of, pair_of, striped, stripes, trained, usual_data


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that was stopped after two steps."""
    events = train(TINY, usual_data(), tmp_path / "run")
    for event in events:
        if isinstance(event, StepDone) and event.step == 2:
            events.close()
    return tmp_path / "run"


def with_changed(side: str, part: str, pixel: tuple[int, int, int] = (0, 47, 47)) -> TrainingData:
    """The usual images, one pixel of which is another."""
    split = usual_data().split
    training, validation = list(split.training), list(split.validation)
    pairs = training if part == "training" else validation
    changed: MemorySource = getattr(pairs[-1], side)
    changed._array[pixel] ^= 1
    return data_of(training, validation)


@pytest.mark.parametrize("part", ["training", "validation"])
@pytest.mark.parametrize("side", ["source", "target"])
def test_resume_on_changed_images_is_refused_and_names_the_image(part: str, side: str, run: Path) -> None:
    before = (run / "last.pt").read_bytes()
    name = {"training": "b", "validation": "c"}[part] + (" target" if side == "target" else "")
    with pytest.raises(CheckpointError, match=rf"other images .*\(the pixels of {name} have changed\)"):
        trained(run, with_changed(side, part), resume=True)
    assert (run / "last.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (data_of([striped("a", 0)], [striped("c", 2)]), "2 images or parts were trained on, now 1 are"),
        (data_of([striped("a", 0), striped("x", 1)], [striped("c", 2)]), "b was trained on, now it is x"),
        (data_of([striped("b", 1), striped("a", 0)], [striped("c", 2)]), "a was trained on, now it is b"),
        (data_of([striped("a", 0), striped("b", 1)]), "1 images or parts were held out, now 0 are"),
        (
            data_of([striped("a", 0), pair_of(stripes(1, (1, 48, 64)), stripes(1, (1, 48, 64)), "b")], []),
            "b or what is trained on of it has another size",
        ),
    ],
)
def test_resume_on_other_images_is_refused_in_words(data: TrainingData, message: str, run: Path) -> None:
    with pytest.raises(CheckpointError, match=f"other images or another validation split .*{message}"):
        trained(run, data, resume=True)


def test_the_same_content_from_elsewhere_is_the_same(run: Path) -> None:
    """In another layout in memory, as a part of a larger image: what counts are the pixels."""

    def elsewhere(pair: Pair) -> Pair:
        whole = np.pad(np.asfortranarray(pair.source.read(Region(0, 48, 0, 48))), ((0, 0), (3, 5), (7, 1)))
        return Pair(CroppedSource(MemorySource(whole, name="whole"), Region(3, 51, 7, 55)), pair.target, pair.name)

    split = usual_data().split
    data = data_of([elsewhere(pair) for pair in split.training], list(split.validation))
    assert isinstance(trained(run, data, resume=True)[-1], Finished)


def test_a_checkpoint_from_before_contents_counted_is_resumed(run: Path) -> None:
    path = run / "last.pt"
    saved = torch.load(path, weights_only=True)
    saved["data"] = {part: [entry[:3] for entry in entries] for part, entries in saved["data"].items()}
    torch.save(saved, path)
    with pytest.raises(CheckpointError, match="another size"):
        small = pair_of(stripes(0, (1, 40, 48)), stripes(0, (1, 40, 48)), "a")
        trained(run, data_of([small, striped("b", 1)], [striped("c", 2)]), resume=True)
    assert isinstance(trained(run, resume=True)[-1], Finished)


def test_images_that_are_held_out_and_trained_on_under_another_name_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained(tmp_path / "run", data_of([striped("a", 0)], [striped("copy of a", 0)]), steps=1)
    assert "copy of a is held out and is the same as a, which is trained on" in caplog.text
