"""The training loop: what it writes, how it stops and resumes, what it refuses."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pix2pix_training.array_source import MemorySource
from pix2pix_training.choices import Decoder
from pix2pix_training.config import ObjectiveConfig, TrainingConfig
from pix2pix_training.errors import CheckpointError, OutputError, Pix2PixError, SettingsError, TrainingError
from pix2pix_training.events import (
    CheckpointSaved,
    Event,
    Finished,
    PreviewReady,
    Started,
    StepDone,
    Validated,
    Validating,
)
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.layers import BatchRenorm
from pix2pix_training.model_file import load_model
from pix2pix_training.network_config import DiscriminatorConfig, GeneratorConfig
from pix2pix_training.networks import build_generator
from pix2pix_training.pairs import Pair, Split
from pix2pix_training.patch_config import AugmentationConfig
from pix2pix_training.presets import preset, usual_depth
from pix2pix_training.training import TrainingData, train
from pix2pix_training.training_step import TrainingStep, settings_of
from pix2pix_training.validated import from_dict

CPU = torch.device("cpu")
TINY = TrainingConfig(
    generator=GeneratorConfig(base_width=4, depth=3, dropout="paper"),
    discriminator=DiscriminatorConfig(base_width=4, layers=2),
    augmentation=AugmentationConfig(flips="both", scale_jitter=1.1),
    patch_size=32,
    steps=10,
    checkpoint_every=4,
    validate_every=5,
)


def striped(name: str, seed: int) -> Pair:
    """A source of random stripes and a target that is its negative."""
    rng = np.random.default_rng(seed)
    stripes = np.repeat(rng.integers(0, 256, (1, 12, 48)), 4, axis=1).astype(np.uint8)
    return Pair(MemorySource(stripes, name=name), MemorySource(255 - stripes, name=f"{name} target"), name)


@pytest.fixture
def data() -> TrainingData:
    return TrainingData(split=Split((striped("a", 0), striped("b", 1)), (striped("c", 2),)))


def weights(run: Path) -> Mapping[str, Any]:
    saved: Mapping[str, Any] = torch.load(run / "last.pt", weights_only=True)["networks"]
    return saved


def equal(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(equal(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    return bool(first == second)


def of_kind(events: list[Event], kind: type[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_a_run_leaves_its_folder_complete(data: TrainingData, tmp_path: Path) -> None:
    run = tmp_path / "run"
    events = list(train(TINY, data, run))
    assert sorted(p.name for p in run.iterdir()) == [
        "config.toml",
        "last.pt",
        "metrics.csv",
        "model.safetensors",
        "previews",
    ]
    assert isinstance(events[0], Started)
    assert [e.step for e in of_kind(events, StepDone)] == list(range(1, 11))
    assert [e.step for e in of_kind(events, Validated)] == [5, 10]
    assert [e.step for e in of_kind(events, CheckpointSaved)] == [4, 8, 10]
    assert all(e.path.stat().st_size > 100 for e in of_kind(events, PreviewReady))
    assert isinstance(events[-1], Finished)
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["5", "10"]
    assert 0 < float(rows[1]["mae"]) < 2


@pytest.mark.parametrize(("patch_size", "depth"), [(256, 8), (512, 8), (384, 7), (64, 6), (96, 5), (300, 5)])
def test_the_depth_of_all_but_paper_follows_the_patch(patch_size: int, depth: int) -> None:
    assert usual_depth("seamless", patch_size) == usual_depth("faithful", patch_size) == depth
    assert usual_depth("paper", patch_size) == preset("paper").generator.depth == 8


def test_settings_are_written_so_that_they_can_be_read_back(data: TrainingData, tmp_path: Path) -> None:
    list(train(replace(TINY, steps=1), data, tmp_path / "run"))
    saved = tomllib.loads((tmp_path / "run" / "config.toml").read_text(encoding="utf-8"))
    expected = replace(TINY, steps=1, generator=replace(TINY.generator, source_channels=1, target_channels=1))
    assert from_dict(TrainingConfig, saved) == expected


def test_the_best_model_is_kept_and_scored(data: TrainingData, tmp_path: Path) -> None:
    events = list(train(TINY, data, tmp_path / "run"))
    best = min(of_kind(events, Validated), key=lambda e: e.scores["mae"])
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert model.training["step"] == best.step == events[-1].model_step  # type: ignore[union-attr]
    assert model.metrics == best.scores


def test_the_last_model_is_kept_on_request(data: TrainingData, tmp_path: Path) -> None:
    config = replace(TINY, keep="last", learning_rate=0.1)
    events = list(train(config, data, tmp_path / "run"))
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert model.training["step"] == 10 == events[-1].model_step  # type: ignore[union-attr]
    assert model.metrics == of_kind(events, Validated)[-1].scores
    assert torch.equal(
        model.weights["down.0.conv.weight"], weights(tmp_path / "run")["generator"]["down.0.conv.weight"]
    )


def test_it_learns(data: TrainingData, tmp_path: Path) -> None:
    config = replace(
        TINY, steps=120, validate_every=20, learning_rate=2e-3, generator=replace(TINY.generator, dropout="none")
    )
    scores = [e.scores["mae"] for e in of_kind(list(train(config, data, tmp_path / "run")), Validated)]
    assert scores[-1] < 0.6 * scores[0]


def test_equal_seeds_give_equal_runs(data: TrainingData, tmp_path: Path) -> None:
    for name in ("one", "two"):
        list(train(TINY, data, tmp_path / name))
    list(train(replace(TINY, seed=1), data, tmp_path / "three"))
    assert equal(weights(tmp_path / "one"), weights(tmp_path / "two"))
    assert not equal(weights(tmp_path / "one"), weights(tmp_path / "three"))


@pytest.mark.parametrize(
    "changes, factors",
    [
        ({}, [1.0, 1.0, 1.0, 1.0]),
        ({"schedule": "linear"}, [1.0, 1.0, 1.0, 0.5]),
    ],
)
def test_learning_rates_stay_and_then_fall_to_zero(
    changes: dict[str, Any],
    factors: list[float],
    data: TrainingData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates: list[float] = []
    monkeypatch.setattr(TrainingStep, "set_learning_rate", lambda _, factor: rates.append(factor))
    list(train(replace(TINY, steps=4, **changes), data, tmp_path / "run"))
    assert rates == pytest.approx(factors)


def test_the_average_of_the_weights_is_validated_and_saved(data: TrainingData, tmp_path: Path) -> None:
    config = replace(TINY, ema_decay=0.9, keep="last")
    list(train(config, data, tmp_path / "run"))
    saved = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    model = load_model(tmp_path / "run" / "model.safetensors")
    trained, name = saved["networks"]["generator"], "down.0.conv.weight"
    assert equal(dict(model.weights), saved["average"])
    assert not torch.equal(model.weights[name], trained[name])
    list(train(replace(TINY, keep="last"), data, tmp_path / "plain"))
    assert torch.equal(trained[name], weights(tmp_path / "plain")["generator"][name])
    assert model.metrics != load_model(tmp_path / "plain" / "model.safetensors").metrics


NEVER_BETTER = replace(
    TINY, learning_rate=1e-300, inference=InferenceConfig(statistics="image"), validate_every=2, steps=100, patience=2
)


def test_a_run_without_progress_stops_early_and_says_so(data: TrainingData, tmp_path: Path) -> None:
    events = list(train(NEVER_BETTER, data, tmp_path / "run"))
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert (finished.steps, finished.model_step) == (6, 2)
    assert finished.early_stop is not None
    assert finished.early_stop.startswith("stopped early at step 6: 2 validations in a row were not better than")
    assert of_kind(events, CheckpointSaved)[-1].step == 6

    again = list(train(NEVER_BETTER, data, tmp_path / "run", resume=True))
    assert [type(e) for e in again] == [Started, Finished]
    assert again[-1].early_stop == finished.early_stop  # type: ignore[union-attr]
    longer = list(train(replace(NEVER_BETTER, patience=4), data, tmp_path / "run", resume=True))
    assert longer[-1].steps == 10  # type: ignore[union-attr]


def test_patience_needs_validation_images(data: TrainingData, tmp_path: Path) -> None:
    unvalidated = TrainingData(split=Split(data.split.training, ()))
    with pytest.raises(SettingsError, match="patience needs images that are held out"):
        list(train(NEVER_BETTER, unvalidated, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_run_that_gets_better_does_not_stop_early(data: TrainingData, tmp_path: Path) -> None:
    finished = list(train(replace(TINY, patience=1, learning_rate=2e-3), data, tmp_path / "run"))[-1]
    assert isinstance(finished, Finished)
    assert (finished.steps, finished.early_stop) == (10, None)


@pytest.mark.parametrize("stop_after", [1, 4, 5, 9])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(
    data: TrainingData, tmp_path: Path, stop_after: int
) -> None:
    list(train(TINY, data, tmp_path / "whole"))
    events = train(TINY, data, tmp_path / "parts")
    for event in events:
        if isinstance(event, StepDone) and event.step == stop_after:
            events.close()
    assert torch.load(tmp_path / "parts" / "last.pt", weights_only=True)["step"] == stop_after
    resumed = list(train(TINY, data, tmp_path / "parts", resume=True))
    assert isinstance(resumed[0], Started)
    assert resumed[0].resumed_from_step == stop_after
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    states = [torch.load(tmp_path / n / "last.pt", weights_only=True)["random_state"] for n in ("whole", "parts")]
    assert equal(*states)
    tables = [(tmp_path / n / "metrics.csv").read_text().splitlines() for n in ("whole", "parts")]
    without_times = [[line.split(",")[:2] + line.split(",")[3:] for line in table] for table in tables]
    assert without_times[0] == without_times[1]


@pytest.mark.parametrize("decoder", ["resize", "pixel-shuffle"])
def test_a_resumed_run_of_other_networks_equals_an_uninterrupted_one(
    data: TrainingData, tmp_path: Path, decoder: Decoder
) -> None:
    config = replace(
        TINY,
        steps=5,
        generator=replace(TINY.generator, decoder=decoder),
        discriminator=DiscriminatorConfig(base_width=2, layers=1, scales=2, spectral_norm=True),
        objective=ObjectiveConfig(feature_matching_weight=10.0),
    )
    list(train(config, data, tmp_path / "whole"))
    events = train(config, data, tmp_path / "parts")
    for event in events:
        if isinstance(event, StepDone) and event.step == 2:
            events.close()
    list(train(config, data, tmp_path / "parts", resume=True))
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    model = load_model(tmp_path / "parts" / "model.safetensors")
    assert model.generator_config.decoder == decoder
    with (tmp_path / "parts" / "metrics.csv").open(newline="") as file:
        assert all(float(row["G_FM"]) > 0 for row in csv.DictReader(file))
    assert torch.isfinite(model.generator()(torch.zeros(1, 1, 32, 32))).all()


def test_a_resumed_run_goes_on_with_the_bounds_of_batch_renorm(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BatchRenorm, "PLAIN_UNTIL", 2)
    monkeypatch.setattr(BatchRenorm, "RELAXED_AT", 8)
    config = replace(TINY, generator=replace(TINY.generator, norm="batch-renorm"))
    list(train(config, data, tmp_path / "whole"))
    events = train(config, data, tmp_path / "parts")
    for event in events:
        if isinstance(event, StepDone) and event.step == 5:
            events.close()
    list(train(config, data, tmp_path / "parts", resume=True))
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    model = load_model(tmp_path / "parts" / "model.safetensors")
    assert model.generator_config.norm == "batch-renorm"
    assert int(model.weights["up.1.norm.num_batches_tracked"]) == model.training["step"]


def test_metrics_of_a_run_from_before_a_column_existed_are_kept(data: TrainingData, tmp_path: Path) -> None:
    events = train(TINY, data, tmp_path / "run")
    for event in events:
        if isinstance(event, StepDone) and event.step == 6:
            events.close()
    path = tmp_path / "run" / "metrics.csv"
    lines = path.read_text().splitlines()
    place = lines[0].split(",").index("G_FM")
    older = [[cell for i, cell in enumerate(line.split(",")) if i != place] for line in lines]
    path.write_text("".join(",".join(cells) + "\n" for cells in [*older, ["7", "0"]]))  # the last row half written
    list(train(TINY, data, tmp_path / "run", resume=True))
    assert path.read_text().splitlines()[: len(lines)] == lines


def test_resuming_a_complete_run_does_nothing(data: TrainingData, tmp_path: Path) -> None:
    list(train(TINY, data, tmp_path / "run"))
    before = (tmp_path / "run" / "last.pt").read_bytes()
    events = list(train(TINY, data, tmp_path / "run", resume=True))
    assert [type(e) for e in events] == [Started, Finished]
    assert (tmp_path / "run" / "last.pt").read_bytes() == before


def test_resuming_under_other_settings_is_refused(data: TrainingData, tmp_path: Path) -> None:
    list(train(replace(TINY, steps=2), data, tmp_path / "run"))
    with pytest.raises(CheckpointError, match="learning_rate"):
        list(train(replace(TINY, learning_rate=1e-3), data, tmp_path / "run", resume=True))
    wider = replace(TINY, discriminator=replace(TINY.discriminator, base_width=8))
    with pytest.raises(CheckpointError, match=r"started with discriminator\.base_width = 4, now it is 8"):
        list(train(wider, data, tmp_path / "run", resume=True))
    other = TrainingData(split=Split((striped("z", 0),), data.split.validation))
    with pytest.raises(CheckpointError, match="other images"):
        list(train(TINY, other, tmp_path / "run", resume=True))
    assert list(train(replace(TINY, steps=4), data, tmp_path / "run", resume=True))[-1].steps == 4  # type: ignore[union-attr]


def test_a_checkpoint_from_before_a_setting_existed_is_resumed_with_its_default(
    data: TrainingData, tmp_path: Path
) -> None:
    list(train(replace(TINY, steps=2), data, tmp_path / "run"))
    checkpoint = tmp_path / "run" / "last.pt"
    saved = torch.load(checkpoint, weights_only=True)
    del saved["config"]["augmentation"]["scale_jitter"], saved["config"]["sampling"], saved["latest"]
    torch.save(saved, checkpoint)
    unjittered = replace(TINY, augmentation=replace(TINY.augmentation, scale_jitter=1.0))
    with pytest.raises(CheckpointError, match=r"augmentation\.scale_jitter = 1\.0, now it is 1\.1"):
        list(train(TINY, data, tmp_path / "run", resume=True))
    assert list(train(unjittered, data, tmp_path / "run", resume=True))[-1].steps == 10  # type: ignore[union-attr]


def test_a_checkpoint_with_unknown_settings_is_one_line(data: TrainingData, tmp_path: Path) -> None:
    list(train(replace(TINY, steps=2), data, tmp_path / "run"))
    checkpoint = tmp_path / "run" / "last.pt"
    saved = torch.load(checkpoint, weights_only=True)
    saved["config"]["generator"]["wavelets"] = 3
    torch.save(saved, checkpoint)
    with pytest.raises(CheckpointError, match=r"last\.pt: .*unknown entry 'wavelets'"):
        list(train(TINY, data, tmp_path / "run", resume=True))


def test_a_complete_run_that_keeps_the_last_model_still_knows_its_scores(data: TrainingData, tmp_path: Path) -> None:
    config = replace(TINY, keep="last")
    first = list(train(config, data, tmp_path / "run"))[-1]
    again = list(train(config, data, tmp_path / "run", resume=True))[-1]
    assert isinstance(first, Finished)
    assert isinstance(again, Finished)
    assert (again.model_step, again.scores) == (first.model_step, first.scores)
    assert again.scores


def test_damaged_checkpoint_is_one_line(data: TrainingData, tmp_path: Path) -> None:
    list(train(replace(TINY, steps=2), data, tmp_path / "run"))
    checkpoint = tmp_path / "run" / "last.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-3000])
    with pytest.raises(CheckpointError, match="damaged") as caught:
        list(train(TINY, data, tmp_path / "run", resume=True))
    assert "\n" not in str(caught.value)


def test_what_a_damaged_checkpoint_advises_is_accepted_next(data: TrainingData, tmp_path: Path) -> None:
    run = tmp_path / "run"
    list(train(replace(TINY, steps=1), data, run))
    (run / "last.pt").write_bytes((run / "last.pt").read_bytes()[:-3000])
    with pytest.raises(CheckpointError, match=r"damaged \([^.]*\); restore it, or start again with --overwrite$"):
        list(train(TINY, data, run, resume=True))
    assert isinstance(list(train(replace(TINY, steps=1), data, run, overwrite=True))[-1], Finished)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("step", -1, "step is not what"),
        ("step", "four", "step is not what"),
        ("seconds", float("nan"), "seconds is not what"),
        ("networks", [], "networks is not what"),
        ("best", {"step": 2}, "best is not what"),
        ("latest", {"step": 2, "scores": {"mae": "low"}}, "latest is not what"),
        ("stale_validations", 1.5, "stale_validations is not what"),
        ("random_state", {}, "does not fit the networks"),
        ("random_state", {"cpu": torch.zeros(3)}, "does not fit the networks"),
        ("networks", {"generator": {}}, "does not fit the networks"),
        ("data", 5, "data is not what"),
    ],
)
def test_a_checkpoint_with_an_entry_of_another_type_is_one_line(
    data: TrainingData, tmp_path: Path, name: str, value: Any, message: str
) -> None:
    list(train(replace(TINY, steps=2), data, tmp_path / "run"))
    checkpoint = tmp_path / "run" / "last.pt"
    torch.save({**torch.load(checkpoint, weights_only=True), name: value}, checkpoint)
    with pytest.raises(CheckpointError, match=rf"last\.pt: the checkpoint is damaged .*{message}") as said:
        list(train(replace(TINY, steps=4), data, tmp_path / "run", resume=True))
    assert "\n" not in str(said.value)


def test_an_existing_run_is_not_touched_without_permission(data: TrainingData, tmp_path: Path) -> None:
    list(train(replace(TINY, steps=1), data, tmp_path / "run"))
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    with pytest.raises(OutputError, match="holds a training run already"):
        list(train(TINY, data, tmp_path / "run"))
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before
    list(train(replace(TINY, steps=2), data, tmp_path / "run", overwrite=True))
    assert (tmp_path / "run" / "model.safetensors").read_bytes() != before


def test_starting_from_a_model(data: TrainingData, tmp_path: Path) -> None:
    list(train(replace(TINY, steps=3), data, tmp_path / "first"))
    model = load_model(tmp_path / "first" / "model.safetensors")
    frozen = replace(TINY, steps=1, learning_rate=1e-300)
    list(train(frozen, data, tmp_path / "second", init=model))
    parameters = weights(tmp_path / "second")["generator"]
    assert torch.equal(parameters["down.0.conv.weight"], model.weights["down.0.conv.weight"])
    wider = replace(TINY, generator=replace(TINY.generator, base_width=8))
    with pytest.raises(SettingsError, match="base_width 4 in the model, 8 asked"):
        list(train(wider, data, tmp_path / "second", init=model, overwrite=True))
    assert weights(tmp_path / "second")["generator"].keys() == parameters.keys()


def test_starting_from_a_model_whose_channels_have_other_names_is_told_of(
    data: TrainingData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, other = (
        replace(data, target_traits=replace(data.target_traits, channel_names=(name,))) for name in ("DAPI", "GFP")
    )
    config = replace(TINY, steps=1)
    list(train(config, first, tmp_path / "first"))
    model = load_model(tmp_path / "first" / "model.safetensors")
    list(train(config, first, tmp_path / "again", init=model))
    assert "the model to start from" not in caplog.text
    list(train(config, other, tmp_path / "second", init=model))
    assert "the channels of the targets are called GFP, those of the model to start from DAPI" in caplog.text


@pytest.mark.parametrize("decoder", ["transposed", "resize", "pixel-shuffle"])
def test_starting_from_a_model_of_other_channels(
    decoder: str, data: TrainingData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of grey images that are seen as three equal channels it makes what it has made before."""
    config = replace(TINY, steps=1, generator=replace(TINY.generator, decoder=decoder))  # type: ignore[arg-type]
    list(train(config, data, tmp_path / "first"))
    model = load_model(tmp_path / "first" / "model.safetensors")
    grey = model.generator_config
    assert (grey.source_channels, grey.target_channels) == (1, 1)
    step = TrainingStep(
        replace(config, generator=replace(grey, source_channels=3, target_channels=2)), CPU, torch.float32
    )
    step.start_from(model)
    assert "source_channels 1 in the model, 3 asked" in caplog.text
    assert "another discriminator" in caplog.text
    before, x = build_generator(grey).eval(), torch.rand(1, 1, 32, 32)
    before.load_state_dict(model.weights)
    with torch.no_grad():
        expected, found = before(x), step.generator.eval()(x.expand(1, 3, 32, 32))
    assert torch.allclose(found, expected.expand(1, 2, 32, 32), atol=1e-5)


