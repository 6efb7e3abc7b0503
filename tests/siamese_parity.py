"""What the tests of SiamRPN++ and SiamBAN share: the fixtures' adjusted weights, stages, whole passes and whole tracks."""

import re
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sftrack.trackers.siamese import procedure
from sftrack.trackers.siamese.head import LEVELS, FusedHead, LevelHead, MultiLevelNetwork
from sftrack.trackers.siamese.procedure import SiameseTracker
from tests.parity import Parity, captured

BRANCH_STAGES = {"kernel": "conv_kernel", "search": "conv_search", "out": "head"}


def adjusted(parity: Parity, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The raw state with the fixture's adjustments, without which a whole pass of random weights explodes."""
    state = dict(state)
    for pattern, factor, addend in parity.meta["adjustments"]:
        for name in state:
            if re.fullmatch(pattern, name):
                state[name] = state[name] * np.float32(factor) + np.float32(addend)
    return state


def filled(network: MultiLevelNetwork, state: dict[str, Tensor]) -> MultiLevelNetwork:
    network.load_state_dict(state)
    return network.eval()


def check_branches(
    parity: Parity, prefix: str, head: FusedHead | LevelHead, name: str, run: Callable[[], tuple[Tensor, Tensor]]
) -> tuple[list[Tensor], list[Tensor]]:
    """Compare what the parts of every branch give while `run` runs the head, and `cls` and `loc` of every level, which are returned.

    `name` is how the fixture calls a level, with `{}` for its number.
    """
    numbered = zip(LEVELS, head.levels if isinstance(head, FusedHead) else [head], strict=False)
    levels = {name.format(number): level for number, level in numbered}
    inner = [f"{branch}.{part}" for branch in ("cls", "loc") for part in BRANCH_STAGES.values()]
    watched = {name: captured(level, inner) for name, level in levels.items()}
    correlations: list[Tensor] = []
    first_layers = [branch.head[0] for level in levels.values() for branch in (level.cls, level.loc)]
    hooks = [layer.register_forward_pre_hook(lambda _layer, inputs: correlations.append(inputs[0].clone())) for layer in first_layers]
    run()
    for name, (seen, own_hooks) in watched.items():
        hooks += own_hooks
        for branch in ("cls", "loc"):
            for stage, part in BRANCH_STAGES.items():
                parity.check(f"{prefix}.{name}{branch}.{stage}", seen[f"{branch}.{part}"])
            parity.check(f"{prefix}.{name}{branch}.xcorr", correlations.pop(0))
    for hook in hooks:
        hook.remove()
    assert len({stored.split("__")[0] for stored in parity.names(f"{prefix}.")}) == len(levels) * 2 * (len(BRANCH_STAGES) + 1)
    cls, loc = ([seen[f"{branch}.head"] for seen, _ in watched.values()] for branch in ("cls", "loc"))
    return cls, loc


def check_raw_head(parity: Parity, head: FusedHead | LevelHead, name: str, sides: tuple[int, int]) -> None:
    """The head alone on the fixture's feature maps of the given sides (template, search)."""
    levels = LEVELS if isinstance(head, FusedHead) else LEVELS[:1]
    templates, searches = (
        [parity.input(f"stage.head{level}.{part}.in", (1, 256, side, side)) for level in levels]
        for part, side in zip(("template", "search"), sides, strict=True)
    )
    check_branches(parity, "stage.head", head, name, lambda: head(head.kernels(templates), searches))


def check_neck(parity: Parity, neck: nn.Module, widths: Sequence[int]) -> None:
    """Neck alone; the template's map is cut to its middle."""
    for part, side in (("template", 15), ("search", 31)):
        maps = [parity.input(f"stage.neck{level}.{part}.in", (1, width, side, side)) for level, width in zip(LEVELS, widths, strict=True)]
        for level, out in zip(LEVELS, neck(maps), strict=True):
            parity.check(f"stage.neck{level}.{part}", out)


def check_fusion(parity: Parity, head: FusedHead, kind: str, outputs: tuple[int, int], *, rtol: float | None = None) -> None:
    """The fusion alone, `kind` `weighted` or `mean`."""
    cls, loc = (
        [parity.input(f"stage.fusion.{name}{level}.in", (1, n, 25, 25)) for level in LEVELS]
        for name, n in zip(("cls", "loc"), outputs, strict=True)
    )
    for name, fused in zip(("cls", "loc"), head.fuse(cls, loc), strict=True):
        parity.check(f"stage.fusion_{kind}.{name}", fused)
        if rtol is not None:
            np.testing.assert_allclose(fused, parity[f"stage.fusion_{kind}.{name}"], rtol=rtol, atol=1e-6)


def check_chain(parity: Parity, network: MultiLevelNetwork, head: FusedHead | LevelHead, name: str) -> None:
    """A whole pass on the adjusted state, all stages of it, and where levels are fused also their plain mean."""
    with torch.inference_mode():
        sides = {"template": 127, "search": parity.meta["instance_size"]}
        of_neck = []
        for part, side in sides.items():
            maps = network.backbone(255 * parity.input(f"chain.image.{part}", (1, 3, side, side), "uniform"))
            of_neck.append(network.neck(maps))
            if isinstance(head, LevelHead):
                parity.check(f"chain.backbone.{part}", maps[0])
                continue
            for level, before, after in zip(LEVELS, maps, of_neck[-1], strict=True):
                parity.check(f"chain.backbone{level}.{part}", before)
                parity.check(f"chain.neck{level}.{part}", after)
        result: list[Tensor] = []

        def run() -> tuple[Tensor, Tensor]:
            result.extend(head(head.kernels(of_neck[0]), of_neck[1]))
            return result[0], result[1]

        levels = check_branches(parity, "chain.head", head, name, run)
        check_maps(parity, "", result)
        if isinstance(head, FusedHead) and head.cls_weight is not None:
            head.cls_weight = head.loc_weight = None
            check_maps(parity, "_mean", head.fuse(*levels))


def check_maps(parity: Parity, suffix: str, maps: Sequence[Tensor]) -> None:
    """The two maps at the end of a whole pass."""
    for name, values in zip(("cls", "loc"), maps, strict=True):
        parity.check(f"chain.{name}{suffix}", values)


def check_track(tracker: SiameseTracker, parity: Parity, experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Follow the fixture's target over its frames: crops to the pixel, choices exact, boxes within 0.01 pixel."""
    expected = {stored.split(".", 2)[2]: parity[stored] for stored in parity.names(f"trace.{experiment}.")}
    crops: list[np.ndarray] = []
    sides: list[int] = []
    choices: list[procedure.Choice] = []
    original_crop, original_choose = procedure.crop_square, procedure.choose

    def crop(image: np.ndarray, center: np.ndarray, side: int, *others: object) -> np.ndarray:
        sides.append(side)
        crops.append(original_crop(image, center, side, *others))  # type: ignore[arg-type]
        return crops[-1]

    def choose(*arguments: object) -> procedure.Choice:
        choices.append(original_choose(*arguments))  # type: ignore[arg-type]
        return choices[-1]

    monkeypatch.setattr(procedure, "crop_square", crop)
    monkeypatch.setattr(procedure, "choose", choose)
    images = [parity.frame_bgr(int(number)) for number in parity["trace.frame_numbers"]]
    for image, checksum in zip(images, parity["trace.frame_crc32_bgr"], strict=True):
        assert zlib.crc32(image.tobytes()) == checksum, "the JPEG decoder differs from the one of the fixtures"
    given = expected["init_box_xywh"] if "init_box_xywh" in expected else parity["trace.init_box_xywh"]
    start = given - np.array([0.5, 0.5, 0.0, 0.0])  # the fixtures' convention has the centre at x + (w - 1) / 2
    tracker.init(np.ascontiguousarray(images[0][..., ::-1]), start)
    for index, image in enumerate(images[1:], start=1):
        estimate = tracker.update(np.ascontiguousarray(image[..., ::-1]))
        np.testing.assert_allclose(estimate.box_xywh, expected["boxes"][index], atol=0.01, rtol=0)
        assert estimate.score == pytest.approx(expected["best_score"][index], abs=1e-4)
        np.testing.assert_allclose(tracker._center, expected["center"][index], atol=0.01, rtol=0)
        np.testing.assert_allclose(tracker._size, expected["size"][index], atol=0.01, rtol=0)
    assert [choice.index for choice in choices] == expected["best_index"][1:].tolist()
    assert sides == expected["search_size"].tolist()
    assert [zlib.crc32(np.ascontiguousarray(crop[..., ::-1]).tobytes()) for crop in crops] == expected["crop_crc32"].tolist()
