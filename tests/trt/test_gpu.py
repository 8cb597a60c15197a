"""On a machine with a GPU (``pytest -m gpu``): every way of running a generator there gives PyTorch's numbers.

Never executed by us yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor

from napari_pix2pix.translation.backends.cache import EngineCache
from napari_pix2pix.translation.backends.stage_runner import TOLERANCES
from napari_pix2pix.translation.backends.tensorrt_runner import proven_engine
from pix2pix_training.choices import Norm
from pix2pix_training.errors import EngineFileError
from pix2pix_training.export_form import fold_norms
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.metrics import relative_deviation
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import Generator, UNet, initialize_weights, set_inference_mode
from pix2pix_training.stages import Stage, StageSpec, stage_inputs, whole_stage
from pix2pix_trt.flavours import EnginePrecision, Flavour, availability
from pix2pix_trt.replay import ReplayingRunner
from pix2pix_trt.runner import Engine, EngineRunner

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
]

TILE = 256


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())


@pytest.fixture(autouse=True)
def exact_float32() -> Iterator[None]:
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@pytest.fixture(params=["tensorrt", "tensorrt-rtx"])
def flavour(request: pytest.FixtureRequest) -> Flavour:
    reason = availability(request.param)
    if reason is not None:
        pytest.skip(reason)
    return cast(Flavour, request.param)


def network_on(device: torch.device, norm: Norm = "batch") -> Generator:
    torch.manual_seed(0)
    network = UNet(GeneratorConfig(base_width=16, depth=8, norm=norm))
    initialize_weights(network)
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.mul_(5)
    set_inference_mode(network, InferenceConfig(statistics="image" if norm == "instance" else "running"))
    fold_norms(network)
    return network.to(device)


def image(device: torch.device, rows: int = TILE, columns: int = TILE) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(1, 3, rows, columns, generator=generator) * 2 - 1).to(device)


def loaded(
    flavour: Flavour,
    network: Generator,
    spec: StageSpec,
    sample: dict[str, Tensor],
    folder: Path,
    precision: EnginePrecision = "fp32",
    window: tuple[int, int] = (2 * TILE, 2 * TILE),
) -> EngineRunner:
    """An engine that has passed the comparison, through the cache."""
    device = next(iter(sample.values())).device
    proven = proven_engine(
        network,
        spec,
        flavour,
        precisions=[precision],
        window=window,
        samples=[sample],
        device=device,
        cache=EngineCache(folder),
    )
    assert proven.precision == precision
    return EngineRunner(proven.engine, device)


def channels_last_bfloat16(network: Generator) -> Callable[[Tensor], Tensor]:
    network = network.to(memory_format=torch.channels_last)

    def run(x: Tensor) -> Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            return cast(Tensor, network(x.contiguous(memory_format=torch.channels_last))).float()

    return run


def cuda_graph(network: Generator) -> Callable[[Tensor], Tensor]:
    static = torch.zeros(1, 3, TILE, TILE, device=next(network.parameters()).device)
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        network(static)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = network(static)

    def run(x: Tensor) -> Tensor:
        static.copy_(x)
        graph.replay()
        return cast(Tensor, output.clone())

    return run


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize(
    "way, tolerance",
    [(lambda n: n, 1e-4), (channels_last_bfloat16, 3e-2), (torch.compile, 1e-4), (cuda_graph, 1e-4)],
    ids=["eager", "channels_last bfloat16", "compiled", "CUDA graph"],
)
def test_pytorch_on_the_gpu_equals_the_cpu(
    device: torch.device, norm: Norm, way: Callable[[Generator], Callable[[Tensor], Tensor]], tolerance: float
) -> None:
    expected = network_on(torch.device("cpu"), norm)(image(torch.device("cpu")))
    result = way(network_on(device, norm))(image(device)).cpu()
    assert relative_deviation(result, expected) < tolerance


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_whole_generator(
    device: torch.device, flavour: Flavour, norm: Norm, precision: EnginePrecision, tmp_path: Path
) -> None:
    network = network_on(device, norm)
    spec = whole_stage(network.config)
    with loaded(flavour, network, spec, {"features": image(device)}, tmp_path / "engines", precision) as runner:
        for rows, columns in ((TILE, TILE), (2 * TILE, TILE), (TILE, 2 * TILE)):
            x = image(device, rows, columns)
            assert relative_deviation(runner.run({"features": x}), network(x)) < TOLERANCES[precision]


@pytest.mark.parametrize("given", [False, True])
def test_the_three_stages(device: torch.device, flavour: Flavour, given: bool, tmp_path: Path) -> None:
    network = network_on(device, "instance" if given else "batch")
    specs = (
        StageSpec(gives="encoded", level=2, top=2, start=0),
        StageSpec(gives="up", level=2, top=8, start=2),
        StageSpec(gives="up", level=0, top=2, start=0, encoded=True, up=True, given_norms=given),
    )
    for spec in specs:
        sample = {
            t.name: torch.rand((2, t.channels) if t.level is None else (1, t.channels, *[TILE >> t.level] * 2)).to(
                device
            )
            for t in stage_inputs(network.config, spec)
        }
        with loaded(flavour, network, spec, sample, tmp_path / "engines") as runner:
            expected = Stage(network, spec)(*sample.values())
            assert relative_deviation(runner.run(sample), expected) < TOLERANCES["fp32"]


def test_fixed_shapes_are_replayed(device: torch.device, flavour: Flavour, tmp_path: Path) -> None:
    network = network_on(device)
    spec = whole_stage(network.config)
    with loaded(flavour, network, spec, {"features": image(device)}, tmp_path / "engines") as runner:
        fixed = runner.fixed({"features": (1, 3, TILE, TILE)})
        results = [fixed.run({"features": scale * image(device)}) for scale in (1.0, 0.5, -1.0)]
        for scale, result in zip((1.0, 0.5, -1.0), results, strict=True):
            assert relative_deviation(result, network(scale * image(device))) < TOLERANCES["fp32"]
        fixed.close()


def test_replayed_tiles_equal_single_ones(device: torch.device, flavour: Flavour, tmp_path: Path) -> None:
    network = network_on(device)
    spec = whole_stage(network.config)
    tiles = [scale * image(device) for scale in (1.0, 0.7, 0.3, -0.5, -1.0)]
    with loaded(flavour, network, spec, {"features": image(device)}, tmp_path / "engines") as runner:
        singles = [runner.run({"features": tile}) for tile in tiles]
        replaying = ReplayingRunner(runner, TOLERANCES["fp32"])
        for tile, single in zip(tiles, singles, strict=True):
            assert relative_deviation(replaying.run({"features": tile}), single) < TOLERANCES["fp32"]
        replaying.close()


def test_closing_gives_the_memory_back(device: torch.device, flavour: Flavour, tmp_path: Path) -> None:
    network = network_on(device)
    spec = whole_stage(network.config)
    sample = {"features": image(device)}
    loaded(flavour, network, spec, sample, tmp_path / "engines").close()
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info(device)[0]
    for _ in range(3):
        with loaded(flavour, network, spec, sample, tmp_path / "engines") as runner:
            runner.run(sample)
    torch.cuda.empty_cache()
    assert torch.cuda.mem_get_info(device)[0] > free - 64 * 2**20


def test_what_is_no_engine_is_refused(device: torch.device, flavour: Flavour) -> None:
    with pytest.raises(EngineFileError, match="compile the model again"):
        EngineRunner(Engine(flavour=flavour, plan=bytes(1000)), device)