@pytest.mark.parametrize("kind", [DiscriminatorConfig(base_width=4, layers=1, scales=2, spectral_norm=True), None])
def test_a_model_carries_its_discriminator_and_a_run_starts_from_it(
    data: TrainingData, tmp_path: Path, kind: DiscriminatorConfig | None
) -> None:
    config = replace(TINY, steps=2, discriminator=kind or TINY.discriminator)
    list(train(config, data, tmp_path / "first"))
    model = load_model(tmp_path / "first" / "model.safetensors")
    assert model.discriminator is not None
    assert equal(model.discriminator.weights, weights(tmp_path / "first")["discriminator"])
    begun = TrainingStep(from_dict(TrainingConfig, {**settings_of(model), "patch_size": 32}), CPU, torch.float32)
    begun.start_from(model)
    assert equal(begun.state()["discriminator"], model.discriminator.weights)


@pytest.mark.parametrize("objective", [ObjectiveConfig(gan_mode="none"), ObjectiveConfig(gan_weight=0.0)])
def test_without_an_adversary_a_model_carries_none(
    objective: ObjectiveConfig, data: TrainingData, tmp_path: Path
) -> None:
    config = replace(TINY, objective=objective)
    list(train(config, data, tmp_path / "run"))
    events = list(train(replace(config, steps=12), data, tmp_path / "run", resume=True))
    assert set(weights(tmp_path / "run")) == {"generator", "optimizer_g", "scaler"}
    assert [set(step.losses) for step in of_kind(events, StepDone) if step.losses][-1] == {"G_L1"}
    assert load_model(tmp_path / "run" / "model.safetensors").discriminator is None


