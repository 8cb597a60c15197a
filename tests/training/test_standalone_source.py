"""The file with the networks alone: it runs without this package and computes the same."""

from __future__ import annotations

import builtins
import dis
import subprocess
import sys
from pathlib import Path
from types import CodeType

import torch

from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import build_generator, initialize_weights, norm_layers, set_inference_mode
from pix2pix_training.standalone_source import standalone_arguments, standalone_source

CASES = [
    (GeneratorConfig(base_width=2, depth=3, dropout="paper"), "running"),
    (GeneratorConfig(base_width=2, depth=6, dropout="reference"), "image"),
    (GeneratorConfig(base_width=2, depth=3, norm="instance", output="linear"), "image"),
    (GeneratorConfig(base_width=2, depth=3, norm="batch-renorm", decoder="resize"), "running"),
    (GeneratorConfig(base_width=2, depth=3, decoder="pixel-shuffle"), "image"),
    (GeneratorConfig(architecture="encoder-decoder", base_width=2, depth=3, norm="none"), "image"),
    (GeneratorConfig(architecture="resnet", base_width=2, blocks=1, dropout="reference"), "running"),
    (GeneratorConfig(architecture="resnet", base_width=2, blocks=2, norm="instance"), "image"),
]

_PROGRAM = """
import sys
sys.modules.update(pix2pix_training=None, napari_pix2pix=None, pix2pix_trt=None)
import torch
from network import pix2pix_generator
for case in torch.load("cases.pt", weights_only=True):
    network = pix2pix_generator(**case["arguments"])
    network.load_state_dict(case["weights"])
    with torch.no_grad():
        assert torch.equal(network(case["x"]), case["y"]), case["arguments"]
    print("equal")
"""


def test_it_computes_the_same_where_this_package_is_absent(tmp_path: Path) -> None:
    torch.manual_seed(0)
    cases = []
    for config, statistics in CASES:
        network = build_generator(config)
        initialize_weights(network)
        for norm in norm_layers(network):
            if norm.running_mean is not None:
                norm.running_mean.normal_()
        inference = InferenceConfig(statistics=statistics)  # type: ignore[arg-type]
        set_inference_mode(network, inference)
        x = torch.randn(1, 3, 64, 64)
        with torch.no_grad():
            y = network(x)
        arguments = standalone_arguments(config, inference)
        cases.append({"arguments": arguments, "weights": network.state_dict(), "x": x, "y": y})
    torch.save(cases, tmp_path / "cases.pt")
    (tmp_path / "network.py").write_text(standalone_source(), encoding="utf-8")
    command = [sys.executable, "-c", f"import torch; torch.set_num_threads(1){_PROGRAM}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["equal"] * len(CASES), done.stderr


def test_it_names_nothing_that_it_lacks() -> None:
    """What runs in training only is in it too."""
    code = compile(standalone_source(), "network.py", "exec")
    namespace: dict[str, object] = {"__name__": "network"}
    exec(code, namespace)
    assert _globals_of(code) - namespace.keys() - vars(builtins).keys() == set()


def _globals_of(code: CodeType) -> set[str]:
    """Names that functions take from their module, those of nested code included."""
    names = {str(i.argval) for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL"}
    return names.union(*(_globals_of(part) for part in code.co_consts if isinstance(part, CodeType)))
