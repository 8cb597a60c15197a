"""What a model file says about the parts of images that were trained on and held out."""

from __future__ import annotations

import json
from dataclasses import asdict
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from pix2pix_training.array_source import CroppedSource, MemorySource, cropped_from, plane_size
from pix2pix_training.errors import SettingsError
from pix2pix_training.image_survey import survey
from pix2pix_training.pairs import Pair, Split, split_fraction
from pix2pix_training.preparation import PreparedData
from pix2pix_training.regions import Region
from pix2pix_training.seen_parts import MOST_PARTS, SeenPart, SeenParts, seen_by, seen_parts


def image(height: int, width: int, seed: int = 0, name: str = "image") -> MemorySource:
    return MemorySource(np.random.default_rng(seed).integers(0, 256, (1, height, width), np.uint8), name=name)


def part(of: MemorySource, region: Region) -> SeenPart:
    digest = survey([CroppedSource(of, region)]).facts[0].digest
    return SeenPart(image=plane_size(of), region=(*region.rows, *region.columns), digest=digest)


def test_parts_are_found_by_their_pixels_and_not_in_other_images() -> None:
    own, top, bottom = image(100, 40), Region(0, 60, 0, 40), Region(80, 100, 0, 40)
    written = asdict(SeenParts(trained_on=(part(own, top),), held_out=(part(own, bottom),)))
    seen = seen_by({"images": json.loads(json.dumps(written))})
    assert seen is not None
    assert seen.found_in(image(100, 40)) == ((top,), (bottom,))
    assert seen.found_in(image(100, 40, seed=1)) == ((), ())
    assert seen.found_in(image(100, 41)) == ((), ())


def test_so_many_images_that_the_header_would_grow_too_large_are_not_named() -> None:
    data = cast(PreparedData, SimpleNamespace(training=(None,) * MOST_PARTS, validation=(None,)))
    assert seen_parts(data) is None


def test_a_model_that_says_nothing_and_one_that_says_nonsense() -> None:
    assert seen_by({}) is None
    with pytest.raises(SettingsError, match="trained_on"):
        seen_by({"images": {"trained_on": 5}})


def test_what_is_held_out_in_words() -> None:
    one = [Pair(image(1024, 1000), image(1024, 1000), "one")]
    assert split_fraction(one, 0.1, patch_size=64, seed=0).held_out == "the bottom 10 %, rows 922 to 1024"
    wide = [Pair(image(100, 1000), image(100, 1000), "wide").crop(Region(0, 100, 0, 1000))]
    assert split_fraction(wide, 0.1, patch_size=64, seed=0).held_out == "the right 10 %, columns 900 to 1000"
    several = [Pair(image(64, 64, n, f"{n}.tif"), image(64, 64, n), str(n)) for n in range(20)]
    assert split_fraction(several, 0.1, patch_size=64, seed=0).held_out == "2 of 20 images (0.tif, 10.tif)"
    assert split_fraction(several, 0.0, patch_size=64, seed=0).held_out == "nothing"
    cut = wide[0].crop(Region(10, 50, 100, 200))
    assert Split((), (cut,)).held_out == "4 % of the image, rows 10 to 50, columns 100 to 200"
    assert Split((several[0],), (cut, cut)).held_out == "2 of 3 parts of images"
    assert cropped_from(cut.source)[1] == Region(10, 50, 100, 200)


def test_of_side_by_side_images_whole_ones_are_held_out() -> None:
    files = [image(64, 128, n, f"{n}.png") for n in range(2)]
    pairs = [
        Pair(CroppedSource(file, Region(0, 64, 0, 64)), CroppedSource(file, Region(0, 64, 64, 128)), file.name)
        for file in files
    ]
    assert Split((pairs[0],), (pairs[1],)).held_out == "1 of 2 images (1.png)"
    band = pairs[1].crop(Region(48, 64, 0, 64))
    assert Split((pairs[0],), (band,)).held_out == "12 % of the image, rows 48 to 64, columns 64 to 128"
