"""Networks, mappings and modes in words, the same wherever people read of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pix2pix_training.choices import Architecture, Decoder, DropoutPlacement, Norm, Statistics
from pix2pix_training.config import ObjectiveConfig
from pix2pix_training.error_network import ErrorTraits
from pix2pix_training.errors import SettingsError
from pix2pix_training.image_description import ImageDescription
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.intensity import PERCENTILES, LinearMapping, Mapping
from pix2pix_training.model_file import Model, TrainedDiscriminator
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import parameter_count
from pix2pix_training.novelty import NoveltyTraits
from pix2pix_training.quantisation import Int8Traits
from pix2pix_training.student_record import StudentRecord, student_record_of
from pix2pix_training.validated import from_dict, labels

_RECEPTIVE_FIELDS_PX = (1, 16, 34, 70, 142, 286, 574)
_SHOWN_CHANNELS = 4
_UNKNOWN = "not stated"
_TERMS = {
    "pyramid_weight": "coarse L1",
    "ssim_weight": "MS-SSIM",
    "cross_entropy_weight": "cross-entropy",
    "dice_weight": "Dice",
    "feature_matching_weight": "feature matching",
}


def architecture_name(config: GeneratorConfig) -> str:
    return labels(Architecture)[config.architecture]


def describe_generator(config: GeneratorConfig) -> str:
    size = f"{config.blocks} blocks" if config.architecture == "resnet" else f"{config.depth} down-samplings"
    output = "" if config.output == "tanh" else f", {config.output} output"
    decoder = "" if config.decoder == "transposed" else f", decoder by {labels(Decoder)[config.decoder]}"
    channels = f"{config.source_channels} -> {config.target_channels} channels"
    return (
        f"{architecture_name(config)}, {size}, base width {config.base_width}, {labels(Norm)[config.norm]}, "
        f"{labels(DropoutPlacement)[config.dropout]}{decoder}, {channels}{output}"
    )


def describe_discriminator(discriminator: TrainedDiscriminator) -> str:
    config = discriminator.config
    side = _RECEPTIVE_FIELDS_PX[config.layers]
    kind = "PixelGAN" if config.layers == 0 else f"PatchGAN of {config.layers} layers ({side} x {side} pixels)"
    seen = "source and target" if discriminator.conditional else "the target alone"
    scales = f", {config.scales} scales" if config.scales > 1 else ""
    norms = labels(Norm)[config.norm] + (" and spectral norm" if config.spectral_norm else "")
    return f"{kind}{scales}, base width {config.base_width}, {norms}, sees {seen}"


def describe_mapping(mapping: Mapping) -> str:
    """Type of the stored pixels, and what of them becomes [-1, 1]."""
    if not isinstance(mapping, LinearMapping):
        if mapping.foreground:
            return f"{mapping.dtype}, 1 where there is a label, else 0"
        colours = " with colours" if mapping.colors else ""
        return f"{mapping.dtype}, {len(mapping.values)} categories{colours}"
    if not mapping.low:
        low, high = PERCENTILES
        return f"{mapping.dtype}, percentiles {low} to {high} of each image to [-1, 1]"
    ranges = [f"{low:.6g}..{high:.6g}" for low, high in zip(mapping.low, mapping.high, strict=True)]
    return f"{mapping.dtype}, {_listed(_collapsed(ranges))} to [-1, 1]"


def describe_inference(inference: InferenceConfig) -> str:
    noise = "dropout off" if inference.dropout == "off" else f"dropout noise from seed {inference.seed}"
    return f"norms use {labels(Statistics)[inference.statistics]}, {noise}"


def describe_novelty(novelty: NoveltyTraits) -> str:
    """What unlike images are told by."""
    one = novelty.images == 1
    images = "1 image" if one else f"{novelty.images} images"
    among = "held out" if novelty.yardstick == "held-out" else "trained on, as too little is held out"
    among = f"that {'is' if one else 'are'} {among}"
    return f"compared with {novelty.cells} places of training images, judged by {novelty.distances} of {images} {among}"


def describe_errors(errors: ErrorTraits) -> str:
    """What the error map of a model promises, and what was measured of that."""
    of = f"{errors.images} parts of one held-out image" if errors.of_one_image else _images(errors.images)
    chose = ", which also chose the model" if errors.chose_model else ""
    words = f"intervals for {_percent(errors.coverage)} of pixels, from {of}{chose}"
    if errors.measured is not None and errors.lowest is not None and errors.highest is not None:
        words += (
            f"; measured {_percent(errors.measured)}, in each by the others "
            f"({_percent(errors.lowest)} to {_percent(errors.highest)})"
        )
    widths = ", ".join(f"{width:.4g}" for width in errors.half_widths[:_SHOWN_CHANNELS])
    return f"{words}; mean half-width {widths}" if widths else words


def describe_int8(int8: Int8Traits) -> str:
    """What computing in 8 bits was measured to cost."""
    judging = int8.judging or int8.parts // 2
    loss = "" if int8.psnr_loss is None else f", {max(0.0, int8.psnr_loss):.2f} dB of PSNR lost"
    return (
        f"results differ from those in float32 by {100 * int8.deviation:.2f} % of their range in the mean "
        f"({100 * int8.worst:.2f} % in the worst of {judging} part{'s' * (judging != 1)} of images){loss}"
    )


def _images(count: int) -> str:
    return "1 held-out image" if count == 1 else f"{count} held-out images"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _collapsed(items: Sequence[str]) -> Sequence[str]:
    return items[:1] if len(set(items)) == 1 else items


def _listed(items: Sequence[str]) -> str:
    more = f" and {len(items) - _SHOWN_CHANNELS} more" if len(items) > _SHOWN_CHANNELS else ""
    return ", ".join(items[:_SHOWN_CHANNELS]) + more


def card_lines(model: Model) -> Iterator[str]:
    """Label and fact, a line each."""
    yield f"network: {describe_generator(model.generator_config)}; {parameter_count(model.generator())} parameters"
    yield f"source: {_side(model.source)}"
    yield f"target: {_side(model.target)}"
    yield f"mode: {describe_inference(model.inference)}"
    yield f"training: {_training(model.training)}"
    if (objective := _objective(model.training)) is not None:
        yield f"learnt by: {describe_objective(objective)}"
    scores = [f"{name} {value:.4g}" for name, value in model.metrics.items() if isinstance(value, int | float)]
    yield f"validation: {', '.join(scores) + ' (pixels in [-1, 1])' if scores else 'none'}"
    if (student := student_record_of(model.training)) is not None:
        yield f"student: {describe_student(student)}"
    if model.error is not None:
        yield f"error map: {describe_errors(model.error.traits)}"
    elif isinstance(model.target.mapping, LinearMapping):
        yield "error map: none, so nothing is known of the errors of a result; calibrate adds one"
    if model.novelty is not None:
        yield f"novelty: {describe_novelty(model.novelty.traits)}"
    if model.int8 is not None:
        yield f"int8: {describe_int8(model.int8)}"
    if model.discriminator is not None:
        yield f"discriminator: {describe_discriminator(model.discriminator)}"
    yield f"authors: {', '.join(model.credits.authors) or _UNKNOWN}"
    yield f"licence: {model.credits.license or _UNKNOWN}"
    yield f"citation: {model.credits.citation or _UNKNOWN}"


def _objective(provenance: Any) -> ObjectiveConfig | None:
    """From the free-form entry of the model file; None where it is of another version, or imported."""
    config = provenance.get("config")
    if not isinstance(config, dict) or "objective" not in config:
        return None
    try:
        return from_dict(ObjectiveConfig, config["objective"])
    except SettingsError:
        return None


def describe_objective(objective: ObjectiveConfig) -> str:
    """What results were rewarded for, with the weights."""
    terms = {"L1": objective.l1_weight, **{_TERMS[name]: getattr(objective, name) for name in _TERMS}}
    pixels = ", ".join(f"{name} {weight:g}" for name, weight in terms.items() if weight)
    if objective.tolerance:
        pixels += f"{', ' if pixels else ''}targets where they fit best within {objective.tolerance} px"
    if not objective.is_adversarial:
        return f"{pixels}; no discriminator, so nothing rewards texture"
    sees = "that sees the source" if objective.conditional else "that does not see the source"
    judged = f"a discriminator {sees} ({objective.gan_mode}, weight {objective.gan_weight:g}), which rewards texture"
    return f"{pixels}; {judged}" if pixels else judged


def describe_student(record: StudentRecord) -> str:
    parts = [
        f"taught by the model {record.teacher} of base width {record.teacher_width}",
        f"{record.speed:.3g} times as fast on {record.device}"
        + ("" if record.precision == "fp32" else f" with --precision {record.precision}"),
        f"against its teacher's results: {_scores(record.to_teacher)}",
    ]
    if record.student_scores:
        parts.append(f"against targets: {_scores(record.student_scores)}")
        parts.append(f"its teacher against targets: {_scores(record.teacher_scores)}")
    return "; ".join(parts)


def _scores(values: dict[str, float | None]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items() if value is not None)


def _side(image: ImageDescription) -> str:
    channels = image.channels
    parts = [f"{channels} channel{'' if channels == 1 else 's'}"]
    if image.channel_names:
        parts[0] += f" ({', '.join(image.channel_names)})"
    if image.z_context:
        parts.append(f"each plane with {image.z_context} neighbouring in Z on each side")
    parts.append(describe_mapping(image.mapping))
    if image.pixel_size is not None:
        rows, columns = image.pixel_size
        size = f"{columns:.4g}" if rows == columns else f"{rows:.4g} x {columns:.4g} (y, x)"
        parts.append(f"pixel size {size} {image.unit or 'units'}")
    return "; ".join(parts)


def _training(provenance: Any) -> str:
    """From the free-form entry of the model file, whatever of it is there."""
    if imported := provenance.get("imported_from"):
        return f"imported from {', '.join(imported)}"
    config = provenance.get("config", {})
    facts = [
        (f"{provenance.get('step')} steps", "step" in provenance),
        (f"{provenance.get('epochs', 0):.3g} epochs", "epochs" in provenance),
        (
            f"{provenance.get('training_pairs')} pair{'s' * (provenance.get('training_pairs') != 1)}",
            "training_pairs" in provenance,
        ),
        (f"{provenance.get('validation_pairs')} held out", "validation_pairs" in provenance),
        (f"preset {config.get('preset')}", "preset" in config),
        (f"patches of {config.get('patch_size')} px", "patch_size" in config),
        (f"batch {config.get('batch_size')}", "batch_size" in config),
        (f"seed {config.get('seed')}", "seed" in config),
        (f"{provenance.get('seconds', 0):.0f} s on {provenance.get('device')}", "seconds" in provenance),
    ]
    return ", ".join(text for text, known in facts if known) or _UNKNOWN
