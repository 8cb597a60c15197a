"""bioimageio.core, another program, tests packages and gives what we give. In an environment of its own:

    PIX2PIX_BIOIMAGEIO_PYTHON=/path/to/python pytest -m slow tests/product/bioimageio_export

names an interpreter that has bioimageio.core, onnxruntime and torch.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_pix2pix.bioimageio_export.package import export_bioimageio
from napari_pix2pix.translation.pipeline import translate_array
from pix2pix_training.model_file import Model
from tests.product.bioimageio_export.conftest import INFO, model_with, smooth_image

pytestmark = pytest.mark.slow

_TEST = """
import sys
from bioimageio.core import test_model
summary = test_model(sys.argv[1])
print(summary.format())
sys.exit(summary.status != "passed")
"""

_PREDICT = """
import sys
import numpy as np
from bioimageio.core import create_prediction_pipeline, load_model_description
from bioimageio.core.digest_spec import create_sample_for_model
package, image, output, weights, blocks = sys.argv[1:]
model = load_model_description(package)
with create_prediction_pipeline(model, weight_format=weights) as pipeline:
    sample = create_sample_for_model(model, inputs={"input": np.load(image)})
    if blocks == "whole":
        result = pipeline.predict_sample_without_blocking(sample)
    else:
        result = pipeline.predict_sample_with_blocking(sample, ns=int(blocks))
    np.save(output, np.asarray(result.members["output"].data))
"""


@pytest.fixture(scope="module")
def interpreter() -> str:
    path = os.environ.get("PIX2PIX_BIOIMAGEIO_PYTHON")
    if path is None:
        pytest.skip("PIX2PIX_BIOIMAGEIO_PYTHON does not name a Python with bioimageio.core")
    return path


def run(interpreter: str, program: str, *arguments: str | Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [interpreter, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def packaged(model: Model, image_file: Path, folder: Path) -> Path:
    export_bioimageio(model, folder / "package.zip", INFO, image_file)
    return folder / "package.zip"


def predicted(interpreter: str, package: Path, image: NDArray[Any], weights: str, blocks: str) -> NDArray[Any]:
    source, output = package.with_name("source.npy"), package.with_name("output.npy")
    np.save(source, image[None])
    run(interpreter, _PREDICT, package, source, output, weights, blocks)
    result: NDArray[Any] = np.load(output)[0]
    return result


@pytest.mark.parametrize(
    "norm, statistics, architecture",
    [("batch", "running", "unet"), ("instance", "image", "unet"), ("batch", "running", "resnet")],
)
def test_its_own_test_of_a_package_passes(
    interpreter: str, norm: str, statistics: str, architecture: str, image_file: Path, tmp_path: Path
) -> None:
    package = packaged(model_with(norm, statistics, architecture), image_file, tmp_path)
    assert "passed" in run(interpreter, _TEST, package)


@pytest.mark.parametrize("weights", ["onnx", "pytorch_state_dict"])
@pytest.mark.parametrize("architecture, halo, blocks", [("unet", 16, "6"), ("resnet", 28, "20")])
def test_prediction_in_blocks_is_our_translation_away_from_the_border(
    interpreter: str, weights: str, architecture: str, halo: int, blocks: str, image_file: Path, tmp_path: Path
) -> None:
    """Within the halo of the image's border the two differ: it continues the image by reflection, we pad inside."""
    model, image = model_with(architecture=architecture), smooth_image(328, 408)
    found = predicted(interpreter, packaged(model, image_file, tmp_path), image, weights, blocks)
    difference = np.abs(found.astype(int) - translate_array(image, model))[:, halo:-halo, halo:-halo]
    assert int(difference.max()) <= 1  # a value of 8 bits may be rounded the other way
    assert float((difference > 0).mean()) < 1e-3


@pytest.mark.parametrize("weights", ["onnx", "pytorch_state_dict"])
def test_prediction_of_a_whole_image_is_our_translation(
    interpreter: str, weights: str, image_file: Path, tmp_path: Path
) -> None:
    model, image = model_with("instance", "image"), smooth_image(328, 408)
    found = predicted(interpreter, packaged(model, image_file, tmp_path), image, weights, "whole")
    difference = np.abs(found.astype(int) - translate_array(image, model))
    assert int(difference.max()) <= 1
    assert float((difference > 0).mean()) < 1e-3
