"""The "FCN score" of the paper (section 4.1): how well a segmentation network trained on real photos reads an image.

If a synthetic photo is realistic, a network that segments real photos finds in it the labels that it was made from.
The paper takes FCN-8s pretrained on ImageNet; here a small U-Net is trained from nothing, without any download.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import UNet, initialize_weights
from pix2pix_training.validated import validated

Bytes = NDArray[np.uint8]
Counts = NDArray[np.int64]

SCORE_NAMES = ("per-pixel accuracy", "per-class accuracy", "class IoU")
_LEARNING_RATE = 2e-3
_BATCH = 8
_SMALLEST_CROP = 0.7
_BRIGHTNESS = 0.2
_RESAMPLES = 1000


@validated
class ScorerConfig:
    """A U-Net of `depth` down-samplings and `base_width`, trained for `steps` batches of 8 images."""

    steps: int
    base_width: int = 16
    depth: int = 5
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class FcnScores:
    """Per-pixel accuracy, per-class accuracy and class IoU over a set of images.

    `redrawn` : shape (draws, 3), the same with the images drawn anew (bootstrap); draw i takes the same images whatever
    is scored, so that differences between two sets of outputs can be judged draw by draw.
    """

    values: tuple[float, float, float]
    redrawn: NDArray[np.float64]

    @property
    def errors(self) -> tuple[float, float, float]:
        """Standard errors from the choice of images."""
        spread = self.redrawn.std(axis=0)
        return float(spread[0]), float(spread[1]), float(spread[2])


def training_steps(
    photos: Bytes, classes: Bytes, class_count: int, config: ScorerConfig, device: torch.device
) -> Iterator[UNet]:
    """Train a scorer on real photos, yielding it after each step.

    Adam with the rate falling linearly to zero, on cross-entropy. Batch norm, which is evaluated with the statistics of
    the training photos: an image of other brightness and contrast than photos have is read worse, as it should be.

    Parameters
    ----------
    photos : (N, 3, S, S) uint8.
    classes : (N, S, S) uint8, below `class_count`.
    """
    random = torch.Generator().manual_seed(config.seed)
    network = build_scorer(class_count, config)
    initialize_weights(network, random)
    network.to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=_LEARNING_RATE)
    network.train()
    for step in range(config.steps):
        chosen = torch.randint(len(photos), (_BATCH,), generator=random).numpy()
        images, truth = _augmented(as_input(photos[chosen]), torch.from_numpy(classes[chosen]), random)
        for group in optimizer.param_groups:
            group["lr"] = _LEARNING_RATE * (1 - step / config.steps)
        loss = F.cross_entropy(network(images.to(device)), truth.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        yield network


def build_scorer(class_count: int, config: ScorerConfig) -> UNet:
    """A U-Net from RGB to a logit per class."""
    return UNet(
        GeneratorConfig(target_channels=class_count, base_width=config.base_width, depth=config.depth, output="linear")
    )


def as_input(photos: Bytes) -> Tensor:
    """(N, 3, Y, X) uint8 -> float32 in [-1, 1]."""
    return torch.from_numpy(photos).float() / 127.5 - 1


def _augmented(images: Tensor, classes: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random crops enlarged to the size of the image, mirror images, and per channel brightness and contrast.

    Takes and gives (N, 3, S, S) in [-1, 1] and (N, S, S) integers; gives the latter as int64.
    """
    count = len(images)
    share = _SMALLEST_CROP + (1 - _SMALLEST_CROP) * torch.rand(count, generator=random)
    shift = (1 - share) * (2 * torch.rand(2, count, generator=random) - 1)
    mirror = 1 - 2 * torch.randint(2, (count,), generator=random).float()
    transform = torch.zeros(count, 2, 3)
    transform[:, 0, 0], transform[:, 1, 1] = share * mirror, share
    transform[:, 0, 2], transform[:, 1, 2] = shift[0], shift[1]
    grid = F.affine_grid(transform, list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    truth = F.grid_sample(classes[:, None].float(), grid, mode="nearest", padding_mode="border", align_corners=False)
    contrast, brightness = (_BRIGHTNESS * (2 * torch.rand(count, 3, 1, 1, generator=random) - 1) for _ in range(2))
    return (images * (1 + contrast) + brightness).clamp(-1, 1), truth[:, 0].long()


@torch.inference_mode()
def predicted_classes(scorer: UNet, photos: Bytes) -> Bytes:
    """(N, 3, S, S) uint8 -> the most likely class of each pixel, (N, S, S)."""
    scorer.eval()
    device = next(scorer.parameters()).device
    batches = [scorer(as_input(batch).to(device)).argmax(1).byte().cpu().numpy() for batch in _batches(photos)]
    result: Bytes = np.concatenate(batches)
    return result


def _batches(photos: Bytes) -> Iterator[Bytes]:
    for start in range(0, len(photos), _BATCH):
        yield photos[start : start + _BATCH]


def confusion_matrices(predicted: Bytes, truth: Bytes, class_count: int) -> Counts:
    """Counts of pixels by true (row) and predicted (column) class, for each image: (N, classes, classes)."""
    index = truth.astype(np.int64) * class_count + predicted
    counts = [np.bincount(image.ravel(), minlength=class_count**2) for image in index]
    return np.stack(counts).reshape(-1, class_count, class_count)


def scores_of(confusion: Counts) -> tuple[float, float, float]:
    """Per-pixel accuracy, mean accuracy of the classes, and mean intersection over union of the classes.

    As in Long et al. 2015, section 5, on the pixels of all images together; classes that do not occur in the truth are
    left out.
    """
    right, wanted, found = np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    present = wanted > 0
    right, wanted, found = right[present], wanted[present], found[present]
    return (
        float(right.sum() / wanted.sum()),
        float((right / wanted).mean()),
        float((right / (wanted + found - right)).mean()),
    )


def fcn_scores(matrices: Counts) -> FcnScores:
    """Scores of a set of images from their confusion matrices (N, classes, classes)."""
    random = np.random.default_rng(0)
    count = len(matrices)
    weights = random.multinomial(count, np.full(count, 1 / count), size=_RESAMPLES)
    sums = np.tensordot(weights, matrices, axes=1)
    return FcnScores(values=scores_of(matrices.sum(axis=0)), redrawn=np.array([scores_of(s) for s in sums]))


def mean_scores(scores: Sequence[FcnScores]) -> FcnScores:
    """Mean over trainings that differ in their seed alone."""
    pixel, by_class, iou = np.mean([s.values for s in scores], axis=0)
    return FcnScores(
        values=(float(pixel), float(by_class), float(iou)), redrawn=np.mean([s.redrawn for s in scores], axis=0)
    )
