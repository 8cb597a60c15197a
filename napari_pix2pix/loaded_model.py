"""A trained model in use: what it knows of its images, translating and scoring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, overload

from napari_pix2pix.evaluation import Evaluation, comparison, scored, translations
from napari_pix2pix.formats.remote import as_path
from napari_pix2pix.formats.writing import map_path
from napari_pix2pix.script_inputs import ImagePath, Images, opened, pairs_of
from napari_pix2pix.translation.error_maker import error_settings
from napari_pix2pix.translation.novelty_map import Novelty, found_novelty
from napari_pix2pix.translation.option_words import spoken_in_python
from napari_pix2pix.translation.pipeline import translate
from napari_pix2pix.translation.progress import Progress, ended, told
from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.sinks import ArraySink, FileSink
from napari_pix2pix.translation.translator import lent_translator
from pix2pix_training.array_source import AnyArray
from pix2pix_training.atomic import temporary_folder
from pix2pix_training.error_map import error_model
from pix2pix_training.errors import SettingsError
from pix2pix_training.image_description import ImageDescription
from pix2pix_training.machine import scratch_folder
from pix2pix_training.model_file import Model, load_model
from pix2pix_training.validated import AnyPath, Lenient, checked


class LoadedModel:
    """What `Pix2Pix` does with images."""

    @spoken_in_python
    def __init__(self, model: ImagePath | Model) -> None:
        self.model = model if isinstance(model, Model) else load_model(checked(AnyPath, model, "model"))

    @cached_property
    def _error_model(self) -> Model:
        """One and the same each time, so that its translator is kept."""
        return error_model(self.model)

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
        file_format: str = "same",
        overwrite: bool = False,
        resume: bool = False,
        novelty_map: bool = False,
        error_map: bool = False,
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
        novelty_map: bool = False,
        error_map: bool = False,
        on_progress: Progress | None = None,
        **settings: Any,
    ) -> Path: ...

    @spoken_in_python
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
        novelty_map: bool = False,
        error_map: bool = False,
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
        novelty_map : bool
            Write beside `out` a map of what is unlike the training images, called NAME-novelty; for arrays see
            `novelty`.
        error_map : bool
            Write beside `out` the half-widths of intervals around its pixels, called NAME-error; for arrays see
            `error_map`.
        on_progress : callable
            Is given the number of tiles done, and of all.
        **settings
            Fields of `TranslationSettings`, such as ``tile=1024``, ``max_memory=2 << 30``, ``convert_values="type"``,
            ``precision="int8"`` (see `Pix2Pix.with_int8`).

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
        path = None if out is None else as_path(checked(AnyPath, out, "out"))
        nodata = checked(float | None, nodata, "nodata")
        chosen = TranslationSettings(**settings)
        image_given = opened(
            image,
            axes=axes,
            into_file=path is not None,
            resume=resume,
            series=series,
            alpha=chosen.alpha,
            pixel_size=pixel_size,
            unit=unit,
            nodata=nodata,
            channel_names=channel_names,
        )
        maker = (self._error_model, error_settings(self.model, chosen)) if error_map else None
        if path is None and error_map:
            raise SettingsError("an error map is a file beside out; give out, or call error_map for an array")
        with lent_translator(self.model, chosen) as translator, image_given as (source, order):
            if path is None and novelty_map:
                raise SettingsError("a novelty map is a file beside out; give out, or call novelty for an array")
            if path is None:
                sink = ArraySink(order)
                ended(translate(source, translator, sink), told(on_progress))
                return sink.without_single_channel
            file = FileSink(path, file_format=file_format, overwrite=overwrite, resume=resume, novelty_map=novelty_map)
            ended(translate(source, translator, file), told(on_progress))
            if maker is not None:
                beside = FileSink(map_path(path, "error"), file_format=file_format, overwrite=overwrite, resume=resume)
                with lent_translator(*maker) as of_errors:
                    ended(translate(source, of_errors, beside))
            return path

    @spoken_in_python
    def error_map(
        self,
        image: AnyArray | ImagePath | Sequence[ImagePath],
        *,
        axes: str | None = None,
        nodata: float | None = None,
        channel_names: Sequence[str] = (),
        series: int | None = None,
        **settings: Any,
    ) -> AnyArray:
        """Find how far from the target the pixels of a translation may lie.

        Parameters
        ----------
        image, axes, nodata, channel_names, series
            As for `translate`.
        **settings
            Fields of `TranslationSettings`; the model's own mode (statistics, dropout) is what errors are known of.

        Returns
        -------
        ndarray
            Half-widths in units of the target, in its type without sign, with the axes of what `translate` gives. The
            target of the share `model.error.traits.coverage` of pixels lies within, in images like those held out.

        Raises
        ------
        InputError
            Image and model do not fit together, or the model has no error map.

        Examples
        --------
        >>> images = [np.full((64, 64), value, dtype=np.uint8) + np.arange(64, dtype=np.uint8) for value in range(8)]
        >>> copying = Pix2Pix.train(
        ...     images, images, axes="YX", out="copying2", steps=1, patch_size=32, generator={"base_width": 4}
        ... )
        >>> copying.error_map(images[0], axes="YX").shape
        (64, 64)
        """
        asked = TranslationSettings(**settings)
        model, chosen = self._error_model, error_settings(self.model, asked)
        image_given = opened(
            image,
            axes=axes,
            series=series,
            alpha=chosen.alpha,
            nodata=checked(float | None, nodata, "nodata"),
            channel_names=channel_names,
        )
        with lent_translator(model, chosen) as translator, image_given as (source, order):
            sink = ArraySink(order)
            ended(translate(source, translator, sink))
            return sink.without_single_channel

    @spoken_in_python
    def novelty(
        self,
        image: AnyArray | ImagePath | Sequence[ImagePath],
        *,
        axes: str | None = None,
        nodata: float | None = None,
        channel_names: Sequence[str] = (),
        series: int | None = None,
        **settings: Any,
    ) -> Novelty:
        """Find what of an image is unlike the images that the model was trained on.

        Parameters
        ----------
        image, axes, nodata, channel_names, series
            As for `translate`.
        **settings
            Fields of `TranslationSettings` that say how the image is seen, such as ``convert_values="type"``.

        Returns
        -------
        Novelty
            The `share` of the image that is unlike them, and its map in `p_values`.

        Raises
        ------
        InputError
            Image and model do not fit together, or the model cannot tell.

        Examples
        --------
        >>> import numpy as np
        >>> images = list(np.random.default_rng(0).integers(0, 256, (8, 256, 256), dtype=np.uint8))
        >>> copying = Pix2Pix.train(
        ...     images, images, axes="YX", out="copying", steps=1, patch_size=32, generator={"base_width": 4}
        ... )
        >>> copying.novelty(images[0]).share < 0.1
        True
        >>> copying.novelty(images[0] // 2).share
        1.0
        >>> copying.novelty(images[0]).p_values.shape
        (8, 8)
        """
        chosen = TranslationSettings(**settings)
        image_given = opened(
            image,
            axes=axes,
            series=series,
            alpha=chosen.alpha,
            nodata=checked(float | None, nodata, "nodata"),
            channel_names=channel_names,
        )
        with lent_translator(self.model, chosen) as translator, image_given as (source, _):
            return found_novelty(translator.fit(source), translator)

    @spoken_in_python
    def evaluate(
        self,
        source: Images,
        target: Images,
        *,
        axes: str | None = None,
        target_axes: str | None = None,
        series: int | None = None,
        data_range: tuple[float, float] | None = None,
        report: ImagePath | None = None,
        overwrite: bool = False,
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
        report : str or Path
            Page to write about it, such as "report.html"; one that is there is replaced where `overwrite` is True.
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
            Images, model and settings do not fit together, or `report` is refused.

        Examples
        --------
        >>> result = model.evaluate("source", "target", report="report.html")
        >>> result.mean.mae >= 0
        True
        >>> sorted(result.mean.as_dict())
        ['mae', 'pearson', 'psnr', 'ssim']
        """
        limits = checked(Annotated[tuple[float, float], Lenient] | None, data_range, "data_range")
        page = None if report is None else as_path(checked(AnyPath, report, "report"))
        if page is not None:
            from napari_pix2pix.report.of_model import check_report_place, write_report_of

            check_report_place(page, overwrite=overwrite)
        pairs, chosen = pairs_of(source, target, axes, target_axes, series), TranslationSettings(**settings)
        with (
            lent_translator(self.model, chosen) as translator,
            temporary_folder(translator.scratch or scratch_folder()) as folder,
        ):
            translated = ended(translations(pairs, translator, folder)).pairs
            wanted = comparison(translated, data_range=limits, mapping=self.target.mapping)
            if page is None:
                return ended(scored(wanted))
            return write_report_of(page, self.model, chosen, pairs, wanted, scratch=folder, overwrite=overwrite)
