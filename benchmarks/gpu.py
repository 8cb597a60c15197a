"""Ways of running the paper's U-Net on a GPU: milliseconds per megapixel, share of the floor, parity, file to file.

    python -m benchmarks.gpu --all [--out FOLDER] [--minutes 10] [--size 8192]
    python -m benchmarks.gpu --rehearse [--out FOLDER]
    python -m benchmarks.gpu [--window 1024] [--base-width 64] [--floor 0.26] [--image IMAGE --model MODEL]
        [--only WAY ...] [--json FILE] [--dry-run]

`--all` measures everything in one go, see `gpu_session`; `--rehearse` does so on a machine without GPU, so that no
mistake of ours costs time on one that has it.

Never executed by us on a GPU yet; `--dry-run` says what would be measured here, and what would not and why. Each way
runs one window over and over, device to device, after a warm-up. Parity is the largest deviation from PyTorch in
float32 without TF32, as a share of the range. With --image and --model, the same image is also translated from file to
file: once to compile what is missing, and once to be timed. `--device cpu` is for trying the program out.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast, get_args

import torch
from torch import Tensor

from napari_pix2pix.translation.backends.tensorrt_runner import proven_engine
from napari_pix2pix.translation.pipeline import translate_file
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.atomic import atomic_write
from pix2pix_training.device import resolve_device
from pix2pix_training.errors import BackendError, Pix2PixError
from pix2pix_training.export_form import fold_norms
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.metrics import relative_deviation
from pix2pix_training.model_file import Model, load_model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import Generator, UNet, initialize_weights, set_inference_mode
from pix2pix_training.stages import whole_stage
from pix2pix_trt.flavours import EnginePrecision, Flavour, availability, driver_cuda_version
from pix2pix_trt.runner import EngineRunner

H100_FLOOR_MS = 0.26
"""Arithmetic of the paper's U-Net in half precision at 798 TFLOP/s, and its memory traffic, per megapixel."""
FLAVOURS: tuple[Flavour, ...] = get_args(Flavour)
PRECISIONS: tuple[EnginePrecision, ...] = get_args(EnginePrecision)
FILE_TO_FILE: Mapping[str, Mapping[str, str]] = {
    **{f"torch {p}": {"backend": "torch", "precision": p} for p in ("fp32", "bf16")},
    **{f"{f} {p}": {"backend": f, "precision": p} for f in FLAVOURS for p in ("fp32", "fp16")},
}
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


