"""What benchmarks that draw, on one thread, have in common."""

import argparse
from pathlib import Path

import cv2
import torch

from benchmarks.figures import FOLDER


def figure_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of a benchmark, with `--out` for its plots."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks {name}", description=description)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for the plots")
    return parser


def one_thread() -> None:
    """For figures that do not depend on how many cores there are."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
