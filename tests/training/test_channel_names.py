"""Channels that are called the same are the same, wherever they stand."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from pix2pix_training.array_source import AnyArray, ArraySource, MemorySource, StackedChannels, whole_plane
from pix2pix_training.channel_names import NameMatch, in_common_order, match_names, ordered_like, say_other_channels
from pix2pix_training.errors import ImageError

PIXELS = np.arange(3)[:, None, None] * np.ones((1, 4, 5), np.uint8)


def image(*names: str, name: str = "image") -> MemorySource:
    """Each channel holds the first letter of its name, as a number."""
    letters = [ord(each[0].lower()) for each in names]
    pixels = np.array(letters, np.uint8)[:, None, None] * np.ones((1, 4, 5), np.uint8)
    return MemorySource(pixels, name=name, channel_names=names)


def letters(source: ArraySource) -> str:
    pixels: AnyArray = source.read(whole_plane(source))
    return "".join(chr(int(value)) for value in pixels[:, 0, 0])


@pytest.mark.parametrize(
    ("found", "expected", "order"),
    [
        (["DAPI", "GFP"], ["DAPI", "GFP"], (0, 1)),
        (["GFP", "DAPI"], ["DAPI", "GFP"], (1, 0)),
        (["gfp ", "Dapi"], ["DAPI", "GFP"], (1, 0)),
        (["Alexa_488", "x"], ["alexa 488"], (0,)),
        (["ALEXA-488", "x", "y"], ["y", "Alexa  488"], (2, 0)),
        (["B", "G", "R"], ["red", "green", "blue"], (2, 1, 0)),
        (["488", "405"], ["405", "488"], (1, 0)),
        (["α-tubulin", "ß"], ["SS", "Α-Tubulin"], (1, 0)),
    ],
)
def test_names_that_are_clear_give_an_order(found: list[str], expected: list[str], order: tuple[int, ...]) -> None:
    assert match_names(found, expected) == NameMatch(order=order)


@pytest.mark.parametrize(
    ("found", "start", "said"),
    [
        (["DAPI", "GFP"], ["DAPI", "GFP"], False),
        (["GFP", "DAPI"], ["DAPI", "GFP"], True),
        (["DAPI", "CY5"], ["DAPI", "GFP"], True),
        (["CY5"], ["GFP"], True),
        ([], ["DAPI", "GFP"], False),
        (["Channel 1", "Channel 2"], ["DAPI", "GFP"], False),
        (["GFP"], ["DAPI", "GFP"], False),
    ],
)
def test_other_channels_than_those_of_the_model_to_start_from_are_told_of(
    found: list[str], start: list[str], said: bool, caplog: pytest.LogCaptureFixture
) -> None:
    say_other_channels(found, start, "source")
    words = f"the channels of the sources are called {', '.join(found)}, those of the model to start from"
    assert (words in caplog.text) == bool(caplog.text) == said


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], ["DAPI"]),
        (["DAPI"], []),
        (["", ""], ["DAPI", "GFP"]),
        (["Channel 1", "Channel 2"], ["DAPI", "GFP"]),
        (["Channel:0:0", "Channel:0:1"], ["DAPI", "GFP"]),
        (["DAPI", "Ch2"], ["DAPI", "GFP"]),
        (["2", "1"], ["1", "2"]),
        (["Band 3", "Band 2"], ["Band 2", "Band 3"]),
    ],
)
def test_names_that_only_number_channels_say_nothing(found: list[str], expected: list[str]) -> None:
    assert match_names(found, expected) == NameMatch()


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (["GFP", "Cy5"], ["DAPI", "GFP"]),
        (["DAPI", "Cy5"], ["DAPI", "GFP"]),
        (["GFP", "GFP", "DAPI"], ["DAPI", "GFP"]),
        (["GFP", "DAPI"], ["DAPI", "DAPI"]),
    ],
)
def test_names_that_are_partly_the_same_contradict(found: list[str], expected: list[str]) -> None:
    assert match_names(found, expected) == NameMatch(contradiction=True)


def test_no_common_name_is_unrelated() -> None:
    assert match_names(["phase"], ["DAPI"]) == NameMatch(unrelated=True)


def test_an_image_is_put_in_order_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert letters(ordered_like(image("GFP", "DAPI", name="b.tif"), ["DAPI", "GFP"], "a.tif")) == "dg"
    assert caplog.messages == ["b.tif: of its channels GFP, DAPI, those of a.tif are taken by name: DAPI, GFP"]
    with pytest.raises(ImageError, match=r"b.tif: its channels are called GFP, Cy5, those of a.tif DAPI, GFP"):
        ordered_like(image("GFP", "Cy5", name="b.tif"), ["DAPI", "GFP"], "a.tif")


def test_images_that_differ_from_one_to_the_next_get_one_order(caplog: pytest.LogCaptureFixture) -> None:
    images = [image("DAPI", "GFP"), image("GFP", "DAPI"), image("Cy5", "DAPI", "GFP"), image("DAPI", "GFP")]
    with caplog.at_level(logging.WARNING):
        assert [letters(each) for each in in_common_order(images)] == ["dg", "dg", "dg", "dg"]
    assert len(caplog.messages) == 2


def test_chosen_numbers_are_those_of_the_first_image(caplog: pytest.LogCaptureFixture) -> None:
    images = [image("DAPI", "GFP", "Cy5"), image("Cy5", "GFP", "DAPI"), image("DAPI", "GFP", "Cy5")]
    with caplog.at_level(logging.WARNING):
        assert [letters(each) for each in in_common_order(images, [2, 0])] == ["cd", "cd", "cd"]
    assert len(caplog.messages) == 1
    unnamed = MemorySource(PIXELS.astype(np.uint8))
    assert [each.read(whole_plane(each))[:, 0, 0].tolist() for each in in_common_order([unnamed] * 2, [2, 0])] == [
        [2, 0],
        [2, 0],
    ]


def test_channels_of_different_types_are_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        stacked = StackedChannels([MemorySource(PIXELS.astype(kind)) for kind in ("uint8", "uint16")])
    assert stacked.dtype == np.uint16
    assert caplog.messages == [
        "channels in files of different types (uint16, uint8) become one image of uint16; their numbers stay as they "
        "are"
    ]


def test_names_go_with_channels_of_several_files_where_all_are_named() -> None:
    stacked = StackedChannels([image("DAPI"), image("GFP", "Cy5")])
    assert stacked.channel_names == ("DAPI", "GFP", "Cy5")
    assert StackedChannels([image("DAPI"), MemorySource(PIXELS.astype(np.uint8))]).channel_names == ()
    with pytest.raises(ImageError, match="2 channel names for 3 channels"):
        MemorySource(PIXELS, channel_names=["a", "b"])
