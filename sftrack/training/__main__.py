"""`python -m sftrack.training STAGE --data DIR`: trains the networks that the package ships. See weights/MODEL_CARD.md."""

import argparse
import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from sftrack.feat2seg import Feat2Seg
from sftrack.training import feat2seg
from sftrack.training.loop import Batch, FitSettings, fit


def train_feat2seg(options: argparse.Namespace) -> None:
    """Train NN_feat2seg and leave its averaged weights in the checkpoint."""
    torch.manual_seed(options.seed)
    recorded = np.load(options.recorded)["errors"] if options.recorded else None
    curriculum = feat2seg.Curriculum(options.steps, recorded=recorded)
    training, validation = feat2seg.photo_sets(options.data)
    network = Feat2Seg().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def batches(first_step: int) -> Iterable[Batch]:
        return feat2seg.batches_from(training, curriculum, batch=options.batch, seed=options.seed, first_step=first_step)

    settings = FitSettings(steps=options.steps, rate=options.rate)
    fit(network, batches, feat2seg.loss_of, settings, options.work / "feat2seg.pt", lambda net: feat2seg.validate(net, validation))


STAGES = {"feat2seg": train_feat2seg}


def main() -> None:
    """Command line of the training."""
    parser = argparse.ArgumentParser(prog="python -m sftrack.training", description=__doc__)
    parser.add_argument("stage", choices=sorted(STAGES))
    parser.add_argument("--data", type=Path, required=True, help="folder that holds train/, train_videos/ and photos/")
    parser.add_argument("--work", type=Path, default=Path("runs/training"), help="checkpoints")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of PyTorch; 1 where other work shares the cores")
    parser.add_argument("--recorded", type=Path, help="recorded errors of real channels (.npz)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(options.threads)
    STAGES[options.stage](options)


if __name__ == "__main__":
    main()
