"""The whole flow on generated clips with known truth.

Two set-ups: the real one (light channels, bundled networks) says whether it tracks; one with scripted channels and stand-ins for the
networks says what the pipeline does with what it is told, whatever the networks have learned.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from sftrack import PipelineConfig, SFTracker
from sftrack.boxes import iou
from sftrack.combine import Combiner
from sftrack.contracts import BoxXYWH, Estimate, ImageRGB, RegionMask, Tracker, TrackResult
from sftrack.errors import BoxError, ConfigError, FrameError, NotInitialisedError
from sftrack.feat2seg import Segmentations, Segmenter
from sftrack.feat2seg_net import Feat2Seg
from sftrack.pipeline import OUTVOTED_AFTER
from sftrack.presets import LIGHT
from sftrack.seg2box import BoxEvidence, BoxReader
from sftrack.sources.demo import DemoSource
from sftrack.trackers import create
from sftrack.window import rasterise
from tests.targets import SIZE_WH, Clip, Scene, Scripted, clip_along, straight_clip

CLIP = straight_clip(24)
STATES = ("tracking", "uncertain", "lost")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small networks on small pictures: more threads only get in each other's way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class EvenCombiner(Combiner):
    """All channels count the same and are right."""

    def __init__(self) -> None:
        pass

    def weigh(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.ones(len(features)), np.full(len(features), 1.0 / len(features))


class BlindCombiner(EvenCombiner):
    """Believes the last channel and no other."""

    def weigh(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        belief = np.eye(len(features))[-1]
        return belief, belief + 1e-6


class VoteReader(BoxReader):
    """The box is where at least half of the votes are; the score is what the test says."""

    def __init__(self) -> None:
        self.score = 1.0
        self.box_xywh: BoxXYWH | None = None

    def prepare(self, size_wh: tuple[int, int]) -> None:
        pass

    def read(self, evidence: BoxEvidence) -> tuple[BoxXYWH, float]:
        if self.box_xywh is not None:
            return self.box_xywh.copy(), self.score
        ys, xs = np.nonzero(evidence.votes >= 0.5 * evidence.votes.max())
        box = np.array([xs.min(), ys.min(), xs.max() + 1 - xs.min(), ys.max() + 1 - ys.min()], dtype=np.float64)
        return box, self.score


class ScriptedTracker(SFTracker):
    """The pipeline with stand-ins for the networks."""

    def __init__(self, channels: Mapping[str, Tracker], config: PipelineConfig | None = None) -> None:
        torch.manual_seed(0)
        self.reader = VoteReader()
        segmenter = Segmenter(Feat2Seg((8, 8, 16, 16)))
        super().__init__(channels, config, segmenter=segmenter, combiner=EvenCombiner(), box_reader=self.reader)


def following(clip: Clip = CLIP, offset_xy: tuple[float, float] = (0.0, 0.0)) -> Scripted:
    """A channel that says the truth, or something beside it."""
    return Scripted(list(clip.boxes_xywh[1:] + np.array([*offset_xy, 0.0, 0.0])))


def check(result: TrackResult, channels: int, size_wh: tuple[int, int] = SIZE_WH) -> None:
    """What every result promises."""
    assert result.box_xywh.shape == (4,)
    assert result.box_xywh.dtype == np.float64
    assert np.isfinite(result.box_xywh).all()
    assert (result.box_xywh[2:] > 0).all()
    x, y, w, h = result.box_xywh
    assert x < size_wh[0]
    assert y < size_wh[1]
    assert x + w > 0
    assert y + h > 0
    assert 0.0 <= result.score <= 1.0
    assert result.state in STATES
    assert len(result.channels) == channels
    weights = [channel.weight for channel in result.channels]
    assert all(0.0 <= weight <= 1.0 + 1e-9 for weight in weights)
    assert sum(weights) == pytest.approx(1.0, abs=1e-5) or not any(weights)
    for channel in result.channels:
        assert 0.0 <= channel.score <= 1.0
        if channel.box_xywh is None:
            assert channel.weight == 0.0
    assert {"channels", "total"} <= set(result.timings_s)
    assert all(seconds >= 0.0 for seconds in result.timings_s.values())
    stages = sum(seconds for stage, seconds in result.timings_s.items() if stage != "total")
    assert stages <= result.timings_s["total"] + 1e-3


def run(tracker: SFTracker, clip: Clip) -> list[TrackResult]:
    """Results of all frames, the first included."""
    return [tracker.init(clip.images_rgb[0], clip.boxes_xywh[0]), *(tracker.update(image) for image in clip.images_rgb[1:])]


def overlaps(results: list[TrackResult], boxes_xywh: np.ndarray) -> np.ndarray:
    return iou(np.array([result.box_xywh for result in results]), boxes_xywh)


# --- the real thing -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("view", "frames"), [("crop", 24), ("frame", 10)])
def test_the_light_preset_follows_a_target(view: str, frames: int) -> None:
    with SFTracker.from_preset("light", device="cpu", config=PipelineConfig(view=view)) as tracker:  # type: ignore[arg-type]
        results = run(tracker, Clip(CLIP.images_rgb[:frames], CLIP.boxes_xywh[:frames]))
        names = tracker.channel_names
    for result in results:
        check(result, channels=len(LIGHT))
        assert tuple(channel.name for channel in result.channels) == names
    assert {"feat2seg", "spectral", "seg2box"} <= set(results[-1].timings_s)
    assert overlaps(results[1:], CLIP.boxes_xywh[1:frames]).mean() > (0.65 if view == "crop" else 0.5)
    assert [result.state for result in results].count("lost") == 0


def test_the_light_preset_follows_the_demo_clip() -> None:
    source = DemoSource(max_frames=20)
    with SFTracker.from_preset("light", device="cpu") as tracker:
        results, true = [], []
        for frame in source:
            image = frame.image_rgb
            results.append(tracker.update(image) if tracker.started else tracker.init(image, source.start_box_xywh))
            true.append(source.truth_xywh(frame.index))
            check(results[-1], channels=len(LIGHT), size_wh=source.frame_size_wh)
    assert overlaps(results, np.array(true))[1:].mean() > 0.65


def test_a_target_that_went_away_is_lost_and_picked_up_when_it_comes_back() -> None:
    seen = [(60.0 + 3.0 * t, 60.0 + t) for t in range(10)]
    back = [(96.0 + 2.0 * t, 76.0) for t in range(12)]
    clip = clip_along([*seen, *[None] * 16, *back])
    with SFTracker.from_preset("light", device="cpu") as tracker:
        results = run(tracker, clip)
    states = [result.state for result in results]
    assert "tracking" not in states[12:26], "it is not there"
    assert states[25] == "lost"
    assert states[-1] == "tracking"
    assert overlaps(results[-6:], clip.boxes_xywh[-6:]).min() > 0.5
    for result in results:
        check(result, channels=len(LIGHT))


def test_the_real_networks_side_with_the_channels_that_are_right() -> None:
    """Three that are about right against two that agree on a place where nothing is."""
    channels = {
        "a": following(offset_xy=(2.0, 1.0)),
        "b": following(offset_xy=(-2.0, 2.0)),
        "wrong": following(offset_xy=(70.0, 40.0)),
        "c": following(offset_xy=(1.0, -3.0)),
        "too": following(offset_xy=(72.0, 41.0)),
    }
    short = Clip(CLIP.images_rgb[:12], CLIP.boxes_xywh[:12])
    with SFTracker(channels) as tracker:
        results = run(tracker, short)
    assert overlaps(results[1:], short.boxes_xywh[1:]).mean() > 0.65
    for result in results[2:]:
        weights = {channel.name: channel.weight for channel in result.channels}
        assert weights["wrong"] + weights["too"] < 0.25


def test_the_refined_mask_covers_the_object_in_frame_coordinates() -> None:
    with SFTracker({"a": following(), "b": following(offset_xy=(2.0, 1.0))}) as tracker:
        tracker.init(CLIP.images_rgb[0], CLIP.boxes_xywh[0])
        for image in CLIP.images_rgb[1:6]:
            result = tracker.update(image, with_mask=True)
    assert result.mask is not None
    _, true = Scene().render((60.0 + 3.0 * 5, 50.0 + 1.5 * 5))
    found = result.mask > 0.5
    assert (found & true).sum() / (found | true).sum() > 0.75


# --- what the pipeline does with what it is told --------------------------------------------------------------------------------------

MakeTracker = Callable[..., ScriptedTracker]


@pytest.fixture
def tracker_of() -> Iterator[MakeTracker]:
    """Makes scripted pipelines that are closed after the test."""
    made: list[ScriptedTracker] = []

    def make(channels: Mapping[str, Tracker] | None = None, **settings: object) -> ScriptedTracker:
        made.append(ScriptedTracker(channels or {"a": following(), "b": following()}, PipelineConfig(**settings)))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for tracker in made:
        tracker.close()


@pytest.mark.parametrize("view", ["crop", "frame"])
def test_every_result_keeps_its_promises(tracker_of: MakeTracker, view: str) -> None:
    results = run(tracker_of(view=view), CLIP)
    for result in results:
        check(result, channels=2)
    assert {"feat2seg", "spectral", "seg2box"} <= set(results[-1].timings_s)
    assert overlaps(results, CLIP.boxes_xywh).min() > 0.7
    assert {result.state for result in results} == {"tracking"}


def test_the_first_result_is_the_given_box(tracker_of: MakeTracker) -> None:
    result = tracker_of().init(CLIP.images_rgb[0], np.array([-10.0, 20.0, 40.0, 30.0]))
    np.testing.assert_array_equal(result.box_xywh, [0.0, 20.0, 30.0, 30.0])
    assert (result.score, result.state) == (1.0, "tracking")


def test_on_the_first_frame_each_channel_that_started_is_at_the_given_box(tracker_of: MakeTracker) -> None:
    tracker = tracker_of({"a": following(), "late": Scripted([CLIP.boxes_xywh[1]], failing_inits=1), "b": following()})
    a, late, b = tracker.init(CLIP.images_rgb[0], CLIP.boxes_xywh[0]).channels
    for channel in (a, b):
        np.testing.assert_array_equal(channel.box_xywh, CLIP.boxes_xywh[0])
        assert (channel.score, channel.weight, channel.failures, channel.error) == (1.0, 0.0, 0, None)
    assert late.box_xywh is None
    assert late.error == "RuntimeError: no start today"


@pytest.mark.parametrize(("expected", "readable", "share"), [(1.0, 1.0, 0.5), (1.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 0.9, 0.769)])
def test_the_channels_boxes_have_their_share_in_the_fused_one(
    tracker_of: MakeTracker, expected: float, readable: float, share: float
) -> None:
    """The reader says something else than the channels, of which all are right, so that it shows who was listened to."""
    offsets = (-6.0, 4.0)
    tracker = tracker_of({str(offset): following(offset_xy=(offset, offset / 2)) for offset in offsets})
    tracker.reader.box_xywh, tracker.reader.score = np.array([20.0, 30.0, 40.0, 50.0]), expected
    tracker.init(CLIP.images_rgb[0], CLIP.boxes_xywh[0])
    assert tracker._target is not None
    tracker._target.readable = readable
    result = tracker.update(CLIP.images_rgb[1])
    boxes = np.array([channel.box_xywh for channel in result.channels])
    assert tracker.last_step is not None
    read = tracker.last_step.window.to_frame(tracker.reader.box_xywh)
    voted = np.array([channel.weight for channel in result.channels]) @ boxes
    np.testing.assert_allclose(result.box_xywh, share * voted + (1.0 - share) * read, atol=0.02)


@pytest.mark.parametrize(("part", "readable"), [(1.0, 1.0), (0.9, 1.0), (0.5, 0.625), (0.0, 0.0)])
def test_what_the_first_segmentation_misses_of_the_box_says_how_far_later_ones_are_read(
    tracker_of: MakeTracker, monkeypatch: pytest.MonkeyPatch, part: float, readable: float
) -> None:
    tracker = tracker_of()

    def left_part(crop: np.ndarray, boxes: np.ndarray, *_: object) -> Segmentations:
        return Segmentations(rasterise(boxes * [1.0, 1.0, part, 1.0], crop.shape[1::-1]), np.ones((1, 8), np.float32))

    monkeypatch.setattr(tracker._segmenter, "segment", left_part)
    tracker.init(CLIP.images_rgb[0], CLIP.boxes_xywh[0])
    assert tracker._target is not None
    assert tracker._target.readable == pytest.approx(readable, abs=0.04)


@pytest.mark.parametrize("view", ["crop", "frame"])
def test_masks_come_in_frame_coordinates_and_only_where_asked_for(tracker_of: MakeTracker, view: str) -> None:
    tracker = tracker_of(view=view)
    first = tracker.init(CLIP.images_rgb[0], CLIP.boxes_xywh[0], with_mask=True)
    second = tracker.update(CLIP.images_rgb[1], with_mask=True)
    assert tracker.update(CLIP.images_rgb[2]).mask is None
    for result in (first, second):
        assert result.mask is not None
        assert result.mask.dtype == np.float32
        assert result.mask.shape == (SIZE_WH[1], SIZE_WH[0])
        assert 0.0 <= result.mask.min() <= result.mask.max() <= 1.0


def segmenting(clip: Clip, values: np.ndarray) -> Scripted:
    """A channel that says the truth and has a mask of its own: the values, spread over the box."""
    return Scripted([Estimate(box, 0.9, RegionMask(values, box)) for box in clip.boxes_xywh[1:]])


@pytest.mark.parametrize("view", ["crop", "frame"])
def test_the_mask_of_a_tracker_that_segments_stands_in_for_the_networks(tracker_of: MakeTracker, view: str) -> None:
    half = np.zeros((20, 20), np.float32)
    half[:, :10] = 1.0
    tracker = tracker_of({"plain": following(), "segments": segmenting(CLIP, half)}, view=view)
    tracker.init(CLIP.images_rgb[0], CLIP.boxes_xywh[0])
    tracker.update(CLIP.images_rgb[1])
    assert tracker.last_step is not None
    evidence = tracker.last_step.evidence
    x, y, w, h = evidence.boxes_xywh[1]
    left = rasterise(np.array([[x, y, w / 2, h]]), tracker.last_step.window.size_wh)[0]
    assert np.abs(evidence.masks[1] - left).mean() < 0.01
    assert np.abs(evidence.masks[0] - left).mean() > 0.05
    np.testing.assert_allclose(np.linalg.norm(evidence.descriptors, axis=1), 1.0, atol=1e-3)


def test_the_track_goes_on_when_every_channel_segments_or_one_sees_nothing_of_the_target(tracker_of: MakeTracker) -> None:
    for values in (np.ones((8, 8), np.float32), np.zeros((8, 8), np.float32)):
        channels = {name: segmenting(CLIP, values) for name in "ab"}
        for result in run(tracker_of(channels), CLIP):
            check(result, channels=2)
    results = run(tracker_of({"a": following(), "blind": segmenting(CLIP, np.zeros((8, 8), np.float32))}), CLIP)
    assert overlaps(results, CLIP.boxes_xywh).min() > 0.7


def test_images_are_not_changed(tracker_of: MakeTracker) -> None:
    before = [image.copy() for image in CLIP.images_rgb[:4]]
    run(tracker_of(), Clip(CLIP.images_rgb[:4], CLIP.boxes_xywh[:4]))
    for image, copy in zip(CLIP.images_rgb, before, strict=False):
        np.testing.assert_array_equal(image, copy)


def test_update_before_init_says_what_to_do(tracker_of: MakeTracker) -> None:
    tracker = tracker_of()
    assert not tracker.started
    with pytest.raises(NotInitialisedError, match="call init"):
        tracker.update(CLIP.images_rgb[0])


def test_a_frame_of_another_size_is_refused_and_the_track_goes_on(tracker_of: MakeTracker) -> None:
    tracker = tracker_of()
    tracker.init(CLIP.images_rgb[0], CLIP.boxes_xywh[0])
    with pytest.raises(FrameError, match="like the first one"):
        tracker.update(CLIP.images_rgb[1][:-2])
    check(tracker.update(CLIP.images_rgb[1]), channels=2)


def test_a_refused_start_leaves_the_running_track_alone(tracker_of: MakeTracker) -> None:
    tracker = tracker_of()
    tracker.init(CLIP.images_rgb[0], CLIP.boxes_xywh[0])
    with pytest.raises(BoxError):
        tracker.init(np.zeros((500, 500, 3), np.uint8), np.array([600.0, 0.0, 10.0, 10.0]))
    result = tracker.update(CLIP.images_rgb[1])
    assert float(iou(result.box_xywh, CLIP.boxes_xywh[1])) > 0.7


def test_after_a_start_that_no_channel_could_make_there_is_no_track(tracker_of: MakeTracker) -> None:
    """Half of each target would be worse than none: the channels of the old one are gone, the size of the frame is the new one's."""

    class Picky(Scripted):
        def init(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
            if self.started_on:
                raise ConfigError("only once")
            super().init(image_rgb, box_xywh)

    tracker = tracker_of({"picky": Picky(list(CLIP.boxes_xywh[1:]))})
    tracker.init(CLIP.images_rgb[0], CLIP.boxes_xywh[0])
    other = np.zeros((90, 120, 3), np.uint8)
    with pytest.raises(ConfigError, match="only once"):
        tracker.init(other, np.array([10.0, 10.0, 30.0, 30.0]))
    assert not tracker.started
    for image in (other, CLIP.images_rgb[1]):
        with pytest.raises(NotInitialisedError):
            tracker.update(image)


def test_knowing_the_next_frame_changes_no_result(tracker_of: MakeTracker) -> None:
    """Also where a channel is started again, after it went on to the next frame already."""

    class Stray:
        """Beside the target, on whichever frame it is asked about."""

        def init(self, image_rgb: ImageRGB, box_xywh: BoxXYWH) -> None:
            pass

        def update(self, image_rgb: ImageRGB) -> Estimate:
            index = next(i for i, image in enumerate(CLIP.images_rgb) if image is image_rgb)
            return Estimate(CLIP.boxes_xywh[index] + np.array([60.0, 0.0, 0.0, 0.0]), 0.9)

    boxes = []
    for announce in (False, True):
        tracker = tracker_of({"template": create("template"), "flow": create("flow"), "stray": Stray()})
        tracker.init(CLIP.images_rgb[0], CLIP.boxes_xywh[0])
        results = [
            tracker.update(image, upcoming_rgb=upcoming if announce else None)
            for image, upcoming in zip(CLIP.images_rgb[1:], [*CLIP.images_rgb[2:], None], strict=True)
        ]
        assert results[-1].channels[2].restarts > 0
        boxes.append([result.box_xywh for result in results])
    np.testing.assert_array_equal(*boxes)


def test_starting_again_forgets_the_first_track(tracker_of: MakeTracker) -> None:
    class Here(Scripted):
        """Stays where it was started."""

        def update(self, image_rgb: ImageRGB):  # noqa: ANN202
            self.answers = [self.started_on[-1]]
            return super().update(image_rgb)

    used = tracker_of({"a": Here([]), "b": Here([])})
    used.reader.score = 0.1
    run(used, Clip(CLIP.images_rgb[:8], CLIP.boxes_xywh[:8]))
    used.reader.score = 1.0
    fresh = tracker_of({"a": Here([]), "b": Here([])})
    larger = clip_along([(100.0, 70.0)] * 5, Scene(size_wh=(320, 200)))
    for again, first in zip(run(used, larger), run(fresh, larger), strict=True):
        np.testing.assert_allclose(again.box_xywh, first.box_xywh)
        assert (again.score, again.state) == (first.score, first.state)
        for one, other in zip(again.channels, first.channels, strict=True):
            assert (one.failures, one.restarts, one.weight) == (other.failures, other.restarts, other.weight)


def test_the_results_of_a_tracker_do_not_depend_on_another_one() -> None:
    """Interleaved with another one on another clip, a tracker gives what it gives alone."""

    def results_of(partner: bool) -> list[np.ndarray]:
        other_clip = straight_clip(6, step_xy=(-4.0, 1.0), start_xy=(150.0, 60.0))
        with SFTracker.from_preset("light", device="cpu") as one, SFTracker.from_preset("light", device="cpu") as other:
            boxes = []
            for t in range(6):
                for tracker, clip in ((one, CLIP), *([(other, other_clip)] if partner else [])):
                    image = clip.images_rgb[t]
                    result = tracker.update(image) if tracker.started else tracker.init(image, clip.boxes_xywh[0])
                    if tracker is one:
                        boxes.append(result.box_xywh)
        return boxes

    np.testing.assert_allclose(results_of(partner=True), results_of(partner=False), atol=1e-6)


def test_closing_ends_all_threads_and_may_be_repeated() -> None:
    before = set(threading.enumerate())
    tracker = ScriptedTracker({"a": following()})
    run(tracker, Clip(CLIP.images_rgb[:3], CLIP.boxes_xywh[:3]))
    assert set(threading.enumerate()) - before
    tracker.close()
    tracker.close()
    assert not set(threading.enumerate()) - before


def test_a_file_of_boxes_can_be_a_channel(tracker_of: MakeTracker, tmp_path: Path) -> None:
    path = tmp_path / "boxes.txt"
    np.savetxt(path, CLIP.boxes_xywh, delimiter=",")
    result = run(tracker_of({"recorded": create("replay", path=path)}), CLIP)[-1]
    check(result, channels=1)
    assert float(iou(result.box_xywh, CLIP.boxes_xywh[-1])) > 0.7
    np.testing.assert_allclose(result.channels[0].box_xywh, CLIP.boxes_xywh[-1])


@pytest.mark.parametrize("answer", [RuntimeError("broken"), (np.nan, 0, 10, 10), (10, 10, 0, 0), (9999, 0, 10, 10)])
def test_a_failing_channel_is_shown_with_its_reason_and_the_others_go_on(tracker_of: MakeTracker, answer: object) -> None:
    results = run(tracker_of({"good": following(), "bad": Scripted([answer]), "fine": following()}), CLIP)
    for count, result in enumerate(results[1:], start=1):
        good, bad, _ = result.channels
        assert bad.box_xywh is None
        assert bad.error
        assert "\n" not in bad.error
        assert bad.failures == count
        assert (bad.score, bad.weight, good.weight) == (0.0, 0.0, 0.5)
    assert overlaps(results, CLIP.boxes_xywh).min() > 0.7


def test_a_channel_that_cannot_start_comes_in_later(tracker_of: MakeTracker) -> None:
    late = Scripted([CLIP.boxes_xywh[5]], failing_inits=1)
    results = run(tracker_of({"good": following(), "late": late}), CLIP)
    assert results[1].channels[1].error == "RuntimeError: no start today"
    assert results[1].channels[1].box_xywh is None
    last = results[-1].channels[1]
    assert last.box_xywh is not None
    assert last.error is None
    assert last.failures == sum(result.channels[1].box_xywh is None for result in results) > 1
    assert last.restarts >= 1


def test_a_channel_that_stays_off_the_target_goes_back_to_it(tracker_of: MakeTracker) -> None:
    astray = following(offset_xy=(90.0, 50.0))
    tracker = tracker_of({"a": following(), "b": following(), "astray": astray}, restart_after=4)
    results = run(tracker, CLIP)
    restarts = [result.channels[2].restarts for result in results]
    assert restarts[3] == 0, "not at once"
    assert restarts[-1] >= 1
    assert [channel.restarts for channel in results[-1].channels[:2]] == [0, 0]
    assert float(iou(astray.started_on[-1], CLIP.boxes_xywh).max()) > 0.6, "from the fused box"


def test_a_tracker_without_channels_or_closed_says_so(tracker_of: MakeTracker) -> None:
    with pytest.raises(ConfigError, match="at least one channel"):
        SFTracker({})
    tracker = tracker_of({"a": following()})
    tracker.init(CLIP.images_rgb[0], CLIP.boxes_xywh[0])
    tracker.close()
    for use in (lambda: tracker.update(CLIP.images_rgb[1]), lambda: tracker.init(CLIP.images_rgb[0], CLIP.boxes_xywh[0])):
        with pytest.raises(NotInitialisedError, match="closed"):
            use()


def test_an_upcoming_frame_of_another_size_is_refused_before_anything_is_done(tracker_of: MakeTracker) -> None:
    channel = following()
    tracker = tracker_of({"a": channel})
    tracker.init(CLIP.images_rgb[0], CLIP.boxes_xywh[0])
    with pytest.raises(FrameError, match="expected"):
        tracker.update(CLIP.images_rgb[1], upcoming_rgb=CLIP.images_rgb[2][:-4])
    np.testing.assert_allclose(tracker.update(CLIP.images_rgb[1]).channels[0].box_xywh, CLIP.boxes_xywh[1])  # type: ignore[arg-type]


def test_channels_that_agree_for_some_frames_outvote_what_the_combination_believes(
    tracker_of: MakeTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = tracker_of({"a": following(), "b": following(), "believed": following(offset_xy=(90.0, 50.0))}, restart_after=99)
    monkeypatch.setattr(tracker, "_combiner", BlindCombiner())
    right = overlaps(run(tracker, CLIP), CLIP.boxes_xywh)
    off = slice(1, 1 + OUTVOTED_AFTER)
    assert right[off].max() < 0.2, "not at once"
    assert right[off.stop] > 0.5


def test_half_of_the_channels_outvote_nobody(tracker_of: MakeTracker, monkeypatch: pytest.MonkeyPatch) -> None:
    away = {"other": following(offset_xy=(-60.0, 40.0)), "believed": following(offset_xy=(90.0, 50.0))}
    tracker = tracker_of({"a": following(), "b": following()} | away, restart_after=99)
    monkeypatch.setattr(tracker, "_combiner", BlindCombiner())
    assert overlaps(run(tracker, CLIP), CLIP.boxes_xywh)[1:].max() < 0.2


def test_a_channel_that_keeps_failing_is_started_again(tracker_of: MakeTracker) -> None:
    broken = Scripted([RuntimeError("broken")])
    results = run(tracker_of({"good": following(), "broken": broken}, restart_after=4), CLIP)
    assert 1 <= results[-1].channels[1].restarts <= 6
    assert len(broken.started_on) == 1 + results[-1].channels[1].restarts


def test_no_channel_is_sent_to_a_doubtful_box(tracker_of: MakeTracker) -> None:
    tracker = tracker_of({"a": following(), "b": following(), "astray": following(offset_xy=(90.0, 50.0))}, restart_after=3, lost_after=99)
    tracker.reader.score = 0.05
    assert [channel.restarts for channel in run(tracker, CLIP)[-1].channels] == [0, 0, 0]


def without_target(frames: int) -> list[ImageRGB]:
    return clip_along([None] * frames).images_rgb


def test_when_all_channels_fail_the_target_is_lost_and_the_box_stays_sound(tracker_of: MakeTracker) -> None:
    tracker = tracker_of({name: Scripted([RuntimeError("broken")]) for name in "ab"}, lost_after=3)
    tracker.init(CLIP.images_rgb[0], CLIP.boxes_xywh[0])
    results = [tracker.update(image) for image in without_target(8)]
    for result in results:
        check(result, channels=2)
        assert [channel.weight for channel in result.channels] == [0.0, 0.0]
        assert result.score == 0.0
    assert results[-1].state == "lost"
    np.testing.assert_array_equal(results[-1].box_xywh, CLIP.boxes_xywh[0])
    assert "search" in results[-1].timings_s


def test_a_target_is_lost_after_some_bad_frames_in_a_row_not_after_one(tracker_of: MakeTracker) -> None:
    tracker = tracker_of({"a": Scripted([CLIP.boxes_xywh[0]])}, lost_after=4)
    tracker.init(CLIP.images_rgb[0], CLIP.boxes_xywh[0])
    states = []
    for index, image in enumerate(without_target(12)):
        tracker.reader.score = 1.0 if index == 3 else 0.01
        states.append(tracker.update(image).state)
    assert states == ["uncertain"] * 3 + ["tracking"] + ["uncertain"] * 3 + ["lost"] * 5


def test_while_lost_the_box_is_the_last_good_one_wherever_the_channels_go(tracker_of: MakeTracker) -> None:
    away = straight_clip(16, step_xy=(8.0, 3.0))
    tracker = tracker_of({"a": following(away), "b": following(away)}, lost_after=3)
    tracker.init(away.images_rgb[0], away.boxes_xywh[0])
    results = []
    for index, image in enumerate([*away.images_rgb[1:4], *without_target(10)]):
        tracker.reader.score = 1.0 if index < 3 else 0.01
        results.append(tracker.update(image))
    states = [result.state for result in results]
    assert states == ["tracking"] * 3 + ["uncertain"] * 2 + ["lost"] * 8
    last_good = results[2].box_xywh  # of the last frame that was not doubtful
    for result in results[states.index("lost") :]:
        np.testing.assert_array_equal(result.box_xywh, last_good)
    gone_to = results[-1].channels[0].box_xywh
    assert gone_to is not None
    assert abs(gone_to[0] - last_good[0]) > 30.0


def test_a_lost_target_is_searched_for_and_the_channels_start_where_it_is_found(tracker_of: MakeTracker) -> None:
    scene = Scene()
    channel = Scripted([scene.box((60.0, 50.0))])
    tracker = tracker_of({"a": channel}, lost_after=2)
    tracker.init(scene.render((60.0, 50.0))[0], np.array(scene.box((60.0, 50.0)), dtype=np.float64))
    tracker.reader.score = 0.01
    for image in without_target(3):
        assert tracker.update(image).state in ("uncertain", "lost")
    there = scene.render((170.0, 100.0))[0]
    for _ in range(25):
        result = tracker.update(there)
        if len(channel.started_on) > 1:
            break
    true = np.array(scene.box((170.0, 100.0)), dtype=np.float64)
    assert float(iou(channel.started_on[-1], true)) > 0.5
    assert float(iou(result.box_xywh, true)) > 0.5
    assert result.state == "uncertain", "found, but not yet confirmed"
    channel.answers = [true]
    tracker.reader.score = 1.0
    assert tracker.update(there).state == "tracking"


@pytest.mark.parametrize(
    "box",
    [(-40.0, -40.0, 200.0, 200.0), (60.0, 60.0, 1.0, 1.0), (150.0, 150.0, 30.0, 30.0), (-60.0, 20.0, 10.0, 10.0)],
    ids=["ever larger", "ever smaller", "ever further right", "ever further left"],
)
def test_a_box_network_gone_wrong_cannot_take_the_tracker_along(tracker_of: MakeTracker, box: tuple[float, ...]) -> None:
    """Its box decides the next crop: an error that feeds itself must stay within bounds of memory and of the frame."""

    class Copycat(Scripted):
        """Says what the pipeline said last."""

        def update(self, image_rgb: ImageRGB):  # noqa: ANN202
            self.answers = [tracker._target.box_xywh if tracker._target else self.started_on[-1]]
            return super().update(image_rgb)

    tracker = tracker_of({"a": Copycat([])})
    tracker.reader.box_xywh = np.array(box)
    for result in run(tracker, Clip(CLIP.images_rgb[:14], CLIP.boxes_xywh[:14])):
        check(result, channels=1)
        assert (result.box_xywh[2:] <= SIZE_WH).all()


@pytest.mark.parametrize(
    "box",
    [(0, 0, 240, 160), (0, 0, 2, 2), (238, 158, 2, 2), (100, 0, 3, 160), (0, 80, 240, 3)],
    ids=["the whole frame", "tiny", "tiny in the corner", "upright", "flat"],
)
def test_any_start_box_in_the_frame_can_be_tracked(box: tuple[int, ...]) -> None:
    start = np.array(box, dtype=np.float64)
    with SFTracker.from_preset("light", device="cpu") as tracker:
        check(tracker.init(CLIP.images_rgb[0], start), channels=len(LIGHT))
        for image in CLIP.images_rgb[1:3]:
            check(tracker.update(image), channels=len(LIGHT))


@pytest.mark.parametrize("size_wh", [(16, 16), (33, 500), (640, 20)])
def test_frames_of_odd_sizes_can_be_tracked(tracker_of: MakeTracker, size_wh: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    box = np.array([4.0, 4.0, 8.0, 8.0])
    for view in ("crop", "frame"):
        tracker = tracker_of({"a": Scripted([box])}, view=view)
        for _ in range(3):
            image = rng.integers(0, 256, (size_wh[1], size_wh[0], 3), dtype=np.uint8)
            result = tracker.update(image, with_mask=True) if tracker.started else tracker.init(image, box, with_mask=True)
            check(result, channels=1, size_wh=size_wh)
            assert result.mask is not None
            assert result.mask.shape == (size_wh[1], size_wh[0])
