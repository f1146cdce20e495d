"""What both programs are asked: every option that has a say in openai-whisper's text, by its own names.

Where a temperature above 0 is asked, both programs draw the same random numbers (`Draws.SAME`), or take the likeliest
token (`Draws.OFF`); see `drawing`.
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass, field
from typing import Any


class Draws(enum.Enum):
    """Where the programs' samples come from at a temperature above 0."""

    SAME = "the same random numbers"
    OFF = "the likeliest token"


@dataclass(frozen=True)
class Asked:
    """One combination of options.

    clips: the points of `clip_timestamps` as parts of a recording's length, so that none lies beyond its end; numbers:
    given as numbers and not as text.
    language: None has it detected; "spoken" is the recording's, "another" is one that is not.
    multilingual: it says something to a model of several languages only.
    """

    options: dict[str, Any] = field(default_factory=dict)
    draws: Draws = Draws.SAME
    language: str | None = None
    multilingual: bool = False
    clips: tuple[float, ...] = ()
    numbers: bool = False

    def of(self, spoken: str, seconds: float) -> dict[str, Any]:
        """All options for a recording of this length in the language `spoken`."""
        languages = {"spoken": spoken, "another": "fr" if spoken != "fr" else "en"}
        chosen = None if self.language is None else languages.get(self.language, self.language)
        asked = {**self.options, "language": chosen}
        if self.clips:
            points = [round(part * seconds, 2) for part in self.clips]
            asked["clip_timestamps"] = points if self.numbers else ",".join(map(str, points))
        return asked

    def fits(self, seconds: float, multilingual: bool) -> bool:
        """Whether it can be asked of a recording and a model: the clips of very short recordings have no length."""
        return (multilingual or not self.multilingual) and not (self.clips and seconds < 3)


LADDER = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_GREEDY = {"temperature": 0.0, "beam_size": None, "best_of": None}
_BEAMS = {"temperature": 0.0, "beam_size": 5, "best_of": None}
_COMMAND = {"temperature": LADDER, "beam_size": 5, "best_of": 5}
_PROMPT = "Agent login. Mr. Jon Dashwoode, the Astorisk conference."
#: Longer than the 223 tokens that a window can take.
_LONG_PROMPT = " ".join(f"Number {number}, please hold." for number in range(60))

