"""Translating on a Dask cluster: every region of every image is a task, and whoever makes the last one completes it.

The tasks are what the processes of `--shard` are, a part for each region: they go through the same list, write to the
same unfinished output, and leave the same records.
"""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from napari_pix2pix.formats.image_files import open_images
from napari_pix2pix.formats.output_state import (
    WHOLE,
    OutputState,
    Part,
    RegionRecords,
    clear_completed,
    is_begun,
    output_identity,
)
from napari_pix2pix.formats.remote import RemotePath
from napari_pix2pix.translation.batch import BatchReport, Job, OnError, summed
from napari_pix2pix.translation.cluster_connection import Cluster
from napari_pix2pix.translation.cluster_worker import Share, ShareDone
from napari_pix2pix.translation.progress import TranslationReport
from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.sinks import regions_of
from pix2pix_training.atomic import check_writable_target, partial_path, remove
from pix2pix_training.cancel import Cancel
from pix2pix_training.errors import ClusterError, ImageError, InputError, OutputError, Pix2PixError
from pix2pix_training.model_file import Model, model_digest

if TYPE_CHECKING:
    from distributed import Future

logger = logging.getLogger(__name__)

_LOOK_S = 0.2
_LONELY_S = 10.0
_LET_GO_S = 30.0
_SEEN_S = 60.0
"""Network file systems show a new file to other machines after up to a minute."""


@dataclass(frozen=True, kw_only=True)
class ClusterProgress:
    """`done` of `count` images are complete, which is this `fraction` of all pixels, those begun included."""

    done: int
    count: int
    fraction: float


def translate_on_cluster(
    jobs: Sequence[Job],
    model_file: Path,
    model: Model,
    settings: TranslationSettings,
    cluster: Cluster,
    *,
    cancel: Cancel,
    file_format: str = "same",
    overwrite: bool = False,
    resume: bool = False,
    on_error: OnError = "stop",
) -> Generator[ClusterProgress, None, BatchReport]:
    """Translate all `jobs` as `batch.translate_batch` does, with the workers of a cluster.

    Closed before its end, it has the workers stop, and leaves unfinished outputs that can be resumed.

    Parameters
    ----------
    model_file : of `model`; a path that all workers share, as those of all images.
    cancel : ends the work.

    Raises
    ------
    ClusterError
        The cluster, or a worker, cannot do the work.
    Pix2PixError
        As in `translate_batch`.
    """
    translation = _Translation(
        [_Image(job) for job in jobs],
        cluster,
        cancel,
        resume=resume,
        on_error=on_error,
        share={
            "model": model_file.absolute(),
            "model_digest": model_digest(model),
            "settings": replace(
                settings,
                scratch=settings.scratch and settings.scratch.absolute(),
                engines=settings.engines and settings.engines.absolute(),
            ),
            "file_format": file_format,
            "overwrite": overwrite,
            "may_be_empty": len(jobs) > 1,
            "topic": f"napari-pix2pix-{uuid4().hex}",
            "memory_limit": cluster.memory_limit,
            "threads": cluster.threads,
        },
    )
    try:
        return (yield from translation.to_the_end(model))
    finally:
        translation.stop()


@dataclass
class _Image:
    """An image on its way.

    Attributes
    ----------
    pixels : of the image, those that were there already, and those of each share.
    made : of each share, from 0 to 1.
    waiting : shares that are not at their end.
    """

    job: Job
    pixels: int = 0
    reused: int = 0
    shares: dict[int, int] = field(default_factory=dict)
    made: dict[int, float] = field(default_factory=dict)
    waiting: dict[int, Future] = field(default_factory=dict)
    reports: list[TranslationReport] = field(default_factory=list)
    is_complete: bool = False
    is_seen: bool = False
    failure: Pix2PixError | None = None

    @property
    def is_over(self) -> bool:
        return self.is_complete or self.failure is not None

    @property
    def fraction(self) -> float:
        if self.is_over:
            return 1.0
        made = sum(self.made[number] * pixels for number, pixels in self.shares.items())
        return (self.reused + made) / max(1, self.pixels)

    def report(self) -> TranslationReport | None:
        """Of all shares; tiles of regions that were there already are counted by their pixels."""
        total = summed(self.reports)
        if total is None:  # whoever has completed it died before it could say so
            return None
        tiles = round(total.tiles * self.pixels / max(1, total.pixels))
        last = next((report for report in self.reports if report.complete), total)
        return replace(
            total,
            pixels=self.pixels,
            tiles=tiles,
            tiles_reused=total.tiles_reused + max(0, tiles - total.tiles),
            complete=True,
            clipped_share=last.clipped_share,
        )


