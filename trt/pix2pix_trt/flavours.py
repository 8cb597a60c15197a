"""The two TensorRT packages, which share one Python interface: which is installed, and whether this machine can run it.

`tensorrt` serves every NVIDIA GPU from Turing on and builds on the GPU that will run the engine; `tensorrt-rtx` serves
GeForce and RTX workstation GPUs, and also builds without one, for architectures named beforehand.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from pix2pix_training.errors import BackendError

if TYPE_CHECKING:
    import torch

Flavour = Literal["tensorrt", "tensorrt-rtx"]
EnginePrecision = Literal["fp32", "fp16", "bf16"]

MINIMUM_DRIVER_CUDA = (13, 0)
"""CUDA version that the driver must support; driver r580 is the first one."""
MINIMUM_CAPABILITY = (7, 5)


@dataclass(frozen=True, kw_only=True)
class _Product:
    name: str
    module: str
    without_gpu: bool


_PRODUCTS: dict[Flavour, _Product] = {
    "tensorrt": _Product(name="TensorRT", module="tensorrt", without_gpu=False),
    "tensorrt-rtx": _Product(name="TensorRT-RTX", module="tensorrt_rtx", without_gpu=True),
}


def product_name(flavour: Flavour) -> str:
    return _PRODUCTS[flavour].name


def builds_without_gpu(flavour: Flavour) -> bool:
    return _PRODUCTS[flavour].without_gpu


def load(flavour: Flavour) -> Any:
    """The Python module of a flavour; `BackendError`, naming the extra, where it is missing or broken."""
    product = _PRODUCTS[flavour]
    try:
        return import_module(product.module)
    except ModuleNotFoundError as error:
        if error.name != product.module:
            raise _broken(flavour, error) from error
        raise BackendError(
            f'{product.name} is not installed; pip install "napari-pix2pix[{flavour}]", or choose another backend'
        ) from error
    except (ImportError, OSError) as error:
        raise _broken(flavour, error) from error


def _broken(flavour: Flavour, error: Exception) -> BackendError:
    return BackendError(
        f"{product_name(flavour)} is installed but cannot be loaded ({error}); "
        f'reinstall it with pip install --force-reinstall "napari-pix2pix[{flavour}]"'
    )


def version(flavour: Flavour) -> str:
    return str(load(flavour).__version__)


def availability(flavour: Flavour) -> str | None:
    """None where this machine can build and run engines of `flavour` on its GPU, else the reason in one line."""
    try:
        load(flavour)
    except BackendError as error:
        return str(error)
    return _gpu_problem(product_name(flavour))


def require(flavour: Flavour) -> None:
    """Raise `BackendError` with the reason where `availability` gives one."""
    reason = availability(flavour)
    if reason is not None:
        raise BackendError(reason)


def _gpu_problem(product: str) -> str | None:
    driver = driver_cuda_version()
    if driver is None:
        return f"{product} needs an NVIDIA GPU, and this machine has no NVIDIA driver; choose another backend"
    if driver < MINIMUM_DRIVER_CUDA:
        return (
            f"{product} needs a driver for CUDA {_dotted(MINIMUM_DRIVER_CUDA)} (r580 or newer), this one is for CUDA "
            f"{_dotted(driver)}; update the NVIDIA driver, or choose another backend"
        )
    import torch

    if not torch.cuda.is_available():
        return f"{product} needs an NVIDIA GPU that PyTorch can use, and there is none; choose another backend"
    capability = torch.cuda.get_device_capability()
    if capability < MINIMUM_CAPABILITY:
        return (
            f"{product} needs compute capability {_dotted(MINIMUM_CAPABILITY)} or newer, and "
            f"{torch.cuda.get_device_name()} has {_dotted(capability)}; choose another backend"
        )
    return None


def driver_cuda_version() -> tuple[int, int] | None:
    """CUDA version that the installed NVIDIA driver supports; None without a driver."""
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    number = ctypes.c_int()
    if library.cuDriverGetVersion(ctypes.byref(number)) != 0 or number.value == 0:
        return None
    return number.value // 1000, number.value % 1000 // 10


def gpu_facts(device: torch.device) -> dict[str, str]:
    """What an engine built on this GPU is tied to."""
    import torch

    driver = driver_cuda_version()
    return {
        "gpu": torch.cuda.get_device_name(device),
        "architecture": architecture(device),
        "driver_cuda": "none" if driver is None else _dotted(driver),
        "platform": sys.platform,
    }


def architecture(device: torch.device) -> str:
    """Name such as "sm89" of a GPU's compute capability."""
    import torch

    major, minor = torch.cuda.get_device_capability(device)
    return f"sm{major}{minor}"


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