OPTIONS: dict[str, Asked] = {
    "greedy": Asked(_GREEDY),
    "the command's defaults": Asked(_COMMAND),
    "the function's defaults": Asked({"temperature": LADDER, "beam_size": None, "best_of": None}),
    # Beam search.
    "beams": Asked(_BEAMS),
    "patience": Asked({**_BEAMS, "patience": 2.0}),
    "impatience": Asked({**_BEAMS, "beam_size": 4, "patience": 0.5}),
    "one beam": Asked({**_BEAMS, "beam_size": 1}),
    "length penalty": Asked({**_BEAMS, "beam_size": 3, "length_penalty": 1.0, "patience": 1.4}),
    "no length penalty": Asked({**_BEAMS, "length_penalty": 0.0}),
    # Word times.
    "words": Asked({**_GREEDY, "word_timestamps": True}),
    "words of beams": Asked({**_BEAMS, "word_timestamps": True}),
    "words, other marks": Asked(
        {**_GREEDY, "word_timestamps": True, "prepend_punctuations": "(", "append_punctuations": ".,"}
    ),
    "words, made-up text in silence": Asked(
        {**_GREEDY, "word_timestamps": True, "hallucination_silence_threshold": 2.0}
    ),
    "words, little silence": Asked({**_COMMAND, "word_timestamps": True, "hallucination_silence_threshold": 0.3}),
    # The text before.
    "no context": Asked({**_GREEDY, "condition_on_previous_text": False}),
    "a prompt": Asked({**_GREEDY, "initial_prompt": _PROMPT}),
    "a prompt carried": Asked({**_GREEDY, "initial_prompt": _PROMPT, "carry_initial_prompt": True}),
    "a prompt carried, no context": Asked(
        {**_BEAMS, "initial_prompt": _PROMPT, "carry_initial_prompt": True, "condition_on_previous_text": False}
    ),
    "a long prompt": Asked({**_GREEDY, "initial_prompt": _LONG_PROMPT}),
    # Clips. The language is given: whisper hears it before the first clip, ours does not.
    "clips": Asked(_GREEDY, language="spoken", clips=(0.04, 0.3, 0.45, 0.8)),
    "from a moment on": Asked(_BEAMS, language="spoken", clips=(0.21,)),
    "clips as numbers, words": Asked(
        {**_GREEDY, "word_timestamps": True}, language="spoken", clips=(0.0, 0.3, 0.3, 0.55, 0.7), numbers=True
    ),
    "no clips": Asked({**_GREEDY, "clip_timestamps": ""}),
    # Languages and the task.
    "the spoken language": Asked(_GREEDY, language="spoken", multilingual=True),
    "a wrong language": Asked(_GREEDY, language="another", multilingual=True),
    "words of a wrong language": Asked({**_BEAMS, "word_timestamps": True}, language="another", multilingual=True),
    "a language without spaces": Asked({**_GREEDY, "word_timestamps": True}, language="ja", multilingual=True),
    "translation": Asked({**_GREEDY, "task": "translate"}),
    "translation of beams, words": Asked({**_BEAMS, "task": "translate", "word_timestamps": True}),
    # What may be written.
    "everything may be written": Asked({**_GREEDY, "suppress_tokens": ""}),
    "some tokens ruled out": Asked({**_GREEDY, "suppress_tokens": "-1,11,13,257,290"}),
    "only some ruled out": Asked({**_BEAMS, "suppress_tokens": "30,0,345"}),
    # Thresholds, and the ladder that they force.
    "fallback by probability, nothing drawn": Asked({**_COMMAND, "logprob_threshold": -0.2}, Draws.OFF),
    "fallback by repetition, nothing drawn": Asked(
        {"temperature": (0.0, 0.3, 0.7), "beam_size": None, "best_of": None, "compression_ratio_threshold": 1.1},
        Draws.OFF,
    ),
    "fallback by probability": Asked({**_COMMAND, "temperature": (0.0, 0.4, 0.8), "logprob_threshold": -0.25}),
    "fallback by repetition, words": Asked(
        {
            "temperature": (0.0, 0.2, 0.6),
            "beam_size": None,
            "best_of": 3,
            "compression_ratio_threshold": 1.2,
            "word_timestamps": True,
        }
    ),
    "no thresholds": Asked(
        {
            **_COMMAND,
            "compression_ratio_threshold": None,
            "logprob_threshold": None,
            "no_speech_threshold": None,
        }
    ),
    "hears silence soon": Asked({**_COMMAND, "no_speech_threshold": 0.02, "logprob_threshold": -0.4}),
    "silence by its probability alone": Asked({**_GREEDY, "no_speech_threshold": 0.3, "logprob_threshold": None}),
    "never silence": Asked({**_GREEDY, "no_speech_threshold": None}),
    # Sampling from the beginning.
    "warm": Asked({"temperature": 0.4, "beam_size": None, "best_of": None}),
    "hot, best of five, words": Asked(
        {"temperature": 0.8, "beam_size": None, "best_of": 5, "length_penalty": 0.5, "word_timestamps": True}
    ),
}


def draw(seed: int) -> tuple[str, Asked]:
    """A combination of chance, of every option at once."""
    chance = random.Random(f"options {seed}")

    def maybe(share: float, value: Any, otherwise: Any = None) -> Any:
        return value if chance.random() < share else otherwise

    words = chance.random() < 0.5
    beam = maybe(0.5, chance.randint(1, 6))
    clips = tuple(sorted(chance.sample(range(0, 95, 10), chance.randint(1, 5)))) if chance.random() < 0.15 else ()
    prompt = maybe(0.3, chance.choice((_PROMPT, _LONG_PROMPT, "Ten of clubs.", "你好, ¿qué tal? Ça va…")))
    options = {
        "temperature": chance.choice((0.0, 0.0, LADDER, (0.0, 0.5, 1.0), 0.6)),
        "beam_size": beam,
        "best_of": maybe(0.5, chance.randint(1, 5)),
        "patience": maybe(0.3, chance.choice((0.7, 1.0, 1.7, 2.5))) if beam else None,
        "length_penalty": maybe(0.3, round(chance.random(), 2)),
        "suppress_tokens": chance.choice(("-1", "-1", "-1", "", "-1,11,13", "0,30")),
        "initial_prompt": prompt,
        "carry_initial_prompt": bool(prompt) and prompt != _LONG_PROMPT and chance.random() < 0.5,
        "condition_on_previous_text": chance.random() < 0.7,
        "compression_ratio_threshold": chance.choice((2.4, 2.4, 1.3, None)),
        "logprob_threshold": chance.choice((-1.0, -1.0, -0.3, None)),
        "no_speech_threshold": chance.choice((0.6, 0.6, 0.1, None)),
        "word_timestamps": words,
        "hallucination_silence_threshold": maybe(0.4, chance.choice((0.2, 1.0, 3.0))) if words else None,
        "task": maybe(0.15, "translate", "transcribe"),
    }
    return f"drawn {seed}", Asked(
        options,
        chance.choice(tuple(Draws)),
        "spoken" if clips else chance.choice((None, None, "spoken", "another", "de", "zh")),
        clips=tuple(part / 100 for part in clips),
    )
