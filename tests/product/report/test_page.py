"""The page that ``evaluate --report`` writes: complete, harmless, and readable without anything else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_pix2pix import Pix2Pix
from napari_pix2pix.cli.application import run
from pix2pix_training.error_network import ErrorNetwork, ErrorTraits
from pix2pix_training.errors import OutputError
from pix2pix_training.model_file import save_model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import build_generator
from tests.identity_model import identity_model
from tests.product.conftest import model_for

EVIL = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Elements, addresses and visible text of a page, which has to be well-formed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.policy = ""
        self.words: list[str] = []
        self._open: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open.append(tag)
        self._note(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)

    def _note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        known = dict(attrs)
        assert not [name for name in known if name.startswith("on")]
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        if known.get("http-equiv") == "Content-Security-Policy":
            self.policy = known["content"] or ""

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


def images(folder: Path, *, channels: int = 1, count: int = 3, size: tuple[int, int] = (80, 96)) -> Path:
    """Smooth 8-bit images; with channels, these have names that try to be markup."""
    folder.mkdir()
    rng = np.random.default_rng(channels)
    for number in range(count):
        coarse = rng.integers(0, 256, (channels, size[0] // 8, size[1] // 8), np.uint8)
        pixels = coarse.repeat(8, 1).repeat(8, 2)
        names = {"Channel": {"Name": [EVIL, "B&B"][:channels]}}
        path = folder / f"<b>{number}.ome.tif"
        tifffile.imwrite(path, pixels, photometric="minisblack", metadata={"axes": "CYX", **names})
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "model.safetensors"
    path.parent.mkdir()
    save_model(model_for(1, 1), path)
    return path


def check_harmless(page: Page) -> None:
    assert set(page.tags).isdisjoint({"script", "iframe", "object", "embed", "link", "base", "form", "a"})
    assert page.addresses
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert page.policy.startswith("default-src 'none'; img-src data:;")
    style = re.search("<style>(.*?)</style>", page.source, re.S)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_page_of_a_model_says_what_was_evaluated(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = images(tmp_path / "source"), tmp_path / "report.html"
    options = ["--model", str(model), "--source", str(source), "--target", str(source), "--report", str(out), "--json"]
    assert run(["evaluate", *options]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["mean"]["slope"] != 1
    assert result["pixel_fit"]["slope"] == pytest.approx(1)
    page = Page(out)
    check_harmless(page)
    for words in (
        "How good is run?", "3 pairs of images of 80 x 96 pixels", "over the range 0 to 255", "MS-SSIM", "Grid",
        "Worst: <b>", "Median: ", "Best: ", "fit of each pixel", "best constant", "no better than the fit of each",
        "does not say which images it was trained on", "say little about others", "checksum", "torch", "slope",
    ):  # fmt: skip
        assert words in page.text, words
    assert f"{result['mean']['mae']:.4g}" in page.text
    assert run(["evaluate", *options]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run(["evaluate", *options, "--overwrite"]) == 0


def test_names_of_files_and_channels_are_no_markup(tmp_path: Path) -> None:
    path = tmp_path / f"{EVIL.replace('/', '')}.safetensors"
    source, out = images(tmp_path / "source", channels=2), tmp_path / "report.html"
    known = identity_model(channels=2, names=[EVIL, "B&B"])
    save_model(replace(known, credits=replace(known.credits, authors=(EVIL,))), path)
    files = ["--model", str(path), "--source", str(source), "--target", str(source)]
    assert run(["evaluate", *files, "--report", str(out)]) == 0
    page = Page(out)
    check_harmless(page)
    assert EVIL in page.text
    assert "B&B" in page.text


def test_page_of_labels_has_overlaps_and_objects(tmp_path: Path) -> None:
    for name in ("prediction", "target", "source"):
        (tmp_path / name).mkdir()
    for number in range(2):
        labels = np.zeros((700, 660), np.uint16)
        for place in range(1, 6):
            labels[100 * place : 100 * place + 40, 300:340] = place + 10 * number
        tifffile.imwrite(tmp_path / "target" / f"{number}.tif", labels)
        tifffile.imwrite(tmp_path / "prediction" / f"{number}.tif", (labels % 5 > 0).astype(np.uint8))
        tifffile.imwrite(tmp_path / "source" / f"{number}.tif", labels)
    out = tmp_path / "report.html"
    folders = [f"--{name}={tmp_path / name}" for name in ("prediction", "target", "source")]
    assert run(["evaluate", *folders, "--target-values", "foreground", "--report", str(out)]) == 0
    page = Page(out)
    check_harmless(page)
    assert "(10 in targets, 8 in outputs, 8 the same)" in page.text
    assert "what is labelled in outputs and targets was compared" in page.text
    assert "Of its 700 x 660 pixels these are rows " in page.text
    assert "Overlap (Dice)" in page.text


def test_models_side_by_side(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.safetensors"
    save_model(identity_model(), other)
    source, out = images(tmp_path / "source", count=6), tmp_path / "report.html"
    files = ["--source", str(source), "--target", str(source), "--report", str(out), "--json"]
    assert run(["evaluate", "--compare", str(model.parent), str(other), *files]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])["models"]
    assert list(result) == ["run", "other"]
    assert result["other"]["mean"]["mae"] == 0
    page = Page(out)
    check_harmless(page)
    assert "2 models on the same images" in page.text
    assert "other less run" in page.text
    assert "6 of 6" in page.text
    rows = re.findall('<div class="panels">(.*?)</div>', page.source, re.S)
    errors = [row for row in rows if "error of" in row]
    assert len(rows) == 2 * len(errors)
    assert not any("target" in row for row in errors)
    assert run(["evaluate", "--compare", str(model), str(model), *files]) == 2
    assert "is given twice" in capsys.readouterr().err
    assert run(["evaluate", "--compare", str(model), *files]) == 2
    assert "two runs or model files" in capsys.readouterr().err


def test_a_model_with_an_error_map_is_asked_whether_it_is_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known, config = identity_model(), GeneratorConfig(source_channels=1, target_channels=1, base_width=2, depth=2)
    traits = ErrorTraits(config=config, coverage=0.8, factors=(0.5,), images=3)
    error = ErrorNetwork(traits=traits, weights=build_generator(config).state_dict())
    for name, part in (("plain", None), ("able", error)):
        save_model(replace(known, error=part), tmp_path / f"{name}.safetensors")
    source, target = images(tmp_path / "source"), tmp_path / "target"
    target.mkdir()
    widths = Pix2Pix(tmp_path / "able.safetensors").error_map(source / "<b>0.ome.tif", axes="YX").astype(int)
    for path in source.iterdir():
        pixels = tifffile.imread(path).astype(int)
        pixels[:40] -= np.where(pixels[:40] > 127, 1, -1) * (widths.max() + 20)  # half of it lies beyond
        tifffile.imwrite(target / path.name, pixels.astype(np.uint8), photometric="minisblack", metadata={"axes": "YX"})
    files = ["--source", str(source), "--target", str(target), "--report", str(tmp_path / "report.html"), "--json"]
    assert run(["evaluate", "--model", str(tmp_path / "able.safetensors"), *files]) == 0
    mean = json.loads(capsys.readouterr().out.splitlines()[-1])["mean"]
    assert mean["coverage"] == 0.5
    page = Page(tmp_path / "report.html")
    assert "Coverage of the error map" in page.text
    assert "which is meant to be 80 %" in page.text
    assert page.source.count("<b>error map</b>") == 3  # of the worst, the median and the best
    model, again = Pix2Pix(tmp_path / "able.safetensors"), tmp_path / "again.html"
    assert model.evaluate(source, target, report=again).mean.mae == mean["mae"]
    assert Page(again).text.count("Coverage of the error map") == 1
    with pytest.raises(OutputError, match="exists already"):
        model.evaluate(source, target, report=again)
    assert run(["evaluate", "--model", str(tmp_path / "plain.safetensors"), *files, "--overwrite"]) == 0
    assert "coverage" not in json.loads(capsys.readouterr().out.splitlines()[-1])["mean"]
    sure = replace(error, traits=replace(traits, coverage=0.9))
    save_model(replace(known, error=sure), tmp_path / "sure.safetensors")
    for names, meant in ((("plain", "able"), "80 %"), (("plain", "able", "sure"), "80 % of able and 90 % of sure")):
        models = [str(tmp_path / f"{name}.safetensors") for name in names]
        assert run(["evaluate", "--compare", *models, *files, "--overwrite"]) == 0
        page = Page(tmp_path / "report.html")
        assert f"which is meant to be {meant}. Below" in page.text
        row = re.search("<tr><th[^>]*>Coverage of the error map.*?</tr>", page.source, re.S)
        assert row is not None
        assert re.findall("<td[^>]*>([^<]*)", row[0])[: len(names)] == ["–", *["0.500"] * (len(names) - 1)]
        assert page.words.count("error map of able") == 3
        assert "error map of plain" not in page.words


def test_models_of_different_kinds_are_not_compared(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pix2pix_training.image_description import ImageDescription
    from pix2pix_training.intensity import CategoryMapping

    classes = model_for(1, 2)
    mapping = CategoryMapping(dtype="uint8", values=((0,), (255,)))
    other = tmp_path / "classes.safetensors"
    save_model(replace(classes, target=ImageDescription(mapping=mapping)), other)
    source = tmp_path / "source"
    source.mkdir()
    Image.fromarray(np.eye(64, dtype=np.uint8) * 255).save(source / "a.png")
    files = ["--source", str(source), "--target", str(source), "--report", str(tmp_path / "report.html")]
    assert run(["evaluate", "--compare", str(model), str(other), *files]) == 2
    assert "cannot stand side by side" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--report", "report.pdf"], "choose a name that ends in .html"),
        (["--objects-above", "3"], "give --report too"),
    ],
)
def test_what_cannot_be_is_said_before_work(
    options: list[str], said: str, image_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", "--prediction", str(image_path), "--target", str(image_path), *options]) == 2
    assert said in capsys.readouterr().err


def test_a_note_names_images_that_were_trained_on(
    tmp_path: Path, folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = map(str, folders)
    out, report = tmp_path / "trained", tmp_path / "report.html"
    assert run(["train", "--source", source, "--target", target, "--out", str(out), "--steps", "1",
                "--patch-size", "32", "--base-width", "4", "--validation", "0.25"]) == 0  # fmt: skip
    files = ["--source", source, "--target", target]
    for options in ([], ["--report", str(report)]):
        capsys.readouterr()
        assert run(["evaluate", "--model", str(out / "model.safetensors"), *files, *options]) == 0
        assert "3 of 4 images are ones that the model was trained on" in capsys.readouterr().err
    page = Page(report)
    assert "3 of 4 images are ones that the model was trained on" in page.text
    assert page.words.count("held out") == 1


@pytest.mark.slow
@pytest.mark.parametrize("models", [1, 3])
def test_page_in_a_browser(tmp_path: Path, model: Path, models: int) -> None:
    """1280 pixels wide: nothing sticks out, and the page asks for nothing."""
    browser = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    if browser is None:
        pytest.skip("no Chromium here")
    source, out, picture = images(tmp_path / "source"), tmp_path / "report.html", tmp_path / "page.png"
    files = ["--source", str(source), "--target", str(source), "--report", str(out)]
    others = [model.with_name(f"model of a long name {number}.safetensors") for number in range(1, models)]
    for other in others:
        other.write_bytes(model.read_bytes())
    chosen = ["--compare", *map(str, (model, *others))] if others else ["--model", str(model)]
    assert run(["evaluate", *chosen, *files]) == 0
    log = tmp_path / "net.json"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1280,3000"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={picture}", f"--log-net-log={log}"]
    subprocess.run([*command, out.as_uri()], check=True, timeout=120, capture_output=True)
    pixels = np.asarray(Image.open(picture).convert("L")).astype(int)
    assert pixels.shape == (3000, 1280)
    assert np.ptp(pixels[:600, 40:1240]) > 100
    assert np.ptp(pixels[:, -20:]) < 40
    assert np.ptp(pixels[:, :20]) < 40
