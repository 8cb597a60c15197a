"""Stored values <-> [-1, 1]: dtypes, percentiles, categories, per-image mapping, invalid pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pix2pix_training.array_source import MemorySource
from pix2pix_training.choices import Values
from pix2pix_training.errors import ImageError, SettingsError
from pix2pix_training.fitting import Side, fit_mapping
from pix2pix_training.image_survey import survey
from pix2pix_training.intensity import (
    CategoryMapping,
    LinearMapping,
    Mapping,
    by_rows,
    by_table,
    dtype_mapping,
    fitted_mapping,
    for_other_type,
    image_mapping,
    lost_step,
    resolved,
    to_tensor,
)
from pix2pix_training.invalid_pixels import FilledSource
from pix2pix_training.regions import Region


def round_trip(mapping: LinearMapping | CategoryMapping, stored: np.ndarray) -> np.ndarray:
    return mapping.from_network(mapping.to_network(to_tensor(stored)[None]))[0].numpy()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_small_integers_survive_the_round_trip(dtype: str) -> None:
    limits = np.iinfo(dtype)
    stored = np.linspace(limits.min, limits.max, 999).astype(dtype).reshape(1, 27, 37)
    assert np.array_equal(round_trip(dtype_mapping(np.dtype(dtype), 1), stored), stored)


@pytest.mark.parametrize("dtype", ["uint32", "int32", "float32", "float64", "float16", "bool"])
def test_other_dtypes_survive_within_float32(dtype: str) -> None:
    low, high = (0, 1) if dtype == "bool" else (-3, 1000) if dtype != "uint32" else (0, 4_000_000_000)
    stored = np.linspace(low, high, 12).astype(dtype).reshape(1, 3, 4)
    mapping = LinearMapping(dtype=dtype, scope="training-set", channels=1, low=(float(low),), high=(float(high),))
    found = round_trip(mapping, stored)
    assert found.dtype == stored.dtype
    assert np.allclose(
        found.astype(float),
        stored.astype(float),
        rtol=1e-3 if dtype == "float16" else 2e-6,
        atol=300 if dtype == "uint32" else 1e-3,
    )


def test_uint8_is_mapped_as_in_the_paper() -> None:
    mapped = dtype_mapping(np.dtype("uint8"), 1).to_network(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
    assert mapped.flatten().tolist() == [-1.0, 1.0]


def test_values_beyond_the_ends_are_clipped_both_ways() -> None:
    mapping = LinearMapping(dtype="uint16", scope="training-set", channels=1, low=(100.0,), high=(200.0,))
    assert mapping.to_network(torch.tensor([[[[0, 65535]]]], dtype=torch.uint16)).flatten().tolist() == [-1, 1]
    assert mapping.from_network(torch.tensor([[[[-5.0, 5.0]]]])).flatten().tolist() == [100, 200]


def test_big_endian_arrays_are_understood() -> None:
    assert to_tensor(np.array([[[1, 258]]], dtype=">u2")).tolist() == [[[1, 258]]]


@given(st.lists(st.integers(0, 65535), min_size=2, max_size=300), st.integers(1, 40))
def test_percentiles_of_integers_are_exact(values: list[int], width: int) -> None:
    row = np.resize(np.array(values, np.uint16), (1, -(-len(values) // width), width))
    mapping = fitted_mapping([MemorySource(row)])
    ordered = sorted(row.ravel().tolist())
    low, high = ordered[-(-len(ordered) // 1000) - 1], ordered[-(-len(ordered) * 999 // 1000) - 1]
    assert mapping.low[0] == low
    assert mapping.high[0] == (high if high > low else low + 1)


def test_percentiles_of_floats_leave_out_what_is_invalid() -> None:
    values = np.linspace(0, 1, 10_000, dtype=np.float32).reshape(1, 100, 100)
    values[0, :5] = np.nan
    values[0, 5] = np.inf
    mapping = fitted_mapping([MemorySource(values)])
    assert mapping.low[0] == pytest.approx(0.06, abs=1e-3)
    assert mapping.high[0] == pytest.approx(1, abs=2e-3)


def test_per_image_mapping_uses_the_whole_of_each_image() -> None:
    mapping = image_mapping(np.dtype("uint16"), 1)
    dark = MemorySource(np.arange(1000, dtype=np.uint16).reshape(1, 20, 50))
    bright = MemorySource(np.arange(40_000, 41_000, dtype=np.uint16).reshape(1, 20, 50))
    ends = [resolved(mapping, image) for image in (dark, bright)]
    assert [(e.low[0], e.high[0]) for e in ends if isinstance(e, LinearMapping)] == [(0, 998), (40_000, 40_998)]
    with pytest.raises(SettingsError, match="was not resolved"):
        mapping.to_network(torch.zeros(1, 1, 2, 2))


def fitted(image: MemorySource, values: Values, side: Side = "source") -> Mapping:
    return fit_mapping(survey([image]), values, side)


def test_categories_are_one_hot_in_and_argmax_out_with_their_colours() -> None:
    labels = np.array([[[0, 3, 7], [7, 3, 0]]], np.uint8)
    palette = np.arange(30, dtype=np.uint8).reshape(10, 3)
    mapping = fitted(MemorySource(labels, palette=palette), "categories")
    assert isinstance(mapping, CategoryMapping)
    one_hot = mapping.to_network(to_tensor(labels)[None])
    assert one_hot.shape == (1, 3, 2, 3)
    assert bool(((one_hot == 1).sum(1) == 1).all())
    assert np.array_equal(round_trip(mapping, labels), labels)
    colours = mapping.palette()
    assert colours is not None
    assert np.array_equal(colours[[0, 3, 7]], palette[[0, 3, 7]])


def test_colour_coded_categories_keep_their_colours() -> None:
    codes = np.zeros((3, 2, 2), np.uint8)
    codes[:, 0, 0] = (255, 0, 0)
    codes[:, 1, 1] = (0, 255, 0)
    mapping = fitted(MemorySource(codes), "categories")
    assert isinstance(mapping, CategoryMapping)
    assert len(mapping.values) == 3
    assert np.array_equal(round_trip(mapping, codes), codes)


def test_photographs_are_not_categories() -> None:
    photo = np.random.default_rng(0).integers(0, 65535, (1, 64, 64)).astype(np.uint16)
    with pytest.raises(ImageError, match="more than 255 different values"):
        fitted(MemorySource(photo), "categories")


def test_automatic_choice_of_the_mapping() -> None:
    grey8 = MemorySource(np.arange(100, dtype=np.uint8).reshape(1, 10, 10))
    grey16 = MemorySource(np.arange(100, dtype=np.uint16).reshape(1, 10, 10))
    indexed = MemorySource(grey8.read(Region(0, 8, 0, 8)) // 16, palette=np.zeros((256, 3), np.uint8))
    scopes = [getattr(fitted(s, "auto"), "scope", "categories") for s in (grey8, grey16, indexed)]
    assert scopes == ["dtype", "training-set", "categories"]


def test_constant_target_is_refused_and_constant_source_is_legal(caplog: pytest.LogCaptureFixture) -> None:
    constant = [MemorySource(np.full((1, 8, 8), 9, np.uint16), name=n) for n in ("a", "b")]
    assert survey(constant).is_constant
    assert not survey([*constant, MemorySource(np.full((1, 8, 8), 10, np.uint16))]).is_constant
    fit_mapping(survey(constant), "auto", "source")
    assert "the source has one constant value in all 2 images (a)" in caplog.text
    with pytest.raises(ImageError, match="the target has one constant value in all 2 images"):
        fit_mapping(survey(constant), "auto", "target")
    with pytest.raises(SettingsError, match="per image"):
        fitted(MemorySource(np.arange(4, dtype=np.uint8).reshape(1, 2, 2)), "image", "target")


def test_image_without_a_valid_pixel_is_refused() -> None:
    with pytest.raises(ImageError, match="not one valid pixel"):
        fitted(MemorySource(np.full((1, 8, 8), np.nan, np.float32)), "auto")
    with pytest.raises(ImageError, match="not one valid pixel"):
        fitted(MemorySource(np.full((1, 8, 8), 255, np.uint8), nodata=255), "auto")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"low": (2.0,), "high": (1.0,)}, "below its high end"),
        ({"low": (float("nan"),), "high": (1.0,)}, "finite"),
        ({"low": (0.0, 1.0), "high": (1.0,)}, "as many"),
        ({"low": (0.0,), "high": (1.0,), "dtype": "complex64"}, "not supported"),
    ],
)
def test_broken_mappings_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        LinearMapping(**{"dtype": "uint8", "scope": "training-set", "channels": 1, **changes})  # type: ignore[arg-type]


class TestFilledSource:
    def image(self) -> np.ndarray:
        values = np.random.default_rng(1).random((2, 150, 200)).astype(np.float32) + 5
        values[0, 10:90, 20:140] = np.nan
        values[1, 100, 100] = -np.inf
        return values

    def test_fill_does_not_depend_on_how_the_image_is_read(self) -> None:
        filled = FilledSource(MemorySource(self.image()))
        whole = filled.read(Region(0, 150, 0, 200))
        assert np.isfinite(whole).all()
        part = filled.read(Region(30, 77, 55, 131))
        assert np.array_equal(part, whole[:, 30:77, 55:131])

    def test_mask_says_where_any_channel_was_invalid(self) -> None:
        image = self.image()
        _, mask = FilledSource(MemorySource(image)).read_with_mask(Region(0, 150, 0, 200))
        assert mask is not None
        assert np.array_equal(mask, ~np.isfinite(image).all(0))

    def test_filled_values_are_means_of_valid_neighbours(self) -> None:
        whole = FilledSource(MemorySource(self.image())).read(Region(0, 150, 0, 200))
        assert 5.3 < whole[0, 40, 60] < 5.7

    def test_nodata_counts_only_where_all_channels_have_it(self) -> None:
        image = np.full((2, 4, 4), 7, np.uint8)
        image[:, 0, 0] = 0
        image[0, 1, 1] = 0
        filled, mask = FilledSource(MemorySource(image, nodata=0)).read_with_mask(Region(0, 4, 0, 4))
        assert mask is not None
        assert mask.sum() == 1
        assert filled[0, 1, 1] == 0
        assert filled[0, 0, 0] == 7


@pytest.mark.parametrize("dtype", ["uint64", "int64", "ulonglong", "longlong", "uint32", "int32"])
def test_wide_integers_go_through_and_keep_the_values_of_a_narrow_range(dtype: str) -> None:
    """tifffile gives the second type of 64 bits that NumPy has, and labels or counts lie far from 0."""
    numbers = np.arange(2**31 - 50, 2**31 + 50).clip(max=min(2**62, np.iinfo(dtype).max))
    stored = numbers.astype(dtype).reshape(1, 10, 10)
    ends = float(stored.min()), float(stored.max())
    name = np.dtype(dtype).name
    mapping = LinearMapping(dtype=name, scope="training-set", channels=1, low=ends[:1], high=ends[1:])
    assert lost_step(mapping) is None
    assert np.array_equal(round_trip(mapping, stored), stored)


@pytest.mark.parametrize("dtype", ["uint64", "int64", "uint32", "int32"])
def test_the_whole_range_of_wide_integers_does_not_overflow(dtype: str) -> None:
    """2 ** 64 - 1 is 2 ** 64 as a float, which came back as 0."""
    limits = np.iinfo(dtype)
    stored = np.array([[[limits.min, limits.max // 2, limits.max]]], dtype)
    mapping = dtype_mapping(np.dtype(dtype), 1)
    step = lost_step(mapping)
    assert step is not None
    found = round_trip(mapping, stored).astype(float)
    assert np.abs(found - stored.astype(float)).max() <= step


def test_the_mapping_for_another_type_maps_range_to_range() -> None:
    mapping = LinearMapping(dtype="uint8", scope="training-set", channels=2, low=(0.0, 51.0), high=(255.0, 204.0))
    np.testing.assert_allclose(for_other_type(mapping, np.dtype("uint16")).high, (65535, 204 * 257))
    np.testing.assert_allclose(for_other_type(mapping, np.dtype("uint16"), bit_depth=12).high, (4095, 3276))
    np.testing.assert_allclose(for_other_type(mapping, np.dtype("float32")).low, (0, 0.2))
    np.testing.assert_allclose(for_other_type(mapping, np.dtype("int8")).low, (-128, -77))
    assert for_other_type(mapping, np.dtype("bool")).high[0] == 1


def test_a_float_is_of_a_category_only_where_it_equals_its_value() -> None:
    mapping = CategoryMapping(dtype="uint8", values=((0,), (1,)))
    mapped = mapping.to_network(torch.tensor([[[[0.0, 0.5, 1.0]]]]))
    assert mapped[0, :, 0].tolist() == [[1, -1, -1], [-1, -1, 1]]


def test_categories_beyond_63_bits_are_refused_in_words() -> None:
    with pytest.raises(SettingsError, match=r"below 2 \*\* 63"):
        CategoryMapping(dtype="uint64", values=((0,), (2**63,)))


def test_an_export_leaves_nothing_of_its_own_behind() -> None:
    """Such as tensors without values, where what a mapping computes with is kept."""
    mapping = LinearMapping(dtype="uint8", scope="training-set", channels=2, low=(3.0, 5.5), high=(77.25, 201.0))
    stored = torch.arange(32, dtype=torch.uint8).reshape(1, 2, 4, 4)

    class Mapped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return mapping.to_network(x)

    exported = torch.export.export(Mapped(), (stored,)).module()
    expected = (stored.double() - torch.tensor(mapping.low).reshape(1, 2, 1, 1)) / torch.tensor(
        [74.25, 195.5], dtype=torch.float64
    ).reshape(1, 2, 1, 1) * 2 - 1
    for found in (mapping.to_network(stored), exported(stored)):
        assert torch.allclose(found.double(), expected.clamp(-1, 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("last", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("high", [(200.0, 200.0, 200.0), (200.0, 100.0, 255.0)])
def test_by_rows_gives_what_the_mapping_gives_at_once(last: torch.memory_format, high: tuple[float, ...]) -> None:
    mapping = LinearMapping(dtype="uint8", scope="training-set", channels=3, low=(0.0,) * 3, high=high)
    stored = torch.randint(0, 256, (1, 3, 150, 130), dtype=torch.uint8).contiguous(memory_format=last)
    network = by_rows(mapping.to_network, stored)
    assert network.shape == stored.shape and network.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(network, mapping.to_network(stored))
    assert torch.equal(by_rows(mapping.from_network, network), mapping.from_network(network))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("last", [torch.contiguous_format, torch.channels_last])
def test_a_table_gives_what_the_function_gives(channels: int, last: torch.memory_format) -> None:
    stored = torch.randint(0, 256, (1, channels, 33, 20), dtype=torch.uint8).contiguous(memory_format=last)

    def rounded(x: Tensor) -> Tensor:
        return (x.float() * 0.7 + 3.2).round().to(torch.uint8)

    found = by_table(rounded, stored)
    assert found is not None and torch.equal(found, rounded(stored))
    assert by_table(lambda x: x.float(), stored) is None
    assert by_table(rounded, stored.to(torch.int16)) is None
    assert by_table(lambda x: rounded(x).amax(1, keepdim=True).repeat(1, 2, 1, 1), stored) is None


def test_a_table_that_differs_from_channel_to_channel_is_none() -> None:
    factors = torch.tensor([1.0, 0.5]).reshape(1, 2, 1, 1)
    stored = torch.zeros(1, 2, 4, 4, dtype=torch.uint8)
    assert by_table(lambda x: (x * factors).to(torch.uint8), stored) is None
