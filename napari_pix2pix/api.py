"""The door for scripts and notebooks: one class to train, load, apply, judge and export a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated, Any, Literal, Self, overload

from napari_pix2pix.evaluation import Evaluation, evaluate_pairs, translations
from napari_pix2pix.formats.channel_files import open_images
from napari_pix2pix.formats.pairing import pairs_from_paths
from napari_pix2pix.training_data import (
    DEFAULT_VALIDATION_FRACTION,
    DataRequest,
    checked_validation,
    data_of_pairs,
    load_training_data,
    pairs_of_arrays,
)
from napari_pix2pix.translation.image_fit import WithMetadata, metadata_of_array
from napari_pix2pix.translation.kept_translators import lent_translator
from napari_pix2pix.translation.pipeline import translate
from napari_pix2pix.translation.progress import Progress, ended, told
from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.sinks import ArraySink, FileSink, axes_of_result
from pix2pix_training.array_source import AnyArray, ArraySource, MemorySource
from pix2pix_training.atomic import reserved, temporary_folder
from pix2pix_training.config import InferenceConfig, Preset
from pix2pix_training.errors import SettingsError
from pix2pix_training.events import Event
from pix2pix_training.in_words import architecture_name
from pix2pix_training.machine import scratch_folder
from pix2pix_training.model_file import ImageDescription, ImageTraits, Model, load_model, save_model
from pix2pix_training.pairs import Pair
from pix2pix_training.setting_options import training_config
from pix2pix_training.training import train as training_events
from pix2pix_training.training_step import settings_of
from pix2pix_training.validated import AnyPath, Lenient, checked

ImagePath = str | Path
ExportFormat = Literal["onnx", "bioimageio", "state-dict"]

_FORMATS: dict[str, ExportFormat] = {".onnx": "onnx", ".zip": "bioimageio", ".pth": "state-dict", ".pt": "state-dict"}
_MINUTES = 10.0


class Pix2Pix:
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

    def __init__(self, model: ImagePath | Model) -> None:
        self.model = model if isinstance(model, Model) else load_model(checked(AnyPath, model, "model"))

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
    def train(
        cls,
        source: AnyArray | Sequence[AnyArray] | ImagePath,
        target: AnyArray | Sequence[AnyArray] | ImagePath,
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
            Length of the training; 10 unless `steps` or `epochs` are among the settings.
        preset : "seamless" or "paper"
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
            The model that was saved: the best by the validation's mean absolute error, or the last.

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
        start = None if init is None else cls(init).model
        layer = {"preset": preset, "minutes": minutes, **settings}
        config = training_config({} if start is None else settings_of(start), layer)
        if _are_paths(source, target):
            if axes is not None or target_axes is not None or pixel_size is not None:
                raise SettingsError("axes and pixel_size are for arrays; files say them themselves, so leave them out")
            request = DataRequest(
                sources=(Path(str(source)),),
                targets=(Path(str(target)),),
                z_context=z_context,
                series=series,
                validation=validation,
            )
            data = load_training_data(request, patch_size=config.patch_size, seed=config.seed)
        else:
            held_out = checked_validation(validation)
            if isinstance(held_out, Path):
                raise SettingsError(f"validation is the folder {held_out}; of arrays, hold out a fraction or a region")
            pairs = pairs_of_arrays(source, target, axes, target_axes or axes)
            traits = ImageTraits(pixel_size=pixel_size, unit=None if pixel_size is None else unit, z_context=z_context)
            data = data_of_pairs(pairs, traits, held_out, patch_size=config.patch_size, seed=config.seed)
        folder = checked(AnyPath, out, "out")
        events = training_events(
            config, data, folder, device=device, resume=resume, overwrite=overwrite, init=start, workers=workers
        )
        with closing(events):
            for event in events:
                if on_event is not None:
                    on_event(event)
        return cls(folder / "model.safetensors")

    @property
    def source(self) -> ImageDescription:
        """What the model knows of its source images: channels and their names, type, range, pixel size."""
        return self.model.source

    @property
    def target(self) -> ImageDescription:
        """The same of the images that it makes."""
        return self.model.target

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Scores of the validation images in training, in [-1, 1]."""
        return self.model.metrics

    @overload
    def translate(
        self,
        image: AnyArray | ImagePath | Sequence[ImagePath],
        out: None = None,
        *,
        axes: str | None = None,
        nodata: float | None = None,
        channel_names: Sequence[str] = (),
        pixel_size: tuple[float, float] | None = None,
        unit: str = "µm",
        series: int | None = None,
        on_progress: Progress | None = None,
        **settings: Any,
    ) -> AnyArray: ...

    @overload
    def translate(
        self,
        image: AnyArray | ImagePath | Sequence[ImagePath],
        out: ImagePath,
        *,
        axes: str | None = None,
        nodata: float | None = None,
        channel_names: Sequence[str] = (),
        pixel_size: tuple[float, float] | None = None,
        unit: str = "µm",
        series: int | None = None,
        file_format: str = "same",
        overwrite: bool = False,
        resume: bool = False,
        on_progress: Progress | None = None,
        **settings: Any,
    ) -> Path: ...

    def translate(
        self,
        image: AnyArray | ImagePath | Sequence[ImagePath],
        out: ImagePath | None = None,
        *,
        axes: str | None = None,
        nodata: float | None = None,
        channel_names: Sequence[str] = (),
        pixel_size: tuple[float, float] | None = None,
        unit: str = "µm",
        series: int | None = None,
        file_format: str = "same",
        overwrite: bool = False,
        resume: bool = False,
        on_progress: Progress | None = None,
        **settings: Any,
    ) -> AnyArray | Path:
        """Translate an image of any size.

        What makes the model ready (a second or more) is done at the first call, and kept as long as the model is alive.

        Parameters
        ----------
        image : array, str, Path, or sequence of paths
            Of the type and with the channels that the model was trained on. Arrays may also be anything that is sliced
            like one (dask, zarr), which is read part by part. Several files are the channels of one image.
        out : str or Path
            File to write; its ending decides the format where `file_format` is "same". Without it an array is given.
        axes : str
            One letter per axis of the array in any order, such as "YXC" or "TCZYX". Without it an array is (Y, X) or
            (*leading, C, Y, X). For files: the order that the result is to have.
        nodata : float
            Value of pixels of an array that hold no data, besides those that are not finite.
        channel_names : sequence of str
            Of an array; where the model has names too, channels are taken by them.
        pixel_size, unit : (float, float) and str
            Height and width of a pixel, of an array.
        series : int
            Of files that hold several images the one of this number, from 0. Without it the first, with a warning.
        overwrite, resume : bool
            Replace `out`, or go on with it where it was begun.
        on_progress : callable
            Is given the number of tiles done, and of all.
        **settings
            Fields of `TranslationSettings`, such as ``tile=1024``, ``max_memory=2 << 30``, ``convert_values="type"``.

        Returns
        -------
        ndarray or Path
            The path `out`, or an array in the dtype of the model's target. It has the axes of the image in the same
            order; channels that only the result has come before Y and X, and a single one is left out where the image
            has no axis of channels.

        Raises
        ------
        InputError
            Image, model and settings do not fit together, or `out` is refused; nothing was computed.
        Pix2PixError
            Memory ran out, or the output could not be written.

        Examples
        --------
        >>> model = Pix2Pix.load("run/model.safetensors")
        >>> stack = np.zeros((3, 48, 40), dtype=np.uint8)
        >>> model.translate(stack, axes="ZYX").shape
        (3, 48, 40)
        >>> model.translate("cells.tif", "translated.tif").name
        'translated.tif'
        >>> model.translate("cells.tif", axes="YX").dtype
        dtype('uint8')
        """
        path: Path | None = checked(AnyPath | None, out, "out")
        nodata = checked(float | None, nodata, "nodata")
        chosen = TranslationSettings(**settings)
        with lent_translator(self.model, chosen) as translator, ExitStack() as stack:
            source: ArraySource
            if isinstance(image, str | Path | Sequence):
                if nodata is not None or channel_names or pixel_size is not None:
                    raise SettingsError(
                        "nodata, channel_names and pixel_size are for arrays; files say them themselves"
                    )
                if axes is not None and path is not None:
                    raise SettingsError("axes say how an array is to be; an output file has those of the input")
                source = stack.enter_context(open_images(_paths(image), series, chosen.alpha))
                order = axes_of_result(axes, source)
            else:
                if series is not None:
                    raise SettingsError("series is for files that hold several images; leave it out")
                if resume:
                    raise SettingsError("resume is for translating files; of an array, leave it out")
                array = MemorySource(image, axes=axes, nodata=nodata, channel_names=channel_names)
                source, order = WithMetadata(array, metadata_of_array(array, pixel_size, unit)), array.order
            if path is None:
                sink = ArraySink(order)
                ended(translate(source, translator, sink), told(on_progress))
                return sink.without_single_channel
            file = FileSink(path, file_format=file_format, overwrite=overwrite, resume=resume)
            ended(translate(source, translator, file), told(on_progress))
            return path

    def evaluate(
        self,
        source: AnyArray | Sequence[AnyArray] | ImagePath,
        target: AnyArray | Sequence[AnyArray] | ImagePath,
        *,
        axes: str | None = None,
        target_axes: str | None = None,
        series: int | None = None,
        data_range: tuple[float, float] | None = None,
        **settings: Any,
    ) -> Evaluation:
        """Translate source images and score the results against the targets.

        Parameters
        ----------
        source, target : array, sequence of arrays, str or Path
            As for `train`; best images that were not trained on.
        axes, target_axes, series
            As for `train`.
        data_range : (float, float)
            Smallest and largest value that targets can take, for PSNR and SSIM; by default 0 to 255 for 8-bit targets,
            else the percentiles 0.1 and 99.9 of all targets.
        **settings
            Fields of `TranslationSettings`.

        Returns
        -------
        Evaluation
            MAE, PSNR, SSIM and Pearson correlation of each image, their mean, and scores of the best constant image;
            of categories also accuracy and overlap (IoU, Dice).

        Raises
        ------
        InputError
            Images, model and settings do not fit together.

        Examples
        --------
        >>> result = model.evaluate("source", "target")
        >>> result.mean.mae >= 0
        True
        >>> sorted(result.mean.as_dict())
        ['mae', 'pearson', 'psnr', 'ssim']
        """
        limits = checked(Annotated[tuple[float, float], Lenient] | None, data_range, "data_range")
        pairs: Sequence[Pair]
        if _are_paths(source, target):
            pairs = pairs_from_paths([Path(str(source))], [Path(str(target))], series=series)
        else:
            pairs = pairs_of_arrays(source, target, axes, target_axes or axes)
        with (
            lent_translator(self.model, TranslationSettings(**settings)) as translator,
            temporary_folder(translator.scratch or scratch_folder()) as folder,
        ):
            translated = ended(translations(pairs, translator, folder)).pairs
            return evaluate_pairs(translated, data_range=limits, mapping=self.target.mapping)

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

    def export(
        self,
        out: ImagePath,
        file_format: ExportFormat | None = None,
        *,
        with_mapping: bool = False,
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
        chosen = file_format or _FORMATS.get(path.suffix.lower())
        if chosen not in _FORMATS.values():
            raise SettingsError(f"{path}: the ending says no format; choose file_format onnx, bioimageio or state-dict")
        with reserved(path, overwrite):
            if chosen == "onnx":
                from pix2pix_training.onnx_export import export_model

                export_model(self.model, path, inference=inference, with_mapping=with_mapping)
            elif chosen == "state-dict":
                from pix2pix_training.reference_weights import generator_state, write_state_dict

                write_state_dict(generator_state(self.model), path)
            else:
                self._export_package(path, name, sample, inference or self.model.inference)
        return path

    def _export_package(
        self, out: Path, name: str | None, sample: ImagePath | None, inference: InferenceConfig
    ) -> None:
        from napari_pix2pix.bioimageio_export.package import export_bioimageio
        from napari_pix2pix.bioimageio_export.package_description import PackageInfo

        if name is None or sample is None:
            raise SettingsError("a BioImage Model Zoo package needs a name, and a sample image to be tested with")
        info = PackageInfo(name=name, credits=self.model.credits)
        export_bioimageio(self.model, out, info, Path(sample), inference=inference)

    def __repr__(self) -> str:
        sides = " -> ".join(
            f"{side.channels} channel{'s' if side.channels > 1 else ''} of {side.mapping.dtype}"
            for side in (self.source, self.target)
        )
        return f"Pix2Pix({architecture_name(self.model.generator_config)}, {sides})"


def _are_paths(source: object, target: object) -> bool:
    kinds = [isinstance(images, str | Path) for images in (source, target)]
    if kinds[0] != kinds[1]:
        raise SettingsError("source and target must both be arrays, or both be files or folders")
    return kinds[0]


def _paths(image: ImagePath | Sequence[ImagePath]) -> list[Path]:
    paths = [image] if isinstance(image, str | Path) else list(image)
    if not paths or not all(isinstance(path, str | Path) for path in paths):
        raise SettingsError("one image at a time: give an array, a file, or the files that are its channels")
    return [Path(path) for path in paths]
