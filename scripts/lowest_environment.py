"""Makes an environment of the lowest versions that pyproject.toml allows: ``lowest_environment.py FOLDER``.

PyTorch and what it needs of NVIDIA are linked from the environment that runs this, as they take gigabytes; so their
lower bounds are not tried. The tools of the tests are the newest.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import Distribution, distribution, requires
from pathlib import Path

_LINKED = ("torch", "triton", "nvidia", "cuda")
_EXTRAS = ("onnx", "openvino", "slides", "tensorboard")
_TOOLS = ("pytest", "hypothesis", "yaozarrs", "ome-types", "rio-cogeo", "onnxruntime", "npe2", "build", "hatchling")
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def wanted() -> list[str]:
    """Requirements of the package and of its extras, without PyTorch and the package itself."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [*project["dependencies"], *(text for name in _EXTRAS for text in project["optional-dependencies"][name])]
    return [text for text in texts if not text.startswith((*_LINKED, "napari-pix2pix"))]


def linked_and_needed() -> tuple[list[Distribution], set[str]]:
    """What is linked, and the names of what that needs besides."""
    linked, needed, waiting = {}, set(), ["torch", "torchvision"]
    while waiting:
        name = waiting.pop()
        if not name.startswith(_LINKED):
            needed.add(name)
        elif name not in linked:
            linked[name] = distribution(name)
            texts = [text for text in requires(name) or () if "extra ==" not in text and "win32" not in text]
            waiting += [match[0] for match in map(_NAME.match, texts) if match is not None]
    return list(linked.values()), needed


def main(place: str) -> None:
    folder = Path(place).absolute()
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "uv"], check=True)
    linked, needed = linked_and_needed()
    install = [folder / "bin" / "uv", "pip", "install", "--quiet", "--python", python]
    subprocess.run([*install, "--resolution", "lowest-direct", *wanted()], check=True)
    subprocess.run([*install, *needed, *_TOOLS], check=True)
    packages = next((folder / "lib").glob("python*")) / "site-packages"
    for dist in linked:
        for top in {file.parts[0] for file in dist.files or () if file.parts[0] != ".."}:
            link, target = packages / top, Path(str(dist.locate_file(top)))
            if target.exists() and not link.exists():
                link.symlink_to(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