def test_a_discriminator_of_no_weight_is_trained_where_its_features_count() -> None:
    objective = ObjectiveConfig(gan_weight=0.0, feature_matching_weight=10.0)
    step = TrainingStep(replace(TINY, objective=objective), CPU, torch.float32)
    assert set(step.run(torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32))) >= {"D_real", "G_FM"}


def test_losses_that_explode_stop_the_run_and_keep_the_checkpoint(data: TrainingData, tmp_path: Path) -> None:
    list(train(replace(TINY, steps=4), data, tmp_path / "run"))
    checkpoint = tmp_path / "run" / "last.pt"
    saved = torch.load(checkpoint, weights_only=True)
    saved["networks"]["generator"]["down.0.conv.weight"].fill_(torch.inf)
    torch.save(saved, checkpoint)
    before = checkpoint.read_bytes()
    with pytest.raises(
        TrainingError, match=r"broke down by step 5: .*no longer finite; the checkpoint of step 4 is kept"
    ):
        list(train(TINY, data, tmp_path / "run", resume=True))
    assert checkpoint.read_bytes() == before


@pytest.fixture
def losses_read_only_when_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pix2pix_training.training._SECONDS_BETWEEN_LOSSES", float("inf"))


@pytest.mark.usefixtures("losses_read_only_when_needed")
def test_losses_are_read_only_when_they_are_needed(data: TrainingData, tmp_path: Path) -> None:
    """At the first step, and at each that validates (5, 10) or saves (4, 8, 10)."""
    steps = of_kind(list(train(TINY, data, tmp_path / "run")), StepDone)
    assert [e.step for e in steps if e.losses is not None] == [1, 4, 5, 8, 10]
    assert set(steps[0].losses) == {"D_fake", "D_real", "G_GAN", "G_L1"}


