"""`python -m sftrack.training STAGE --data DIR`: trains the networks that the package ships. docs/training.md has the whole recipe."""

import argparse
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import nn

from sftrack.combine import CombineNet
from sftrack.errors import SFTrackError, WeightsError
from sftrack.feat2seg import Segmenter
from sftrack.feat2seg_net import Feat2Seg
from sftrack.presets import channels_of
from sftrack.seg2box import Seg2Box
from sftrack.training import feat2seg, heads, record
from sftrack.training.loop import Batch, FitSettings, fit
from sftrack.training.photos import PhotoSet
from sftrack.weights.bundled import bundled_path, save_network
from sftrack.workers import limit_library_threads

CHANNELS_LAST = torch.channels_last


def train_feat2seg(options: argparse.Namespace) -> None:
    """Train NN_feat2seg; its averaged weights are in the checkpoint."""
    recorded = heads.load_rows(options.recordings, held_out=False)["errors"].astype("float64") if options.recordings else None
    shares = {"exact_until": 0.0, "channels_from": 0.0} if options.polish else {}
    curriculum = feat2seg.Curriculum(options.steps, recorded=recorded, exact_share=options.exact_share, size_px=options.size, **shares)
    training, validation = feat2seg.photo_sets(options.data)

    def batches(first_step: int) -> Iterable[Batch]:
        return feat2seg.batches_from(training, curriculum, batch=options.batch, seed=options.seed, first_step=first_step)

    network = Feat2Seg()
    if options.nanotrack:
        feat2seg.start_from_nanotrack(network, options.nanotrack)
    if options.polish:
        network.load_state_dict(averaged(options, "feat2seg"))
    network = network.to(memory_format=CHANNELS_LAST)  # type: ignore[call-overload]
    settings = FitSettings(steps=options.steps, rate=options.rate, slow=("backbone.",))
    fit(
        network,
        batches,
        feat2seg.loss_of,
        settings,
        checkpoint(options, feat2seg_name(options)),
        lambda net: feat2seg.validate(net, validation),
    )


def record_frames(options: argparse.Namespace) -> None:
    """Run the channels of a preset on training videos, real and made up, and write down what the other networks will see."""
    network = Feat2Seg()
    network.load_state_dict(averaged(options, feat2seg_name(options)))
    segmenter, channels = Segmenter(network), channels_of(options.preset)
    taking_part = students(options) if options.students else None
    for kind in options.kinds:
        if kind == "real":
            clips = record.real_clips(options.data / "train_videos")
        else:
            clips = record.made_clips(PhotoSet(options.data, validation=False), options.clips, options.seed)
        record.record_all(clips, channels, segmenter, options.recordings[0], seed=options.seed, prefix=kind, students=taking_part)


def students(options: argparse.Namespace) -> tuple[CombineNet, Seg2Box]:
    """The networks of an earlier round."""
    combiner, reader = CombineNet(), Seg2Box()
    combiner.load_state_dict(averaged(options, "combine"))
    reader.load_state_dict(averaged(options, "seg2box"))
    return combiner, reader


def train_combine(options: argparse.Namespace) -> None:
    """Train the channel combination on recordings."""
    rows, held_out = (heads.load_rows(options.recordings, held_out=part) for part in (False, True))
    network = CombineNet()
    heads.standardise(network, rows)

    def batches(first_step: int) -> Iterator[Batch]:
        return heads.combine_batches(rows, batch=256, seed=options.seed, steps=options.steps, first_step=first_step)

    settings = FitSettings(options.steps, rate=options.rate, bfloat16=False, save_every=500)
    fit(network, batches, heads.combine_loss, settings, checkpoint(options, "combine"), lambda net: heads.validate_combine(net, held_out))


