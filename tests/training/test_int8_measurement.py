"""A run finds out itself what its model needs for 8 bits, and what these cost."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from pix2pix_training import int8_measurement
from pix2pix_training.events import MeasuringInt8
from pix2pix_training.in_words import describe_int8
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.model_file import load_model
from pix2pix_training.quantisation import LAST, Int8Traits, convolution_names
from pix2pix_training.training import train
from tests.training.runs import TINY, data_of, striped, trained, usual_data


def int8_of(run: Path) -> Int8Traits | None:
    return load_model(run / "model.safetensors").int8


def test_training_images_give_the_roundings_and_held_out_images_judge_them(tmp_path: Path) -> None:
    events = trained(tmp_path / "run")
    shares = [event.fraction for event in events if isinstance(event, MeasuringInt8)]
    assert shares == sorted(shares) and shares[-1] == 1
    found = int8_of(tmp_path / "run")
    assert found is not None and {*found.roundings, LAST} == set(convolution_names(TINY.generator))
    assert (found.parts, found.judging) == (3, 1)
    assert "% in the worst of 1 part of images), " in describe_int8(found)
    assert 0 < found.deviation == found.worst < 0.005
    assert found.psnr_loss is not None and abs(found.psnr_loss) < 0.3


def test_without_held_out_images_half_of_the_parts_judge(tmp_path: Path) -> None:
    trained(tmp_path / "run", data_of([striped("a", 0), striped("b", 1)]))
    found = int8_of(tmp_path / "run")
    assert found is not None and found.parts == 2


def test_a_run_of_one_small_image_finds_none(tmp_path: Path) -> None:
    trained(tmp_path / "run", data_of([striped("a", 0)]))
    assert int8_of(tmp_path / "run") is None


def test_models_that_cannot_have_none(tmp_path: Path) -> None:
    events = trained(tmp_path / "run", inference=InferenceConfig(statistics="image"))
    assert int8_of(tmp_path / "run") is None
    assert not any(isinstance(event, MeasuringInt8) for event in events)


def test_models_that_would_lose_too_much_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(int8_measurement.require_small, "__defaults__", (1e-6,))
    with caplog.at_level(logging.INFO):
        trained(tmp_path / "run")
    assert int8_of(tmp_path / "run") is None
    assert "not made ready for int8: in int8 the results differ from those in float32" in caplog.text


def test_a_run_that_was_stopped_before_finds_them_when_it_goes_on(tmp_path: Path) -> None:
    events = train(replace(TINY, coverage=0.0), usual_data(), tmp_path / "run")
    next(event for event in events if isinstance(event, MeasuringInt8))
    events.close()
    assert int8_of(tmp_path / "run") is None
    trained(tmp_path / "run", resume=True, coverage=0.0)
    assert int8_of(tmp_path / "run") is not None
