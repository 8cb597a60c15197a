"""Which parts of which images a model was trained on and which were held out, as its file says it beside scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Annotated, Any

from pix2pix_training.array_source import ArraySource, CroppedSource, cropped_from, plane_size, whole_plane
from pix2pix_training.image_survey import survey
from pix2pix_training.preparation import PreparedData, PreparedPair
from pix2pix_training.regions import Region
from pix2pix_training.validated import Lenient, from_dict, validated

MOST_PARTS = 1000
"""Some 140 kB of a header that has to stay below 10 MB."""


@validated
class SeenPart:
    """A part of a target image: height and width of the image, y0, y1, x0, x1 of the part, checksum of its pixels."""

    image: Annotated[tuple[int, int], Lenient]
    region: Annotated[tuple[int, int, int, int], Lenient]
    digest: str


@validated
class SeenParts:
    """Parts of the target images of a run."""

    trained_on: Annotated[tuple[SeenPart, ...], Lenient] = ()
    held_out: Annotated[tuple[SeenPart, ...], Lenient] = ()

    def found_in(self, image: ArraySource) -> tuple[tuple[Region, ...], tuple[Region, ...]]:
        """The parts of `image` that were trained on, and those that were held out, by their pixels.

        Of so many images that not all pixels were looked at, none is found.
        """
        digests: dict[Region, str] = {}

        def found(parts: Iterable[SeenPart]) -> Iterable[Region]:
            for part in parts:
                region = Region(*part.region)
                if part.image != plane_size(image):
                    continue
                if region not in digests:
                    seen = image if region == whole_plane(image) else CroppedSource(image, region)
                    digests[region] = survey([seen]).facts[0].digest
                if digests[region] == part.digest:
                    yield region

        return tuple(found(self.trained_on)), tuple(found(self.held_out))


def seen_parts(data: PreparedData) -> dict[str, Any] | None:
    """The entry of a model file about the images of a run; None of more than `MOST_PARTS`: the file has none then."""
    if len(data.training) + len(data.validation) > MOST_PARTS:
        return None
    parts = SeenParts(trained_on=tuple(map(_part, data.training)), held_out=tuple(map(_part, data.validation)))
    return asdict(parts)


def seen_by(training: Mapping[str, Any]) -> SeenParts | None:
    """What a model file says; None for one that does not, such as an imported model.

    Raises
    ------
    SettingsError
        The entry is none of `seen_parts`.
    """
    return None if "images" not in training else from_dict(SeenParts, training["images"])


def _part(pair: PreparedPair) -> SeenPart:
    image, region = cropped_from(pair.pair.target)
    return SeenPart(image=plane_size(image), region=(*region.rows, *region.columns), digest=pair.target.digest)