def main(arguments: Sequence[str] | None = None) -> None:
    options = parsed(arguments)
    if options.dry_run:
        print("\n".join(dry_run_lines(options)))
        return
    if options.all:
        from benchmarks.gpu_session import run_session

        run_session(options)
        return
    device = resolve_device(options.device)
    network = papers_network(options.base_width).to(device)
    x = torch.rand(1, 3, options.window, options.window, device=device) * 2 - 1
    result = {
        "machine": machine(device),
        "window": options.window,
        "floor_ms_per_megapixel": options.floor,
        "ways": [asdict(way) for way in measured_ways(network, x, options)],
    }
    if options.image is not None:
        result["file_to_file"] = list(file_to_file(options))
    text = json.dumps(result, indent=2)
    print(text)
    if options.json is not None:
        with atomic_write(options.json) as partial_file:
            partial_file.write_text(text, encoding="utf-8")


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--window", type=int, default=1024, help="side in pixels, a multiple of 256")
    parser.add_argument("--base-width", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--floor", type=float, default=H100_FLOOR_MS, help="least ms per megapixel on this GPU")
    parser.add_argument("--only", nargs="+", choices=[*ways(), *FILE_TO_FILE], metavar="WAY", help="as --dry-run says")
    parser.add_argument("--image", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--all", action="store_true", help="everything in ten minutes; needs no image and no model")
    parser.add_argument("--rehearse", action="store_true", help="--all on the CPU, small, PyTorch standing in for GPUs")
    parser.add_argument("--out", type=Path, default=Path("gpu-results"), help="folder for what --all finds")
    parser.add_argument("--minutes", type=float, default=10.0, help="after these --all begins nothing more")
    parser.add_argument("--size", type=int, default=8192, help="side of the image that --all translates")
    parser.add_argument("--dry-run", action="store_true", help="say what would be measured, and stop")
    options = parser.parse_args(arguments)
    if options.rehearse:
        options.all, options.device = True, "cpu"
        options.window, options.base_width, options.repeats, options.size = 256, 2, 1, 512
    if options.window < 256 or options.window % 256:
        parser.error("--window must be a multiple of 256")
    if (options.image is None) != (options.model is None):
        parser.error("--image and --model belong together")
    try:
        if not options.dry_run:
            resolve_device(options.device)
    except Pix2PixError as error:
        parser.error(str(error))
    return options


def dry_run_lines(options: argparse.Namespace) -> Iterator[str]:
    """Every way that is chosen, and whether it can be measured on this machine."""
    for name, way in ways().items():
        if chosen(name, options):
            yield f"window of {options.window} px: {name}: {obstacle(way.flavour, options.device)}"
    for name, settings in FILE_TO_FILE.items():
        if chosen(name, options):
            image = f"{options.image}: " if options.image is not None else ""
            flavour = next((f for f in FLAVOURS if f == settings["backend"]), None)
            given = "needs --image and --model" if options.image is None else obstacle(flavour, options.device)
            yield f"file to file: {image}{name}: {given}"


def chosen(name: str, options: argparse.Namespace) -> bool:
    return options.only is None or name in options.only


def obstacle(flavour: Flavour | None, device: str) -> str:
    """Why something cannot be measured here, or "ready"."""
    if flavour is not None:
        return availability(flavour) or "ready"
    try:
        resolve_device(device)
    except Pix2PixError as error:
        return str(error)
    return "ready"


def papers_network(base_width: int) -> Generator:
    torch.manual_seed(0)
    network = UNet(GeneratorConfig(base_width=base_width))
    initialize_weights(network)
    set_inference_mode(network, InferenceConfig())
    fold_norms(network)
    return network


def machine(device: torch.device) -> dict[str, object]:
    facts: dict[str, object] = {"torch": torch.__version__, "platform": platform.platform(), "device": str(device)}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts["gpu"] = properties.name
        facts["memory_gib"] = round(properties.total_memory / 2**30, 1)
        facts["driver_cuda"] = driver_cuda_version()
    return facts


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """`make` gives the function that is timed, from the network and a window; making it is the set-up."""

    make: Callable[[Generator, Tensor], Run]
    flavour: Flavour | None = None


def ways() -> dict[str, Preparation]:
    """All ways of running one window, by name."""
    found = {
        "torch eager fp32": Preparation(make=lambda network, _: in_float32(network)),
        "torch eager fp32, TF32": Preparation(make=lambda network, _: in_float32(network, tf32=True)),
        "torch channels_last bf16": Preparation(make=lambda network, _: channels_last(network, torch.bfloat16)),
        "torch channels_last fp16": Preparation(make=lambda network, _: channels_last(network, torch.float16)),
        "torch.compile bf16": Preparation(make=compiled),
        "torch CUDA graph bf16": Preparation(make=partial(graphed, dtype=torch.bfloat16)),
        "torch CUDA graph fp16": Preparation(make=partial(graphed, dtype=torch.float16)),
    }
    for flavour in FLAVOURS:
        for precision in PRECISIONS:
            make = partial(engine, flavour=flavour, precision=precision)
            found[f"{flavour} {precision} window"] = Preparation(make=make, flavour=flavour)
        make = partial(engine, flavour=flavour, precision="fp16", graph=True)
        found[f"{flavour} fp16 window, CUDA graph"] = Preparation(make=make, flavour=flavour)
    return found


def measured_ways(network: Generator, x: Tensor, options: argparse.Namespace) -> Iterator[Way]:
    measure = window_measurement(network, x, options)
    for name, way in ways().items():
        if chosen(name, options):
            yield measure(name, way)


def window_measurement(network: Generator, x: Tensor, options: argparse.Namespace) -> Callable[[str, Preparation], Way]:
    """What measures a way on the window `x`; one that fails, for whatever reason, has that as its result."""
    with torch.inference_mode():
        expected = in_float32(network)(x)

    def measure(name: str, way: Preparation) -> Way:
        try:
            with torch.inference_mode():
                make = partial(way.make, network, x)
                result = measured(name, make, x, expected, options.repeats, options.floor)
        except Exception as error:  # of any package; the others are still to be measured
            result = Way(name=name, error=one_line(error))
        print(result, flush=True)
        if x.device.type == "cuda":
            torch.cuda.empty_cache()
        return result

    return measure


def in_float32(network: Generator, *, tf32: bool = False) -> Run:
    def run(x: Tensor) -> Tensor:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=tf32):
            return cast(Tensor, network(x))

    return run


def channels_last(network: Generator, dtype: torch.dtype) -> Run:
    lowered = copy.deepcopy(network).to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(x: Tensor) -> Tensor:
        return cast(Tensor, lowered(x.to(dtype).contiguous(memory_format=torch.channels_last))).float()

    return run


def compiled(network: Generator, _: Tensor) -> Run:
    return cast(Run, torch.compile(channels_last(network, torch.bfloat16)))


def graphed(network: Generator, x: Tensor, *, dtype: torch.dtype) -> Run:
    if x.device.type != "cuda":
        raise BackendError("CUDA graphs need a CUDA GPU")
    run = channels_last(network, dtype)
    static = x.clone()
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
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


def engine(network: Generator, x: Tensor, flavour: Flavour, precision: EnginePrecision, *, graph: bool = False) -> Run:
    reason = availability(flavour)
    if reason is not None:
        raise BackendError(reason)
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
    _finish(x.device)
    setup = time.perf_counter() - started
    deviation = relative_deviation(result, expected)
    for _ in range(min(10, repeats)):
        run(x)
    _finish(x.device)
    started = time.perf_counter()
    for _ in range(repeats):
        run(x)
    _finish(x.device)
    ms = 1000 * (time.perf_counter() - started) / repeats / (x.shape[-2] * x.shape[-1] / 1e6)
    return Way(name=name, seconds_setup=setup, ms_per_megapixel=ms, share_of_floor=floor / ms, deviation=deviation)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def file_to_file(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Whole translations, reading and writing included; the first of each compiles, the second is timed."""
    model = load_model(options.model)
    for name, settings in FILE_TO_FILE.items():
        if not chosen(name, options):
            continue
        try:
            result = {"name": name, **translated(options.image, model, options.device, settings)}
        except (Pix2PixError, RuntimeError) as error:
            result = {"name": name, "error": one_line(error)}
        print(result, flush=True)
        yield result


def translated(image: Path, model: Model, device: str, choices: Mapping[str, str]) -> dict[str, Any]:
    settings = TranslationSettings(device=device, **choices)  # type: ignore[arg-type]  # it checks them itself
    with TemporaryDirectory() as folder:
        started = time.perf_counter()
        translate_file(image, model, Path(folder) / "first.tif", settings)
        first = time.perf_counter() - started
        started = time.perf_counter()
        report = translate_file(image, model, Path(folder) / "second.tif", settings)
        seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "seconds_of_the_first": first,
        "megapixels_per_second": report.pixels / 1e6 / seconds,
        "backend": report.backend,
        "precision": report.precision,
        "scheme": report.scheme,
        "tile": report.tile,
    }


def one_line(error: Exception) -> str:
    kind = "" if isinstance(error, Pix2PixError) else f"{type(error).__name__}: "
    return f"{kind}{' '.join(str(error).split())}"[:300].replace("|", "/")


if __name__ == "__main__":
    main()
