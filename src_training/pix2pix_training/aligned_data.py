"""The pairs of a run with their targets laid on their sources, and what is said of it."""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from dataclasses import replace
from hashlib import blake2b
from statistics import median

from pix2pix_training.aligned_source import AlignedSource
from pix2pix_training.alignment import Estimate, estimates
from pix2pix_training.alignment_table import read_table, table_of
from pix2pix_training.array_source import ArraySource, CroppedSource, cropped_from, whole_plane
from pix2pix_training.checkpoint import Checkpoint
from pix2pix_training.choices import Align
from pix2pix_training.distributed import Group
from pix2pix_training.errors import CheckpointError
from pix2pix_training.events import Preparing
from pix2pix_training.intensity import CategoryMapping
from pix2pix_training.pairs import Pair
from pix2pix_training.preparation import PreparedData, PreparedPair
from pix2pix_training.retelling import retold
from pix2pix_training.run_folder import RunFolder

log = logging.getLogger(__name__)

_NAMED = 20
Moves = tuple[Estimate, ...]


def aligned(
    data: PreparedData, align: Align, folder: RunFolder, saved: Checkpoint | None, group: Group
) -> Generator[Preparing, None, tuple[PreparedData, Moves]]:
    """The data of a run as `align` asks for it, and where its target images lie; none where it asks for nothing.

    Of parts of one image all are moved alike. A run that goes on takes what its folder says.

    Raises
    ------
    CheckpointError
        The run goes on, and its table is gone, or not what it was.
    """
    if align == "none":
        return data, ()
    parts: dict[int, list[Pair]] = {}
    for each in (*data.training, *data.validation):
        parts.setdefault(id(cropped_from(each.pair.target)[0]), []).append(each.pair)
    moves: list[Estimate] = []
    if saved is not None:
        moves = read_table(folder.alignment)
        if saved.data.get("alignment") != _digest(moves):
            raise CheckpointError(
                f"{folder.alignment} is not what it was when the run was saved; restore it, or start a new run"
            )
    elif group.is_first:
        moves = yield from retold(
            estimates(list(parts.values()), align), lambda done: Preparing(fraction=done, aligns=True)
        )
        _say(moves)
        if any(len(pair.target.shape) > 3 for pairs in parts.values() for pair in pairs):
            log.warning("align: all planes of a stack are moved alike")
    moves = group.broadcast(moves)
    move_of = dict(zip(parts, moves, strict=True))
    nearest = isinstance(data.target_mapping, CategoryMapping)

    def laid(each: PreparedPair) -> PreparedPair:
        image, region = cropped_from(each.pair.target)
        move = move_of[id(image)]
        if not move.has_moved:
            return each
        target: ArraySource = AlignedSource(image, move.transform, nearest=nearest)
        if region != whole_plane(image):
            target = CroppedSource(target, region)
        return replace(each, pair=replace(each.pair, target=target))

    result = replace(
        data,
        training=tuple(map(laid, data.training)),
        validation=tuple(map(laid, data.validation)),
        fingerprint={**data.fingerprint, "alignment": _digest(moves)},
    )
    return result, tuple(moves)


def _say(moves: Sequence[Estimate]) -> None:
    """Which targets were moved and by how much, and which are left as they are although they may lie elsewhere."""
    distances = [move.distance_px for move in moves if move.has_moved]
    if distances:
        log.warning(
            "align: %d of %d targets are taken from where they fit their sources, %.1f pixels away in the median and "
            "%.1f at most; alignment.csv in the run folder lists them",
            len(distances),
            len(moves),
            median(distances),
            max(distances),
        )
    else:
        log.warning("align: no target of %d was moved, none certainly lies 1.5 pixels or more away", len(moves))
    strange = [move.name for move in moves if move.is_strange]
    if strange:
        log.warning(
            "align: %d of %d targets fit their sources no better than targets of other images do, so they are left as "
            "they are; check whether they belong together: %s",
            len(strange),
            len(moves),
            _named(strange),
        )
    doubtful = [move.name for move in moves if move.is_doubtful and not move.is_strange]
    if doubtful:
        log.warning(
            "align: where the target lies is doubtful, so it is left as it is, for %d of %d: %s",
            len(doubtful),
            len(moves),
            _named(doubtful),
        )


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more, see alignment.csv" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _digest(moves: Sequence[Estimate]) -> str:
    return blake2b(table_of(moves).encode(), digest_size=16).hexdigest()
