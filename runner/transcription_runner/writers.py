"""Transcripts as text, subtitles, tables and JSON: byte for byte what openai-whisper writes for the same segments."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FORMATS: tuple[str, ...] = ("txt", "vtt", "srt", "tsv", "json")
"""In the order of openai-whisper's `all`."""

_LONG_PAUSE = 3.0
_ANY = 1000
_WORD = re.compile(r"^(\s*)(.*)$")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How words are laid out in subtitles; needs word timestamps."""

    max_line_width: int | None = None
    max_line_count: int | None = None
    max_words_per_line: int | None = None
    highlight_words: bool = False


def render(result: Mapping[str, Any], format_name: str, layout: Layout | None = None) -> bytes:
    """The file's whole content in the given format (one of `FORMATS`)."""
    return _WRITERS[format_name](result, layout or Layout()).encode("utf-8", "surrogatepass")


def timestamp(seconds: float, *, hours: bool = False, decimal: str = ".") -> str:
    """`[hh:]mm:ss.mmm`; the hours are left out below one hour unless asked for."""
    total, milliseconds = divmod(round(seconds * 1000.0), 1000)
    minutes, second = divmod(total, 60)
    hour, minute = divmod(minutes, 60)
    prefix = f"{hour:02d}:" if hours or hour else ""
    return f"{prefix}{minute:02d}:{second:02d}{decimal}{milliseconds:03d}"


def _txt(result: Mapping[str, Any], _: Layout) -> str:
    return "".join(f"{segment['text'].strip()}\n" for segment in result["segments"])


def _tsv(result: Mapping[str, Any], _: Layout) -> str:
    rows = ["start\tend\ttext\n"]
    for segment in result["segments"]:
        text = segment["text"].strip().replace("\t", " ")
        rows.append(f"{round(1000 * segment['start'])}\t{round(1000 * segment['end'])}\t{text}\n")
    return "".join(rows)


def _json(result: Mapping[str, Any], _: Layout) -> str:
    return json.dumps(result)


def _vtt(result: Mapping[str, Any], layout: Layout) -> str:
    cues = _subtitles(result["segments"], layout, hours=False, decimal=".")
    return "WEBVTT\n\n" + "".join(f"{start} --> {end}\n{text}\n\n" for start, end, text in cues)


def _srt(result: Mapping[str, Any], layout: Layout) -> str:
    cues = _subtitles(result["segments"], layout, hours=True, decimal=",")
    return "".join(f"{number}\n{start} --> {end}\n{text}\n\n" for number, (start, end, text) in enumerate(cues, 1))


_WRITERS: dict[str, Callable[[Mapping[str, Any], Layout], str]] = {
    "txt": _txt,
    "vtt": _vtt,
    "srt": _srt,
    "tsv": _tsv,
    "json": _json,
}


def _subtitles(
    segments: Sequence[Mapping[str, Any]], layout: Layout, *, hours: bool, decimal: str
) -> Iterator[tuple[str, str, str]]:
    """(start, end, text) of every cue."""

    def stamp(seconds: float) -> str:
        return timestamp(seconds, hours=hours, decimal=decimal)

    if not segments or "words" not in segments[0]:
        for segment in segments:
            yield stamp(segment["start"]), stamp(segment["end"]), segment["text"].strip().replace("-->", "->")
        return
    for cue in _cues(segments, layout):
        first, last = stamp(cue[0].start), stamp(cue[-1].end)
        if layout.highlight_words:
            yield from _highlighted(cue, stamp)
        else:
            yield first, last, "".join(word.text for word in cue)


@dataclass(frozen=True)
class _Word:
    text: str
    start: float
    end: float


def _highlighted(cue: Sequence[_Word], stamp: Callable[[float], str]) -> Iterator[tuple[str, str, str]]:
    """One cue for each spoken word, underlined, and one for each pause between two."""
    plain = [word.text for word in cue]
    shown_until = stamp(cue[0].start)
    for position, word in enumerate(cue):
        start, end = stamp(word.start), stamp(word.end)
        if start != shown_until:
            yield shown_until, start, "".join(plain)
        underlined = _WORD.sub(r"\1<u>\2</u>", word.text)
        yield start, end, "".join([*plain[:position], underlined, *plain[position + 1 :]])
        shown_until = end


def _cues(segments: Iterable[Mapping[str, Any]], layout: Layout) -> Iterator[list[_Word]]:
    """Gather words into cues; a word that begins a line after the cue's first carries the line break.

    With both a line's width and a count of lines, cues flow across segments and break at long pauses; otherwise each
    segment (or each `max_words_per_line` words of one) begins a cue of its own.
    """
    width = layout.max_line_width or _ANY
    words_per_cue = layout.max_words_per_line or _ANY
    line_count = layout.max_line_count or None
    keep_segments = line_count is None or not layout.max_line_width
    cue: list[_Word] = []
    line_length, lines = 0, 1
    previous: float | None = None
    for segment in segments:
        for position, word in enumerate(segment["words"]):
            text: str = word["word"]
            if previous is None:
                previous = word["start"] or 0.0
            pause = not keep_segments and word["start"] - previous > _LONG_PAUSE
            new_block = bool(cue) and keep_segments and position % words_per_cue == 0
            fits = line_length > 0 and line_length + len(text) <= width
            if fits and not pause and not new_block:
                line_length += len(text)
            else:
                text = text.strip()
                full = bool(cue) and line_count is not None and (pause or lines >= line_count)
                line_length, had_line = len(text), line_length > 0
                if full or new_block:
                    yield cue
                    cue, lines = [], 1
                elif had_line:
                    lines += 1
                    text = "\n" + text
            cue.append(_Word(text, word["start"], word["end"]))
            previous = word["start"]
    if cue:
        yield cue
