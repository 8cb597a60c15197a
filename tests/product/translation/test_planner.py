"""Plans within a memory budget."""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import Any

import pytest

from napari_pix2pix.translation import cost, split_costs
from napari_pix2pix.translation.plan import Plan, Split, padded_size
from napari_pix2pix.translation.planner import make_plan
from napari_pix2pix.translation.region_grid import RegionGrid, one_region, region_grid
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.errors import SettingsError
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.network_config import GeneratorConfig

UNET = GeneratorConfig()
INSTANCE = GeneratorConfig(depth=5, norm="instance")
RESNET = GeneratorConfig(architecture="resnet")
RUNNING, IMAGE, TILE = (InferenceConfig(statistics=s) for s in ("running", "image", "tile"))
GIB = 1 << 30


def plan(
    side: int,
    budget: float = GIB,
    config: GeneratorConfig = UNET,
    inference: InferenceConfig = RUNNING,
    **choices: Any,
) -> Plan:
    return make_plan((side, side), config, inference, TranslationSettings(**choices), int(budget))


def test_an_image_that_fits_is_run_whole() -> None:
    chosen = plan(700)
    assert (chosen.scheme, chosen.mac_overhead, chosen.padded_size) == ("whole", 1.0, (768, 768))


@pytest.mark.parametrize("config", [UNET, INSTANCE])
@pytest.mark.parametrize("side", [4096, 16384, 65536, 1_000_000])
@pytest.mark.parametrize("budget", [GIB, 12 * GIB])
def test_images_of_any_size_fit_any_budget(config: GeneratorConfig, side: int, budget: int) -> None:
    chosen = plan(side, budget, config, IMAGE if config is INSTANCE else RUNNING)
    assert chosen.working_set_bytes <= budget
    at_most = 1.15 if chosen.gathering is None else 2.15
    assert chosen.scheme == "whole" or 1 < chosen.mac_overhead < at_most
    if chosen.scheme == "exact":
        assert chosen.splits[0].start == 0
        assert all(a.stop == b.start for a, b in pairwise(chosen.splits))


def test_tensors_of_more_than_2_to_the_31_elements_are_avoided() -> None:
    assert plan(7900, 1000 * GIB).scheme == "whole"
    assert plan(7937, 1000 * GIB).scheme == "exact"
    with pytest.raises(SettingsError, match="2\\^31"):
        plan(8200, 1000 * GIB, scheme="whole")


def test_in_8_bits_a_large_image_is_cut_up_although_it_would_fit() -> None:
    assert plan(2048, 64 * GIB, precision="int8").scheme == "whole"
    assert plan(2304, 64 * GIB, precision="int8").scheme == "exact"
    assert plan(2304, 64 * GIB).scheme == "whole"


def test_what_is_asked_for_is_done() -> None:
    chosen = plan(2000, 4 * GIB, tile=300, split_level=3)
    assert (chosen.scheme, chosen.tile, chosen.split_level) == ("exact", 296, 3)
    assert plan(2000, scheme="blend").scheme == "blend"
    assert plan(600, scheme="exact").scheme == "exact"


def test_resnets() -> None:
    assert plan(4096, config=RESNET).halo == 88
    assert plan(4096, config=RESNET).scheme == "exact"
    assert plan(4096, config=RESNET, inference=IMAGE).scheme == "blend"
    assert plan(256, config=RESNET, inference=IMAGE, scheme="exact").scheme == "whole"
    with pytest.raises(SettingsError, match="ResNet on the statistics of an image"):
        plan(4096, config=RESNET, inference=IMAGE, scheme="exact")
    with pytest.raises(SettingsError, match="split_level"):
        plan(4096, config=RESNET, split_level=2)


