"""The stages of one generator, ready to run on windows of images: adds the noise that belongs to a window's place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from napari_pix2pix.translation.backends.stage_runner import StageRunner
from pix2pix_training.config import GeneratorConfig
from pix2pix_training.layers import dropout_noise
from pix2pix_training.networks import Generator
from pix2pix_training.stages import StageSpec, StageTensor, covered_size, stage_inputs, whole_stage


@dataclass(frozen=True, kw_only=True)
class Stages:
    """A generator and what runs its stages.

    `network` tells the layers and holds the parameters of norms on gathered statistics. `seed` is that of the dropout
    noise, None for none. `before_each` is called before each run of a stage, and may end the work with an error.
    `origin` is the row and column of the image at which the coordinates of windows begin. `scratch` is the folder for
    features that do not fit into memory, None for a temporary one.
    """

    network: Generator
    runner: StageRunner
    seed: int | None = None
    before_each: Callable[[], None] | None = None
    scratch: Path | None = None
    origin: tuple[int, int] = (0, 0)

    @property
    def config(self) -> GeneratorConfig:
        return self.network.config

    def run(self, spec: StageSpec, tensors: Mapping[str, Tensor], origin: tuple[int, int]) -> Tensor:
        """A stage's output on windows of features and scales and shifts of norms.

        `origin` is the row and column where the windows start. Tensors that the stage does not take are left out.
        """
        if self.before_each is not None:
            self.before_each()
        expected = stage_inputs(self.config, spec)
        size = covered_size(self.config, spec, tensors)
        inputs = {t.name: tensors[t.name] if t.noise_of is None else self._noise(t, origin, size) for t in expected}
        return self.runner.run(spec, inputs)

    def run_whole(self, image: Tensor, origin: tuple[int, int], norms: Mapping[str, Tensor] | None = None) -> Tensor:
        """The generator's output on an image, or on a window that starts at `origin` of a larger one.

        `norms` are scale and shift of its norm layers by the stages' names, None where it finds them itself.
        """
        spec = replace(whole_stage(self.config, noise=self.seed is not None), given_norms=norms is not None)
        return self.run(spec, {"features": image, **(norms or {})}, origin)

    def _noise(self, tensor: StageTensor, origin: tuple[int, int], size: tuple[int, int]) -> Tensor:
        assert tensor.noise_of is not None
        assert tensor.level is not None
        assert self.seed is not None
        shape = (tensor.channels, size[0] >> tensor.level, size[1] >> tensor.level)
        start = tuple((own + offset) >> tensor.level for own, offset in zip(origin, self.origin, strict=True))
        noise = dropout_noise(self.seed, tensor.noise_of, shape, (start[0], start[1]), self.runner.device)
        return noise.to(self.runner.dtype)
