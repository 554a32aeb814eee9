from __future__ import annotations

import io
import struct
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image, ImageFilter

from service.errors import BrokenVideo, TooManyPictures, TooManyPixels
from service.inputs.body import SentFile
from service.inputs.options import Options
from service.inputs.signatures import kind_of
from service.inputs.video import read_frames
from service.settings import Limits
from tests.service.pictures import make_picture

LIMITS = Limits(max_images=8)


def video(
    seconds: int = 4,
    fps: int = 10,
    blurred: tuple[int, ...] = (),
    format: str = "mp4",
    size: int = 96,
) -> SentFile:
    """Every second shows one picture of noise; those of `blurred` seconds are soft."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format) as container:
        stream = container.add_stream("mpeg4" if format != "webm" else "libvpx", rate=fps)
        stream.width, stream.height, stream.pix_fmt = size, size, "yuv420p"
        for second in range(seconds):
            noise = np.random.default_rng(second).integers(0, 256, (size, size, 3), np.uint8)
            picture = Image.fromarray(noise)
            if second in blurred:
                picture = picture.filter(ImageFilter.GaussianBlur(8))
            for _ in range(fps):
                container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    buffer.seek(0)
    return SentFile("walk.mp4", buffer)


def frames_of(
    sent: SentFile, options: Options | None = None, limits: Limits = LIMITS
) -> list[tuple[str, Image.Image]]:
    """Names and pictures of the frames, their files closed."""
    found = []
    frames, warnings = read_frames(sent, options or Options(), limits)
    assert warnings == []
    for frame in frames:
        with frame.file, Image.open(frame.file) as picture:
            found.append((frame.name, picture.copy()))
    return found


@pytest.mark.parametrize("format", ["mp4", "matroska", "avi"])
def test_one_frame_a_second_is_taken_unless_told_otherwise(format: str) -> None:
    frames = frames_of(video(format=format))
    assert [name for name, _ in frames] == [f"walk-{second:05d}.000s.png" for second in range(4)]
    assert frames[0][1].size == (96, 96)
    assert len(frames_of(video(format=format), Options(fps=2))) == 8


def test_blurred_frames_are_dropped_unless_wanted() -> None:
    kept = frames_of(video(blurred=(1,)))
    assert [name.removesuffix("s.png")[-5:] for name, _ in kept] == ["0.000", "2.000", "3.000"]
    assert len(frames_of(video(blurred=(1,)), Options(drop_blurred=False))) == 4


def test_a_long_video_is_sampled_more_sparsely_but_not_against_an_explicit_rate() -> None:
    assert 6 <= len(frames_of(video(seconds=20))) <= 8
    with pytest.raises(TooManyPictures, match="lower fps"):
        read_frames(video(seconds=20), Options(fps=1), LIMITS)


def test_a_frame_of_too_many_pixels_is_refused() -> None:
    with pytest.raises(TooManyPixels):
        read_frames(video(), Options(), replace(LIMITS, max_pixels=5000))


def test_broken_videos_are_refused_in_words() -> None:
    whole = video().file.read()
    for content in (
        whole[:40],
        whole[: len(whole) // 2],
        b"\x1a\x45\xdf\xa3" + bytes(500),
        b"\0\0\0\x18ftypisom",
    ):
        with pytest.raises(BrokenVideo, match=r"walk\.mp4"):
            read_frames(SentFile("walk.mp4", io.BytesIO(content)), Options(), LIMITS)


def test_a_refusal_says_what_is_wrong_and_names_no_file_of_the_server() -> None:
    whole = video().file.read()
    unknown = film("mp4", codec="libx264").file.read().replace(b"avc1", b"zzzz")
    for content, words in (
        (whole[:100], "it is damaged or cut off"),
        (whole[: len(whole) // 2], "it is damaged or cut off"),
        (unknown, "its codec is unknown; convert it"),
    ):
        with pytest.raises(BrokenVideo, match=words) as refused:
            read_frames(SentFile("walk.mp4", io.BytesIO(content)), Options(), LIMITS)
        assert "/" not in str(refused.value)


def test_sound_alone_is_no_video() -> None:
    sound = io.BytesIO()
    with av.open(sound, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(
        BrokenVideo, match=r"talk\.m4a can't be read: it has no pictures, only sound"
    ):
        read_frames(SentFile("talk.m4a", io.BytesIO(sound.getvalue())), Options(), LIMITS)


def test_another_media_type_is_no_video() -> None:
    wav = io.BytesIO()
    with av.open(wav, "w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 800), np.int16), format="s16", layout="mono"
        )
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(BrokenVideo, match="not MP4"):
        read_frames(SentFile("a.wav", io.BytesIO(wav.getvalue())), Options(), LIMITS)


def test_reading_ends_with_the_time_limit() -> None:
    with pytest.raises(BrokenVideo, match=r"within 0\.001 seconds"):
        read_frames(video(), Options(), replace(LIMITS, video_timeout=0.001))


def test_the_picture_of_a_frame_is_what_was_filmed() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 120, 88, "yuv420p", 4_000_000
        shown = make_picture(120, 88)
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_image(shown)))
        container.mux(stream.encode())
    buffer.seek(0)
    picture = frames_of(SentFile("v.mp4", buffer))[0][1]
    assert np.abs(np.asarray(picture, float) - np.asarray(shown, float)).mean() < 8


RED = (255, 0, 0)


def corner(picture: Image.Image) -> tuple[str, str]:
    """Which corner is red."""
    red = np.asarray(picture.convert("RGB")).astype(int)[..., 0]
    height, width = red.shape
    row, column = divmod(int(np.argmax(_means(red, height // 2, width // 2))), 2)
    return ("top", "bottom")[row], ("left", "right")[column]


def _means(red: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.array(
        [red[y : y + height, x : x + width].mean() for y in (0, height) for x in (0, width)]
    )


def marked(number: int = 0, of: int = 1, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Black with a red upper left quarter, and a lower half that brightens from frame to frame."""
    picture = Image.new("RGB", size)
    picture.paste(RED, (0, 0, size[0] // 2, size[1] // 2))
    grey = 10 + 200 * number // of
    picture.paste((0, grey, grey), (0, size[1] // 2, *size))
    return picture


def brightness(picture: Image.Image) -> float:
    """Of the lower half."""
    return float(np.asarray(picture, float)[-20:, :, 1].mean())


def film(
    format: str,
    count: int = 12,
    rate: int = 4,
    codec: str = "mpeg4",
    ratio: object = None,
    **options: str,
) -> SentFile:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format) as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        if ratio is not None:
            stream.sample_aspect_ratio = ratio
        for number in range(count):
            container.mux(stream.encode(av.VideoFrame.from_image(marked(number, count))))
        container.mux(stream.encode())
    buffer.seek(0)
    return SentFile("walk", buffer)


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
@pytest.mark.parametrize("format", ["avi", "mp4", "matroska"])
def test_frames_stored_out_of_order_come_in_order_at_their_times(format: str, codec: str) -> None:
    sent = film(format, codec=codec, bf="2")
    frames = frames_of(sent, Options(fps=4, drop_blurred=False), replace(LIMITS, max_images=32))
    assert [name for name, _ in frames] == [f"walk-{i / 4:09.3f}s.png" for i in range(12)]
    shown = [brightness(picture) for _, picture in frames]
    assert shown == sorted(shown)
    assert shown[-1] - shown[0] > 150


def test_b_frames_packed_behind_others_in_an_avi_come_in_order_at_their_times() -> None:
    """As DivX and Xvid pack them: a frame and the one shown before it in one chunk, and an empty
    frame in the place that this leaves."""
    empty = b"\0\0\1\xb6\x58\x7f"
    with av.open(film("avi", bf="2").file) as container:
        plain = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    chunks: list[bytes] = []
    for number, frame in enumerate(plain):
        if not _is_b_frame(frame) or _is_b_frame(plain[number - 1]):
            chunks.append(frame)
        else:
            chunks[-1] += frame
        if _is_b_frame(frame) and (number + 1 == len(plain) or not _is_b_frame(plain[number + 1])):
            chunks.append(empty)
    assert len(chunks) == len(plain)
    start = chunks[0].index(b"\0\0\1\xb6")
    chunks[0] = chunks[0][:start] + b"\0\0\1\xb2DivX503b1393p" + chunks[0][start:]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="avi") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number, chunk in enumerate(chunks):
            packet = av.Packet(chunk)
            packet.stream, packet.time_base = stream, Fraction(1, 4)
            packet.pts = packet.dts = number
            packet.is_keyframe = number == 0
            container.mux(packet)
    buffer.seek(0)
    every = replace(LIMITS, max_images=32)
    frames = frames_of(SentFile("walk", buffer), Options(fps=4, drop_blurred=False), every)
    assert [name for name, _ in frames] == [f"walk-{i / 4:09.3f}s.png" for i in range(12)]
    shown = [brightness(picture) for _, picture in frames]
    assert shown == sorted(shown)


@pytest.mark.parametrize("format", ["mp4", "matroska", "avi"])
def test_a_damaged_frame_is_left_out_and_the_others_keep_their_times(format: str) -> None:
    content = bytearray(film(format, codec="libx264", g="1", bf="0").file.read())
    with av.open(io.BytesIO(bytes(content))) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    damaged = bytes(packets[5])
    at = content.index(damaged)
    content[at : at + len(damaged)] = bytes(len(damaged))
    frames, warnings = read_frames(
        SentFile("walk.mp4", io.BytesIO(bytes(content))),
        Options(fps=4, drop_blurred=False),
        replace(LIMITS, max_images=32),
    )
    found = []
    for frame in frames:
        with frame.file, Image.open(frame.file) as picture:
            found.append((frame.name, brightness(picture)))
    assert [name for name, _ in found] == [
        f"walk-{index / 4:09.3f}s.png" for index in range(12) if index != 5
    ]
    assert sorted(light for _, light in found) == [light for _, light in found]
    (warning,) = warnings
    assert warning.code == "video-damaged"
    assert "walk.mp4 is damaged: 1 of its frames" in warning.message


def _is_b_frame(content: bytes) -> bool:
    """By `vop_coding_type` (ISO/IEC 14496-2, 6.3.5)."""
    return content[content.index(b"\0\0\1\xb6") + 4] >> 6 == 2


def timed(format: str, times: list[int], codec: str = "libx264") -> bytes:
    """Frames shown at `times`, in tenths of a second."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format) as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 10)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_image(marked(number, len(times)))
            frame.pts, frame.time_base = time, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


@pytest.mark.parametrize("format", ["mp4", "matroska"])
@pytest.mark.parametrize(
    ("times", "taken"),
    [
        ([0, 1, 2, 10, 11, 12, 40, 41, 80], [0, 10, 40, 80]),
        ([100 + number for number in range(25)], [100, 110, 120]),
    ],
    ids=["at a rate that changes", "not from the start"],
)
def test_frames_are_taken_by_their_times(format: str, times: list[int], taken: list[int]) -> None:
    sent = SentFile("walk", io.BytesIO(timed(format, times)))
    frames = frames_of(sent, Options(drop_blurred=False), replace(LIMITS, max_images=32))
    assert [name for name, _ in frames] == [f"walk-{time / 10:09.3f}s.png" for time in taken]


def test_a_quicktime_film_without_a_file_type_is_read() -> None:
    content = bytearray(film("mov").file.read())
    assert content[4:8] == b"ftyp"
    content[4:8] = b"free"
    sent = SentFile("walk", io.BytesIO(bytes(content)))
    assert kind_of(sent.file) == "video"
    assert len(frames_of(sent)) == 3


MATRICES = {  # what x and y of the stored frame become, as (a, b, c, d) in a x + c y, b x + d y
    "as it is": ((1, 0, 0, 1), ("top", "left")),
    "a half turn": ((-1, 0, 0, -1), ("bottom", "right")),
    "a quarter turn": ((0, 1, -1, 0), ("top", "right")),
    "three quarter turns": ((0, -1, 1, 0), ("bottom", "left")),
    "mirrored": ((-1, 0, 0, 1), ("top", "right")),
    "upside down and mirrored": ((1, 0, 0, -1), ("bottom", "left")),
    "over one diagonal": ((0, 1, 1, 0), ("top", "left")),
    "over the other diagonal": ((0, -1, -1, 0), ("bottom", "right")),
}


@pytest.mark.parametrize("way", MATRICES)
def test_the_display_matrix_turns_and_mirrors(way: str) -> None:
    (a, b, c, d), expected = MATRICES[way]
    content = bytearray(film("mp4").file.read())
    header = content.index(b"tkhd")
    at = (
        header + 4 + 4 + 20 + 8 + 8
    )  # version 0: times, ids and duration, reserved, layer to volume
    unit = 0x10000
    struct.pack_into(
        ">9i", content, at, a * unit, b * unit, 0, c * unit, d * unit, 0, 0, 0, 1 << 30
    )
    frames = frames_of(SentFile("turned.mp4", io.BytesIO(bytes(content))))
    picture = Image.fromarray(np.where(np.asarray(frames[0][1]) > 127, 255, 0).astype(np.uint8))
    assert corner(picture) == expected
    assert picture.size == ((96, 64) if a else (64, 96))


@pytest.mark.parametrize(
    ("ratio", "size"),
    [(Fraction(4, 3), (128, 64)), (Fraction(1, 2), (96, 128)), (Fraction(1), (96, 64))],
)
@pytest.mark.parametrize("format", ["mp4", "matroska", "avi"])
def test_pixels_that_are_not_square_become_square(
    format: str, ratio: Fraction, size: tuple[int, int]
) -> None:
    assert frames_of(film(format, ratio=ratio))[0][1].size == size


def test_stretched_frames_are_held_to_the_limit_of_pixels() -> None:
    with pytest.raises(TooManyPixels, match="384 x 64"):
        read_frames(film("mp4", ratio=Fraction(4)), Options(), replace(LIMITS, max_pixels=20_000))


def pan(*speeds: float, fps: int = 10, size: int = 96) -> SentFile:
    """A camera that moves along a large picture, each second by so many of its own widths."""
    noise = np.random.default_rng(0).integers(0, 256, (size // 8, 300, 3), np.uint8)
    large = Image.fromarray(noise).resize((2400, size), Image.Resampling.BICUBIC)
    buffer, at = io.BytesIO(), 0.0
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=fps, options={"qscale": "2"})
        stream.width, stream.height, stream.pix_fmt = size, size, "yuv420p"
        for speed in speeds:
            for _ in range(fps):
                view = large.crop((round(at), 0, round(at) + size, size))
                container.mux(stream.encode(av.VideoFrame.from_image(view)))
                at += speed * size / fps
        container.mux(stream.encode())
    buffer.seek(0)
    return SentFile("walk.mp4", buffer)


def times_by_change(sent: SentFile, limits: Limits = LIMITS, **options: float) -> list[float]:
    chosen = Options.model_validate({"video_frames": "auto", "drop_blurred": False, **options})
    return [float(name[-14:-5]) for name, _ in frames_of(sent, chosen, limits)]


def test_frames_by_change_follow_the_camera_and_not_the_clock() -> None:
    limits = replace(LIMITS, max_images=100)
    assert times_by_change(pan(0, 0, 0), limits) == [0.0]
    times = times_by_change(pan(0, 0, 0, 2, 2, 0, 0), limits)
    assert len(times) >= 10
    assert sum(2.9 <= time <= 5.1 for time in times) >= len(times) - 1
    slow, fast = (len(times_by_change(pan(*[speed] * 3), limits)) for speed in (0.2, 0.8))
    assert 2 * slow <= fast
    assert len(times_by_change(pan(2, 2), limits, fps=2)) <= 4


def test_where_too_many_frames_have_changed_more_change_is_asked_for() -> None:
    many, few = pan(1, 1, 1, 1), replace(LIMITS, max_images=8)
    times = times_by_change(many, few)
    assert 4 <= len(times) <= 8
    assert times[0] == 0.0
    assert times[-1] > 2.5
