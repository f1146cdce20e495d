"""Ours and the peers on the same sound, weights and machine.

    python -m bench.transcribe [--models base tiny.en] [--sounds prompts long many] [--hours 1] [--rounds 3]
                               [--batch-sizes 1 2 4 8 16] [--lengths 60 300 900 3600] [--report] [--plots]
    python -m bench.transcribe --synthetic large-v3 --device cuda [--batch-sizes 8 32 128] [--tokens 100]

`prompts` is 397 s of English prompts with 0.67 s between them; `long` is `--hours` of all the English there is, with
pauses of up to 8 s; `many` is the prompts cut into `--files` files, for going through several at once. Every run has a
process of its own, which loads the model (not timed) and hears a sentence first; the contenders take turns, round after
round, and medians are told. Greedy runs have one beam, temperature 0 and no second try in every program; default runs
are what each program does by itself. `--batch-sizes` and `--lengths` are swept greedily, once, before the comparison,
and the comparison then has everybody's best size too.

`--synthetic` takes a model's real architecture with random weights and a fixed number of tokens a window, for a machine
that has no weights. `--report` writes bench/RESULTS.md, of which only the parts that were run are replaced; `--plots`
draws the sweeps beside it (or leaves their figures for `python -m bench.plots`, where there is no matplotlib); `--into`
names another folder for both, where the report begins as a copy of bench/'s. `--log` keeps every answer as it comes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bench import conversion, machine, plots, report, sound, synthetic
from bench.contenders import (
    LENGTHS,
    MANY_FILES,
    ONE_FILE,
    OURS,
    SWEPT,
    Contender,
    Line,
    best_sizes,
    floors,
    part,
)
from bench.programs import Job, Settings
from bench.report import table
from bench.sound import Sound
from bench.worker import Answer, ask
from tests.materials import recordings, weights

FOLDER = Path(__file__).parent
REPORT = "RESULTS.md"


class Bench:
    """Runs contenders on sounds with one model."""

    def __init__(self, model: str, asked: argparse.Namespace) -> None:
        self.model = model
        self._asked = asked

    def run(
        self, contenders: Iterable[Contender], heard: Sound, settings: Sequence[Settings], rounds: int
    ) -> list[Line]:
        """Everybody once a round; who is missing or fails is not asked again."""
        wanted = [contender for contender in contenders if self._wanted(contender)]
        turns = [(contender, each) for each in settings for contender in wanted if _differs(contender, each, settings)]
        answers: dict[tuple[Contender, Settings], list[Answer]] = {turn: [] for turn in turns}
        for number in range(rounds):
            for turn in turns:
                before = answers[turn]
                if before and (before[-1].missing or before[-1].failed):
                    continue
                before.append(self._ask(*turn, heard, number))
        return [Line(*turn, tuple(found)) for turn, found in answers.items()]

    def _wanted(self, contender: Contender) -> bool:
        return not self._asked.only or any(word in contender.full for word in self._asked.only)

    def _ask(self, contender: Contender, settings: Settings, heard: Sound, number: int) -> Answer:
        job = Job(
            program=contender.program,
            model=str(self._weights(contender)),
            mode=contender.mode,
            settings=settings,
            files=tuple(map(str, heard.files)),
            warm=str(recordings.dashwood()),
            precision=contender.precision,
            batch_size=contender.batch_size,
            timestamps=contender.timestamps,
            english_only=self.model.endswith(".en"),
            threads=self._asked.threads,
            device=self._asked.device,
        )
        answer = ask(job)
        outcome = answer.missing or answer.failed or f"{answer.seconds:.1f} s, {answer.megabytes:.0f} MB"
        print(f"{self.model}, {heard.name}, round {number + 1}: {contender.full}, {settings}: {outcome}", flush=True)
        if self._asked.log:
            with self._asked.log.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"job": dataclasses.asdict(job), "answer": dataclasses.asdict(answer)}) + "\n")
        return answer

    def _weights(self, contender: Contender) -> Path:
        if contender.program == "openai-whisper":
            return weights.checkpoint(self.model)
        if contender.program == "faster-whisper":
            return conversion.converted(self.model)
        return weights.repository(self.model)


def _differs(contender: Contender, one: Settings, settings: Sequence[Settings]) -> bool:
    """Whether a run with these settings tells more than the others do: transformers is greedy when told nothing."""
    return not (contender.program == "transformers" and one == "default" and "greedy" in settings)


def main() -> int:
    """Run what is asked for; 1 where a run failed (a program that is missing is no failure)."""
    asked = _arguments()
    if asked.synthetic:
        name, text, failed = synthetic.compare(asked)
        _keep(asked, name, text)
        return int(failed)
    found = machine.find(asked.device, asked.threads)
    print("\n".join(found.lines()), flush=True)
    failed = False
    for model in asked.models:
        for name, text, lines in _parts(model, asked, found):
            _keep(asked, f"{model} {name}", text)
            failed |= any(answer.failed for line in lines for answer in line.answers)
    return int(failed)


def _keep(asked: argparse.Namespace, name: str, text: str) -> None:
    print(f"\n{text}\n", flush=True)
    if asked.report:
        report.replace(asked.into / REPORT, name, text, FOLDER / REPORT)


def _parts(model: str, asked: argparse.Namespace, found: machine.Found) -> Iterator[tuple[str, str, list[Line]]]:
    """Each part of the report as it is measured: its name, its text, its lines."""
    bench = Bench(model, asked)
    about = found.lines()
    extra: list[Contender] = []
    if asked.batch_sizes:
        heard = sound.made("prompts", [sound.prompts()])
        swept = [dataclasses.replace(each, batch_size=size) for size in asked.batch_sizes for each in SWEPT]
        lines = bench.run(swept, heard, ["greedy"], 1)
        extra = best_sizes(lines, ONE_FILE)
        yield "batch sizes", _sweep(model, about, lines, heard, asked), lines
    if asked.lengths:
        lines, text = _lengths(bench, about, asked)
        yield "lengths", text, lines
    for name in asked.sounds:
        if name == "many":
            heard, contenders = sound.made("many", sound.cut(sound.prompts(), asked.files)), [*MANY_FILES]
            ours = MANY_FILES[0]
        else:
            plan = sound.prompts() if name == "prompts" else sound.hours(asked.hours)
            heard, contenders, ours = sound.made(name, [plan]), [*ONE_FILE, *extra], OURS
        lines = bench.run(contenders, heard, asked.settings, asked.rounds)
        least = floors(model, heard, _tokens(model, heard.text), found.flops)
        yield name, part(f"{model}, {name}", about, lines, heard, least, ours), lines


def _tokens(model: str, text: str) -> int:
    """How many tokens a text has."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(weights.repository(model) / "tokenizer.json"))
    return len(tokenizer.encode(text, add_special_tokens=False).ids)


