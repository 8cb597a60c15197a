"""What the program reads, each with the damage that it is tried with.

A loader gets an empty folder, puts a damaged file there, and reads it as the program does. It may raise what the
program raises on purpose, `Pix2PixError`, and nothing else.
"""

from __future__ import annotations

import io
import json
import struct
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import torch

from napari_pix2pix.formats.pairing import pairs_from_csv
from pix2pix_training.checkpoint import CHECKPOINT_VERSION, load_checkpoint
from pix2pix_training.config import TrainingConfig
from pix2pix_training.in_words import card_lines
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.model_file import load_model, save_model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.presets import preset
from pix2pix_training.reference_import import import_model
from pix2pix_training.run_folder import RunFolder
from pix2pix_training.setting_options import training_config
from pix2pix_training.settings_tables import settings_from_toml, to_toml
from pix2pix_trt.engine_file import read_engine_file, write_engine_file
from tests.fuzz.image_loaders import IMAGE_LOADERS, png
from tests.fuzz.loading import Loader, document_loader, file_loader, saved_bytes
from tests.fuzz.mutation import as_json, byte_edits, edited
from tests.fuzz.output_loaders import OUTPUT_LOADERS
from tests.product.translation.conftest import random_model

# --- models and runs -------------------------------------------------------------------------------------------------


@cache
def _model_file() -> bytes:
    config = GeneratorConfig(base_width=2, depth=3, source_channels=1, target_channels=1)
    return saved_bytes(lambda path: save_model(random_model(config, InferenceConfig()), path))


def _header_of_model() -> Any:
    (length,) = struct.unpack("<Q", _model_file()[:8])
    return json.loads(json.loads(_model_file()[8 : 8 + length])["__metadata__"]["pix2pix"])


def _model_with_header(folder: Path, header: Any) -> Path:
    content = _model_file()
    (length,) = struct.unpack("<Q", content[:8])
    container = json.loads(content[8 : 8 + length])
    container["__metadata__"]["pix2pix"] = json.dumps(header)
    text = as_json(container)
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    return path


def _use_model(path: Path) -> None:
    model = load_model(path)
    list(card_lines(model))
    model.generator()


@cache
def _checkpoint() -> dict[str, Any]:
    return {
        "version": CHECKPOINT_VERSION,
        "config": asdict(_tiny_config()),
        "data": {"training": [["a", [1, 8, 8], [1, 8, 8]]], "validation": []},
        "step": 3,
        "seconds": 1.5,
        "networks": {"generator": {"weight": torch.zeros(2, 2)}, "scaler": {}},
        "random_state": {"cpu": torch.get_rng_state()},
        "best": {"step": 2, "scores": {"mae": 0.5}},
        "latest": None,
        "stale_validations": 0,
        "average": None,
        "threads": 1,
    }


def _tiny_config() -> TrainingConfig:
    return preset("seamless")


def _plain_checkpoint() -> Any:
    """The checkpoint as JSON has it, with texts in place of tensors."""
    return json.loads(json.dumps(_checkpoint(), default=lambda tensor: f"tensor {tuple(tensor.shape)}"))


def _write_checkpoint(folder: Path, document: Any) -> Path:
    torch.save(_with_tensors(document), folder / "last.pt")
    return folder / "last.pt"


def _with_tensors(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_tensors(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_with_tensors(entry) for entry in value]
    return torch.zeros(2, 2) if isinstance(value, str) and value.startswith("tensor") else value


def _checkpoint_bytes() -> bytes:
    content = io.BytesIO()
    torch.save(_checkpoint(), content)
    return content.getvalue()


@cache
def _reference_state() -> bytes:
    from pix2pix_training.reference_weights import generator_state, write_state_dict

    config = GeneratorConfig(base_width=1, depth=5, source_channels=1, target_channels=1)
    return saved_bytes(lambda path: write_state_dict(generator_state(random_model(config, InferenceConfig())), path))


def _import(path: Path) -> None:
    import_model(path, None, statistics="image", dropout="off")


_METRICS = """step,epoch,seconds,D_fake,D_real,G_GAN,G_L1,G_FM,mae,psnr,ssim,pearson
2,0,1.2,0.5,0.6,0.7,30,,0.2,20,0.5,0.9
4,0,2.5,0.4,0.6,0.8,25,,,,,
6,1,3.9,0.5,0.5,0.9,22,,0.1,25,0.6,0.95
"""


def _read_metrics(path: Path) -> None:
    RunFolder(path.parent).drop_metrics_after(4)


def _config_document() -> Any:
    return asdict(_tiny_config())


def _write_config(folder: Path, document: Any) -> Path:
    """As TOML, written by hand: a damaged tree need not be one that TOML can hold."""
    lines = []
    tables = document.items() if isinstance(document, dict) else [("patch_size", document)]
    for name, value in tables:
        if isinstance(value, dict):
            lines += [f"[{name}]", *(f"{key} = {_toml(entry)}" for key, entry in value.items() if entry is not None)]
        elif value is not None:
            lines.insert(0, f"{name} = {_toml(value)}")
    (folder / "config.toml").write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    return folder / "config.toml"


def _toml(value: Any) -> str:
    return json.dumps(value).replace("Infinity", "inf").replace("NaN", "nan")


def _use_config(path: Path) -> None:
    training_config({}, settings_from_toml(path))


def _config_bytes() -> bytes:
    return to_toml(_tiny_config()).encode()


@cache
def _engine() -> bytes:
    return saved_bytes(lambda path: write_engine_file(path, {"precision": "fp16"}, b"compiled" * 9))


# --- tables ----------------------------------------------------------------------------------------------------------

_TABLE = "source,target\na.png,b.png\nb.png,a.png\n"


def _write_table(folder: Path, edits: Any) -> Path:
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(png())
    (folder / "pairs.csv").write_bytes(edited(_TABLE.encode(), edits))
    return folder / "pairs.csv"


def _read_table(folder: Path, edits: Any) -> None:
    pairs_from_csv(_write_table(folder, edits))


LOADERS: dict[str, Loader] = {
    "model header": document_loader(_header_of_model, _model_with_header, _use_model),
    "model file": file_loader("model.safetensors", _model_file, _use_model),
    "checkpoint": document_loader(_plain_checkpoint, _write_checkpoint, load_checkpoint),
    "checkpoint file": file_loader("last.pt", _checkpoint_bytes, load_checkpoint, header=10**9),
    "reference weights": file_loader("latest_net_G.pth", _reference_state, _import, header=10**9),
    "metrics.csv": file_loader("metrics.csv", _METRICS.encode, _read_metrics, header=10**9),
    "settings": document_loader(_config_document, _write_config, _use_config),
    "config.toml": file_loader("config.toml", _config_bytes, _use_config, header=10**9),
    "engine": file_loader("model.engine", _engine, read_engine_file),
    "pairs.csv": Loader(byte_edits(len(_TABLE), len(_TABLE)), _read_table),
    **IMAGE_LOADERS,
    **OUTPUT_LOADERS,
}
