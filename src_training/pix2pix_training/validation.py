"""What a generator under training makes of the images that are held out: scores, and a picture to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import zip_longest

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pix2pix_training.array_source import plane_size
from pix2pix_training.config import TrainingConfig
from pix2pix_training.dataset import ImageReader
from pix2pix_training.device import is_out_of_memory
from pix2pix_training.distributed import ALONE, Group
from pix2pix_training.errors import TrainingError
from pix2pix_training.intensity import CategoryMapping, to_tensor
from pix2pix_training.invalid_pixels import can_have_invalid_pixels
from pix2pix_training.metrics import Scores, detail_ratio, score, score_classes
from pix2pix_training.networks import Generator, pad_to_stride, set_inference_mode
from pix2pix_training.preparation import PreparedData, PreparedPair
from pix2pix_training.regions import Region

_LEAST_VALID_SHARE = 0.1


class Validation:
    """Scores and previews of generators on the validation pairs of `data`.

    Of each image the central part of the middle plane is seen, or the first part with enough valid pixels; nothing else
    is read. Without such pairs there are no scores, and the preview is of a training pair. Of the processes of `group`
    each scores its share of the images.

    Attributes
    ----------
    detail : `detail_ratio` of the images that were scored last; of those of intensities without invalid pixels.
    """

    def __init__(self, config: TrainingConfig, data: PreparedData, device: torch.device, group: Group = ALONE) -> None:
        self._config = config
        self._group = group
        self._device = device
        self._scored = [Excerpt(p, config.validation_size) for p in data.validation[: config.validation_images]]
        shown = (data.validation or data.training)[0]
        self._shown = self._scored[0] if self._scored else Excerpt(shown, config.validation_size)
        self._target_mapping = data.target_mapping
        self.detail: list[float] = []

    @property
    def image_count(self) -> int:
        """How many images are scored, by all processes."""
        return len(self._scored)

    def scores(self, generator: Generator) -> Iterator[Scores]:
        """Scores of each of this process's images in [-1, 1] (data range 2), computed when they are asked for."""
        self.detail = []
        for excerpt in self._scored[self._group.rank :: self._group.size]:
            source, target, valid = self._read(excerpt)
            output = self._translate(generator, source)[0].cpu().numpy()
            wanted = target[0].cpu().numpy()
            if isinstance(self._target_mapping, CategoryMapping):
                yield score_classes(output, wanted, valid)
            else:
                if valid is None and (ratio := detail_ratio(output, wanted)) is not None:
                    self.detail.append(ratio)
                yield score(output, wanted, data_range=2.0, valid=valid)

    def of_all(self, scores: Sequence[Scores]) -> list[Scores]:
        """Scores of all images, from those of this process; `detail` is then of all of them too."""
        found = self._group.together((scores, self.detail))
        self.detail = [ratio for _, detail in found for ratio in detail]
        rounds = zip_longest(*(scores for scores, _ in found))
        return [each for one in rounds for each in one if each is not None]

    def preview(self, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Source, output and target (C, H, W) of one image, in [-1, 1], on the CPU."""
        source, target, _ = self._read(self._shown)
        return source[0].cpu(), self._translate(generator, source)[0].cpu(), target[0].cpu()

    def _read(self, excerpt: Excerpt) -> tuple[Tensor, Tensor, NDArray[np.bool_] | None]:
        """Source and target (1, C, H, W) in [-1, 1] on the device, and the valid pixels (H, W), None for all."""
        source, target, valid = excerpt.read()
        return (
            excerpt.pair.source_mapping.to_network(source[None].to(self._device)),
            self._target_mapping.to_network(target[None].to(self._device)),
            valid,
        )

    @torch.no_grad()
    def _translate(self, generator: Generator, source: Tensor) -> Tensor:
        """(1, C, H, W) of any size, by the function that the model will stand for."""
        set_inference_mode(generator, self._config.inference)
        height, width = source.shape[-2:]
        try:
            output: Tensor = generator(pad_to_stride(source, self._config.generator.stride))[..., :height, :width]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(
                f"{self._device} is out of memory in validation, on an image of {height} x {width} pixels; set "
                f"--validation-size below {max(height, width)} to validate on a smaller part of the images"
            ) from None
        generator.train()
        return output.float()


class Excerpt:
    """The part of a pair that is looked at.

    Parameters
    ----------
    size : of its side in pixels.
    region : it, where it is known.
    """

    def __init__(self, pair: PreparedPair, size: int, region: Region | None = None) -> None:
        self.pair = pair
        self._size = size
        self._given = region
        self._reader = ImageReader([pair.pair])
        self._plane = pair.planes[len(pair.planes) // 2]

    def read(self) -> tuple[Tensor, Tensor, NDArray[np.bool_] | None]:
        """Stored pixels (C, H, W) of source and target, and the valid ones (H, W), None for all."""
        pixels = self._reader.read(0, self._plane, self._region)
        return to_tensor(np.asarray(pixels.source)), to_tensor(np.asarray(pixels.target)), pixels.valid

    def quarters(self) -> list[Excerpt]:
        """It in four parts."""
        side = -(-max(self._region.size) // 2)
        return [Excerpt(self.pair, side, region) for region in self._region.tiles(side)]

    @cached_property
    def _region(self) -> Region:
        """The central part; where hardly a pixel of it is valid, that of those that tile the plane with the most."""
        if self._given is not None:
            return self._given
        height, width = plane_size(self.pair.pair.source)
        centre = _centre(height, width, self._size)
        if not any(can_have_invalid_pixels(image) for image in (self.pair.pair.source, self.pair.pair.target)):
            return centre
        best, most = centre, -1.0
        for region in (centre, *Region.whole(height, width).tiles(self._size)):
            valid = self._reader.read(0, self._plane, region).valid
            share = 1.0 if valid is None else float(valid.mean())
            if share >= _LEAST_VALID_SHARE:
                return region
            if share > most:
                best, most = region, share
        return best


def _centre(height: int, width: int, size: int) -> Region:
    y0, x0 = max(0, (height - size) // 2), max(0, (width - size) // 2)
    return Region.at(y0, x0, size, size).common(Region.whole(height, width))
