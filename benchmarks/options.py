"""What benchmarks that draw, that run on one thread, or that run on a GPU have in common."""

import argparse
from pathlib import Path

import torch

from benchmarks.figures import FOLDER
from sftrack.arguments import a_path
from sftrack.config import resolve_device
from sftrack.errors import ConfigError


def figure_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of a benchmark, with `--out` for its plots."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks {name}", description=description)
    parser.add_argument("--out", type=_folder, default=FOLDER, help="folder for the plots")
    return parser


def _folder(text: str) -> Path:
    folder = a_path(text)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"expected a folder that exists or can be made, got '{text}': {error.strerror}") from error
    return folder


def add_device(parser: argparse.ArgumentParser) -> None:
    """`--device`, by name or `auto`."""
    parser.add_argument("--device", type=_device, default="cpu", help="cpu (default), cuda, cuda:1, mps or auto")


def _device(name: str) -> str:
    try:
        return resolve_device(name)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def synchronise(device: str) -> None:
    """Wait until a GPU has done all that was given to it, so that a clock may be read."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()


def device_name(device: str) -> str:
    """What figures are headed with."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device