@pytest.mark.usefixtures("losses_read_only_when_needed")
@pytest.mark.parametrize("config", [TINY, replace(TINY, checkpoint_every=5, validate_every=4)])
def test_nothing_is_saved_of_weights_that_are_not_finite(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: TrainingConfig
) -> None:
    """Not the checkpoint and not the model, though the losses of step 4, before its update, were finite."""
    run = TrainingStep.run
    steps = iter(range(1, 10))

    def broken(self: TrainingStep, *batch: Any) -> dict[str, torch.Tensor]:
        losses = run(self, *batch)
        if next(steps) == 4:
            self.generator.state_dict()["down.0.conv.weight"].fill_(torch.nan)
        return losses

    monkeypatch.setattr(TrainingStep, "run", broken)
    with pytest.raises(TrainingError, match=r"broke down by step 4: the weights down\.0\.conv\.weight"):
        list(train(config, data, tmp_path / "run"))
    assert not (tmp_path / "run" / "last.pt").exists()
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_discriminator_that_is_not_finite_is_found() -> None:
    step = TrainingStep(TINY, CPU, torch.float32)
    assert step.first_non_finite() is None
    assert step.discriminator is not None
    step.discriminator.state_dict()["model.0.weight"].fill_(torch.nan)
    assert step.first_non_finite() == "discriminator.model.0.weight"