def test_statistics_of_tiles_need_windows_and_warn(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert plan(4096, inference=TILE).scheme == "blend"
    assert "colours may jump" in caplog.text
    assert plan(512, inference=TILE).scheme == "whole"


def test_blend_reports_that_it_takes_the_statistics_of_windows(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert plan(4096, inference=IMAGE, scheme="blend").statistics == "tile"
    assert "those of each window" in caplog.text


def test_too_little_memory_is_refused_in_one_line() -> None:
    for choices in ({"scheme": "whole", "max_memory": GIB}, {"scheme": "exact"}, {"scheme": "blend"}):
        with pytest.raises(SettingsError, match="MiB") as error:
            plan(4096, 2e6 if "max_memory" not in choices else GIB, **choices)
        assert "\n" not in str(error.value)
    with pytest.raises(SettingsError, match="split_level is 8"):
        plan(4096, split_level=8)


def test_arithmetic_is_counted_from_the_layers() -> None:
    two = GeneratorConfig(base_width=2, depth=2, source_channels=1, target_channels=1)
    macs = 16 * 1 * 2 / 4 + 16 * 2 * 4 / 16 + 16 * 4 * 2 / 16 + 16 * 4 * 1 / 4
    assert cost.unet_macs(two) == macs
    one_tile = (Split(start=0, stop=1, tile=64),)
    assert split_costs.mac_overhead(two, one_tile, one_region((64, 64), two), gathers=False) == 1
    assert split_costs.window_overhead(RegionGrid((64, 128), (64, 128), 2, 4), 32) == (68 / 64) * (140 / 128)
    assert split_costs.window_overhead(RegionGrid((64, 128), (64, 64), 2, 4), 48) == (68 / 64) * (140 / 128)


@pytest.mark.parametrize(("level", "expected"), [(2, 1.02), (3, 1.14), (4, 1.32)])
def test_overhead_is_that_of_the_published_cost_model(level: int, expected: float) -> None:
    split = (Split(start=0, stop=level, tile=512),)
    assert split_costs.mac_overhead(UNET, split, one_region((10240, 10240), UNET), gathers=False) == pytest.approx(
        expected, abs=0.02
    )


def test_planes_take_the_published_bytes() -> None:
    for level, expected in ((2, 64), (3, 32), (4, 16)):
        elements = split_costs.planes_peak(UNET, (Split(start=0, stop=level, tile=512),))
        assert 4 * elements == expected


def test_tensors_on_a_cpu_stay_below_what_the_allocator_keeps() -> None:
    def chosen(*, on_cpu: bool) -> Plan:
        return make_plan((4096, 4096), UNET, RUNNING, TranslationSettings(scheme="exact"), 8 * GIB, on_cpu=on_cpu)

    def large(plan: Plan) -> float:
        return split_costs.large_tensors(UNET, plan.splits, plan.padded_size, 2**23)

    few, many = chosen(on_cpu=True), chosen(on_cpu=False)
    assert few.tile < many.tile
    assert few.mac_overhead < 1.05
    assert large(few) < 0.2 * large(many)


def test_kept_raw_planes_save_arithmetic() -> None:
    kept, not_kept = (Split(start=0, stop=3, tile=512, keep_raw=keep) for keep in (True, False))
    grid = one_region((4096, 4096), UNET)
    more = split_costs.mac_overhead(UNET, (not_kept,), grid, gathers=True)
    assert split_costs.mac_overhead(UNET, (kept,), grid, gathers=True) < 1.27 < 1.8 < more


def test_padded_size() -> None:
    assert padded_size((1, 257), 256) == (256, 512)


@pytest.mark.parametrize("inference", [RUNNING, IMAGE])
@pytest.mark.parametrize("depth", [5, 8])
@pytest.mark.parametrize("budget", [GIB, 64 * GIB])
@pytest.mark.parametrize("side", [16384, 20000, 47000, 1_000_000])
def test_default_regions_cost_little(side: int, budget: int, depth: int, inference: InferenceConfig) -> None:
    chosen = make_plan(
        (side, side), GeneratorConfig(depth=depth), inference, TranslationSettings(), budget, on_cpu=True
    )
    assert chosen.mac_overhead < (1.15 if chosen.gathering is None else 2.15)
    assert all(8192 <= length <= 20480 for length in chosen.region)
    assert chosen.working_set_bytes <= budget


def test_regions_are_the_same_whatever_the_memory() -> None:
    """They are those of image, network and settings, so that any process goes through the same list."""
    for statistics in (RUNNING, IMAGE):
        plans = [plan(70_000, budget, inference=statistics) for budget in (GIB, 5 * GIB, 100 * GIB)]
        assert {(p.region, p.regions) for p in plans} == {(plans[0].region, plans[0].regions)}
        assert plans[0].regions > 8


def test_an_image_below_two_regions_is_one() -> None:
    for side in (300, 8192, 16383):
        chosen = plan(side)
        assert (chosen.regions, chosen.region, chosen.gathering) == (1, (side, side), None)
    assert plan(16384).regions == 4


def test_regions_that_are_asked_for() -> None:
    grid = region_grid((3000, 700), UNET, asked=1000)
    assert (grid.side, grid.count) == ((1024, 700), 3)
    chosen = plan(3000, region=1024)
    assert (chosen.scheme, chosen.regions, chosen.tiles) == (
        "exact",
        9,
        sum(-(-n // chosen.tile) for n in (1024, 1024, 952)) ** 2,
    )
    assert plan(3000, region=1024, scheme="whole", budget=100 * GIB).regions == 9
    assert plan(3000, 100 * GIB, scheme="whole").regions == 1
    assert plan(3000, region=1024, config=RESNET).regions == 9
    assert plan(3000, region=1024, scheme="blend").regions == 9
    with pytest.raises(SettingsError, match="region is 10; it must lie between 16"):
        plan(3000, region=10)


def test_statistics_of_regions_are_gathered_first() -> None:
    chosen = plan(3000, region=1024, inference=IMAGE)
    assert chosen.gathering is not None
    assert chosen.gathering.splits[-1].stop == UNET.depth
    assert chosen.gathering.regions == 1
    assert plan(3000, region=1024, inference=RUNNING).gathering is None
    assert plan(3000, inference=IMAGE).gathering is None


def test_what_cannot_be_cut_is_one_region_where_it_fits() -> None:
    assert plan(600, region=256, config=RESNET, inference=IMAGE).regions == 1
    assert plan(600, region=256, inference=TILE).regions == 1
