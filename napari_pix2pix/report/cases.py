"""The images of a page: the worst, the median and the best, with source, target, outputs and their errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from napari_pix2pix.class_evaluation import Classes
from napari_pix2pix.report import pictures
from napari_pix2pix.report.judgement import Judgement
from napari_pix2pix.report.markup import Html, joined, tag
from napari_pix2pix.report.measures import Window
from napari_pix2pix.report.pictures import Part, Rgb
from napari_pix2pix.report.score_kinds import ScoreKind
from pix2pix_training.array_source import AnyArray, ArraySource, channel_count, plane_size
from pix2pix_training.intensity import CategoryMapping
from pix2pix_training.regions import Region

MOST_CHANNELS = 4
_SMALL_PX = 300


def order(judged: Sequence[Judgement], kind: ScoreKind) -> list[int]:
    """Numbers of the images from the worst to the best, by the mean of all models; without undefined ones."""
    distances = {}
    for number in range(len(judged[0].images)):
        values = [each.images[number].get(kind.key) for each in judged]
        known = [value for value in values if value is not None and np.isfinite(value)]
        if known:
            distances[number] = float(np.mean([kind.distance(value) for value in known]))
    return sorted(distances, key=lambda number: -distances[number])


def chosen(ordered: Sequence[int]) -> dict[str, int]:
    """The worst, the median and the best image, each once."""
    names = {"Worst": 0, "Median": (len(ordered) - 1) // 2, "Best": len(ordered) - 1}
    result: dict[str, int] = {}
    for name, place in names.items():
        if ordered and ordered[place] not in result.values():
            result[name] = ordered[place]
    return result if len(result) > 1 else {"The image": ordered[0]} if ordered else {}


@dataclass(frozen=True, kw_only=True)
class _View:
    """What is seen of one image: the window, its target and outputs, and errors (h, w) by output and channel.

    `widths` are the error maps of the outputs, None of those that have none.
    """

    window: Window
    size: tuple[int, int]
    target: Part
    outputs: tuple[Part, ...]
    widths: tuple[Part | None, ...]

    def difference(self, output: int, channels: slice) -> tuple[AnyArray, AnyArray]:
        """Output less target, of several channels the mean of its size, and where both hold data."""
        found = self.outputs[output]
        differences = found.pixels[channels].astype(np.float64) - self.target.pixels[channels].astype(np.float64)
        mean = differences[0] if len(differences) == 1 else np.abs(differences).mean(0)
        return mean, found.valid & self.target.valid


def cases(judged: Sequence[Judgement], kind: ScoreKind) -> Html:
    """A section for each chosen image."""
    first = judged[0]
    views = {name: (number, _view(judged, number)) for name, number in chosen(order(judged, kind)).items()}
    groups = _channel_groups(first.wanted.pairs[0].target, first.wanted.classes)
    limits = [_error_limit([view for _, view in views.values()], group) for group in groups]
    parts = [_case(judged, kind, name, number, view, groups, limits) for name, (number, view) in views.items()]
    legend = [_legend(first, groups, limits)]
    if any(each.maps is not None for each in judged):
        legend.append(_legend_of_maps(limits))
    return joined([*legend, *parts])


def _view(judged: Sequence[Judgement], number: int) -> _View:
    """Of several models the window is where the first errs most."""
    window = judged[0].measures[number].window
    target = judged[0].wanted.pairs[number].target
    outputs = tuple(pictures.part_of(each.wanted.pairs[number].source, window) for each in judged)
    widths = tuple(None if each.maps is None else pictures.part_of(each.maps[number], window) for each in judged)
    seen = pictures.part_of(target, window)
    return _View(window=window, size=plane_size(target), target=seen, outputs=outputs, widths=widths)


def _channel_groups(target: ArraySource, classes: Classes | None) -> list[slice]:
    """Channels that are one picture: all of a photograph or of classes, else each by itself."""
    count = channel_count(target)
    if classes is not None or pictures.is_colour(target):
        return [slice(0, count)]
    return [slice(number, number + 1) for number in range(min(count, MOST_CHANNELS))]


def _error_limit(views: Sequence[_View], channels: slice) -> float:
    """One for all images, so that their errors can be compared."""
    found = [view.difference(output, channels) for view in views for output in range(len(view.outputs))]
    return max(pictures.error_limit(difference, valid) for difference, valid in found)


def _legend(first: Judgement, groups: Sequence[slice], limits: Sequence[float]) -> Html:
    classes = first.wanted.classes
    if classes is not None:
        if len(classes.values) > 2:
            return tag("p", "Errors: ", _key(pictures.INVENTED), "pixels of a wrong class.", class_="soft")
        second = "what is labelled" if classes.foreground else f"class {'/'.join(map(str, classes.values[1]))}"
        keys = [_key(pictures.MISSED), "missed", _key(pictures.INVENTED), "invented; what is right is grey."]
        return tag("p", f"Errors, of {second}:", *keys, class_="soft")
    known = ", ".join(f"{limit:.3g}" for limit in limits)
    each = f" (one for each of {len(limits)} channels)" if len(limits) > 1 else ""
    same = "Output and target have the same grey levels, named below the target. "
    if groups[0].stop - groups[0].start > 1:
        return tag(
            "p", "Errors: mean difference of the channels, from", _key(pictures.RIGHT), "none to",
            _key(pictures.TOO_BRIGHT), f"{known} and more, the same for all images.", class_="soft",
        )  # fmt: skip
    return tag(
        "p", same, "Errors are output less target:", _key(pictures.TOO_BRIGHT), "too bright,",
        _key(pictures.TOO_DARK), f"too dark, in full colour from {known}{each}, the same for all images.",
        class_="soft",
    )  # fmt: skip


def _legend_of_maps(limits: Sequence[float]) -> Html:
    known = ", ".join(f"{limit:.3g}" for limit in limits)
    return tag(
        "p", "Error maps, the half-widths of the intervals, on the scale of errors: from", _key(pictures.RIGHT),
        "0 to", _key(pictures.UNSURE), f"{known} and more.", class_="soft",
    )  # fmt: skip


def _key(colour: tuple[int, int, int]) -> Html:
    return tag("span", class_="key", style=f"background: rgb{colour}")


def _case(
    judged: Sequence[Judgement],
    kind: ScoreKind,
    name: str,
    number: int,
    view: _View,
    groups: Sequence[slice],
    limits: Sequence[float],
) -> Html:
    pair = judged[0].wanted.pairs[number]
    scores = ", ".join(
        (f"{each.name}: " if len(judged) > 1 else "") + f"{kind.title} {kind.words(each.images[number].get(kind.key))}"
        for each in judged
    )
    head = tag("h3", f"{name}: {pair.name}")
    about = tag("p", scores, _part_in_words(view), class_="soft")
    rows = []
    for place, (group, limit) in enumerate(zip(groups, limits, strict=True)):
        source = [_source_panel(judged[0], number, view)] if place == 0 else []
        shown, errors = _panels(judged, view, pair.target, group, limit)
        maps = list(_map_panels(judged, view, group, limit))
        lines = [[*source, *shown], errors, maps]
        if len(judged) == 1:  # else it is too wide
            lines = [[*source, *shown, *errors, *maps]]
        rows += [tag("div", *panels, class_="panels") for panels in lines if panels]
    return tag("section", head, about, *rows, class_="case")


def _part_in_words(view: _View) -> str:
    region, (height, width) = view.window.region, view.size
    plane = f" Plane {', '.join(map(str, view.window.plane))}." if view.window.plane else ""
    if region == Region.whole(height, width):
        return f". {height} x {width} pixels.{plane}"
    return (
        f". Of its {height} x {width} pixels these are rows {region.y0} to {region.y1} and columns {region.x0} to "
        f"{region.x1}, where the output differs most from the target.{plane}"
    )


def _source_panel(first: Judgement, number: int, view: _View) -> Html:
    if first.sources is None:
        return Html("")
    source = first.sources[number]
    part = pictures.part_of(source, view.window)
    mapping = None if first.model is None else first.model.source.mapping
    picture, words = pictures.seen_source(source, part, mapping)
    return _figure(picture, part, "source", words)


def _panels(
    judged: Sequence[Judgement], view: _View, target: ArraySource, group: slice, limit: float
) -> tuple[list[Html], list[Html]]:
    """Target and each output; the error of each."""
    classes = judged[0].wanted.classes
    names = ["output"] if len(judged) == 1 else [each.name for each in judged]
    errors = ["error"] if len(judged) == 1 else [f"error of {name}" for name in names]
    if classes is not None:
        return _class_panels(judged[0], view, classes, names, errors)
    if group.stop - group.start > 1:
        shown = [np.moveaxis(part.pixels, 0, -1).clip(0, 255).astype(np.uint8) for part in (view.target, *view.outputs)]
        words = ""
    else:
        levels = pictures.contrast(view.target, group.start, judged[0].wanted.data_range)
        shown = [pictures.grey(part.pixels[group.start], levels) for part in (view.target, *view.outputs)]
        words = f"{levels[0]:.4g} to {levels[1]:.4g}"
        if channel_count(target) > 1:
            names_of_target = target.channel_names
            words = f"{names_of_target[group.start] if names_of_target else f'channel {group.start}'}, {words}"
    panels = [_figure(shown[0], view.target, "target", words)]
    panels += [_figure(picture, part, name) for picture, part, name in zip(shown[1:], view.outputs, names, strict=True)]
    of_errors = []
    for output, name in enumerate(errors):
        difference, valid = view.difference(output, group)
        error = Part(pixels=difference[None], valid=valid)
        of_errors.append(_figure(pictures.error_picture(difference, limit), error, name))
    return panels, of_errors


def _map_panels(judged: Sequence[Judgement], view: _View, group: slice, limit: float) -> Iterator[Html]:
    """The error map of each output that has one."""
    for each, part in zip(judged, view.widths, strict=True):
        if part is not None:
            picture = pictures.width_picture(part.pixels[group].mean(0), limit)
            yield _figure(picture, part, "error map" if len(judged) == 1 else f"error map of {each.name}")


def _class_panels(
    first: Judgement, view: _View, classes: Classes, names: Sequence[str], errors: Sequence[str]
) -> tuple[list[Html], list[Html]]:
    colours = colours_of_classes(first)
    true = classes.numbers(view.target.pixels)
    found = [classes.numbers(part.pixels) for part in view.outputs]
    panels = [_figure(_coloured(true, colours), view.target, "target")]
    panels += [
        _figure(_coloured(each, colours), part, name)
        for each, part, name in zip(found, view.outputs, names, strict=True)
    ]
    of_errors = []
    for each, part, name in zip(found, view.outputs, errors, strict=True):
        picture = pictures.class_error_picture(each, true, len(classes.values))
        of_errors.append(_figure(picture, Part(pixels=part.pixels, valid=part.valid & view.target.valid), name))
    return panels, of_errors


def colours_of_classes(first: Judgement) -> Rgb:
    """(classes, 3): those of the target's model or palette, or the values themselves where they are colours."""
    classes = first.wanted.classes
    assert classes is not None
    values = np.array(classes.values)
    mapping = None if first.model is None else first.model.target.mapping
    if isinstance(mapping, CategoryMapping) and mapping.colors and set(classes.values) == set(mapping.values):
        return np.array([mapping.colors[mapping.values.index(value)] for value in classes.values], np.uint8)
    if values.shape[1] == 3 and values.max() <= 255:
        return values.astype(np.uint8)
    palette = first.wanted.pairs[0].target.palette
    if palette is not None and values.shape[1] == 1 and values.max() < len(palette):
        return np.asarray(palette[values[:, 0]])
    return pictures.class_colours(len(values))


def _coloured(numbers: AnyArray, colours: Rgb) -> Rgb:
    grey = np.full(3, 128, np.uint8)
    return np.where((numbers >= 0)[..., None], colours[numbers.clip(0)], grey).astype(np.uint8)


def _figure(picture: Rgb, part: Part, name: str, words: str = "") -> Html:
    small = "small" if max(picture.shape[:2]) <= _SMALL_PX else None
    image = tag("img", src=pictures.data_uri(picture, part.valid), alt=name, class_=small)
    return tag("figure", image, tag("figcaption", tag("b", name), f" {words}" if words else ""))
