"""Writes sound into any container that PyAV can write, block by block: nothing is held in memory."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from tests.materials.speech import RATE, Samples

#: The codec that goes into a container, by the file's suffix. Any other suffix needs a codec by name.
CODECS = {
    ".wav": "pcm_s16le",
    ".mp3": "libmp3lame",
    ".flac": "flac",
    ".ogg": "libopus",
    ".opus": "libopus",
    ".webm": "libopus",
    ".m4a": "aac",
    ".aac": "aac",
    ".mp4": "aac",
    ".mov": "aac",
    ".mkv": "flac",
    ".wma": "wmav2",
    ".ac3": "ac3",
}
_LAYOUTS = {1: "mono", 2: "stereo", 4: "quad", 6: "5.1", 8: "7.1"}
_FRAMES_A_SECOND = 5


def write(
    path: Path,
    blocks: Iterable[Samples],
    *,
    rate: int = RATE,
    channels: int = 1,
    codec: str | None = None,
    video: bool = False,
) -> float:
    """Write mono sound of 16 kHz as a file; return its length in seconds. The same input gives the same bytes.

    Every channel gets the same sound. With `video` there is a picture track too (MPEG-4, five frames a second).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as out:
        picture = _picture(out) if video else None
        codec = codec or CODECS[path.suffix]
        sound = out.add_stream(codec, rate=rate)
        if not isinstance(sound, AudioStream):
            raise TypeError(f"{codec} is no audio codec")
        sound.layout = _LAYOUTS[channels]
        if not codec.startswith("pcm") and codec not in ("flac", "alac"):
            sound.bit_rate = 64_000 * channels
        sound.codec_context.flags |= av.codec.context.Flags.bitexact
        done = shown = 0
        for block in blocks:
            data = (np.clip(block, -1, 1) * 32767).astype(np.int16)
            every = np.repeat(data, channels).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(every, format="s16", layout=_LAYOUTS[channels])
            frame.sample_rate, frame.pts, frame.time_base = RATE, done, Fraction(1, RATE)
            out.mux(sound.encode(frame))
            done += len(block)
            while picture is not None and shown * RATE < done * _FRAMES_A_SECOND:
                out.mux(picture.encode(_image(shown)))
                shown += 1
        out.mux(sound.encode(None))
        if picture is not None:
            out.mux(picture.encode(None))
    return done / RATE


def repeat(source: Path, times: int, target: Path) -> Path:
    """Write the same sound `times` over: its packets, each with a later time, so that hours are made in seconds."""
    with av.open(str(target), "w") as out:
        stream = None
        end = 0
        for _ in range(times):
            with av.open(str(source)) as container:
                sound = container.streams.audio[0]
                stream = stream or out.add_stream_from_template(sound)
                shift = None
                for packet in container.demux(sound):
                    if packet.pts is None:
                        continue
                    shift = end - packet.pts if shift is None else shift
                    packet.pts = packet.dts = packet.pts + shift
                    end = packet.pts + (packet.duration or 0)
                    packet.stream = stream
                    out.mux(packet)
    return target


def write_silent_video(path: Path, seconds: float) -> None:
    """Write a film without any sound track."""
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as out:
        picture = _picture(out)
        for index in range(round(seconds * _FRAMES_A_SECOND)):
            out.mux(picture.encode(_image(index)))
        out.mux(picture.encode(None))


def _picture(out: av.container.OutputContainer) -> VideoStream:
    stream = out.add_stream("mpeg4", rate=_FRAMES_A_SECOND)
    if not isinstance(stream, VideoStream):
        raise TypeError("mpeg4 is no video codec")
    stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
    stream.codec_context.flags |= av.codec.context.Flags.bitexact
    return stream


def _image(index: int) -> av.VideoFrame:
    """Draw a bar that walks from left to right."""
    image = np.zeros((120, 160, 3), dtype=np.uint8)
    image[:, (index * 4) % 160 : (index * 4) % 160 + 4] = 200
    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    frame.pts, frame.time_base = index, Fraction(1, _FRAMES_A_SECOND)
    return frame
