"""Tiny generated clips, good and bad. Picture `i` is grey with the level `level_of(i)`, with a red left edge to tell RGB from BGR."""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from sftrack.contracts import ImageRGB

SIZE_WH = (64, 48)
COUNT = 20
RATE = Fraction(30000, 1001)


def level_of(index: int) -> int:
    return 10 + 12 * (index % COUNT)


def picture(index: int, size_wh: tuple[int, int] = SIZE_WH) -> ImageRGB:
    image = np.full((size_wh[1], size_wh[0], 3), level_of(index), np.uint8)
    image[:, : size_wh[0] // 4] = (220, 20, 20)
    return image


def index_shown(image_rgb: ImageRGB) -> int:
    """Which `picture` this is, after lossy coding."""
    return round((float(np.median(image_rgb[:, image_rgb.shape[1] // 2 :])) - 10) / 12)


def write_video(
    path: Path,
    images: Iterable[ImageRGB],
    *,
    codec: str = "libx264",
    pts: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """A video at `RATE`, or with the given time stamps in units of 1/30000 s."""
    with av.open(str(path), "w", container_options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=RATE, options=options or ({"crf": "12"} if codec == "libx264" else {}))
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = 6
        for index, image in enumerate(images):
            if not index:
                stream.height, stream.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(image)
            frame.time_base = Fraction(1, 30000)
            frame.pts = pts[index] if pts else index * 1001
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def good_video(path: Path) -> Path:
    return write_video(path, map(picture, range(COUNT)))


def damaged_in_the_middle(path: Path, lost: Sequence[int] = (9,)) -> Path:
    """The packets of some frames (in decoding order, all key frames here) are overwritten."""
    write_video(path, map(picture, range(COUNT)), options={"crf": "12", "g": "1", "bf": "0"})
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for number in lost:
        start, size = packets[number]
        assert start is not None
        content[start : start + size] = b"\xff" * size
    path.write_bytes(content)
    return path


def cut_off(path: Path, *, index_first: bool) -> Path:
    """A video of which only the first part was copied; an MP4's index (moov) is lost with the rest unless it comes first."""
    noise = np.random.default_rng(0).integers(0, 60, (COUNT, SIZE_WH[1], SIZE_WH[0], 3), dtype=np.uint8)
    flags = {"movflags": "+faststart"} if index_first else {}
    write_video(path, noise, container_options=flags)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    return path


def turned(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """The MP4 itself, now to be shown with the point `x, y` at `a x + c y, b x + d y`."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44
    values = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    content[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in values)
    path.write_bytes(content)
    return path


def video_changing_size(path: Path) -> Path:
    """A raw H.264 stream whose second half is larger; it has no time stamps either."""
    parts = []
    for size_wh, indices in ((SIZE_WH, range(10)), ((96, 80), range(10, COUNT))):
        part = write_video(path.with_suffix(".part.h264"), [picture(index, size_wh) for index in indices])
        parts.append(part.read_bytes())
        part.unlink()
    path.write_bytes(b"".join(parts))
    return path


def video_without_frames(path: Path) -> Path:
    """A YUV4MPEG header that no frame follows."""
    path.write_bytes(b"YUV4MPEG2 W64 H48 F30:1 Ip A1:1 C420jpeg\n")
    return path


def sound_only(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def image_folder(folder: Path, *, count: int = COUNT, name: Callable[[int], str] = "{}.png".format) -> Path:
    """Pictures whose names sort naturally, not as text (`2.png` before `10.png`)."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        save_image(folder / name(index), picture(index))
    return folder


def save_image(path: Path, image_rgb: ImageRGB) -> Path:
    is_good, encoded = cv2.imencode(path.suffix, cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR))
    assert is_good
    path.write_bytes(encoded.tobytes())
    return path
