"""The pool of channels: they run side by side, and a failing one harms nobody else."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sftrack.channels import Channel, ChannelPool
from sftrack.contracts import Estimate, RegionMask
from sftrack.errors import FrameError, MissingWeightsError, TrackerProcessError
from sftrack.workers import TorchWorkers
from tests.pretend_gpu import pretend_gpu
from tests.targets import Scripted

IMAGE = np.zeros((60, 80, 3), np.uint8)
BOX = np.array([10.0, 12.0, 20.0, 16.0])
GOOD = np.array([11.0, 13.0, 20.0, 16.0])


@pytest.fixture
def pool_of() -> Iterator[Callable[..., ChannelPool]]:
    """Makes pools whose threads end after the test."""
    made: list[TorchWorkers] = []

    def make(workers: int = 2, **trackers: Scripted) -> ChannelPool:
        made.append(TorchWorkers(workers, "channel"))
        return ChannelPool(trackers, made[-1])

    yield make
    for threads in made:
        threads.close()


class Fixed(Scripted):
    """One that can be moved."""

    def __init__(self, *answers: object, failing_inits: int = 0) -> None:
        super().__init__(answers, failing_inits=failing_inits)
        self.moved_to: list[np.ndarray] = []
        self.forgot: list[bool] = []

    def move_to(self, box_xywh: np.ndarray, *, forget_last: bool = False) -> None:
        self.moved_to.append(box_xywh.copy())
        self.forgot.append(forget_last)


def channel(pool: ChannelPool, name: str) -> Channel:
    return next(channel for channel in pool.channels if channel.name == name)


def test_channels_keep_their_order_and_give_their_estimates(pool_of: Callable[..., ChannelPool]) -> None:
    pool = pool_of(b=Scripted([GOOD]), a=Scripted([GOOD + 1]), c=Scripted([GOOD + 2]))
    pool.init(IMAGE, BOX)
    assert all(
        one.estimate is not None and (one.estimate.box_xywh == BOX).all() and one.error is None and one.started for one in pool.channels
    )
    pool.update(IMAGE)
    assert [one.name for one in pool.channels] == ["b", "a", "c"]
    for offset, one in enumerate(pool.channels):
        assert one.estimate is not None
        np.testing.assert_array_equal(one.estimate.box_xywh, GOOD + offset)


def test_channels_run_at_the_same_time_outside_the_callers_thread(pool_of: Callable[..., ChannelPool]) -> None:
    """Each waits for the other: run one after the other they would not meet."""
    meeting = threading.Barrier(2)

    def meet() -> None:
        meeting.wait(timeout=5.0)

    trackers = {name: Scripted([GOOD], on_update=meet) for name in "ab"}
    pool = pool_of(workers=2, **trackers)
    pool.init(IMAGE, BOX)
    pool.update(IMAGE)
    assert [one.error for one in pool.channels] == [None, None]
    assert threading.current_thread().name not in trackers["a"].threads | trackers["b"].threads


@pytest.mark.parametrize("where", ["a Mac", "a process forked from one that used CUDA"])
def test_channels_on_the_cpu_leave_the_gpu_alone(where: str, pool_of: Callable[..., ChannelPool], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise RuntimeError("Cannot re-initialize CUDA in forked subprocess")

    gpu = torch.backends.mps if where == "a Mac" else torch.cuda
    monkeypatch.setattr(gpu, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "_lazy_init", refuse)
    pool = pool_of(a=Scripted([GOOD]))
    pool.init(IMAGE, BOX)
    pool.update(IMAGE)
    assert [(one.error, one.failures) for one in pool.channels] == [(None, 0)]


def test_on_a_gpu_every_channel_stays_in_a_thread_of_its_own() -> None:
    """cuDNN plans anew in each thread that a network comes to."""
    trackers = {name: Scripted([GOOD]) for name in "abc"}
    before, workers = set(threading.enumerate()), TorchWorkers(1, "channel")
    with pretend_gpu():
        pool = ChannelPool(trackers, workers, "cuda")
        pool.init(IMAGE, BOX)
        for _ in range(5):
            pool.update(IMAGE)
        pool.restart(pool.channels, IMAGE, GOOD)
        pool.close()
        workers.close()
    assert [channel.failures for channel in pool.channels] == [0, 0, 0]
    assert [len(tracker.threads) for tracker in trackers.values()] == [1, 1, 1]
    assert len(set.union(*(tracker.threads for tracker in trackers.values()))) == 3
    assert not set(threading.enumerate()) - before


def test_a_channel_on_the_second_gpu_never_opens_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """With PyTorch's own context managers, on what they call: `set_stream` selects the stream's GPU for good, which opens it."""
    current, opened = [0], set()

    def exchange(index: int, *, opens: bool = True) -> int:
        before, current[0] = current[0], index
        opened.update([index] if opens else [])
        return before

    second = SimpleNamespace(device=torch.device("cuda", 1))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current[0])
    monkeypatch.setattr(torch.cuda, "_exchange_device", exchange)
    monkeypatch.setattr(torch.cuda, "_maybe_exchange_device", partial(exchange, opens=False))  # selects it when it is first used
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: SimpleNamespace(device=torch.device("cuda", current[0])))
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: exchange(stream.device.index))
    one = Channel("a", Scripted([GOOD], on_update=lambda: opened.add(current[0])), stream=second)  # type: ignore[arg-type]
    one.take(one.attempt(lambda tracker: tracker.init(IMAGE, BOX), (80, 60)))
    one.take(one.attempt(lambda tracker: tracker.update(IMAGE), (80, 60)))
    assert one.error is None
    assert opened == {1}
    assert current == [0]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (RuntimeError("broken\nand more"), "RuntimeError: broken"),
        (MemoryError(), "MemoryError"),
        (SystemExit("no GPU"), "SystemExit: no GPU"),
        ((np.nan, 1, 2, 3), "not finite or empty"),
        ((1, 1, np.inf, 3), "not finite or empty"),
        ((10, 10, 0, 5), "not finite or empty"),
        ((10, 10, 5, -5), "not finite or empty"),
        ((10, 10, 5), "not finite or empty"),
        ((80, 10, 5, 5), "outside the frame"),
        ((10, -30, 5, 5), "outside the frame"),
        (Estimate(GOOD, float("nan")), "score is not in [0, 1]: nan"),
        (Estimate(GOOD, 7.3), "score is not in [0, 1]: 7.3"),
        (Estimate(GOOD, 0.5, RegionMask(np.full((4, 4), np.nan, np.float32), GOOD)), "mask is not (h, w) float32 in [0, 1]"),
        (Estimate(GOOD, 0.5, RegionMask(np.full((4, 4), 255.0, np.float32), GOOD)), "mask is not (h, w) float32 in [0, 1]"),
        (Estimate(GOOD, 0.5, RegionMask(np.zeros((0, 4), np.float32), GOOD)), "mask is not (h, w) float32 in [0, 1]"),
        (Estimate(GOOD, 0.5, RegionMask(np.ones((4, 4), np.float32), np.array([1.0, 2.0, 0.0, 3.0]))), "region is not finite or empty"),
    ],
    ids=[
        "raises",
        "no memory",
        "exits",
        "nan",
        "infinite",
        "no width",
        "negative height",
        "three numbers",
        "right of it",
        "above it",
        "nan score",
        "score above 1",
        "nan mask",
        "mask above 1",
        "empty mask",
        "mask of no region",
    ],
)
def test_a_channel_that_fails_on_a_frame_is_left_out_of_it(pool_of: Callable[..., ChannelPool], answer: object, reason: str) -> None:
    pool = pool_of(good=Scripted([GOOD]), bad=Scripted([GOOD, answer, GOOD]))
    pool.init(IMAGE, BOX)
    for frame in range(3):
        pool.update(IMAGE)
        good, bad = channel(pool, "good"), channel(pool, "bad")
        assert good.estimate is not None
        assert (bad.estimate is None) == (frame == 1)
        if frame == 1:
            assert bad.error is not None
            assert reason in bad.error
            assert "\n" not in bad.error
        else:
            assert bad.error is None
    assert (channel(pool, "good").failures, channel(pool, "bad").failures) == (0, 1)


def test_a_box_larger_than_the_frame_is_reduced_to_it(pool_of: Callable[..., ChannelPool]) -> None:
    """What is cut out of the frame for a channel is as large as its box; published trackers hand out theirs as they are."""
    pool = pool_of(large=Scripted([(-5000.0, 10.0, 20000.0, 5.0)]))
    pool.init(IMAGE, BOX)
    pool.update(IMAGE)
    estimate = channel(pool, "large").estimate
    assert estimate is not None
    assert estimate.box_xywh[2] == IMAGE.shape[1]
    assert estimate.box_xywh[3] == 5.0


def test_a_channel_that_answers_nothing_counts_as_failed(pool_of: Callable[..., ChannelPool]) -> None:
    class Silent(Scripted):
        def update(self, image_rgb: np.ndarray) -> Estimate:
            return None  # type: ignore[return-value]

    pool = pool_of(silent=Silent([]))
    pool.init(IMAGE, BOX)
    pool.update(IMAGE)
    silent = pool.channels[0]
    assert silent.estimate is None
    assert silent.error is not None
    assert silent.failures == 1


def test_what_init_returns_does_not_matter(pool_of: Callable[..., ChannelPool]) -> None:
    """OpenCV's own trackers, and users' wrappers of them, may return True."""

    class Wrapper(Scripted):
        def init(self, image_rgb: np.ndarray, box_xywh: np.ndarray) -> bool:  # type: ignore[override]
            super().init(image_rgb, box_xywh)
            return True

    pool = pool_of(wrapper=Wrapper([GOOD]))
    pool.init(IMAGE, BOX)
    pool.update(IMAGE)
    assert pool.channels[0].estimate is not None
    assert pool.channels[0].failures == 0


def test_every_failure_is_counted_and_the_log_says_it_once(pool_of: Callable[..., ChannelPool], caplog: pytest.LogCaptureFixture) -> None:
    pool = pool_of(bad=Scripted([RuntimeError("broken")]))
    pool.init(IMAGE, BOX)
    for _ in range(5):
        pool.update(IMAGE)
    assert pool.channels[0].failures == 5
    assert [record.getMessage() for record in caplog.records] == ["channel bad failed and is left out: RuntimeError: broken"]


class Refusing(Scripted):
    """Cannot start, for a reason of its own."""

    def __init__(self, reason: Exception) -> None:
        super().__init__([GOOD])
        self.reason = reason

    def init(self, image_rgb: np.ndarray, box_xywh: np.ndarray) -> None:
        raise self.reason


def test_where_no_channel_can_start_what_the_user_can_mend_is_an_error_and_not_a_warning(
    pool_of: Callable[..., ChannelPool], caplog: pytest.LogCaptureFixture
) -> None:
    pool = pool_of(a=Refusing(MissingWeightsError("fetch them")), b=Refusing(TrackerProcessError("install it")))
    with pytest.raises((MissingWeightsError, TrackerProcessError)):
        pool.init(IMAGE, BOX)
    assert not caplog.records


@pytest.mark.parametrize("other", [Scripted([GOOD]), Refusing(RuntimeError("broken"))], ids=["that starts", "that breaks"])
def test_beside_another_channel_one_that_cannot_start_is_left_out(pool_of: Callable[..., ChannelPool], other: Scripted) -> None:
    """What broke may start on a later frame."""
    pool = pool_of(missing=Refusing(MissingWeightsError("fetch them")), other=other)
    pool.init(IMAGE, BOX)
    assert channel(pool, "missing").error == "MissingWeightsError: fetch them"


def test_a_channel_that_cannot_start_is_left_out_until_it_is_restarted(pool_of: Callable[..., ChannelPool]) -> None:
    late = Scripted([GOOD], failing_inits=1)
    pool = pool_of(good=Scripted([GOOD]), late=late)
    pool.init(IMAGE, BOX)
    pool.update(IMAGE)
    one = channel(pool, "late")
    assert not one.started
    assert one.estimate is None
    assert one.error == "RuntimeError: no start today"
    assert late.updates == 0
    pool.restart([one], IMAGE, BOX + 3)
    assert one.error == "RuntimeError: no start today", "it took no part in this frame, and the reason still holds"
    pool.update(IMAGE)
    assert one.started
    assert one.estimate is not None
    assert one.error is None
    assert one.restarts == 1
    np.testing.assert_array_equal(late.started_on, [BOX + 3])


def test_a_restart_is_counted_and_keeps_this_frames_estimate(pool_of: Callable[..., ChannelPool]) -> None:
    trackers = {name: Scripted([GOOD]) for name in "ab"}
    pool = pool_of(**trackers)
    pool.init(IMAGE, BOX)
    pool.update(IMAGE)
    a, b = pool.channels
    a.frames_off = 9
    pool.restart([a], IMAGE, BOX)
    assert (a.restarts, b.restarts, a.frames_off) == (1, 0, 0)
    assert a.estimate is not None
    assert (len(trackers["a"].started_on), len(trackers["b"].started_on)) == (2, 1)


def test_a_tracker_that_can_be_moved_is_not_initialised_again(pool_of: Callable[..., ChannelPool]) -> None:
    fixed, late = Fixed(GOOD), Fixed(GOOD, failing_inits=1)
    pool = pool_of(fixed=fixed, late=late)
    pool.init(IMAGE, BOX)
    pool.update(IMAGE)
    pool.restart(pool.channels, IMAGE, BOX + 2)
    np.testing.assert_array_equal(fixed.started_on, [BOX])
    np.testing.assert_array_equal(fixed.moved_to, [BOX + 2])
    np.testing.assert_array_equal(late.started_on, [BOX + 2], "what never started cannot be moved")
    assert [channel.restarts for channel in pool.channels] == [1, 1]
    pool.begin(IMAGE)
    while fixed.updates < 2:
        time.sleep(0.001)
    pool.restart(pool.channels[:1], IMAGE, BOX)
    assert fixed.forgot == [False, True], "only a frame that it was sent ahead to"


def test_only_a_tracker_that_saw_the_next_frame_forgets_it(pool_of: Callable[..., ChannelPool], monkeypatch: pytest.MonkeyPatch) -> None:
    """One that still waits for a thread when it is moved has nothing to forget but what this frame taught."""
    runs, moves = threading.Event(), threading.Event()

    def keep_the_thread() -> None:
        runs.set()
        assert moves.wait(60.0)

    fixed = Fixed(GOOD)
    pool = pool_of(workers=1, slow=Scripted([GOOD], on_update=keep_the_thread), fixed=fixed)
    pool.init(IMAGE, BOX)
    channel(pool, "slow").seconds = 9.0  # so it begins first
    pool.begin(IMAGE)
    assert runs.wait(60.0)
    start = pool._workers.start

    def free_the_thread_for(job: Callable[[], object]) -> Future[object]:
        moves.set()
        return start(job)

    monkeypatch.setattr(pool._workers, "start", free_the_thread_for)
    pool.restart([channel(pool, "fixed")], IMAGE, BOX)
    pool.update(IMAGE)
    assert fixed.forgot == [False]
    assert all(one.estimate is not None for one in pool.channels)


def test_a_restart_that_fails_is_a_failure_and_no_restart(pool_of: Callable[..., ChannelPool]) -> None:
    pool = pool_of(bad=Scripted([GOOD], failing_inits=3))
    pool.init(IMAGE, BOX)
    pool.restart(pool.channels, IMAGE, BOX)
    one = pool.channels[0]
    assert (one.restarts, one.started) == (0, False)
    assert one.error is not None


def test_failures_are_frames_however_often_a_channel_was_tried_on_them(pool_of: Callable[..., ChannelPool]) -> None:
    never, once = Scripted([GOOD], failing_inits=9), Scripted([GOOD])
    pool = pool_of(never=never, once=once)
    pool.init(IMAGE, BOX)
    for frame in range(1, 7):
        pool.update(IMAGE)
        once.failing_inits = int(frame == 3)
        if frame == 3:
            pool.restart(pool.channels, IMAGE, BOX)
    assert [one.failures for one in pool.channels] == [7, 1]


def test_failing_again_and_again_counts_as_being_off(pool_of: Callable[..., ChannelPool]) -> None:
    """So that the pipeline starts it again, like one that lies elsewhere."""
    pool = pool_of(bad=Scripted([RuntimeError("broken")]))
    pool.init(IMAGE, BOX)
    for _ in range(4):
        pool.update(IMAGE)
    assert pool.channels[0].frames_off == 4


def test_a_new_start_resets_the_records(pool_of: Callable[..., ChannelPool]) -> None:
    pool = pool_of(bad=Scripted([RuntimeError("broken")]))
    pool.init(IMAGE, BOX)
    pool.update(IMAGE)
    pool.restart(pool.channels, IMAGE, BOX)
    pool.init(IMAGE, BOX)
    one = pool.channels[0]
    assert (one.failures, one.restarts, one.error) == (0, 0, None)
    assert one.estimate is not None


def test_the_slowest_channel_starts_first(pool_of: Callable[..., ChannelPool], monkeypatch: pytest.MonkeyPatch) -> None:
    """It decides when all are done; with fewer threads than channels it must not wait for the others."""
    order: list[str] = []
    now_s = 0.0
    monkeypatch.setattr("sftrack.channels.time", SimpleNamespace(perf_counter=lambda: now_s))

    def run(name: str, seconds: float) -> Callable[[], None]:
        def work() -> None:
            nonlocal now_s
            order.append(name)
            now_s += seconds

        return work

    pool = pool_of(
        workers=1,
        **{name: Scripted([GOOD], on_update=run(name, seconds)) for name, seconds in (("quick", 0.0), ("slow", 3.0), ("middle", 1.0))},
    )
    pool.init(IMAGE, BOX)
    pool.update(IMAGE)
    order.clear()
    pool.update(IMAGE)
    assert order == ["slow", "middle", "quick"]
    assert [channel(pool, name).seconds for name in order] == [3.0, 1.0, 0.0]


def test_a_hundred_frames_take_no_more_threads_than_workers(pool_of: Callable[..., ChannelPool]) -> None:
    before = threading.active_count()
    pool = pool_of(workers=2, **{name: Scripted([GOOD]) for name in "abcd"})
    pool.init(IMAGE, BOX)
    for _ in range(100):
        pool.update(IMAGE)
    assert threading.active_count() <= before + 2


def test_frames_may_be_begun_before_the_last_one_is_asked_for(pool_of: Callable[..., ChannelPool]) -> None:
    pool = pool_of(a=Scripted([GOOD, GOOD + 1]))
    following = IMAGE.copy()
    pool.init(IMAGE, BOX)
    pool.update(IMAGE)
    pool.begin(following)
    first = pool.channels[0].estimate
    assert first is not None
    np.testing.assert_array_equal(first.box_xywh, GOOD)
    pool.update(following)
    second = pool.channels[0].estimate
    assert second is not None
    np.testing.assert_array_equal(second.box_xywh, GOOD + 1)


def test_another_frame_than_the_one_begun_is_refused(pool_of: Callable[..., ChannelPool]) -> None:
    pool = pool_of(a=Scripted([GOOD]))
    pool.init(IMAGE, BOX)
    pool.begin(IMAGE.copy())
    with pytest.raises(FrameError, match="announced"):
        pool.update(IMAGE.copy())
    pool.init(IMAGE, BOX)
    pool.update(IMAGE)


def test_a_channel_restarted_after_it_went_ahead_sees_the_next_frame_again(pool_of: Callable[..., ChannelPool]) -> None:
    a, b = Scripted([GOOD, GOOD + 1, GOOD + 2]), Scripted([GOOD, GOOD + 1, GOOD + 2])
    pool = pool_of(a=a, b=b)
    following = IMAGE.copy()
    pool.init(IMAGE, BOX)
    pool.update(IMAGE)
    pool.begin(following)
    pool.restart([channel(pool, "a")], IMAGE, BOX + 3)
    pool.update(following)
    assert b.updates == 2
    assert a.seen[-2:] == [("init", id(IMAGE)), ("update", id(following))]
