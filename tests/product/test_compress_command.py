"""``compress``: a narrower network that another model has taught."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from napari_pix2pix import compression
from napari_pix2pix.cli.application import run
from napari_pix2pix.formats import open_image
from napari_pix2pix.training_data import DataRequest
from napari_pix2pix.translation.backends import openvino_runner
from napari_pix2pix.translation.int8_calibration import with_int8
from napari_pix2pix.translation.pipeline import translate_array
from napari_pix2pix.translation.progress import ended
from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.array_source import MemorySource
from pix2pix_training.cancel import Interrupted
from pix2pix_training.choices import TranslationPrecision
from pix2pix_training.device import has_int8
from pix2pix_training.errors import SettingsError
from pix2pix_training.image_description import ImageDescription
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.intensity import CategoryMapping, LinearMapping, dtype_mapping, foreground_mapping
from pix2pix_training.model_file import Model, load_model, model_digest, save_model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import build_generator
from pix2pix_training.regions import Region
from pix2pix_training.student_record import student_record_of

WIDTH = 8


def a_teacher(**changes: Any) -> Model:
    torch.manual_seed(0)
    config = GeneratorConfig(source_channels=1, target_channels=1, base_width=WIDTH, depth=5, dropout="paper")
    narrow = LinearMapping(dtype="uint8", scope="training-set", channels=1, low=(20.0,), high=(200.0,))
    model = Model(
        generator_config=config,
        weights=build_generator(config).state_dict(),
        source=ImageDescription(mapping=narrow, pixel_size=(0.5, 0.5), unit="µm"),
        target=ImageDescription(mapping=dtype_mapping(np.dtype("uint8"), 1), channel_names=("DAPI",)),
    )
    return replace(model, **changes)


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    save_model(a_teacher(), tmp_path / "teacher.safetensors")
    return tmp_path / "teacher.safetensors"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for side in ("source", "target"):
        (tmp_path / side).mkdir()
        for number in range(4):
            Image.fromarray(rng.integers(0, 256, (64, 72), dtype=np.uint8)).save(tmp_path / side / f"{number}.png")
    return tmp_path


@pytest.fixture(autouse=True)
def speeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the arithmetic says: a test is no place to measure time in."""

    def by_arithmetic(student: Model, teacher: Model, *_: object, **__: object) -> float:
        return (teacher.generator_config.base_width / student.generator_config.base_width) ** 2

    monkeypatch.setattr(compression, "times_as_fast", by_arithmetic)


def compressed(teacher: Path, images: Path, out: Path, *options: str) -> int:
    own = ["--source", str(images / "source"), "--out", str(out), "--steps", "3", "--device", "cpu"]
    return run(["compress", str(teacher), *own, *options])


