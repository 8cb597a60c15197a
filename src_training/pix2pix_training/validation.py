"""What a generator under training makes of the images that are held out: scores, and a picture to look at."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pix2pix_training.config import TrainingConfig
from pix2pix_training.errors import TrainingError
from pix2pix_training.intensity import Mapping as IntensityMapping
from pix2pix_training.mapped_data import validation_images
from pix2pix_training.metrics import Scores, score
from pix2pix_training.networks import Generator, set_inference_mode
from pix2pix_training.padding import pad_to_stride
from pix2pix_training.pairs import Split


class Validation:
    """Scores and previews of generators on the validation pairs of `split`.

    Without such pairs there are no scores, and the preview is of a training pair.
    """

    def __init__(
        self,
        config: TrainingConfig,
        split: Split,
        source_mapping: IntensityMapping,
        target_mapping: IntensityMapping,
        device: torch.device,
    ) -> None:
        self._config = config
        self._split = split
        self._mappings = (source_mapping, target_mapping)
        self._device = device
        self._preview_pair = next(self._images(limit=1))

    def _images(self, limit: int) -> Iterator[tuple[Tensor, Tensor]]:
        pairs = self._split.validation or self._split.training
        return validation_images(pairs[:limit], *self._mappings, self._config.validation_size, self._device)

    @property
    def image_count(self) -> int:
        """How many images are scored."""
        return len(self._split.validation[: self._config.validation_images])

    def scores(self, generator: Generator) -> Iterator[Scores]:
        """Scores of each validation image in [-1, 1] (data range 2), computed when they are asked for."""
        if self._split.validation:
            for source, target in self._images(limit=self._config.validation_images):
                output = self._translate(generator, source)
                yield score(output[0].cpu().numpy(), target[0].cpu().numpy(), data_range=2.0)

    def preview(self, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Source, output and target (C, H, W) of one image, in [-1, 1], on the CPU."""
        source, target = self._preview_pair
        return source[0].cpu(), self._translate(generator, source)[0].cpu(), target[0].cpu()

    @torch.no_grad()
    def _translate(self, generator: Generator, source: Tensor) -> Tensor:
        """(1, C, H, W) of any size, by the function that the model will stand for."""
        set_inference_mode(generator, self._config.inference)
        height, width = source.shape[-2:]
        try:
            output: Tensor = generator(pad_to_stride(source, self._config.generator.stride))[..., :height, :width]
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"{self._device} is out of memory in validation, on an image of {height} x {width} pixels; set "
                f"validation_size below {max(height, width)} to validate on a smaller part of the images"
            ) from error
        generator.train()
        return output.float()
