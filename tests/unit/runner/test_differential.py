"""A fixed slice of the differential suite (`python -m tests.differential` runs all of it), and what it stands on."""

from __future__ import annotations

import pytest

from tests.differential import batches, product, running
from tests.differential.comparing import agreed, differences
from tests.differential.options import OPTIONS
from tests.differential.recordings import RECORDINGS

PAIRS = [(model, *pair) for model, pairs in product.SLICE.items() for pair in pairs]


@pytest.mark.parametrize(("model", "recorded", "asking"), PAIRS)
def test_says_what_openai_whisper_says(model, recorded, asking, request):
    name = model.replace(".", "_")
    engine, reference = request.getfixturevalue(name), request.getfixturevalue(f"reference_{name}")
    outcome = running.run(engine, reference, product.pair(recorded, asking))
    assert outcome is not None
    assert outcome.verdict == "equal", outcome.found


def test_the_slice_has_every_option():
    assert {asking for _, _, asking in PAIRS} == set(OPTIONS)


def test_a_diagonal_has_every_recording_and_every_option():
    for number in (0, 1, len(OPTIONS) - 1):
        pairs = list(product.diagonals([number]))
        assert {pair.recorded for pair in pairs} == set(RECORDINGS)
        assert {pair.asking for pair in pairs} == set(OPTIONS)


def test_all_diagonals_are_the_whole_product():
    names = [pair.name for pair in product.diagonals(range(len(OPTIONS)))]
    assert len(set(names)) == len(names) == len(RECORDINGS) * len(OPTIONS)


def test_files_in_one_batch_say_what_they_say_alone(tiny_en):
    outcomes = list(batches.compare(tiny_en, "tiny.en", "greedy", (2, 3, 8), batches.FEW))
    assert len(outcomes) == 3 * len(batches.FEW)
    assert [outcome for outcome in outcomes if outcome.found] == []


@pytest.mark.parametrize(
    "asking", ["words of beams", "fallback by probability", "a prompt carried", "hot, best of five, words"]
)
def test_whatever_is_asked_of_them(tiny_en, asking):
    outcomes = list(batches.compare(tiny_en, "tiny.en", asking, (4,), batches.CONTEXTS))
    assert len(outcomes) == len(batches.CONTEXTS)
    assert [outcome for outcome in outcomes if outcome.found] == []


def result(**changes):
    segment = {"id": 0, "seek": 0, "start": 0.0, "end": 1.0, "text": " a", "tokens": [1], "temperature": 0.0}
    segment |= {"avg_logprob": -0.1, "no_speech_prob": 0.1, "compression_ratio": 0.8}
    segment["words"] = [{"word": " a", "start": 0.0, "end": 1.0, "probability": 0.9}]
    return {"text": " a", "language": "en", "segments": [segment | changes]}


@pytest.mark.parametrize(
    "changes",
    [
        {"text": " b"},
        {"tokens": [2]},
        {"start": 0.04},
        {"end": 0.96},
        {"seek": 2},
        {"temperature": 0.2},
        {"avg_logprob": -0.102},
        {"no_speech_prob": float("nan")},
        {"words": []},
        {"words": [{"word": " a", "start": 0.0, "end": 0.97, "probability": 0.9}]},
        {"words": [{"word": " a", "start": 0.0, "end": 1.0, "probability": 0.95}]},
    ],
)
def test_a_difference_is_seen(changes):
    assert differences(result(**changes), result()).found
    assert agreed(result(**changes), result()) == 0


def test_what_is_near_is_no_difference():
    near = result(start=0.02, avg_logprob=-0.1005)
    assert differences(near, result()).found == []
    assert agreed(near, result()) == 1