class _Translation:
    """All images on their way through a cluster."""

    def __init__(
        self,
        images: Sequence[_Image],
        cluster: Cluster,
        cancel: Cancel,
        *,
        resume: bool,
        on_error: OnError,
        share: dict[str, Any],
    ) -> None:
        self._images = images
        self._client = cluster.client
        self._cancel = cancel
        self._resume = resume
        self._on_error = on_error
        self._share = share
        self._news: Queue[tuple[int, float | Future]] = Queue()
        self._of_share: dict[int, _Image] = {}
        self._said: set[str] = set()
        self._started = time.perf_counter()

    def to_the_end(self, model: Model) -> Generator[ClusterProgress, None, BatchReport]:
        topic = self._share["topic"]
        self._client.subscribe_topic(topic, lambda event: self._news.put((event[1][0], event[1][1])))
        for image in self._images:
            try:
                self._begin(image, model)
            except Pix2PixError as error:
                self._fail(image, error)
            yield from self._heard()
        while any(image.waiting for image in self._images):
            self._warn_where_nobody_works()
            yield from self._heard(_LOOK_S)
        return self._report()

    def stop(self) -> None:
        """Have tasks end that still run, and wait until their outputs are let go."""
        left = [image for image in self._images if image.waiting]
        if left and self._client.status == "running":
            self._client.cancel([future for image in left for future in image.waiting.values()], force=True)
            until, busy = time.monotonic() + _LET_GO_S, _busy()
            while time.monotonic() < until:
                if not any(self._client.run(busy, self._share["topic"], on_error="ignore").values()):
                    break
                time.sleep(_LOOK_S)
        for image in left:
            OutputState(image.job.output).remove_if_empty()

    def _begin(self, image: _Image, model: Model) -> None:
        """Send the shares of an image to the cluster, those that are not there yet."""
        job = image.job
        if job.failure:
            raise ImageError(job.failure)
        settings: TranslationSettings = self._share["settings"]
        with open_images(job.inputs, job.series, settings.alpha) as source:
            regions = regions_of(source, model, settings)
        was_complete, replaces = _made_ready(job.output, self._share["overwrite"], self._resume)
        recorded = RegionRecords(OutputState(job.output).folder, len(regions)).noted()
        missing = [number for number in range(len(regions)) if number not in recorded] or [0]
        parts = [WHOLE] if was_complete else [Part(number + 1, len(regions)) for number in missing]
        pixels = [regions[number].region.pixels for number in missing]
        image.pixels = sum(place.region.pixels for place in regions)
        image.reused = image.pixels - sum(pixels)
        here = replace(job, inputs=tuple(path.absolute() for path in job.inputs), output=job.output.absolute())
        for part, size in zip(parts, [image.pixels] if was_complete else pixels, strict=True):
            number = len(self._of_share)
            share = Share(
                job=here, part=part, was_complete=was_complete, replaces=replaces, number=number, **self._share
            )
            self._of_share[number] = image
            image.shares[number], image.made[number] = size, 0.0
            image.waiting[number] = self._sent(share)

    def _sent(self, share: Share) -> Future:
        task, number = _task(), share.number
        key = f"{share.topic}-{number}"
        future = self._client.submit(task, version("napari-pix2pix"), pickle.dumps(share), key=key, pure=False)
        future.add_done_callback(lambda done: self._news.put((number, done)))
        return future

    def _heard(self, wait_s: float = 0.0) -> Iterator[ClusterProgress]:
        """Take in what has happened."""
        self._cancel.check()
        while True:
            try:
                number, news = self._news.get(timeout=wait_s) if wait_s else self._news.get_nowait()
            except Empty:
                return
            wait_s = 0.0
            image = self._of_share[number]
            if isinstance(news, float | int):
                image.made[number] = max(image.made[number], news)
            elif number in image.waiting:
                self._take(image, number, news)
            done = sum(image.is_complete for image in self._images)
            fraction = sum(image.fraction for image in self._images) / len(self._images)
            yield ClusterProgress(done=done, count=len(self._images), fraction=fraction)
            self._cancel.check()

    def _take(self, image: _Image, number: int, future: Future) -> None:
        """The outcome of a share."""
        del image.waiting[number]
        image.made[number] = 1.0
        try:
            done = _outcome(future, image.job.output)
            if done.report is None or done.report.pixels:
                self._require_seen(image, done.worker)
        except ClusterError:
            raise
        except Pix2PixError as error:
            self._fail(image, error)
            return
        for remark in done.remarks:
            if remark not in self._said:
                logger.warning("%s", remark)
            self._said.add(remark)
        image.is_complete |= done.report is None or done.report.complete
        if done.report is not None:
            image.reports.append(done.report)
        if not image.waiting and not image.is_complete:
            self._fail(
                image,
                Pix2PixError(
                    f"{image.job.output} could not be completed: regions of it were removed while it was written; run "
                    "again with --resume"
                ),
            )

    def _require_seen(self, image: _Image, worker: str) -> None:
        """Refuse to go on where workers write to a disk of their own."""
        output, until = image.job.output, time.monotonic() + _SEEN_S
        while not image.is_seen:
            image.is_seen = output.exists() or OutputState(output).regions_done > 0
            if not image.is_seen and time.monotonic() > until:
                raise ClusterError(
                    f"what the worker {worker} has written of {output} is not seen here; give an output on a file "
                    "system that all workers and this machine share"
                )
            if not image.is_seen:
                self._cancel.check()
                time.sleep(_LOOK_S)

    def _fail(self, image: _Image, error: Pix2PixError) -> None:
        if self._on_error == "stop":
            done = sum(image.is_complete for image in self._images)
            if done and isinstance(error, InputError):
                raise Pix2PixError(f"{error} ({done} of {len(self._images)} outputs are done)") from error
            raise error
        logger.warning("skipped: %s", error)
        image.failure = error
        self._client.cancel(list(image.waiting.values()), force=True)
        image.waiting.clear()

    def _warn_where_nobody_works(self) -> None:
        words = "no worker has joined the Dask cluster; waiting for the first"
        if time.perf_counter() - self._started > _LONELY_S and words not in self._said:
            if not self._client.nthreads():
                logger.warning("%s", words)
            self._said.add(words)

    def _report(self) -> BatchReport:
        complete = [image for image in self._images if image.is_complete]
        failed = {image.job.inputs[0]: str(image.failure) for image in self._images if image.failure is not None}
        if failed and not complete:
            raise Pix2PixError(f"all {len(failed)} images failed; the first: {next(iter(failed.values()))}")
        total = summed([report for image in complete if (report := image.report()) is not None])
        if total is not None:
            total = replace(total, seconds=time.perf_counter() - self._started)
        return BatchReport(outputs=tuple(image.job.output for image in complete), total=total, failed=failed)