def test_a_student_is_narrower_and_reads_images_as_its_teacher(
    teacher: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compressed(teacher, images, tmp_path / "run", "--target-speed", "4x", "--json") == 0
    before, after = load_model(teacher), load_model(tmp_path / "run" / "model.safetensors")
    assert after.generator_config == replace(before.generator_config, base_width=WIDTH // 2, dropout="none")
    assert (after.source, after.target) == (before.source, before.target)
    assert after.metrics == {}
    record = student_record_of(after.training)
    assert record is not None
    assert (record.teacher, record.teacher_width, record.speed) == (model_digest(before), WIDTH, 4.0)
    assert record.to_teacher["mae"] is not None
    assert record.student_scores == {}
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["base_width"], said["to_teacher"]) == (WIDTH // 2, record.to_teacher)
    assert run(["info", str(tmp_path / "run" / "model.safetensors")]) == 0
    assert f"student: taught by the model {model_digest(before)} of base width 8" in capsys.readouterr().out


def test_with_targets_both_are_compared_with_them(
    teacher: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compressed(teacher, images, tmp_path / "run", "--target", str(images / "target")) == 0
    assert "training for 3 steps on cpu: 3 pairs, 1 held out" in capsys.readouterr().err
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert model.training["training_pairs"] == 3
    record = student_record_of(model.training)
    assert record is not None
    assert record.student_scores["mae"] != record.teacher_scores["mae"]
    assert record.to_teacher["mae"] not in (record.student_scores["mae"], None)


def test_what_is_learnt_are_the_teachers_results_and_the_targets(images: Path, tmp_path: Path) -> None:
    model = a_teacher()
    sources, targets = (images / "source",), (images / "target",)
    request = DataRequest(sources=sources, targets=targets, validation=0.25)
    lesson = ended(compression.lesson(model, request, tmp_path, device="cpu", seed=0))
    assert (len(lesson.data.split.training), len(lesson.data.split.validation), len(lesson.targets)) == (6, 1, 1)
    held_out = lesson.held_out[0]
    seen = held_out.source.read(Region.whole(64, 72))
    wanted = translate_array(seen, model)
    assert np.array_equal(held_out.target.read(Region.whole(64, 72)), wanted)
    assert {pair.target.name for pair in lesson.data.split.training[3:]} < {str(p) for p in targets[0].iterdir()}
    alone = DataRequest(sources=sources, targets=sources, validation=0.25, targets_to_come=True)
    (tmp_path / "again").mkdir()
    lesson = ended(compression.lesson(model, alone, tmp_path / "again", device="cpu", seed=0))
    assert (len(lesson.data.split.training), lesson.targets) == (3, ())


def test_the_widest_that_is_fast_enough_is_taken_and_wider_ones_are_tried_first(images: Path) -> None:
    tried: list[int] = []
    assert ended(compression.width_for(a_teacher(), 3.0, None, "cpu"), tried.append) == 4  # type: ignore[arg-type]
    assert tried == [5, 4]
    with pytest.raises(SettingsError, match="even a network of width 1 is only 64 times as fast as that of width 8"):
        ended(compression.width_for(a_teacher(), 80.0, None, "cpu"))  # type: ignore[arg-type]


def test_a_run_that_is_stopped_goes_on_with_the_width_it_had(teacher: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert compressed(teacher, images, out, "--target-speed", "7") == 0
    width = load_model(out / "model.safetensors").generator_config.base_width
    assert compressed(teacher, images, out, "--resume", "--target-speed", "2") == 0
    assert load_model(out / "model.safetensors").generator_config.base_width == width == 3
    assert student_record_of(load_model(out / "model.safetensors").training) is not None


def test_a_width_can_be_chosen_and_then_none_is_timed(
    teacher: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compressed(teacher, images, tmp_path / "run", "--base-width", "5") == 0
    assert load_model(tmp_path / "run" / "model.safetensors").generator_config.base_width == 5
    said = capsys.readouterr().err
    assert "timing a network" not in said
    assert "was asked" not in said
    assert compressed(teacher, images, tmp_path / "run", "--base-width", "4", "--resume") == 0
    assert "keeps its width of 5; another width or speed is for a new run" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--overwrite"], ["--resume"]])
def test_a_student_never_takes_the_place_of_its_teacher(
    options: list[str], teacher: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert compressed(teacher, images, out, "--base-width", "4") == 0
    before = (out / "model.safetensors").read_bytes()
    assert compressed(out / "model.safetensors", images, out, "--base-width", "2", *options) == 2
    assert "would be replaced by what is made from it; give another folder" in capsys.readouterr().err
    assert (out / "model.safetensors").read_bytes() == before
    assert (out / "last.pt").exists()


def test_a_resumed_run_that_is_stopped_at_once_says_that_it_is_kept(
    teacher: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise Interrupted("stopped")

    assert compressed(teacher, images, tmp_path / "run") == 0
    monkeypatch.setattr(compression, "lesson", interrupted)
    assert compressed(teacher, images, tmp_path / "run", "--resume") == 130
    assert "run is as it was; --resume goes on with it" in capsys.readouterr().err
    assert compressed(teacher, images, tmp_path / "other") == 130
    assert "nothing was trained" in capsys.readouterr().err


def test_a_student_that_is_not_compared_yet_is_said_to_be_so_and_resuming_compares(
    teacher: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise Interrupted("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(compression, "compared", interrupted)
        assert compressed(teacher, images, tmp_path / "run") == 130
    assert "not compared with its teacher yet; --resume goes on with that" in capsys.readouterr().err
    model = tmp_path / "run" / "model.safetensors"
    assert student_record_of(load_model(model).training) is None
    assert compressed(teacher, images, tmp_path / "run", "--resume") == 0
    assert student_record_of(load_model(model).training) is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target-speed", "1x"], "target-speed is '1x'; give how many times as fast, above 1, such as 4x"),
        (["--target-speed", "fast"], "target-speed is 'fast'"),
        (["--minutes", "1"], "minutes and steps are both given"),
        (["--validation", "0"], "on images that are held out, and none are; give more or larger images, and a"),
        (["--target-speed", "100x"], "even a network of width 1 is only"),
        (["--target-speed", "2x", "--base-width", "4"], "target-speed and base-width are both given"),
        (["--base-width", "8"], "base-width is 8, and that of the model is 8; a student is narrower"),
    ],
)
def test_wrong_use_is_one_line_and_writes_nothing(
    options: list[str], message: str, teacher: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compressed(teacher, images, tmp_path / "run", *options) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_there_is_refused_before_anything_is_translated(
    teacher: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compressed(teacher, images, tmp_path / "run") == 0
    monkeypatch.setattr(compression, "lesson", pytest.fail)
    assert compressed(teacher, images, tmp_path / "run") == 2
    assert "--overwrite" in capsys.readouterr().err.splitlines()[-1]


def test_images_of_another_type_are_refused(
    teacher: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (images / "target").iterdir():
        Image.fromarray(np.asarray(Image.open(path)).astype(np.uint16) * 7).save(path)
    assert compressed(teacher, images, tmp_path / "run", "--target", str(images / "target")) == 2
    (line,) = capsys.readouterr().err.splitlines()  # before the teacher translates
    assert "has 1 channels of type uint16, and the model has 1 of uint8 there" in line


def test_images_that_have_no_room_for_a_patch_are_refused_at_once(
    teacher: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (images / "source").iterdir():
        Image.fromarray(np.zeros((30, 40), np.uint8)).save(path)
    assert compressed(teacher, images, tmp_path / "run") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "has 30 x 40 pixels, and patches to learn on have at least 32; leave it out, or enlarge" in line


def test_without_targets_nothing_is_said_of_them(
    teacher: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compressed(teacher, images, tmp_path / "run") == 0
    assert "source and target at once" not in capsys.readouterr().err
    assert compressed(teacher, images, tmp_path / "copy", "--target", str(images / "source")) == 0
    assert "source and target at once" in capsys.readouterr().err


def test_of_a_single_image_a_band_is_held_out_a_patch_of_the_teacher_away(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "single.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (160, 64), dtype=np.uint8)).save(path)
    request = DataRequest(sources=(path,), targets=(path,), targets_to_come=True)
    with pytest.raises(SettingsError, match="give more or larger images"):
        ended(compression.lesson(a_teacher(), request, tmp_path, device="cpu", seed=0))
    learnt_on_small_patches = a_teacher(training={"config": {"patch_size": 32}})
    lesson = ended(compression.lesson(learnt_on_small_patches, request, tmp_path, device="cpu", seed=0))
    assert [pair.source.shape for pair in lesson.data.split.training] == [(1, 96, 64)]
    assert [pair.source.shape for pair in lesson.held_out] == [(1, 32, 64)]
    assert lesson.data.held_out == "the bottom 20 %, rows 128 to 160"


def test_options_that_the_command_lacks_are_not_advised(
    teacher: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (images / "source").iterdir():
        Image.fromarray(np.full((64, 72), 7, np.uint16)).save(path)
    assert compressed(teacher, images, tmp_path / "run") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("uint16 pixels, the model was trained on uint8; give images of that type")


def test_a_student_of_classes_gives_classes(images: Path, tmp_path: Path) -> None:
    mapping = CategoryMapping(dtype="uint8", values=((0,), (1,), (5,)))
    config = GeneratorConfig(source_channels=1, target_channels=3, base_width=WIDTH, depth=5)
    weights = build_generator(config).state_dict()
    model = a_teacher(generator_config=config, weights=weights, target=ImageDescription(mapping=mapping))
    save_model(model, tmp_path / "classes.safetensors")
    assert compressed(tmp_path / "classes.safetensors", images, tmp_path / "run") == 0
    after = load_model(tmp_path / "run" / "model.safetensors")
    assert after.target.mapping == mapping
    record = student_record_of(after.training)
    assert record is not None
    assert "iou" in record.to_teacher


def test_labels_are_targets_of_a_model_of_the_foreground(images: Path, tmp_path: Path) -> None:
    config = GeneratorConfig(source_channels=1, target_channels=2, base_width=WIDTH, depth=5)
    weights = build_generator(config).state_dict()
    target = ImageDescription(mapping=foreground_mapping())
    save_model(a_teacher(generator_config=config, weights=weights, target=target), tmp_path / "model.safetensors")
    for path in (images / "target").iterdir():
        labels = (np.asarray(Image.open(path)) > 128).astype(np.uint16) * 300
        Image.fromarray(labels).save(path)
    options = ("--target", str(images / "target"))
    assert compressed(tmp_path / "model.safetensors", images, tmp_path / "run", *options) == 0
    record = student_record_of(load_model(tmp_path / "run" / "model.safetensors").training)
    assert record is not None
    assert None not in (record.student_scores["iou"], record.teacher_scores["iou"])


needs_int8 = pytest.mark.skipif(
    openvino_runner.unavailable_reason() is not None or not has_int8(),
    reason="OpenVINO or a processor with VNNI is missing",
)


@needs_int8
def test_for_8_bits_widths_are_multiples_of_16_and_what_is_compared_is_in_8_bits(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(a_teacher().generator_config, base_width=40)
    wide = tmp_path / "wide.safetensors"
    save_model(a_teacher(generator_config=config, weights=build_generator(config).state_dict()), wide)
    out = tmp_path / "run"
    assert compressed(wide, images, out, "--target-speed", "5", "--precision", "int8") == 0
    said = capsys.readouterr().err
    model = load_model(out / "model.safetensors")
    assert model.generator_config.base_width == 16
    record = student_record_of(model.training)
    assert record is not None
    if model.int8 is None:  # it has learnt for three steps
        assert record.precision == "fp32"
        assert "would lose too much in int8" in said
    else:
        assert record.precision == "int8"
        assert "times as fast on cpu with --precision int8" in said


@needs_int8
def test_results_in_8_bits_are_what_is_compared(images: Path, tmp_path: Path) -> None:
    """With a student that is its teacher, so that nothing but the roundings tells them apart."""
    model = a_teacher(generator_config=replace(a_teacher().generator_config, dropout="none"))
    sources = [open_image(path) for path in sorted((images / "source").iterdir())]
    ready = ended(with_int8(model, sources, most_deviation=1.0))
    request = DataRequest(sources=(images / "source",), targets=(images / "target",), validation=0.25)
    lesson = ended(compression.lesson(model, request, tmp_path, device="cpu", seed=0))
    found = {}
    precisions: tuple[TranslationPrecision, ...] = ("fp32", "int8")
    for precision in precisions:
        (tmp_path / precision).mkdir()
        found[precision] = ended(compression.compared(ready, model, lesson, tmp_path / precision, "cpu", precision))
    assert found["fp32"].to_teacher["mae"] == 0
    assert found["fp32"].student_scores == found["fp32"].teacher_scores == found["int8"].teacher_scores
    mae = found["int8"].to_teacher["mae"]
    assert mae is not None and mae > 0
    assert found["int8"].student_scores["mae"] != found["int8"].teacher_scores["mae"]


@needs_int8
def test_a_model_that_is_fast_enough_in_8_bits_needs_no_student(
    teacher: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compression, "times_as_fast", lambda *_: 4.4)
    assert compressed(teacher, images, tmp_path / "run", "--precision", "int8") == 2
    wanted = "the model itself is 4.4 times as fast in int8, without a student: translate with --precision int8"
    assert wanted in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_a_model_that_cannot_compute_in_8_bits_is_refused_before_anything_is_translated(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(a_teacher(inference=InferenceConfig(statistics="image")), tmp_path / "teacher.safetensors")
    monkeypatch.setattr(compression, "lesson", pytest.fail)
    asked = ["--precision", "int8"]
    assert compressed(tmp_path / "teacher.safetensors", images, tmp_path / "run", *asked) == 2
    assert "precision int8 needs norms on running averages" in capsys.readouterr().err.splitlines()[-1]


def test_speed_is_measured_with_the_student_in_its_precision_and_the_teacher_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    asked: list[tuple[int, str]] = []

    class Noted(Translator):
        def __init__(self, model: Model, settings: TranslationSettings) -> None:
            asked.append((model.generator_config.base_width, settings.precision))
            super().__init__(model, settings)

    monkeypatch.setattr(compression, "Translator", Noted)
    monkeypatch.setattr(compression, "_TIMED_PIXELS", 64 * 64)
    monkeypatch.setattr(compression, "_TURNS", 1)
    model = a_teacher()
    student = compression._untrained(model, 4, "bf16")
    image = MemorySource(np.zeros((1, 64, 64), np.uint8))
    assert compression.times_as_fast(student, model, image, "cpu", "bf16") > 0
    assert asked == [(4, "bf16"), (WIDTH, "fp32")]


def test_timing_can_be_stopped_at_each_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(compression, "_TIMED_PIXELS", 3 * 64 * 64)
    calls = 0

    def stopped_at_the_eighth() -> None:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise Interrupted("stopped")

    image = MemorySource(np.zeros((1, 64, 64), np.uint8))
    timing = compression.width_for(a_teacher(), 2.0, image, "cpu", check=stopped_at_the_eighth)
    with pytest.raises(Interrupted):
        ended(timing)
    assert calls == 8


def test_each_width_that_is_timed_is_said(
    teacher: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compressed(teacher, images, tmp_path / "run", "--target-speed", "3") == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("timing")]
    assert said == [f"timing a network of width {width} beside that of its teacher" for width in (5, 4)]
