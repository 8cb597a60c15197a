"""The work behind the Translate button for the images of a folder. No napari, no Qt."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from napari_pix2pix._widgets.form_words import in_form_words
from pix2pix_training.cancel import Cancel
from pix2pix_training.errors import ImageError, Pix2PixError
from pix2pix_training.remarks import remarks

Existing = Literal["resume", "overwrite"]


@dataclass(frozen=True, kw_only=True)
class FolderImages:
    """The images of `folder` with names like `pattern`, for example ``*_phase.tif``."""

    folder: Path
    pattern: str = "*"


@dataclass(frozen=True, kw_only=True)
class FolderLook:
    """What such images are, in words and by the endings of their names, or the problem that keeps them from being
    translated.
    """

    words: str = ""
    endings: frozenset[str] = frozenset()
    problem: str | None = None

    def takes_place(self, file_format: str) -> bool:
        """Whether results of a format, or with "same" of that of each image, would have the names of images."""
        from napari_pix2pix.formats.writing import output_suffix

        own = self.endings - {""}
        return any(file_format == "same" or output_suffix(file_format, Path(f"a{ending}")) == ending for ending in own)


@dataclass(frozen=True, kw_only=True)
class FolderRequest:
    """What to translate and how.

    Attributes
    ----------
    out : folder of the results, which have the names of their images.
    existing : go on with unfinished results and leave complete ones ("resume"), or replace what is there.
    options : fields of `TranslationSettings`; those left out keep their defaults.
    """

    model: Path
    images: FolderImages
    out: Path
    file_format: str = "same"
    existing: Existing = "resume"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FilesDone:
    """Files finished, of how many, and the finished `fraction` of all."""

    done: int
    total: int
    fraction: float


@dataclass(frozen=True, kw_only=True)
class FolderTranslated:
    """The results, and why images have none."""

    outputs: tuple[Path, ...]
    failed: Mapping[Path, str]


def images_of(images: FolderImages) -> list[Path]:
    """The files; raises `ImageError` where there is none."""
    from napari_pix2pix.formats.image_files import files_in

    if not os.path.isdir(images.folder):  # noqa: PTH112 (whose own method raises for what can be no path)
        raise ImageError(f"{images.folder} is not a folder")
    found = files_in(images.folder)
    fitting = [path for path in found if fnmatch(path.name, images.pattern)]
    if not fitting:
        raise ImageError(f"none of the {len(found)} images in {images.folder} is called like {images.pattern}")
    return fitting


def look_events(images: FolderImages) -> Generator[FolderLook, None, None]:
    """Count the images. A problem is an answer, not an error: by the time it is found others may be chosen."""
    from napari_pix2pix.formats.writing import known_suffix

    with remarks() as lines:
        try:
            files = images_of(images)
        except Pix2PixError as error:
            yield FolderLook(problem=f"{in_form_words(str(error))}.")
            return
    count = len(files)
    words = [f"{count} image{'s' if count != 1 else ''}.", *(f"{in_form_words(line)}." for line in lines)]
    yield FolderLook(words="\n".join(words), endings=frozenset(map(known_suffix, files)))


def folder_events(
    request: FolderRequest, *, cancel: Cancel | None = None
) -> Generator[FilesDone | FolderTranslated, None, None]:
    """Translate all images; one that fails is left out, and a remark says why.

    Raises
    ------
    Pix2PixError
        Names of results cannot be made, or all images failed.
    Interrupted
        `cancel` was set.
    """
    from napari_pix2pix.translation.batch import jobs_for, translate_batch
    from napari_pix2pix.translation.settings import TranslationSettings
    from napari_pix2pix.translation.translator import Translator
    from pix2pix_training.model_file import load_model
    from pix2pix_training.retelling import retold

    files = images_of(request.images)
    yield FilesDone(done=0, total=len(files), fraction=0.0)
    jobs = jobs_for(files, request.out, file_format=request.file_format, on_error="skip")
    translator = Translator(load_model(request.model), TranslationSettings(**request.options))
    events = translate_batch(
        jobs,
        translator,
        file_format=request.file_format,
        overwrite=request.existing == "overwrite",
        resume=request.existing == "resume",
        on_error="skip",
    )
    with translator.interruptible(cancel or Cancel()):
        report = yield from retold(
            events, lambda event: FilesDone(done=event.done, total=event.count, fraction=event.fraction)
        )
    failed = {path: in_form_words(reason) for path, reason in report.failed.items()}
    yield FolderTranslated(outputs=report.outputs, failed=failed)
