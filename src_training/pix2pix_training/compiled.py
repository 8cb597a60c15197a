"""`torch.compile` for networks in training, refused in words where it cannot work."""

from __future__ import annotations

import torch

from pix2pix_training.errors import SettingsError


def require_compiler(device: torch.device) -> None:
    """Compile and run a trivial function on `device`.

    Raises
    ------
    SettingsError
        That fails: PyTorch's compiler lacks a C++ compiler (CPU), or Triton (GPU), or does not know this Python.
    """
    try:
        torch.compile(_probe, dynamic=False)(torch.zeros(8, device=device))
    except Exception as error:  # whatever PyTorch, its code generator or the compiler raise
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        needed = "a C++ compiler such as g++" if device.type == "cpu" else "the package triton"
        raise SettingsError(
            f"torch.compile does not work here: {reason.strip()}; install {needed}, or train without compile"
        ) from error


def _probe(x: torch.Tensor) -> torch.Tensor:
    return x.sin() + 1