@pytest.mark.parametrize("mode", ["vanilla", "lsgan", "wgangp", "hinge", "none"])
@pytest.mark.parametrize("conditional", [True, False])
def test_every_objective_trains(mode: str, conditional: bool) -> None:
    objective = ObjectiveConfig(gan_mode=mode, conditional=conditional)  # type: ignore[arg-type]
    config = replace(TINY, objective=objective, steps=1)
    step = TrainingStep(config, torch.device("cpu"), torch.float32)
    before = step.generator.state_dict()["down.0.conv.weight"].clone()
    losses = step.run(torch.randn(2, 3, 32, 32), torch.randn(2, 3, 32, 32).clamp(-1, 1))
    assert all(bool(torch.isfinite(value)) for value in losses.values())
    assert ("D_fake" in losses) == (mode != "none")
    assert not torch.equal(step.generator.state_dict()["down.0.conv.weight"], before)


def test_bfloat16_trains_close_to_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(1, 3, 32, 32, generator=generator) * 2 - 1 for _ in range(2))
    config = replace(TINY, generator=replace(TINY.generator, dropout="none"))
    losses = [
        TrainingStep(config, torch.device("cpu"), dtype).run(x, y)["G_L1"].item()
        for dtype in (torch.float32, torch.bfloat16)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_invalid_pixels_teach_nothing() -> None:
    """Whatever stands there, the losses and the new weights are the same."""
    x = torch.randn(1, 3, 32, 32).clamp(-1, 1)
    y = torch.randn(1, 3, 32, 32).clamp(-1, 1)
    valid = torch.ones(1, 1, 32, 32, dtype=torch.bool)
    step = TrainingStep(replace(TINY, objective=ObjectiveConfig(gan_mode="none")), torch.device("cpu"), torch.float32)
    valid[..., :, :] = False
    before = step.generator.state_dict()["down.0.conv.weight"].clone()
    assert step.run(x, y, valid)["G_L1"].item() == 0
    assert torch.equal(step.generator.state_dict()["down.0.conv.weight"], before)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"epochs": 3}, "give only one"),
        ({"patch_size": 36}, "not a multiple of 8.*choose 32"),
        (
            {"inference": InferenceConfig(), "generator": GeneratorConfig(norm="instance", depth=3)},
            "no running statistics",
        ),
        ({"batch_size": 0}, "between 1"),
        ({"precision": "fp8"}, "choose one of"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        replace(TINY, **changes)


def test_unwritable_folder_is_one_line(data: TrainingData, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Pix2PixError) as caught:
        list(train(TINY, data, tmp_path / "file" / "run"))
    assert "\n" not in str(caught.value)
    assert "file" in str(caught.value)


def test_a_run_stopped_within_a_validation_keeps_it(data: TrainingData, tmp_path: Path) -> None:
    pairs = Split(data.split.training, (striped("c", 2), striped("d", 3)))
    config, two = replace(TINY, steps=8), TrainingData(split=pairs)
    undisturbed = list(train(config, two, tmp_path / "undisturbed"))
    assert [(e.step, e.done, e.total) for e in of_kind(undisturbed, Validating)] == [
        (step, done, 2) for step in (5, 8) for done in (0, 1)
    ]
    run = train(config, two, tmp_path / "run")
    assert next(event for event in run if isinstance(event, Validating) and event.done == 1).step == 5
    run.close()
    rest = list(train(config, two, tmp_path / "run", resume=True))
    assert [event.step for event in of_kind(rest, Validated)] == [8]
    assert rest[-1].scores == undisturbed[-1].scores  # type: ignore[union-attr]
    rows = [list(csv.DictReader((tmp_path / name / "metrics.csv").open(newline=""))) for name in ("undisturbed", "run")]
    scores = [[(row["step"], row["mae"]) for row in table] for table in rows]
    assert scores[0] == scores[1]
    assert equal(weights(tmp_path / "undisturbed"), weights(tmp_path / "run"))


def test_previews_by_time_change_nothing_in_the_run(tmp_path: Path, data: TrainingData) -> None:
    plain = list(train(TINY, data, tmp_path / "plain"))
    events = list(train(TINY, data, tmp_path / "shown", preview_seconds=1000))
    steps = [(event.step, event.path is None) for event in events if isinstance(event, PreviewReady)]
    assert steps == [(1, True), (5, False), (10, False)]
    assert not any(event.path is None for event in plain if isinstance(event, PreviewReady))
    assert len(list((tmp_path / "shown" / "previews").iterdir())) == 2
    assert equal(weights(tmp_path / "plain"), weights(tmp_path / "shown"))


def test_the_span_of_the_target_is_told(tmp_path: Path, data: TrainingData) -> None:
    started = next(event for event in train(TINY, data, tmp_path / "run") if isinstance(event, Started))
    assert started.target_span == 255
