"""`python -m benchmarks channels`: success AUC and cost of every candidate for the `light` preset."""

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.candidates import CANDIDATES
from benchmarks.recordings import CHECKOUT, evaluation_targets, record_all, shared_folder
from sftrack.config import ChannelConfig
from sftrack.datasets import read_sequence
from sftrack.metrics import success_auc
from sftrack.presets import channels_of


def main(arguments: list[str]) -> int:
    """Print the table and write it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks channels", description=__doc__)
    parser.add_argument("--shared", type=Path, help="folder with data/DAVIS and data/OTB100")
    parser.add_argument("--only", default="", help="candidates whose name contains this text")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=CHECKOUT / "runs" / "channels")
    options = parser.parse_args(arguments)
    shared = shared_folder(options.shared)
    targets = evaluation_targets(shared)
    truth = {target: read_sequence(target[0], shared / "data" / target[0], target[1]).boxes_xywh for target in targets}
    rows: list[dict[str, object]] = []
    print(f"{'candidate':55s} {'DAVIS':>6s} {'OTB':>6s} {'ms 480p':>8s} {'ms OTB':>7s}")
    for config in _candidates(options.only):
        kept = record_all([config], shared, targets, options.jobs)
        aucs = {target: success_auc(kept[config.name, target].boxes_xywh, truth[target]) for target in targets}
        cost = {target: 1000.0 * float(kept[config.name, target].seconds[1:].mean()) for target in targets}
        davis, otb = ([target for target in targets if target[0] == dataset] for dataset in ("DAVIS", "OTB100"))
        row = {
            "candidate": config.name,
            "auc_davis": float(np.mean([aucs[target] for target in davis])),
            "auc_otb": float(np.mean([aucs[target] for target in otb])),
            "ms_davis": float(np.mean([cost[target] for target in davis])),
            "ms_otb": float(np.mean([cost[target] for target in otb])),
            "auc": {name: value for (_, name), value in aucs.items()},
        }
        rows.append(row)
        print(f"{config.name:55s} {row['auc_davis']:6.3f} {row['auc_otb']:6.3f} {row['ms_davis']:8.2f} {row['ms_otb']:7.2f}", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "channels.json").write_text(json.dumps(rows, indent=1))
    return 0


def _candidates(only: str) -> list[ChannelConfig]:
    chosen = [ChannelConfig(f"light: {config.name}", config.tracker, config.params) for config in channels_of("light")]
    return [config for config in (*chosen, *CANDIDATES) if only in config.name]
