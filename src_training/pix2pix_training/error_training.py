"""Finding how large a model's errors are: a network learns it on training patches, held-out images calibrate it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pix2pix_training.batches import Batches
from pix2pix_training.calibration import calibrated
from pix2pix_training.error_map import expected_errors
from pix2pix_training.error_network import ErrorNetwork, ErrorTraits
from pix2pix_training.errors import ImageError, SettingsError
from pix2pix_training.events import LearningErrors
from pix2pix_training.intensity import LinearMapping
from pix2pix_training.model_file import Model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import Generator as Network
from pix2pix_training.networks import build_generator, pad_to_stride
from pix2pix_training.preparation import PreparedPair
from pix2pix_training.retelling import retold
from pix2pix_training.validation import Excerpt

MOST_STEPS = 400
"""Of an error network."""
_PATCHES = 4
"""Of a step, at least: images differ in how much there is to be wrong about, and so do steps of a single patch."""
_LEARNING_RATE = 2e-3
_MOST_DEPTH, _LEAST_WIDTH = 5, 8
_STATISTICS_STEPS = 16
_MOST_IMAGES, _ENOUGH_IMAGES = 32, 8
_SAMPLES = 1 << 15
"""Pixels of each image that factors are found on, so that all images count alike."""

Scores = NDArray[np.float64]
"""Of the channels of an image (C, n): the factors with which pixels would lie just within their half-width."""


def error_config(generator: GeneratorConfig, patch_size: int) -> GeneratorConfig:
    """A quarter of the generator's width, which is a sixteenth of its arithmetic, in a U-Net that patches fit."""
    halvings = (patch_size & -patch_size).bit_length() - 1
    return GeneratorConfig(
        source_channels=generator.source_channels,
        target_channels=generator.target_channels,
        base_width=max(generator.base_width // 4, min(_LEAST_WIDTH, generator.base_width)),
        depth=max(2, min(_MOST_DEPTH, halvings)),
        norm="batch-renorm",
        decoder="resize",
    )


def learnt_errors(
    model: Model,
    batches: Batches,
    config: GeneratorConfig,
    *,
    steps: int,
    seed: int,
    device: torch.device,
) -> Generator[float, None, dict[str, Tensor]]:
    """Weights of an error network for a model, whose generator stays as it is; tells which share is done.

    It learns the mean of the absolute error of each channel, where targets lie in [-1, 1].
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_generator(config).to(device).train()
    generator = model.generator().to(device).requires_grad_(False)
    optimiser = torch.optim.Adam(network.parameters(), _LEARNING_RATE)
    seen: list[Tensor] = []
    for step in range(steps):
        source, target, valid = joined(batches)
        for group in optimiser.param_groups:
            group["lr"] = _LEARNING_RATE * min(1.0, 2 * (1 - step / steps))
        with torch.no_grad():
            error = (_run(generator, source) - target).abs()
        loss = unlikelihood(expected_errors(network(source)), error, valid)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        seen = [*seen, source][-_STATISTICS_STEPS:]
        yield (step + 1) / steps
    return {name: tensor.cpu() for name, tensor in calibrated(network, seen).state_dict().items()}


def joined(batches: Batches) -> tuple[Tensor, Tensor, Tensor | None]:
    """As many batches as have `_PATCHES` together, as one."""
    drawn = [next(batches)]
    while sum(len(source) for source, _, _ in drawn) < _PATCHES:
        drawn.append(next(batches))
    sources, targets, masks = zip(*drawn, strict=True)
    if all(mask is None for mask in masks):
        return torch.cat(sources), torch.cat(targets), None
    valid = [
        torch.ones_like(source[:, :1]) if mask is None else mask.to(source.dtype)
        for source, mask in zip(sources, masks, strict=True)
    ]
    return torch.cat(sources), torch.cat(targets), torch.cat(valid)


def unlikelihood(expected: Tensor, error: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean over (N, C, H, W) of how unlikely errors are in a Laplace distribution; `valid` is (N, 1, H, W) or None.

    It is least where `expected` is the mean of `error`, and small errors count in proportion (Kendall and Gal 2017).
    """
    loss = error / expected + expected.log()
    if valid is None:
        return loss.mean()
    counts = valid.expand_as(loss).to(loss.dtype)
    return (loss * counts).sum() / counts.sum().clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Parts of images to calibrate on: whether they chose the model that is kept, and are of one image alone."""

    parts: tuple[Excerpt, ...]
    chose_model: bool
    of_one_image: bool


def held_out_parts(pairs: Sequence[PreparedPair], *, size_px: int, choosing: int) -> HeldOut:
    """The middle of each held-out pair that did not choose the model, where these are enough; else of all of them.

    Parameters
    ----------
    pairs : at least one. A single one gives four parts.
    size_px : side of the parts.
    choosing : how many of the first pairs chose the model.
    """
    others = pairs[choosing:]
    used = others if len(others) >= _ENOUGH_IMAGES else pairs
    excerpts = [Excerpt(pair, size_px) for pair in used[:_MOST_IMAGES]]
    of_one = len(excerpts) == 1
    parts = [part for each in excerpts for part in each.quarters()] if of_one else excerpts
    return HeldOut(parts=tuple(parts), chose_model=choosing > 0 and used is pairs, of_one_image=of_one)


def calibrating(
    model: Model, network: ErrorNetwork, held_out: HeldOut, device: torch.device
) -> Generator[float, None, ErrorNetwork]:
    """The network with the factors that held-out images give, and what the coverage of images is that gave none.

    For each image the coverage is that of factors which the other images give. Errors are those of pixels as they are
    stored, rounded as in files.

    Raises
    ------
    ImageError
        The images have no valid pixel.
    """
    generator = model.generator().to(device)
    errors = build_generator(network.traits.config).to(device).eval()
    errors.load_state_dict(network.weights)
    scores: list[Scores] = []
    widths: list[NDArray[np.float64]] = []
    for number, part in enumerate(held_out.parts, 1):
        found = _scores(model, generator, errors, part, device)
        if found is not None:
            scores.append(found[0])
            widths.append(found[1])
        yield number / len(held_out.parts)
    if not scores:
        raise ImageError("the held-out images have no valid pixel to calibrate the error map on")
    coverage = network.traits.coverage
    factors = _factors(scores, coverage)
    shares = list(_shares_of_others(scores, coverage))
    half_widths = factors * np.mean(widths, axis=0)
    traits = replace(
        network.traits,
        factors=tuple(map(float, factors)),
        images=len(scores),
        of_one_image=held_out.of_one_image,
        chose_model=held_out.chose_model,
        measured=float(np.mean(shares)) if shares else None,
        lowest=min(shares, default=None),
        highest=max(shares, default=None),
        half_widths=tuple(map(float, half_widths)),
    )
    return replace(network, traits=traits)


@torch.no_grad()
def _scores(
    model: Model, generator: Network, errors: Network, part: Excerpt, device: torch.device
) -> tuple[Scores, NDArray[np.float64]] | None:
    """Of a sample of valid pixels; and the mean of each channel that factors are of. None without a valid pixel."""
    target_mapping = model.target.mapping
    assert isinstance(target_mapping, LinearMapping)
    stored_source, stored_target, valid = part.read()
    source = part.pair.source_mapping.to_network(stored_source[None].to(device))
    result = target_mapping.from_network(_run(generator, source))[0].double().cpu().numpy()
    spans = np.subtract(target_mapping.high, target_mapping.low)
    expected = expected_errors(_run(errors, source))[0].double().cpu().numpy() * (spans / 2)[:, None, None]
    error = np.abs(stored_target.double().numpy() - result)
    half_step = 0.0 if np.dtype(target_mapping.dtype).kind == "f" else 0.5  # half-widths are rounded to whole numbers
    scores = np.maximum(error - half_step, 0) / np.maximum(expected, np.finfo(np.float64).tiny)
    pixels = np.flatnonzero(np.ones(error.shape[1:], bool) if valid is None else valid)
    if not len(pixels):
        return None
    sample = np.random.default_rng(0).choice(pixels, _SAMPLES)
    flat = expected.reshape(len(expected), -1)
    return scores.reshape(len(scores), -1)[:, sample], flat[:, pixels].mean(1)


def _run(network: Network, source: Tensor) -> Tensor:
    height, width = source.shape[-2:]
    result: Tensor = network(pad_to_stride(source, network.config.stride))[..., :height, :width]
    return result.float()


def _factors(scores: Sequence[Scores], coverage: float) -> NDArray[np.float64]:
    """Of each channel the least with which the share `coverage` of the pixels of all images lies within."""
    found = np.quantile(np.concatenate(scores, axis=1), coverage, axis=1, method="higher")
    return np.clip(found, 1e-6, 1e9)


def _shares_of_others(scores: Sequence[Scores], coverage: float) -> Iterator[float]:
    """Of each image the share of pixels within, with the factors of the others; nothing for one image alone."""
    for number in range(len(scores) if len(scores) > 1 else 0):
        factors = _factors([*scores[:number], *scores[number + 1 :]], coverage)
        yield float((scores[number] <= factors[:, None]).mean())


def with_error_map(
    model: Model,
    batches: Batches,
    held_out: HeldOut,
    *,
    patch_size: int,
    coverage: float,
    steps: int,
    seed: int,
    device: torch.device,
    after_step: int = 0,
) -> Generator[LearningErrors, None, Model]:
    """The model with an error network and its calibration.

    Parameters
    ----------
    batches : of training patches.
    steps : of the error network.
    after_step : of the run, for what is told.

    Raises
    ------
    SettingsError
        Its targets are categories.
    """
    if not isinstance(model.target.mapping, LinearMapping):
        raise SettingsError("the target of the model are categories, whose errors have no size; there is no error map")
    config = error_config(model.generator_config, patch_size)

    def told(start: float, end: float) -> Callable[[float], LearningErrors]:
        """Of work that is the part from `start` to `end` of all."""
        return lambda done: LearningErrors(step=after_step, fraction=start + (end - start) * done)

    learning = learnt_errors(model, batches, config, steps=steps, seed=seed, device=device)
    weights = yield from retold(learning, told(0.0, 0.9))
    traits = ErrorTraits(config=config, coverage=coverage, factors=(1.0,) * config.target_channels, images=1)
    network = ErrorNetwork(traits=traits, weights=weights)
    network = yield from retold(calibrating(model, network, held_out, device), told(0.9, 1.0))
    return replace(model, error=network)
