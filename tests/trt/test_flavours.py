"""Why TensorRT cannot run here, in one line each."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch

from pix2pix_training.errors import BackendError
from pix2pix_trt import flavours
from pix2pix_trt.flavours import Flavour, availability, load, require

FLAVOURS: tuple[Flavour, ...] = ("tensorrt", "tensorrt-rtx")


@pytest.fixture(params=FLAVOURS)
def installed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Flavour:
    """A flavour whose package can be imported, on a machine with a modern GPU, for a test to take something away."""
    flavour: Flavour = request.param
    monkeypatch.setitem(sys.modules, flavour.replace("-", "_"), ModuleType("package"))
    monkeypatch.setattr(flavours, "driver_cuda_version", lambda: (13, 2))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (8, 9))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "Some GPU")
    return flavour


def test_all_there(installed: Flavour) -> None:
    assert availability(installed) is None
    require(installed)


def test_missing_package_names_the_extra(installed: Flavour, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nowhere:
        def find_spec(self, name: str, *_: object) -> None:
            if name == installed.replace("-", "_"):
                raise ModuleNotFoundError(name=name)

    monkeypatch.delitem(sys.modules, installed.replace("-", "_"))
    monkeypatch.setattr(sys, "meta_path", [Nowhere(), *sys.meta_path])
    assert f'pip install "napari-pix2pix[{installed}]"' in str(availability(installed))
    with pytest.raises(BackendError, match="is not installed"):
        load(installed)


def test_package_without_its_library_is_told_apart(installed: Flavour, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def find_spec(self, name: str, *_: object) -> None:
            if name == installed.replace("-", "_"):
                raise ImportError("libnvinfer.so: cannot open shared object file")

    monkeypatch.delitem(sys.modules, installed.replace("-", "_"))
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    assert "libnvinfer.so" in str(availability(installed))


def test_no_driver(installed: Flavour, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flavours, "driver_cuda_version", lambda: None)
    assert "no NVIDIA driver" in str(availability(installed))


def test_driver_too_old(installed: Flavour, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flavours, "driver_cuda_version", lambda: (12, 8))
    reason = str(availability(installed))
    assert "CUDA 12.8" in reason
    assert "update the NVIDIA driver" in reason


def test_no_gpu(installed: Flavour, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "there is none" in str(availability(installed))


def test_gpu_too_old(installed: Flavour, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (6, 1))
    assert "Some GPU has 6.1" in str(availability(installed))


def test_every_reason_is_one_line_and_says_what_to_do(installed: Flavour, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("driver_cuda_version", lambda: None), ("driver_cuda_version", lambda: (12, 0))):
        monkeypatch.setattr(flavours, name, value)
        reason = str(availability(installed))
        assert "\n" not in reason
        assert "another backend" in reason


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_explicit_backend_without_gpu_is_an_error(flavour: Flavour) -> None:
    with pytest.raises(BackendError, match="TensorRT"):
        require(flavour)