def _made_ready(output: Path, overwrite: bool, resume: bool) -> tuple[bool, list[int] | None]:
    """Refuse an output that may not be written, or make room: whether it is complete, and the identity of an old one.

    As one process does; the workers then only go on with what they find.
    """
    if isinstance(output, RemotePath):
        raise OutputError(f"{output}: --dask writes to a file system that all workers share; give a path there")
    clear_completed(output)
    if resume and output.exists() and not is_begun(output):
        return True, None
    check_writable_target(output, overwrite, replaceable_folder=True)
    state = OutputState(output)
    if not resume and is_begun(output):
        with state.claimed(WHOLE):
            state.discard(overwrite=overwrite)
            state.clear()
            remove(partial_path(output))
    replaces = output_identity(output)
    if output.exists() and replaces is None:
        raise OutputError(f"{output} is a folder that --dask does not replace; remove it, or give another name")
    return False, replaces


def _task() -> Callable[[str, bytes], Any]:
    """What workers run. A function within a function is sent as it is, so it can say that they lack this program."""

    def translate_share(wanted: str, request: bytes) -> Any:
        from importlib.metadata import PackageNotFoundError, version
        from socket import gethostname

        from distributed import get_worker

        worker = f"the worker {get_worker().address} ({gethostname()})"
        try:
            found = version("napari-pix2pix")
            if found != wanted:
                return f"{worker} has version {found} of napari-pix2pix, and {wanted} is needed; install that there"
            from napari_pix2pix.translation.cluster_worker import work
        except (ImportError, PackageNotFoundError) as error:
            return f"{worker} cannot run napari-pix2pix ({error}); install version {wanted} there"
        return work(request)

    return translate_share


def _busy() -> Callable[..., bool]:
    """Whether a worker still has tasks of a topic at work, or in a queue."""

    def has_tasks(topic: str, dask_worker: Any) -> bool:
        over = ("memory", "error", "released", "forgotten")
        tasks = dask_worker.state.tasks.values()
        return any(str(task.key).startswith(topic) and task.state not in over for task in tasks)

    return has_tasks


def _outcome(future: Future, output: Path) -> ShareDone:
    from distributed import KilledWorker

    if future.status == "error":
        error = future.exception()
        if isinstance(error, KilledWorker):
            raise Pix2PixError(
                f"a region of {output} was begun {error.allowed_failures + 1} times, and its worker died each time, "
                f"the last one {error.last_worker.address}; see the logs, perhaps memory ran out; --resume goes on"
            ) from error
        assert error is not None
        raise error
    if future.status != "finished":
        raise ClusterError(f"the connection to the Dask cluster was lost; --resume goes on with {output}")
    result = future.result()
    if isinstance(result, str):
        raise ClusterError(result)
    assert isinstance(result, ShareDone)
    return result
