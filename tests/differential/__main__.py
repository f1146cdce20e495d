"""The suite by hand: `python -m tests.differential`. Exits with 1 where something differs that is no tie."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from tests.differential import batches, product, report, running
from tests.differential.options import OPTIONS
from tests.differential.product import Pair
from tests.differential.recordings import RECORDINGS
from tests.differential.reference import Reference
from tests.differential.running import Outcome
from tests.materials import weights
from transcription_runner.engine import load_engine

MODELS = ("tiny.en", "base")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--model", choices=MODELS, action="append", help="both if not given")
    parser.add_argument("--diagonals", type=int, default=2, help="how many of the product's")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--all", action="store_true", help="the whole product")
    parser.add_argument("--slice", action="store_true", help="what the unit suite runs")
    parser.add_argument("--random", type=int, metavar="N", help="N pairs of chance instead")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batches", type=int, nargs="+", metavar="SIZE", help="so many windows at once against alone")
    parser.add_argument("--asking", default="greedy", choices=OPTIONS, metavar="OPTIONS", help="with --batches")
    parser.add_argument("--only", default="", help='pairs with this in their name, as in "silence / words"')
    parser.add_argument("--remember", action="store_true", help="have openai-whisper's results cached, compare nothing")
    parser.add_argument("--threads", type=int, default=1, help="the processor's, for either program")
    parser.add_argument("--log", type=Path, help="a file with a line of JSON for every run: goes on after them")
    parser.add_argument("--report", type=Path, nargs="+", metavar="LOG", help="print what these logs say, run nothing")
    arguments = parser.parse_args()
    if arguments.report:
        print(report.page([outcome for log in arguments.report for outcome in running.read(log)]))
        return 0
    count = Counter[str]()
    for outcome in itertools.chain.from_iterable(_outcomes(arguments, model) for model in arguments.model or MODELS):
        count[outcome.verdict] += 1
        _tell(outcome, arguments.log)
    print(dict(count))
    return min(count["different"], 1)


def _outcomes(arguments: argparse.Namespace, model: str) -> Iterator[Outcome]:
    engine = load_engine(weights.repository(model), device="cpu", threads=arguments.threads)
    torch.set_num_threads(arguments.threads)
    if arguments.batches:
        recorded = [name for name in RECORDINGS if arguments.only in name]
        yield from batches.compare(engine, model, arguments.asking, arguments.batches, recorded)
        return
    reference = Reference(model)
    if arguments.remember:
        for pair in _pairs(arguments, model):
            running.remember(reference, pair, multilingual=engine.multilingual)
            print(f"{model}: {pair.name}", flush=True)
        return
    done = {(each.model, each.pair) for each in running.read(arguments.log)}
    for pair in _pairs(arguments, model):
        if (model, pair.name) not in done and (outcome := running.run(engine, reference, pair)):
            yield outcome


def _pairs(arguments: argparse.Namespace, model: str) -> Iterator[Pair]:
    pairs: Iterable[Pair]
    if arguments.slice:
        pairs = itertools.starmap(product.pair, product.SLICE[model])
    elif arguments.random:
        pairs = product.drawn(arguments.random, arguments.seed)
    else:
        which = range(len(OPTIONS)) if arguments.all or arguments.only else range(arguments.diagonals)
        pairs = product.diagonals(arguments.first + each for each in which)
    return (pair for pair in pairs if arguments.only in pair.name)


def _tell(outcome: Outcome, log: Path | None) -> None:
    print(f"{outcome.model}: {outcome.pair}: {outcome.verdict} {outcome.evidence or ''}", flush=True)
    for each in outcome.found[:6]:
        print(f"    {each[:300]}", flush=True)
    if log:
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(outcome), ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
