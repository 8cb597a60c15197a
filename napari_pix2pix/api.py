"""The door for scripts and notebooks: one class to train, load, apply, judge and export a model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Self

from napari_pix2pix.exports import ExportFormat, OnnxPrecision, export_format, write_export
from napari_pix2pix.loaded_model import LoadedModel
from napari_pix2pix.script_inputs import ImagePath, Images, sample_of, training_data_of
from napari_pix2pix.training_data import DEFAULT_VALIDATION_FRACTION
from napari_pix2pix.translation.int8_calibration import with_int8
from napari_pix2pix.translation.option_words import spoken_in_python
from napari_pix2pix.translation.progress import ended
from pix2pix_training.atomic import reserved
from pix2pix_training.choices import Preset
from pix2pix_training.events import Event
from pix2pix_training.in_words import architecture_name
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.model_file import Model, save_model
from pix2pix_training.novelty import CELL_PX
from pix2pix_training.novelty_survey import with_novelty
from pix2pix_training.run_folder import RunFolder
from pix2pix_training.setting_options import places_of, training_config
from pix2pix_training.time_budget import sized_run
from pix2pix_training.training import train as training_events
from pix2pix_training.training_step import settings_of
from pix2pix_training.validated import AnyPath, checked

_MINUTES = 10.0


class Pix2Pix(LoadedModel):
    """A trained model, ready to use.

    Parameters
    ----------
    model : str, Path or Model
        A model file, or what `load_model` made of one.

    Raises
    ------
    ModelFileError
        The file is missing, damaged, of another kind or of a newer version.

    Examples
    --------
    >>> from napari_pix2pix import Pix2Pix
    >>> model = Pix2Pix("run/model.safetensors")
    >>> model
    Pix2Pix(U-Net, 1 channel of uint8 -> 1 channel of uint8)
    """

    @classmethod
    def load(cls, path: ImagePath) -> Self:
        """Open a model file, such as the ``model.safetensors`` of a run.

        Examples
        --------
        >>> Pix2Pix.load("run/model.safetensors").source.mapping.dtype
        'uint8'
        """
        return cls(path)

    @classmethod
    @spoken_in_python
    def train(
        cls,
        source: Images,
        target: Images,
        *,
        out: ImagePath,
        axes: str | None = None,
        target_axes: str | None = None,
        minutes: float | None = None,
        preset: Preset = "seamless",
        validation: float | str | Path = DEFAULT_VALIDATION_FRACTION,
        z_context: int = 0,
        pixel_size: tuple[float, float] | None = None,
        unit: str = "µm",
        series: int | None = None,
        init: ImagePath | Model | None = None,
        device: str = "auto",
        workers: int = 0,
        resume: bool = False,
        overwrite: bool = False,
        on_event: Callable[[Event], None] | None = None,
        **settings: Any,
    ) -> Self:
        """Train a model on pairs of images that lie over each other pixel by pixel.

        Parameters
        ----------
        source, target : array, sequence of arrays, str or Path
            One pair or several; arrays of any real dtype, or a file or folder of each side, paired by name.
        out : str or Path
            Run folder: settings, losses, previews, checkpoint and ``model.safetensors``.
        axes, target_axes : str
            One letter per axis of the arrays in any order, such as "YXC" or "TCZYX"; those of the targets are the same
            unless they are given. Without them arrays are (Y, X) or (*leading, C, Y, X).
        minutes : float
            Length of the training; 10 unless `steps` or `epochs` are among the settings. Then width, patch and batch
            are what the time suffices for, where they are not among the settings.
        preset : "seamless", "paper" or "faithful"
            To look real, as in the paper, or to be measured (denoising, label-free prediction, intensities).
        validation : float, str or Path
            Share of the pairs that is held out, or of a single pair a band of that share; or a region "y0:y1,x0:x1" of
            a single pair; of files also a folder.
        z_context : int
            Neighbouring planes along Z on each side that are seen with a plane.
        series : int
            Of files that hold several images the one of this number, from 0. Without it all are used, each in a pair.
        pixel_size, unit : (float, float) and str
            Height and width of a pixel, of arrays; files say it themselves.
        init : str, Path or Model
            Model to start from; its networks decide depth, width and norm.
        device : "auto", "cpu", "cuda", "cuda:N" or "mps"
        workers : int
            Processes that read images ahead; by default a thread does. For files that do not fit into memory, and a
            GPU that waits for them. They import the script, so what it does has to stand below
            ``if __name__ == "__main__"``.
        resume, overwrite : bool
            Go on with the run in `out`, or replace it.
        on_event : callable
            Is given each event of the training, see `pix2pix_training.events`. What it raises ends the training, and
            the state so far is saved.
        **settings
            Fields of `pix2pix_training.config.TrainingConfig`; nested ones as dictionaries.

        Returns
        -------
        Pix2Pix
            The model that was saved: the best by the score that its preset goes by (`best_by`), or the last.

        Raises
        ------
        InputError
            Settings, images or `out` cannot be used; nothing was started.
        TrainingError
            Losses or weights are no longer finite, or memory ran out; the last checkpoint is kept.

        Examples
        --------
        >>> import numpy as np
        >>> photos = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
        >>> inverted = 255 - photos
        >>> model = Pix2Pix.train(
        ...     list(photos), list(inverted), out="inverting", axes="YXC", steps=2, patch_size=32,
        ...     generator={"base_width": 4},
        ... )
        >>> model.translate(photos[0], axes="YXC").shape
        (64, 64, 3)
        """
        if minutes is None and all(settings.get(length) is None for length in ("steps", "epochs")):
            minutes = _MINUTES
        folder = checked(AnyPath, out, "out")
        start = None if init is None else cls(init).model
        if init is not None and not isinstance(init, Model) and not resume:
            RunFolder(folder).keep_apart(Path(init))
        layers = {} if start is None else settings_of(start), {"preset": preset, "minutes": minutes, **settings}
        config = training_config(*layers)
        load = partial(
            training_data_of,
            source,
            target,
            seed=config.seed,
            axes=axes,
            target_axes=target_axes,
            pixel_size=pixel_size,
            unit=unit,
            z_context=z_context,
            series=series,
            validation=validation,
        )
        config, data = sized_run(config, places_of(*layers), load, folder, resume=resume, device=device)
        events = training_events(
            config, data, folder, device=device, resume=resume, overwrite=overwrite, init=start, workers=workers
        )
        ended(events, on_event)
        return cls(folder / "model.safetensors")

    @spoken_in_python
    def save(self, path: ImagePath, *, overwrite: bool = False) -> Path:
        """Write the model file.

        Raises
        ------
        OutputError
            The file is there and `overwrite` is False, or it cannot be written.

        Examples
        --------
        >>> model.save("copy.safetensors").exists()
        True
        """
        file: Path = checked(AnyPath, path, "path")
        with reserved(file, overwrite):
            save_model(self.model, file)
        return file

    @spoken_in_python
    def with_novelty(
        self,
        source: Images,
        *,
        axes: str | None = None,
        validation: float | str | Path = DEFAULT_VALIDATION_FRACTION,
        series: int | None = None,
        seed: int = 0,
    ) -> Self:
        """The same model with what tells other images from these, for one that has none, such as imported weights.

        Parameters
        ----------
        source, axes, series
            Images like those that it was trained on, as for `train`; targets are not needed.
        validation : float, str or Path
            Share of the images that is the yardstick, as for `train`.
        seed : int
            Decides which images these are.

        Returns
        -------
        Pix2Pix
            Use `save` to keep it.

        Raises
        ------
        InputError
            The images do not fit the model, or they are too small.

        Examples
        --------
        >>> images = list(np.random.default_rng(0).integers(0, 256, (8, 256, 256), dtype=np.uint8))
        >>> able = model.with_novelty(images, axes="YX")
        >>> able.novelty(images[0] // 2).share
        1.0
        """
        data = training_data_of(
            source,
            source,
            patch_size=CELL_PX,
            seed=seed,
            axes=axes,
            target_axes=None,
            pixel_size=None,
            unit="µm",
            z_context=self.source.z_context,
            series=series,
            validation=validation,
        )
        return type(self)(with_novelty(self.model, data.split))

    @spoken_in_python
    def with_int8(
        self,
        source: Images,
        target: Images | None = None,
        *,
        axes: str | None = None,
        target_axes: str | None = None,
        series: int | None = None,
    ) -> Self:
        """The same model, ready to compute in 8 bits on images like these: ``translate(image, precision="int8")``.

        Models are made ready when their training ends, on its images. This is for images unlike those, and for models
        from elsewhere. It needs a U-Net with norms on running averages; translating takes OpenVINO and a processor
        with VNNI.

        Parameters
        ----------
        source : array, sequence of arrays, str or Path
            Images like those to be translated, of each kind and brightness. Half of their parts decide how values are
            rounded; on the others results in 8 bits are compared with those in float32.
        target : array, sequence of arrays, str or Path
            Their targets, to see what is lost against them.
        axes, target_axes, series
            As for `train`.

        Returns
        -------
        Pix2Pix
            Use `save` to keep it. ``.model.int8`` says what 8 bits cost.

        Raises
        ------
        InputError
            The model cannot compute in 8 bits, the images do not fit it or are too small, or the results would differ
            too much: by more than 0.5 % of their range in the mean, or by 0.3 dB of PSNR against the targets.

        Examples
        --------
        >>> images = list(np.random.default_rng(0).integers(0, 256, (8, 64, 64), dtype=np.uint8))
        >>> ready = model.with_int8(images, axes="YX")
        >>> ready.model.int8.deviation < 0.005
        True
        >>> ready.translate(images[0], axes="YX", precision="int8").shape  # with VNNI
        (64, 64)
        """
        sources, targets = sample_of(source, target, axes, target_axes, series)
        return type(self)(ended(with_int8(self.model, sources, targets)))

    @spoken_in_python
    def export(
        self,
        out: ImagePath,
        file_format: ExportFormat | None = None,
        *,
        with_mapping: bool = False,
        precision: OnnxPrecision = "fp32",
        name: str | None = None,
        sample: ImagePath | None = None,
        inference: InferenceConfig | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write the model for other programs.

        Parameters
        ----------
        out : str or Path
            File to write.
        file_format : "onnx", "bioimageio" or "state-dict"
            By default the ending decides: ``.onnx``, ``.zip`` or ``.pth``.
        with_mapping : bool
            ONNX: stored pixels in and out, the mapping being part of the graph.
        precision : "fp32" or "int8"
            ONNX: int8 is for models that are ready for it, see `with_int8`.
        name, sample : str, and str or Path
            BioImage Model Zoo: name of the package, and a source image to test it with and to show.
        inference : InferenceConfig
            How norms and dropout are meant; by default as the model says.

        Raises
        ------
        InputError
            The model has no such form, or `out` is refused.
        """
        path: Path = checked(AnyPath, out, "out")
        chosen = export_format(path, file_format)
        with reserved(path, overwrite):
            write_export(
                self.model,
                path,
                chosen,
                inference=inference,
                with_mapping=with_mapping,
                precision=checked(OnnxPrecision, precision, "precision"),
                name=name,
                sample=None if sample is None else Path(sample),
            )
        return path

    def __repr__(self) -> str:
        sides = " -> ".join(
            f"{side.channels} channel{'s' if side.channels > 1 else ''} of {side.mapping.dtype}"
            for side in (self.source, self.target)
        )
        return f"Pix2Pix({architecture_name(self.model.generator_config)}, {sides})"
