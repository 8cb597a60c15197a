"""Chooses the plan for an image from the network, the settings and a memory budget. Pure functions."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from math import prod

from napari_pix2pix.translation import cost, split_costs
from napari_pix2pix.translation.blend import window_lengths
from napari_pix2pix.translation.plan import BackendChoice, Plan, PlanRequest, Split, gathers
from napari_pix2pix.translation.region_grid import balanced_tile, region_grid
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.errors import SettingsError
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.regions import Size

logger = logging.getLogger(__name__)

_OUTPUT_TILE = 1024
_TILES = (2048, 1792, 1536, 1280, 1024, 896, 768, 640, 576, 512, 480, 448, 416, 384, 352, 320, 256, 192, 128, 64)
_ELEMENT_BYTES = 4
_SMALL_INT8_TILE_PX = 64
_LARGEST_INT8_TILE = 1024
_LARGEST_INT8_WHOLE = 2048
"""Larger ones were slower."""
_INT8_SPEED = 5
"""Arithmetic in 8 bits in the time of that in float32, as measured with AMX; disks are not quicker."""
_INT8_MACS_PER_PLANE_VALUE = 1500
"""Arithmetic in 8 bits in the time in which a feature is rounded, ordered, stored and read back, as measured."""
_INTEGER_BYTES = 2
"""Of a feature in 8 bits that is kept: a byte for each of the two convolutions that may take it."""
_SCRATCH = 1.25
"""Memory of kernels and of the allocator on top of the tensors themselves, as measured."""
_SMALL_TILE_PX = 24
"""A tile of n cells a side takes about 1 + n0 / n of the time per cell of a large one; this is n0, as measured."""
_KEPT_BYTES = 32 << 20
"""Larger blocks are given back to the system after each use, by glibc: their pages have to be made anew each time."""
_MACS_PER_FRESH_BYTE = 45
"""Arithmetic in the time of making a byte of such a page, on a CPU."""
_MACS_PER_DISK_BYTE = 70
"""Arithmetic in the time of writing a byte to disk and reading it back."""
PYTORCH = BackendChoice(name="torch", reason="asked for")


def make_plan(
    size: Size,
    config: GeneratorConfig,
    inference: InferenceConfig,
    settings: TranslationSettings,
    budget_bytes: int,
    *,
    on_cpu: bool = False,
    splits: tuple[Split, ...] = (),
    backend: BackendChoice = PYTORCH,
) -> Plan:
    """The plan for a plane of `size` (rows, columns) within `budget_bytes`.

    Its regions do not depend on the budget.

    Parameters
    ----------
    on_cpu : whether memory for tensors is asked of the system, where devices have a pool for it.
    splits : of the exact scheme for U-Nets, where they are settled already.
    backend : what is to run it.

    Raises
    ------
    SettingsError
        The scheme, tile or split level that was asked for is not possible with this network or in this memory.
    """
    for_samples = budget_bytes // 4 if settings.dropout_samples > 1 else 0
    grid = region_grid(size, config, settings.region, gathers=gathers(config, inference))
    request = PlanRequest(grid, config, inference, settings, budget_bytes - for_samples, on_cpu, splits, backend)
    _check_split_level(request)
    plan = _CHOICES[settings.scheme](request)
    sums = min(for_samples, 2 * prod(plan.region) * config.target_channels * _ELEMENT_BYTES)
    plan = replace(
        plan,
        memory_for_samples_bytes=for_samples,
        working_set_bytes=plan.working_set_bytes + sums,
        mac_overhead=plan.mac_overhead * settings.dropout_samples,
    )
    if inference.statistics == "tile" and plan.scheme != "whole":
        logger.warning("norm statistics of each tile: colours may jump from tile to tile")
    elif plan.statistics == "tile" and inference.statistics != "tile":
        logger.warning("scheme blend cannot use the statistics of the image, it takes those of each window")
    return plan


def _check_split_level(request: PlanRequest) -> None:
    level, config = request.settings.split_level, request.config
    if level is None:
        return
    if config.architecture == "resnet":
        raise SettingsError("split_level is for U-Nets; leave it out for a ResNet generator")
    if level >= config.depth:
        raise SettingsError(f"split_level is {level}; this generator has {config.depth} levels, so choose less")


def _automatic(request: PlanRequest) -> Plan:
    needs_windows = request.statistics == "tile" or _exact_problem(request) is not None
    asks_for_tiles = request.settings.tile is not None or request.settings.split_level is not None
    in_one_piece = needs_windows or (request.grid.count == 1 and not _is_large_for_int8(request))
    if not asks_for_tiles and in_one_piece:
        whole = _whole_plan(request.as_one)
        if _whole_problem(request.as_one, whole, request.budget_bytes) is None:
            return whole
    return _blend_plan(request) if needs_windows else _exact_plan(request)


def _is_large_for_int8(request: PlanRequest) -> bool:
    return request.settings.precision == "int8" and max(request.window) > _LARGEST_INT8_WHOLE


def _whole(request: PlanRequest) -> Plan:
    """As asked for; the default budget, half of what is free, may be exceeded for that."""
    on_its_own = request.settings.region is not None and request.statistics != "tile" and not _exact_problem(request)
    request = request if on_its_own else request.as_one
    plan = _whole_plan(request)
    limit = request.budget_bytes * (1 if request.settings.max_memory is not None else 2)
    problem = _whole_problem(request, plan, limit)
    if problem is not None:
        raise SettingsError(problem)
    return plan


def _whole_plan(request: PlanRequest) -> Plan:
    tile = request.settings.tile or _OUTPUT_TILE
    elements = cost.deep_peak(request.config, 0) * request.window_pixels * request.norm_copies
    plan = request.plan(
        scheme="whole",
        tile=tile,
        working_set_bytes=_bytes(elements) + request.window_pixels * request.tile_bytes_per_pixel,
        mac_overhead=request.grid.window_overhead,
        tiles=split_costs.tile_total(request.grid, tile),
    )
    return _with_gathering(request, plan)


def _whole_problem(request: PlanRequest, plan: Plan, limit_bytes: int) -> str | None:
    if cost.largest_tensor(request.config) * request.window_pixels > cost.MAX_TENSOR_ELEMENTS:
        return "scheme whole would need a tensor of more than 2^31 elements for this image; use scheme auto or exact"
    if plan.working_set_bytes <= limit_bytes:
        return None
    needed = plan.working_set_bytes / 2**20
    return f"scheme whole needs {needed:.0f} MiB for this image, {limit_bytes / 2**20:.0f} MiB are allowed; use exact"


def _exact_problem(request: PlanRequest) -> str | None:
    if request.config.architecture == "resnet" and request.gathers:
        return (
            "scheme exact cannot run a ResNet on the statistics of an image that does not fit the memory budget of "
            f"{request.budget}; choose statistics running, scheme blend, or more --max-memory"
        )
    return None


def _exact(request: PlanRequest) -> Plan:
    if request.config.architecture == "resnet" and request.gathers:
        whole = _whole_plan(request.as_one)
        if _whole_problem(request.as_one, whole, request.budget_bytes) is None:
            return whole
    problem = _exact_problem(request)
    if problem is not None:
        raise SettingsError(problem)
    return _exact_plan(request)


def _exact_plan(request: PlanRequest) -> Plan:
    return _resnet_plan(request) if request.config.architecture == "resnet" else _unet_plan(request)


@lru_cache(maxsize=32)
def _unet_plan(request: PlanRequest) -> Plan:
    """The cheapest of all combinations of split level and tile size that fit, unless the splits are settled.

    Images of one size have the same, and regions of an image that are made one at a time.
    """
    if request.splits:
        plans = [_plan_of(request, request.splits)]
    else:
        plans = [_plan_of(request, splits) for splits in _all_splits(request, gathers=request.gathers_on_the_way)]
    plan = _cheapest(request, plans)
    overhead = split_costs.mac_overhead(request.config, plan.splits, request.grid, gathers=request.gathers_on_the_way)
    return _with_gathering(request, replace(plan, mac_overhead=overhead))


def _with_gathering(request: PlanRequest, plan: Plan) -> Plan:
    """The same plan, with that of the pass that gathers the statistics of the image, if it is needed."""
    if not request.gathers_first:
        return plan
    one = replace(request.as_one, splits=())
    splits = (s for s in _all_splits(one, gathers=True) if s[-1].stop == request.config.depth)
    gathering = _cheapest(one, [_plan_of(one, s) for s in splits])
    own = split_costs.mac_overhead(request.config, gathering.splits, one.grid, gathers=True, result=False)
    return replace(
        plan,
        gathering=replace(gathering, mac_overhead=own),
        working_set_bytes=max(plan.working_set_bytes, gathering.working_set_bytes),
        mac_overhead=plan.mac_overhead + own,
    )


def _cheapest(request: PlanRequest, plans: Sequence[Plan]) -> Plan:
    fitting = [plan for plan in plans if plan.working_set_bytes <= request.budget_bytes]
    if not fitting:
        least = min(plan.working_set_bytes for plan in plans) / 2**20
        raise SettingsError(
            f"the exact scheme needs at least {least:.0f} MiB here, and {request.budget} are allowed; raise "
            "--max-memory, or choose a smaller --tile"
        )
    return min(fitting, key=lambda plan: _relative_time(request, plan))


def _relative_time(request: PlanRequest, plan: Plan) -> float:
    """In multiply-accumulates per pixel."""
    config, size = request.config, request.window
    in_int8 = request.settings.precision == "int8"
    small = _SMALL_INT8_TILE_PX if in_int8 else _SMALL_TILE_PX
    costs = split_costs.stage_macs(config, plan.splits, request.grid, gathers=request.gathers_on_the_way)
    stages = sum(macs * (1 + small / split.tile) for macs, split in zip(costs, plan.splits, strict=True))
    stages /= request.grid.window_area
    arithmetic = stages + split_costs.deep_macs(config, plan.splits)
    spilled = max(0, plan.plane_bytes - plan.memory_for_planes_bytes) / request.window_pixels
    if in_int8:
        kept = split_costs.plane_values(config, plan.splits) * _INT8_MACS_PER_PLANE_VALUE
        return arithmetic + kept + spilled * _MACS_PER_DISK_BYTE * _INT8_SPEED
    fresh = split_costs.large_tensors(config, plan.splits, size, _KEPT_BYTES // _ELEMENT_BYTES) * _ELEMENT_BYTES
    memory = fresh * _MACS_PER_FRESH_BYTE if request.on_cpu else 0.0
    return arithmetic + memory + spilled * _MACS_PER_DISK_BYTE


def _split_levels(request: PlanRequest) -> range:
    level, deepest = request.settings.split_level, request.config.depth - 1
    return range(level, level + 1) if level is not None else range(min(2, deepest), min(4, deepest) + 1)


def _tile_choices(request: PlanRequest) -> tuple[int, ...]:
    if request.settings.tile is not None:
        return (request.settings.tile,)
    longest = max(request.window)
    largest = _LARGEST_INT8_TILE if request.settings.precision == "int8" else longest
    return tuple(t for t in _TILES if t < longest and t <= largest) or _TILES[-1:]


def _all_splits(request: PlanRequest, *, gathers: bool) -> Iterator[tuple[Split, ...]]:
    """With fewer deeper splits first, and where statistics are gathered, with and without keeping raw planes."""
    for level in _split_levels(request):
        for tile in _tile_choices(request):
            for deeper_tile in (tile, tile // 2, tile // 4):
                for splits in _split_sequences(request, level, tile, deeper_tile):
                    if splits[-1].stop < request.least_stop:
                        continue
                    for keep_raw in (True, False) if gathers else (False,):
                        yield tuple(replace(split, keep_raw=keep_raw) for split in splits)


def _split_sequences(request: PlanRequest, level: int, tile: int, deeper_tile: int) -> Iterator[tuple[Split, ...]]:
    """The first split alone, then with more and more of the deep part split too, where each level costs no more."""
    splits: tuple[Split, ...] = (_split(request, 0, level, tile),)
    yield splits
    for start in range(level, request.config.depth):
        splits = (*splits, _split(request, start, start + 1, deeper_tile))
        yield splits


def _split(request: PlanRequest, start: int, stop: int, tile: int) -> Split:
    plane = request.window[0] >> start, request.window[1] >> start
    return Split(start=start, stop=stop, tile=balanced_tile(tile, 1 << (stop - start), plane))


def _plan_of(request: PlanRequest, splits: tuple[Split, ...]) -> Plan:
    config, pixels = request.config, request.window_pixels
    deepest = splits[-1].stop
    deep = cost.deep_peak(config, deepest) * pixels * request.norm_copies if deepest < config.depth else 0.0
    windows = max(split_costs.stage_peak(config, split, request.window) for split in splits)
    tiles = splits[0].window ** 2 * request.tile_bytes_per_pixel
    transient = _bytes(max(deep, windows)) + tiles
    # at level 1 the last convolution takes features, which may stay floats
    are_integers = request.settings.precision == "int8" and splits[0].stop > 1
    element_bytes = _INTEGER_BYTES if are_integers else _ELEMENT_BYTES
    planes = int(split_costs.planes_peak(config, splits) * pixels * element_bytes)
    in_memory = max(0, request.budget_bytes - transient)
    return request.plan(
        scheme="exact",
        tile=splits[0].tile,
        splits=splits,
        working_set_bytes=transient + min(planes, in_memory),
        plane_bytes=planes,
        memory_for_planes_bytes=in_memory,
        mac_overhead=1.0,  # found for the plan that is taken
        tiles=split_costs.tile_total(request.grid, splits[0].tile),
    )


def _resnet_plan(request: PlanRequest) -> Plan:
    halo, stride = cost.receptive_radius(request.config), request.config.stride
    tile = next(
        (t for t in _tile_choices(request) if _window_bytes(request, t + 2 * halo) <= request.budget_bytes), None
    )
    if tile is None:
        raise SettingsError(f"the exact scheme does not fit {request.budget}; raise --max-memory or use scheme blend")
    tile = tile // stride * stride
    return request.plan(
        scheme="exact",
        tile=tile,
        halo=halo,
        working_set_bytes=_window_bytes(request, tile + 2 * halo),
        mac_overhead=split_costs.window_overhead(request.grid, tile),
        tiles=split_costs.tile_total(request.grid, tile),
    )


def _blend_plan(request: PlanRequest) -> Plan:
    """Windows of at least twice the network's stride that overlap by a quarter."""
    stride = request.config.stride
    smallest = 2 * stride
    sides = [max(smallest, tile // stride * stride) for tile in _tile_choices(request)]
    sides = [min(side, max(request.padded)) for side in sides]
    fitting = [side for side in sides if _blend_bytes(request, side) <= request.budget_bytes]
    side = next(iter(fitting), None)
    if side is None:
        raise SettingsError(
            f"blending windows of {min(sides)} px needs {_blend_bytes(request, min(sides)) / 2**20:.0f} MiB, "
            f"{request.budget} are allowed; raise --max-memory"
        )
    overlap = min(side - stride, max(stride, side // 4 // stride * stride)) if side > stride else 0
    lengths = [window_lengths(cuts, side, overlap) for cuts in (request.grid.rows, request.grid.columns)]
    windows, tiles = (prod(along) for along in zip(*lengths, strict=True))
    return request.plan(
        scheme="blend",
        statistics="tile" if request.gathers else request.statistics,
        tile=side,
        halo=overlap,
        working_set_bytes=_blend_bytes(request, side),
        mac_overhead=windows / prod(request.padded),
        tiles=tiles,
    )


def _blend_bytes(request: PlanRequest, side: int) -> int:
    band = side * request.window[1] * request.config.target_channels * _ELEMENT_BYTES
    return _window_bytes(request, side) + 2 * band


def _window_bytes(request: PlanRequest, side: int) -> int:
    density = cost.deep_peak(request.config, 0) * request.norm_copies
    return _bytes(density * side**2) + side**2 * request.tile_bytes_per_pixel


def _bytes(elements: float) -> int:
    return int(elements * _ELEMENT_BYTES * _SCRATCH)


_CHOICES = {"auto": _automatic, "whole": _whole, "exact": _exact, "blend": _blend_plan}
