"""What the card of a model says of how it was trained, in words."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from pix2pix_training.config import ObjectiveConfig
from pix2pix_training.errors import SettingsError
from pix2pix_training.image_description import ImageDescription
from pix2pix_training.in_words import card_lines, describe_objective
from pix2pix_training.intensity import dtype_mapping
from pix2pix_training.model_file import Model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import build_generator
from pix2pix_training.presets import preset
from pix2pix_training.student_record import StudentRecord


def an_untrained_model() -> Model:
    config = GeneratorConfig(source_channels=1, target_channels=1, base_width=2, depth=2)
    side = ImageDescription(mapping=dtype_mapping(np.dtype("uint8"), 1))
    return Model(generator_config=config, weights=build_generator(config).state_dict(), source=side, target=side)


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (
            preset("seamless").objective,
            "L1 100; a discriminator that sees the source (vanilla, weight 1), which rewards texture",
        ),
        (preset("faithful").objective, "L1 100, MS-SSIM 10; no discriminator, so nothing rewards texture"),
        (ObjectiveConfig(gan_mode="none"), "L1 100; no discriminator, so nothing rewards texture"),
        (
            ObjectiveConfig(gan_mode="none", tolerance=3),
            "L1 100, targets where they fit best within 3 px; no discriminator, so nothing rewards texture",
        ),
        (
            ObjectiveConfig(gan_mode="lsgan", l1_weight=0.0, conditional=False),
            "a discriminator that does not see the source (lsgan, weight 1), which rewards texture",
        ),
    ],
)
def test_what_a_model_was_rewarded_for(objective: ObjectiveConfig, words: str) -> None:
    assert describe_objective(objective) == words
    model = replace(an_untrained_model(), training={"config": {"objective": asdict(objective)}})
    assert f"learnt by: {words}" in card_lines(model)


@pytest.mark.parametrize("config", [{}, {"objective": {"l1_weight": "much"}}, {"objective": {"of_later": 1}}])
def test_an_objective_of_another_version_is_left_out(config: dict[str, Any]) -> None:
    model = replace(an_untrained_model(), training={"config": config})
    assert not any(line.startswith("learnt by") for line in card_lines(model))


def test_a_student_names_its_teacher_and_what_it_keeps() -> None:
    record = StudentRecord(
        teacher="5d1c", teacher_width=64, speed=4.25, device="cpu", to_teacher={"mae": 1.5, "pearson": None},
        student_scores={"mae": 3.0}, teacher_scores={"mae": 2.5},
    )  # fmt: skip
    model = replace(an_untrained_model(), training={"student": asdict(record)})
    assert (
        "student: taught by the model 5d1c of base width 64; 4.25 times as fast on cpu; against its teacher's results: "
        "mae 1.5; against targets: mae 3; its teacher against targets: mae 2.5"
    ) in card_lines(model)


def test_a_damaged_record_of_a_student_is_named() -> None:
    model = replace(an_untrained_model(), training={"student": {"teacher": 5}})
    with pytest.raises(SettingsError, match=r"training\.student"):
        list(card_lines(model))
