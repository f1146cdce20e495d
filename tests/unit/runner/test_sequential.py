"""Whisper's way through a file, with scripted window results."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.runner.scripted import BEGIN, Codec, result, results
from transcription_runner.options import TranscribeOptions
from transcription_runner.sequential import Sequential
from transcription_runner.windows import Align, Decode, DecodingResult, Detect, Request, WordTiming


def drive(machine: Sequential, answers) -> list[Request]:
    """Run a machine to its end with results from an iterator; returns all that it asked."""
    asked: list[Request] = []
    while not machine.done:
        (request,) = machine.requests()
        assert not list(machine.requests()), "a request is handed out once"
        asked.append(request)
        assert len(asked) < 10_000
        if isinstance(request, Detect):
            machine.take(request, {"en": 0.9, "fr": 0.1})
        elif isinstance(request, Decode):
            answer = next(answers)
            machine.take(
                request,
                DecodingResult(
                    answer.tokens,
                    answer.text,
                    answer.avg_logprob,
                    answer.no_speech_prob,
                    request.temperature,
                    answer.compression_ratio,
                ),
            )
        else:
            machine.take(request, next(answers))
    return asked


def forever(*items):
    while True:
        yield from items


def decodes(asked) -> list[Decode]:
    return [request for request in asked if isinstance(request, Decode)]


def first_rungs(asked) -> list[Decode]:
    return [request for request in decodes(asked) if request.temperature == 0]


class Silence:
    """A recording that holds nothing in these spans of frames, and the windows that it was left out of."""

    def __init__(self, *spans: tuple[int, int]) -> None:
        self.spans = spans
        self.left_out: list[tuple[int, int]] = []

    def __call__(self, start: int, end: int) -> bool:
        found = any(first <= start and end <= last for first, last in self.spans)
        if found:
            self.left_out.append((start, end))
        return found


def machine(frames: int, silence: Silence | None = None, **options) -> Sequential:
    return Sequential(
        TranscribeOptions(**{"language": "en", **options}),
        Codec(),
        frames=frames,
        language=options.get("language", "en"),
        silent=silence or Silence(),
    )


def test_goes_on_at_the_end_of_the_last_whole_segment():
    said = [BEGIN, 1, 2, BEGIN + 250, BEGIN + 250, 3, BEGIN + 500, BEGIN + 500, 4]
    it = machine(6000)
    asked = drive(it, iter([result(said), result([BEGIN, 4, BEGIN + 100]), result([BEGIN, 5, BEGIN + 100])]))
    assert [request.cut.pieces for request in asked] == [((0, 3000),), ((1000, 4000),), ((4000, 6000),)]
    assert [request.prompt for request in asked] == [
        (),
        (BEGIN, 1, 2, BEGIN + 250, BEGIN + 250, 3, BEGIN + 500),
        (BEGIN, 1, 2, BEGIN + 250, BEGIN + 250, 3, BEGIN + 500, BEGIN, 4, BEGIN + 100),
    ]
    segments = it.result()["segments"]
    assert [(s["start"], s["end"], s["text"], s["id"], s["seek"]) for s in segments] == [
        (0.0, 5.0, " w1 w2", 0, 0),
        (5.0, 10.0, " w3", 1, 0),
        (10.0, 12.0, " w4", 2, 1000),
        (40.0, 42.0, " w5", 3, 4000),
    ]
    assert it.result()["text"] == " w1 w2 w3 w4 w5"


def test_detects_the_language_first():
    it = Sequential(TranscribeOptions(), Codec(), frames=100, language=None)
    asked = drive(it, forever(result([BEGIN, 1, BEGIN + 20])))
    assert isinstance(asked[0], Detect)
    assert asked[0].cut.pieces == ((0, 3000),)
    assert asked[1].language == "en" == it.result()["language"]


def test_climbs_the_ladder_until_a_result_is_good_enough():
    bad, good = result([BEGIN, 1, BEGIN + 1500], ratio=3.0), result([BEGIN, 2, BEGIN + 1500])
    it = machine(3000)
    asked = drive(it, iter([bad, bad, good]))
    assert [request.temperature for request in asked] == [0.0, 0.2, 0.4]
    assert it.result()["segments"][0]["temperature"] == 0.4


def test_takes_the_last_rung_whatever_it_says():
    it = machine(3000)
    asked = drive(it, forever(result([BEGIN, 1, BEGIN + 1500], ratio=3.0)))
    assert len(asked) == 6
    assert it.result()["text"] == " w1"


def test_silence_is_skipped_and_not_repeated():
    it = machine(6000)
    asked = drive(it, forever(result([BEGIN, 1, BEGIN + 100], logprob=-1.5, silence=0.9)))
    assert [(request.cut.start, request.temperature) for request in asked] == [(0, 0.0), (3000, 0.0)]
    assert it.result() == {"text": "", "segments": [], "language": "en"}


def test_windows_without_any_sound_are_not_asked_for():
    silence = Silence((2900, 9000))
    it = machine(12_000, silence)
    asked = drive(it, forever(result([BEGIN, 1, BEGIN + 1500])))
    assert [request.cut.start for request in asked] == [0, 9000]
    assert silence.left_out == [(3000, 6000), (6000, 9000)]
    assert asked[1].prompt == (BEGIN, 1, BEGIN + 1500), "the context goes on"


def test_without_a_threshold_they_are():
    asked = drive(
        machine(6000, Silence((0, 6000)), no_speech_threshold=None), forever(result([BEGIN, 1, BEGIN + 1500]))
    )
    assert [request.cut.start for request in asked] == [0, 3000]


def test_no_prompt_after_a_high_temperature():
    bad, good = result([BEGIN, 1, BEGIN + 1500], ratio=3.0), result([BEGIN, 2, BEGIN + 1500])
    asked = drive(machine(6000), iter([bad, bad, bad, good, good]))
    assert asked[-1].prompt == ()


def test_an_initial_prompt_scrolls_away_unless_it_is_carried():
    text = [BEGIN, *range(100), BEGIN + 1500]
    for carried in (False, True):
        it = machine(3000 * 4, initial_prompt="names to know", carry_initial_prompt=carried)
        initial = tuple(Codec().encode("names to know"))
        asked = drive(it, forever(result(text)))
        assert asked[0].prompt == initial
        assert all(len(request.prompt) <= 223 for request in asked)
        assert (asked[3].prompt[:3] == initial) is carried
        assert it.result()["text"] == Codec().decode(list(range(100)) * 4)


def test_hotwords_are_in_every_window_and_the_text_before_keeps_its_place():
    text = [BEGIN, *range(100), BEGIN + 1500]
    bad = result([BEGIN, 1, BEGIN + 1500], ratio=3.0)
    glossary = tuple(Codec().encode("Digium Asterisk"))
    for options in ({}, {"condition_on_previous_text": False}):
        asked = first_rungs(drive(machine(3000 * 4, hotwords="Digium Asterisk", **options), forever(result(text))))
        assert [request.prompt[:2] for request in asked] == [glossary] * 4
        assert asked[0].prompt == glossary
    asked = first_rungs(drive(machine(3000 * 4, hotwords="Digium Asterisk"), forever(result(text))))
    assert asked[3].prompt == (*glossary, *(text * 3)[-221:])
    asked = drive(machine(6000, hotwords="Digium Asterisk"), iter([bad, bad, bad, bad, bad, bad, result(text)]))
    assert asked[-1].prompt == glossary, "after a high temperature the glossary alone is left"


def test_hotwords_leave_room_for_the_window_before_and_for_what_is_carried():
    text = [BEGIN, *range(100), BEGIN + 1500]
    many = " ".join(f"n{number}" for number in range(150))
    asked = drive(machine(3000 * 3, hotwords=many), forever(result(text)))
    assert asked[1].prompt == (*Codec().encode(many)[:96], *text)
    asked = drive(
        machine(3000 * 3, hotwords="a b", initial_prompt="c d e", carry_initial_prompt=True), forever(result(text))
    )
    assert asked[2].prompt == (*Codec().encode("a b c d e"), *(text * 2)[-218:])


def test_clips_alone_are_heard():
    asked = drive(machine(9000, clip_timestamps="5,10,20,21.5,80"), forever(result([BEGIN, 1, BEGIN + 10])))
    assert [request.cut.pieces[0] for request in asked] == [(500, 1000), (2000, 2150), (8000, 9000)]


def test_a_clip_beyond_the_end_is_nothing():
    assert drive(machine(1000, clip_timestamps="20,30"), forever()) == []


def test_a_model_that_creeps_gets_to_the_end():
    # A whole segment of 0.02 s at the beginning of every window: whisper would ask 3000 times for a minute.
    asked = drive(machine(6000), forever(result([BEGIN, 1, BEGIN + 1, BEGIN + 1, 2])))
    assert len(asked) < 200


def test_an_answer_to_another_question_is_refused():
    it = machine(3000)
    list(it.requests())
    with pytest.raises(ValueError, match="not open"):
        it.take(Detect(None), {})


@settings(max_examples=300, deadline=None)
@given(frames=st.integers(0, 12_000), answers=st.lists(results(), min_size=1, max_size=12), data=st.data())
def test_never_goes_back_never_leaves_out_and_always_ends(frames, answers, data):
    options = {
        "condition_on_previous_text": data.draw(st.booleans()),
        "carry_initial_prompt": data.draw(st.booleans()),
        "initial_prompt": data.draw(st.sampled_from([None, "a b c"])),
        "hotwords": data.draw(st.sampled_from([None, "d e"])),
    }
    silence = Silence(*data.draw(st.lists(st.tuples(st.integers(0, frames), st.integers(0, frames)), max_size=3)))
    it = machine(frames, silence, **options)
    asked = first_rungs(drive(it, forever(*answers)))
    heard = sorted([request.cut.pieces[0] for request in asked] + silence.left_out)
    assert bool(heard) is bool(frames)
    assert not heard or heard[0][0] == 0
    for (start, end), following in zip(heard, [*(start for start, _ in heard[1:]), frames], strict=False):
        assert start < following <= end, "the next window begins inside this one, or right after it"
    for segment in it.result()["segments"]:
        assert segment["start"] <= segment["end"]
        assert 0 <= segment["seek"] <= segment["start"] * 100 + 1e-6
    starts = [round(segment["start"], 3) for segment in it.result()["segments"]]
    assert starts == sorted(starts)
    assert [segment["id"] for segment in it.result()["segments"]] == list(range(len(starts)))


@settings(max_examples=200, deadline=None)
@given(
    points=st.lists(st.integers(0, 120), min_size=1, max_size=5, unique=True).map(sorted),
    frames=st.integers(1, 12_500),
    answers=st.lists(results(), min_size=1, max_size=8),
)
def test_every_clip_is_heard_from_its_beginning_to_its_end(points, frames, answers):
    it = machine(frames, clip_timestamps=[float(point) for point in points])
    heard = [request.cut.pieces[0] for request in first_rungs(drive(it, forever(*answers)))]
    ends = [*(point * 100 for point in points[1::2]), *([frames] if len(points) % 2 else [])]
    clips = [(first * 100, min(last, frames)) for first, last in zip(points[::2], ends, strict=True)]
    for first, last in (clip for clip in clips if clip[0] < clip[1]):
        inside = [(start, end) for start, end in heard if first <= start < last]
        assert inside[0][0] == first
        for (start, end), following in zip(inside, [*(start for start, _ in inside[1:]), last], strict=True):
            assert start < following <= end <= last
        heard = heard[len(inside) :]
    assert heard == []


@settings(max_examples=200, deadline=None)
@given(frames=st.integers(3_000, 12_000), answers=st.lists(results(), min_size=1, max_size=8))
def test_no_audio_has_text_twice(frames, answers):
    it = machine(frames)
    starts = [request.cut.start for request in first_rungs(drive(it, forever(*answers)))] + [frames]
    # In the file's last window, which may be short, a model can write times that lie after its end.
    for segment in (each for each in it.result()["segments"] if each["seek"] + 3000 <= frames):
        following = next(start for start in starts if start > segment["seek"])
        assert segment["end"] * 100 <= following + 1e-6


@settings(max_examples=200, deadline=None)
@given(
    frames=st.integers(1, 9_000),
    answers=st.lists(results(), min_size=1, max_size=8),
    threshold=st.sampled_from([None, 0.0, 0.5, 2.0]),
    data=st.data(),
)
def test_words_never_make_it_go_back_or_hang(frames, answers, threshold, data):
    silence = Silence(*data.draw(st.lists(st.tuples(st.integers(0, frames), st.integers(0, frames)), max_size=2)))
    it = machine(frames, silence, word_timestamps=True, hallucination_silence_threshold=threshold)
    script = forever(*answers)
    last, end = -1, 0
    asked = 0
    while not it.done:
        (request,) = it.requests()
        asked += 1
        assert asked < 5000
        if isinstance(request, Align):
            times = sorted(
                data.draw(
                    st.lists(
                        st.integers(0, request.cut.size // 2),
                        min_size=2 * len(request.tokens),
                        max_size=2 * len(request.tokens),
                    )
                )
            )
            it.take(
                request,
                [
                    WordTiming(
                        f" w{token}",
                        [token],
                        times[2 * i] / 50,
                        times[2 * i + 1] / 50,
                        data.draw(st.sampled_from([0.05, 0.9])),
                    )
                    for i, token in enumerate(request.tokens)
                ],
            )
        else:
            if request.temperature == 0:
                # Whisper lets a last word, and so the next window, reach over the end by a word's median length.
                for start, stop in [*silence.left_out, request.cut.pieces[0]]:
                    assert last < start <= end + 70
                    last, end = start, stop
                silence.left_out.clear()
            it.take(request, next(script))
    for segment in it.result()["segments"]:
        assert "words" in segment