def _sweep(model: str, about: list[str], lines: list[Line], heard: Sound, asked: argparse.Namespace) -> str:
    """Times real time against batch size, as a table and, if wanted, a plot."""
    series: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        if line.trouble is None and line.contender.batch_size is not None:
            kind = dataclasses.replace(line.contender, batch_size=None).name
            series.setdefault(kind, []).append((line.contender.batch_size, heard.duration / line.seconds))
    drawn = ""
    if asked.plots:
        file = asked.into / "results" / f"batch-sizes-{model}.svg"
        title = f"{model}, {heard.duration:.0f} s of prompts"
        plots.lines(file, series, title=title, across="windows at once", up="× real time", doubling=True)
        drawn = f"![{title}](results/{file.name})"
    text = table(
        ["windows at once", *series],
        [
            [str(size), *(f"{dict(points).get(size, 0):.1f}" for points in series.values())]
            for size in asked.batch_sizes
        ],
    )
    head = f"## {model}: times real time against batch size\n\nGreedy, one run each, {heard.duration:.0f} s of prompts."
    return "\n\n".join(filter(None, [head, "\n".join(about), text, drawn]))


def _lengths(bench: Bench, about: list[str], asked: argparse.Namespace) -> tuple[list[Line], str]:
    """Seconds against the length of the sound."""
    every: list[Line] = []
    series: dict[str, list[tuple[float, float]]] = {}
    for seconds in asked.lengths:
        heard = sound.made("long", [sound.hours(seconds / 3600)])
        lines = bench.run(LENGTHS, heard, ["greedy"], 1)
        every += lines
        for line in lines:
            if line.trouble is None:
                series.setdefault(line.contender.name, []).append((seconds, line.seconds))
    drawn = ""
    if asked.plots:
        file = asked.into / "results" / f"lengths-{bench.model}.svg"
        plots.lines(file, series, title=f"{bench.model}, greedy", across="seconds of sound", up="seconds")
        drawn = f"![seconds against length](results/{file.name})"
    text = table(
        ["seconds of sound", *series],
        [[f"{size:g}", *(f"{dict(points).get(size, 0):.1f}" for points in series.values())] for size in asked.lengths],
    )
    head = f"## {bench.model}: seconds against the length of the sound\n\nGreedy, one run each."
    return every, "\n\n".join(filter(None, [head, "\n".join(about), text, drawn]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["base", "tiny.en"], choices=["base", "tiny.en"])
    parser.add_argument("--sounds", nargs="*", default=["prompts", "long", "many"], choices=["prompts", "long", "many"])
    parser.add_argument("--hours", type=float, default=1.0, help="of the long sound")
    parser.add_argument("--files", type=int, default=16, help="into which the prompts are cut for `many`")
    parser.add_argument("--settings", nargs="+", default=["greedy", "default"], choices=["greedy", "default"])
    parser.add_argument("--only", nargs="+", default=[], metavar="WORDS", help="contenders whose name has this")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[])
    parser.add_argument("--lengths", type=float, nargs="+", default=[], help="in seconds")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--plots", action="store_true")
    parser.add_argument("--into", type=Path, default=FOLDER, help="the folder of RESULTS.md and of results/")
    parser.add_argument("--log", type=Path)
    synthetic.add_arguments(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
