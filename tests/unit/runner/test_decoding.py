"""The decoding loop: each row on its own, whatever else is in the batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transcription_runner.choices import sample
from transcription_runner.decoding import Method, Session, Start, compression_ratio
from transcription_runner.options import parse_tokens
from transcription_runner.rows import Rows
from transcription_runner.rules import Rules

reference = pytest.importorskip("whisper.decoding")


def method(engine, *, group=1, beam=False, patience=1.0, length_penalty=None) -> Method:
    suppress = engine.tokenizer.suppressed(parse_tokens("-1"))
    return Method(group, beam, patience, length_penalty, suppress)


@pytest.fixture(scope="module")
def starts(random_engine):
    """Windows that differ in sound, prompt and length, for a small random model."""
    engine = random_engine
    bands = engine.network.config.num_mel_bins
    generator = torch.Generator().manual_seed(1)
    features = engine.encode(torch.randn(4, bands, 3000, generator=generator))
    start = engine.tokenizer.start("en", "transcribe")
    prompts = [(), (11, 12, 13), tuple(range(200, 423)), ()]

    def make(temperature=0.0):
        return [
            Start(
                row,
                features[row],
                (*((engine.tokenizer.sot_prev, *prompt) if prompt else ()), *start),
                len(prompt) + bool(prompt),
                temperature,
                row,
            )
            for row, prompt in enumerate(prompts)
        ]

    return make


def run(session: Session, starts, *, at_once: int):
    """Decode all, admitting a few at a time; results by ticket."""
    waiting = list(starts)
    found = {}
    while waiting or len(session):
        now = waiting[: min(at_once, session.free)]
        del waiting[: len(now)]
        session.admit(now)
        found |= dict(session.step())
    return [found[start.ticket] for start in starts]


METHODS = {
    "greedy": {},
    "beam": {"group": 4, "beam": True},
    "patience": {"group": 3, "beam": True, "patience": 1.7, "length_penalty": 0.5},
    "impatient": {"group": 3, "beam": True, "patience": 0.5},
    "sampling": {"group": 3},
}


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_gives_what_one_by_one_gives(random_engine, starts, name):
    chosen = method(random_engine, **METHODS[name])
    # At a high temperature this random model's tokens are all alike, and the last digit of a sum decides among them.
    windows = starts(0.05 if name == "sampling" else 0.0)
    alone = [run(random_engine.session(chosen, 1), [window], at_once=1)[0] for window in windows]
    together = run(random_engine.session(chosen, len(windows)), windows, at_once=len(windows))
    streaming = run(random_engine.session(chosen, 3), windows, at_once=1)
    for one, other, third in zip(alone, together, streaming, strict=True):
        assert one.tokens == other.tokens == third.tokens
        assert one.complete == other.complete == third.complete
        assert one.avg_logprob == pytest.approx(other.avg_logprob, abs=1e-4)
        assert one.no_speech_prob == pytest.approx(other.no_speech_prob, abs=1e-5)


def test_sampling_is_repeatable_and_depends_on_its_seed(random_engine, starts):
    chosen = method(random_engine, group=2)
    first = run(random_engine.session(chosen, 4), starts(1.0), at_once=4)
    assert first == run(random_engine.session(chosen, 4), starts(1.0), at_once=4)
    from dataclasses import replace

    others = [replace(start, seed=start.seed + 100) for start in starts(1.0)]
    assert [r.tokens for r in first] != [r.tokens for r in run(random_engine.session(chosen, 4), others, at_once=4)]


def test_a_long_prompt_leaves_less_room(random_engine, starts):
    results = run(random_engine.session(method(random_engine), 4), starts(), at_once=4)
    most = random_engine.network.config.max_target_positions
    assert all(len(result.tokens) <= most // 2 for result in results)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_the_rules_are_openai_whispers(random_engine, data):
    theirs = reference.get_tokenizer(True, language="en", task="transcribe")
    tokenizer = random_engine.tokenizer
    begin, eot = tokenizer.timestamp_begin, tokenizer.eot
    vocabulary = random_engine.network.config.vocab_size
    # What has been written so far keeps the rules too, as it would.
    written: list[int] = []
    time = data.draw(st.integers(0, 50))
    for _ in range(data.draw(st.integers(0, 3))):
        written += [begin + time, *data.draw(st.lists(st.integers(0, eot - 1), min_size=1, max_size=3))]
        time = data.draw(st.integers(time + 1, time + 400))
        written += [begin + time]
    for _ in range(data.draw(st.integers(0, 2))):
        written += [begin + time] if written else []
    written = written[: data.draw(st.integers(0, len(written)))]
    logits = torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))) * 3
    logits[:, begin:] += data.draw(st.sampled_from([-6.0, 0.0, 3.0]))

    suppress = tokenizer.suppressed((-1,))
    expected = logits.clone()
    tokens = torch.tensor([[*tokenizer.start("en", "transcribe"), *written]])
    for rule in (
        reference.SuppressBlank(theirs, 3),
        reference.SuppressTokens(suppress),
        reference.ApplyTimestampRules(theirs, 3, 50),
    ):
        rule.apply(expected, tokens)

    state = Rows(1, 1, most=224, candidates=0, device=torch.device("cpu"))
    state.begin([0], tokens=[(1, 2, 3)], temperatures=[0.0], most=[224], seeds=[0])
    for token in written:
        state.length += 1
        state.follow(torch.tensor([token]), torch.tensor([True]), begin)
    ours = logits.clone()
    rules = Rules(tokenizer, suppress=suppress, latest_start=50, vocabulary=vocabulary, device=torch.device("cpu"))
    total = rules.apply(ours, state)
    assert torch.equal(ours, expected)
    assert torch.allclose(ours - total[:, None], expected.log_softmax(-1), atol=1e-5)


def test_sampling_follows_the_probabilities():
    logits = torch.log(torch.tensor([[0.5, 0.0, 0.3, 0.2]])).repeat(20_000, 1)
    noise = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    drawn = sample(logits, torch.ones(20_000), noise, logits.argmax(-1))
    shares = torch.bincount(drawn, minlength=4) / 20_000
    assert torch.allclose(shares, torch.tensor([0.5, 0.0, 0.3, 0.2]), atol=0.02)
    assert (sample(logits, torch.zeros(20_000), noise, logits.argmax(-1)) == 0).all()


def test_compression_ratio():
    assert compression_ratio("") == 0.0
    assert compression_ratio("na " * 100) > 10
