"""Ways of running the paper's U-Net on a GPU: milliseconds per megapixel, share of the floor, parity, file to file.

    python benchmarks/gpu.py [--window 1024] [--base-width 64] [--floor 0.26] [--image IMAGE --model MODEL]
        [--json FILE]

Never executed by us yet. Each way runs one window over and over, device to device, after a warm-up; the time is that of
CUDA events over all repeats. Parity is the largest deviation from PyTorch in float32 without TF32, as a share of the
range. With --image and --model, the same image is also translated from file to file.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import torch
from torch import Tensor

from napari_pix2pix.translation.files import translate_file
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.config import GeneratorConfig, InferenceConfig
from pix2pix_training.errors import Pix2PixError
from pix2pix_training.folding import fold_norms
from pix2pix_training.model_file import load_model
from pix2pix_training.networks import Generator, UNet, initialize_weights, set_inference_mode
from pix2pix_training.stages import whole_stage
from pix2pix_trt.compilation import proven_engine, relative_deviation
from pix2pix_trt.engine import EnginePrecision
from pix2pix_trt.flavours import Flavour, availability, driver_cuda_version
from pix2pix_trt.runner import EngineRunner

H100_FLOOR_MS = 0.26
"""Arithmetic of the paper's U-Net in half precision at 798 TFLOP/s, and its memory traffic, per megapixel."""
Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way of running the generator; `error` says why there is no figure."""

    name: str
    seconds_setup: float = 0.0
    ms_per_megapixel: float | None = None
    share_of_floor: float | None = None
    deviation: float | None = None
    error: str | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--window", type=int, default=1024)
    parser.add_argument("--base-width", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--floor", type=float, default=H100_FLOOR_MS, help="least ms per megapixel on this GPU")
    parser.add_argument("--image", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("this benchmark needs a CUDA GPU")
    device = torch.device("cuda", torch.cuda.current_device())
    network = papers_network(arguments.base_width).to(device)
    x = torch.rand(1, 3, arguments.window, arguments.window, device=device) * 2 - 1
    result = {
        "machine": machine(device),
        "window": arguments.window,
        "floor_ms_per_megapixel": arguments.floor,
        "ways": [asdict(way) for way in measured_ways(network, x, arguments.repeats, arguments.floor)],
    }
    if arguments.image is not None and arguments.model is not None:
        result["file_to_file"] = file_to_file(arguments.image, arguments.model)
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text)


def papers_network(base_width: int) -> Generator:
    torch.manual_seed(0)
    network = UNet(GeneratorConfig(base_width=base_width))
    initialize_weights(network)
    set_inference_mode(network, InferenceConfig())
    fold_norms(network)
    return network


def machine(device: torch.device) -> dict[str, object]:
    properties = torch.cuda.get_device_properties(device)
    return {
        "gpu": properties.name,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "driver_cuda": driver_cuda_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
    }


def measured_ways(network: Generator, x: Tensor, repeats: int, floor: float) -> Iterator[Way]:
    with torch.inference_mode():
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            expected = cast(Tensor, network(x))
        for name, prepare in ways(network, x).items():
            try:
                way = measured(name, prepare, x, expected, repeats, floor)
            except (Pix2PixError, RuntimeError) as error:
                way = Way(name=name, error=" ".join(str(error).split())[:300])
            print(way, flush=True)
            yield way
            torch.cuda.empty_cache()


def ways(network: Generator, x: Tensor) -> dict[str, Callable[[], Run]]:
    """By name, what makes the function that is timed; making it is the set-up."""
    prepared: dict[str, Callable[[], Run]] = {
        "torch eager fp32": lambda: network,
        "torch channels_last bf16": lambda: channels_last(network, torch.bfloat16),
        "torch channels_last fp16": lambda: channels_last(network, torch.float16),
        "torch.compile bf16": lambda: torch.compile(channels_last(network, torch.bfloat16)),
        "torch CUDA graph bf16": lambda: graphed(channels_last(network, torch.bfloat16), x),
    }
    flavours: tuple[Flavour, ...] = ("tensorrt", "tensorrt-rtx")
    precisions: tuple[EnginePrecision, ...] = ("fp32", "fp16", "bf16")
    for flavour in flavours:
        for precision in precisions:
            prepared[f"{flavour} {precision}"] = lambda f=flavour, p=precision: engine(network, x, f, p, graph=False)  # type: ignore[misc]
        prepared[f"{flavour} fp16, CUDA graph"] = lambda f=flavour: engine(network, x, f, "fp16", graph=True)  # type: ignore[misc]
    return prepared


def channels_last(network: Generator, dtype: torch.dtype) -> Run:
    lowered = copy.deepcopy(network).to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(x: Tensor) -> Tensor:
        return cast(Tensor, lowered(x.to(dtype).contiguous(memory_format=torch.channels_last))).float()

    return run


def graphed(run: Run, x: Tensor) -> Run:
    static = x.clone()
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        run(static)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = run(static)

    def replay(x: Tensor) -> Tensor:
        static.copy_(x)
        graph.replay()
        return output

    return replay


def engine(network: Generator, x: Tensor, flavour: Flavour, precision: EnginePrecision, *, graph: bool) -> Run:
    reason = availability(flavour)
    if reason is not None:
        raise Pix2PixError(reason)
    proven = proven_engine(
        network,
        whole_stage(network.config),
        flavour,
        precisions=[precision],
        window=(x.shape[-2], x.shape[-1]),
        samples=[{"features": x}],
        device=x.device,
    )
    runner = EngineRunner(proven.engine, x.device)
    if graph:
        fixed = runner.fixed({"features": tuple(x.shape)})
        return lambda tile: fixed.run({"features": tile})
    return lambda tile: runner.run({"features": tile})


def measured(name: str, prepare: Callable[[], Run], x: Tensor, expected: Tensor, repeats: int, floor: float) -> Way:
    started = time.perf_counter()
    run = prepare()
    result = run(x)
    torch.cuda.synchronize()
    setup = time.perf_counter() - started
    deviation = relative_deviation(result, expected)
    for _ in range(10):
        run(x)
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    for _ in range(repeats):
        run(x)
    stop.record()
    stop.synchronize()
    ms = start.elapsed_time(stop) / repeats / (x.shape[-2] * x.shape[-1] / 1e6)
    return Way(
        name=name,
        seconds_setup=setup,
        ms_per_megapixel=ms,
        share_of_floor=floor / ms,
        deviation=deviation,
    )


def file_to_file(image: Path, model_path: Path) -> dict[str, object]:
    """Megapixels per second of whole translations, reading and writing included."""
    model = load_model(model_path)
    results: dict[str, object] = {}
    for precision in ("fp32", "bf16"):
        settings = TranslationSettings(device="cuda", precision=precision)
        with TemporaryDirectory() as folder:
            started = time.perf_counter()
            report = translate_file(image, model, Path(folder) / "out.tif", settings)
            seconds = time.perf_counter() - started
        results[f"torch {precision}"] = {
            "seconds": seconds,
            "megapixels_per_second": report.pixels / 1e6 / seconds,
            "scheme": report.scheme,
        }
    return results


if __name__ == "__main__":
    main()
