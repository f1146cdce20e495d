"""Windows cut at silences, with scripted spans and results."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.runner.scripted import BEGIN, Codec, result, results
from transcription_runner.batched import Batched, pack, window_segments
from transcription_runner.options import TranscribeOptions
from transcription_runner.windows import Align, Cut, Decode, DecodingResult, Detect, WordTiming


def middle(first: int, last: int) -> int:
    return (first + last) // 2


def breathless(first: int, last: int) -> None:
    assert 0 <= first < last


@st.composite
def spans(draw: st.DrawFn) -> list[tuple[int, int]]:
    found = []
    at = 0
    for _ in range(draw(st.integers(0, 12))):
        at += draw(st.integers(1, 2500))
        length = draw(st.one_of(st.integers(1, 900), st.integers(1, 9000)))
        found.append((at, at + length))
        at += length
    return found


@settings(max_examples=300, deadline=None)
@given(spans(), st.sampled_from([middle, breathless]))
def test_every_moment_of_speech_is_in_exactly_one_window(found, breath):
    cuts = pack(found, middle, breath)
    pieces = [piece for cut in cuts for piece in cut.pieces]
    assert all(0 < cut.size <= 3000 for cut in cuts)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(pieces))
    for start, end in found:
        covered = sum(max(0, min(end, last) - max(start, first)) for first, last in pieces)
        assert covered == end - start


def test_cuts_at_the_quietest_moment_of_long_speech():
    cuts = pack([(0, 4000)], lambda first, last: 2345 if first <= 2345 <= last else last, breathless)
    assert [cut.pieces for cut in cuts] == [((0, 2345),), ((2345, 4000),)]


def test_long_speech_is_cut_at_a_breath_that_fills_the_window():
    cuts = pack([(0, 4000)], lambda first, last: 2345, lambda first, last: 2900 if first <= 2900 <= last else None)
    assert [cut.pieces for cut in cuts] == [((0, 2900),), ((2900, 4000),)]


def test_a_window_takes_in_a_part_of_what_follows_up_to_a_breath():
    def breath(first: int, last: int) -> int:
        assert (first, last) == (2700, 3000)
        return 2850

    cuts = pack([(0, 1500), (1550, 3700)], middle, breath)
    assert [cut.pieces for cut in cuts] == [((0, 2850),), ((2850, 3700),)]


def test_a_part_that_is_left_out_before_counts_for_nothing():
    def breath(first: int, last: int) -> int:
        assert (first, last) == (4100, 4400), "1600 frames are heard, and 1100 to 1400 more fit"
        return 4344

    cuts = pack([(0, 1500), (2300, 2400), (3000, 5000)], middle, breath)
    assert [cut.pieces for cut in cuts] == [((0, 1500), (2300, 2400), (3000, 4344)), ((4344, 5000),)]


def test_short_pauses_stay_and_long_ones_are_left_out():
    (cut,) = pack([(0, 500), (550, 900), (1500, 1700)], middle, breathless)
    assert cut.pieces == ((0, 900), (1500, 1700))
    assert cut.to_file(100) == 100
    assert (cut.to_file(900), cut.to_file(900, first=True), cut.to_file(1000)) == (900, 1500, 1600)
    assert cut.to_file(5000) == 1700
    assert cut.after(1000) == Cut(((1600, 1700),))
    assert cut.after(1100) is None


def test_windows_far_apart_are_not_joined():
    assert len(pack([(0, 500), (5000, 5500)], middle, breathless)) == 2


def run(machine: Batched, answers) -> list:
    asked = []
    waiting = []
    while not machine.done:
        waiting += list(machine.requests())
        assert waiting, "it waits for nothing"
        request = waiting.pop()  # the latest first: order must not matter
        asked.append(request)
        assert len(asked) < 5000
        if isinstance(request, Detect):
            machine.take(request, {"fr": 0.8, "en": 0.2})
        elif isinstance(request, Decode):
            given_ = answers(request)
            machine.take(
                request,
                DecodingResult(
                    given_.tokens,
                    given_.text,
                    given_.avg_logprob,
                    given_.no_speech_prob,
                    request.temperature,
                    given_.compression_ratio,
                    given_.complete,
                ),
            )
        else:
            machine.take(
                request, [WordTiming(f" w{t}", [t], i / 10, i / 10 + 0.1, 0.9) for i, t in enumerate(request.tokens)]
            )
    return asked


def batched(cuts, frames=100_000, **options) -> Batched:
    chosen = TranscribeOptions(mode="batched", **options)
    return Batched(chosen, Codec(), frames=frames, cuts=cuts, language=chosen.language)


def test_nothing_to_hear_is_nothing_to_decode():
    machine = batched([], language="en")
    assert machine.done
    assert machine.result() == {"text": "", "segments": [], "language": "en"}


def test_times_are_those_of_the_file_and_in_order():
    cuts = [Cut(((1000, 1500), (2000, 2400))), Cut(((9000, 9500),))]
    said = {
        1000: result([BEGIN, 1, BEGIN + 250, BEGIN + 250, 2, BEGIN + 450]),
        9000: result([BEGIN + 10, 3, BEGIN + 250]),
    }
    machine = batched(cuts)
    asked = run(machine, lambda request: said[request.cut.start])
    assert isinstance(asked[0], Detect)
    assert [(s["id"], s["seek"], s["start"], s["end"], s["text"]) for s in machine.result()["segments"]] == [
        (0, 1000, 10.0, 15.0, " w1"),
        (1, 1000, 20.0, 24.0, " w2"),
        (2, 9000, 90.2, 95.0, " w3"),
    ]
    assert machine.result()["text"] == " w1 w2 w3"
    assert machine.result()["language"] == "fr"


def test_words_have_times_of_the_file():
    machine = batched([Cut(((1000, 1010), (2000, 2400)))], language="en", word_timestamps=True)
    asked = run(machine, lambda request: result([BEGIN, 1, 2, BEGIN + 205]))
    assert isinstance(asked[1], Align)
    (segment,) = machine.result()["segments"]
    assert [(w["word"], w["start"], w["end"]) for w in segment["words"]] == [(" w1", 10.0, 10.1), (" w2", 20.0, 20.1)]


def test_text_without_an_end_ends_with_its_window():
    segments, rest = window_segments(Codec(), result([BEGIN, 1, BEGIN + 100, BEGIN + 100, 2]), Cut(((0, 1000),)))
    assert [(s["start"], s["end"], s["text"]) for s in segments] == [(0.0, 2.0, " w1"), (2.0, 10.0, " w2")]
    assert rest is None


@pytest.mark.parametrize(("left", "again"), [(1.0, False), (1.4, True), (3.0, True)])
def test_a_second_that_is_left_out_is_not_decoded_again_and_a_little_more_is(left, again):
    end = BEGIN + round((10 - left) * 50)  # of a window of ten seconds
    _, rest = window_segments(Codec(), result([BEGIN, 1, end]), Cut(((0, 1000),)))
    assert (rest is not None) == again


def test_what_the_text_leaves_out_is_decoded_again():
    for tokens in ([BEGIN, 1, BEGIN + 100, BEGIN + 100], [BEGIN, 1, BEGIN + 100]):
        _, rest = window_segments(Codec(), result(tokens), Cut(((500, 1500),)))
        assert rest == Cut(((700, 1500),))


@settings(max_examples=150, deadline=None)
@given(spans(), st.lists(results(), min_size=1, max_size=9), st.booleans())
def test_always_ends_with_segments_in_order_whatever_is_said(found, answers, with_words):
    cuts = pack(found, middle, middle)
    machine = batched(cuts, language="en", word_timestamps=with_words)
    asked = run(machine, lambda request: answers[(request.cut.start + request.cut.size) % len(answers)])
    heard = [request.cut for request in asked if isinstance(request, Decode) and request.temperature == 0]
    for cut in cuts:
        assert cut in heard
        # What is decoded again is a rest of the window, each shorter than the one before: never the same, never more.
        again = [other for other in heard if cut.start <= other.start and other.pieces[-1][1] == cut.pieces[-1][1]]
        starts = [other.start for other in again]
        assert starts == sorted(set(starts))
        heard = [other for other in heard if other not in again]
    assert heard == [], "nothing that no window holds"
    segments = machine.result()["segments"]
    assert [segment["id"] for segment in segments] == list(range(len(segments)))
    for before, after in itertools.pairwise(segments):
        assert before["end"] <= after["start"] + 1e-6, "no audio has text twice"
    for segment in segments:
        assert segment["start"] <= segment["end"]
        first, last = segment["start"] * 100, segment["end"] * 100
        assert any(a - 1e-6 <= first and last <= b + 1e-6 for a, b in [(c.pieces[0][0], c.pieces[-1][1]) for c in cuts])


def test_each_window_has_its_own_language():
    cuts = [Cut(((0, 2000),)), Cut(((3000, 4000),)), Cut(((9000, 9500),))]
    options = TranscribeOptions(mode="batched", multilingual=True)
    machine = Batched(options, Codec(), frames=10_000, cuts=cuts, language=None)
    spoken = dict(zip(cuts, ("fr", "en", "en"), strict=True))
    asked = []
    waiting = list(machine.requests())
    while waiting:
        for request in waiting:
            asked.append(request)
            if isinstance(request, Detect):
                machine.take(request, {spoken[request.cut]: 0.9, "de": 0.1})
            else:
                machine.take(request, result([BEGIN, 7, BEGIN + request.cut.size // 2]))
        waiting = list(machine.requests())
    assert machine.done
    assert {request.cut: request.language for request in asked if isinstance(request, Decode)} == spoken
    found = machine.result()
    assert [segment["language"] for segment in found["segments"]] == ["fr", "en", "en"]
    assert found["language"] == "fr", "20 s of French, 15 s of English"


def test_a_silent_file_of_many_languages_is_asked_for_one():
    machine = Batched(
        TranscribeOptions(mode="batched", multilingual=True), Codec(), frames=10_000, cuts=[], language=None
    )
    (request,) = machine.requests()
    machine.take(request, {"en": 1.0})
    assert machine.done
    assert machine.result()["language"] == "en"