def train_seg2box(options: argparse.Namespace) -> None:
    """Train NN_seg2box on recordings."""
    rows, held_out = (heads.load_rows(options.recordings, held_out=part) for part in (False, True))

    def batches(first_step: int) -> Iterator[Batch]:
        return heads.seg2box_batches(rows, batch=options.batch, seed=options.seed, steps=options.steps, first_step=first_step)

    network = Seg2Box().to(memory_format=CHANNELS_LAST)  # type: ignore[call-overload]
    settings = FitSettings(options.steps, rate=options.rate, bfloat16=False)
    fit(network, batches, heads.seg2box_loss, settings, checkpoint(options, "seg2box"), lambda net: heads.validate_seg2box(net, held_out))


def pack(options: argparse.Namespace) -> None:
    """Write the averaged weights of all three networks into the package."""
    networks: dict[str, nn.Module] = {"feat2seg": Feat2Seg(), "combine": CombineNet(), "seg2box": Seg2Box()}
    for name, network in networks.items():
        network.load_state_dict(averaged(options, feat2seg_name(options) if name == "feat2seg" else name))
        save_network(network, bundled_path(name), {"network": name, "card": "MODEL_CARD.md", "seed": str(options.seed)})


def feat2seg_name(options: argparse.Namespace) -> str:
    """Which of the two runs of NN_feat2seg a stage writes or reads."""
    return "feat2seg_polished" if options.polish else "feat2seg"


def checkpoint(options: argparse.Namespace, name: str) -> Path:
    """Where a network's training is kept."""
    folder: Path = options.work
    return folder / f"{name}.pt"


def averaged(options: argparse.Namespace, name: str) -> dict[str, torch.Tensor]:
    """The averaged weights in a checkpoint.

    Raises:
        WeightsError: that stage has not been run.
    """
    path = checkpoint(options, name)
    if not path.is_file():
        raise WeightsError(f"expected a checkpoint at '{path}', found none; run the stage '{name}' first")
    weights: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["averaged"]
    return weights


STAGES = {"feat2seg": train_feat2seg, "record": record_frames, "combine": train_combine, "seg2box": train_seg2box, "pack": pack}


def main() -> None:
    """Command line of the training."""
    parser = argparse.ArgumentParser(prog="python -m sftrack.training", description=__doc__)
    parser.add_argument("stage", choices=list(STAGES))
    parser.add_argument("--data", type=Path, help="folder that holds train/, train_videos/ and photos/")
    parser.add_argument("--work", type=Path, default=Path("runs/training"), help="checkpoints; a stopped stage goes on from them")
    parser.add_argument("--recordings", type=Path, nargs="*", default=[], help="folders of recorded frames; 'record' writes to the first")
    parser.add_argument("--clips", type=int, default=150, help="made-up videos to record")
    parser.add_argument("--kinds", nargs="+", choices=["real", "made"], default=["real", "made"], help="videos to record")
    parser.add_argument("--preset", default="light", help="channels to record")
    parser.add_argument("--students", action="store_true", help="record with the trained combine and seg2box in two of three clips")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4400)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--size", type=int, default=128, help="feat2seg: side of the crops, pixels")
    parser.add_argument("--nanotrack", type=Path, help="feat2seg: nanotrackv3.pth, the backbone starts from it (else from random weights)")
    parser.add_argument("--exact-share", type=float, default=0.2, help="feat2seg: share of exact boxes after the first part of the run")
    parser.add_argument(
        "--polish",
        action="store_true",
        help="feat2seg: go on from the finished run with all kinds of boxes at once; record, pack: use what came of that",
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of PyTorch; 1 where other work shares the cores")
    options = parser.parse_args()
    if options.stage in ("feat2seg", "record") and options.data is None:
        parser.error(f"the stage {options.stage} needs --data, the folder that holds train/, train_videos/ and photos/")
    if options.stage in ("record", "combine", "seg2box") and not options.recordings:
        parser.error(f"the stage {options.stage} needs --recordings, one or more folders of recorded frames")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(options.threads)
    limit_library_threads(options.threads)
    torch.manual_seed(options.seed)
    try:
        STAGES[options.stage](options)
    except (SFTrackError, OSError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")


if __name__ == "__main__":
    main()
