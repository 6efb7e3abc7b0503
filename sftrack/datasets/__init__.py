"""Readers of annotated videos. Every box that leaves this package is 0-based, whatever the files of the data set say."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from sftrack.datasets.davis import davis_names, read_davis
from sftrack.datasets.got10k import got10k_names, read_got10k
from sftrack.datasets.lasot import lasot_names, read_lasot
from sftrack.datasets.nfs import nfs_names, read_nfs
from sftrack.datasets.otb import otb_names, read_otb
from sftrack.datasets.recording import Recording, record
from sftrack.datasets.sequence import Sequence, read_boxes, read_mask
from sftrack.datasets.trackingnet import read_trackingnet, trackingnet_names
from sftrack.datasets.train_videos import read_train_video, train_video_names
from sftrack.datasets.uav123 import read_uav123, uav123_names
from sftrack.errors import ConfigError

_READERS: dict[str, tuple[Callable[[Path], tuple[str, ...]], Callable[[Path, str], Sequence]]] = {
    "DAVIS": (davis_names, read_davis),
    "OTB100": (otb_names, read_otb),
    "UAV123": (uav123_names, read_uav123),
    "UAV123_10fps": (partial(uav123_names, version="UAV123_10fps"), partial(read_uav123, version="UAV123_10fps")),
    "NFS30": (nfs_names, read_nfs),
    "NFS240": (partial(nfs_names, rate=240), partial(read_nfs, rate=240)),
    "GOT-10k_val": (got10k_names, read_got10k),
    "GOT-10k_test": (partial(got10k_names, subset="test"), partial(read_got10k, subset="test")),
    "TrackingNet": (trackingnet_names, read_trackingnet),
    "LaSOT": (lasot_names, read_lasot),
    "train_videos": (train_video_names, read_train_video),
}


def sequence_names(dataset: str, root: Path) -> tuple[str, ...]:
    """Names of the sequences of a data set (`DAVIS`, `OTB100`, ...: the message of an error has all) that lie under `root`.

    Raises:
        ConfigError: unknown data set.
        SourceError: nothing of it under `root`.
    """
    return _reader_of(dataset)[0](root)


def read_sequence(dataset: str, root: Path, name: str) -> Sequence:
    """One sequence of a data set; frames are read when they are asked for.

    Raises:
        ConfigError: unknown data set.
        SourceError: files that are missing or do not fit together.
    """
    return _reader_of(dataset)[1](root, name)


def _reader_of(dataset: str) -> tuple[Callable[[Path], tuple[str, ...]], Callable[[Path, str], Sequence]]:
    if dataset not in _READERS:
        raise ConfigError(f"expected a data set out of {', '.join(_READERS)}, got '{dataset}'")
    return _READERS[dataset]


__all__ = [
    "Recording",
    "Sequence",
    "read_boxes",
    "read_mask",
    "read_sequence",
    "record",
    "sequence_names",
]
