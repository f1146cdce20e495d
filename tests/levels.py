"""`make test`: every level in turn, each with its time and counts, and all they need made first.

What takes long to make (the Kubernetes binaries, the weights, the images) is made side by side from the start, while
the levels that do not need it run.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".state"
BIN = Path(sys.executable).parent


@dataclasses.dataclass(frozen=True)
class Preparation:
    """Something that levels need, made by a command that does nothing where it is there already."""

    name: str
    what: str
    command: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Level:
    """One level of tests: commands that must all succeed, the last of them pytest's where there are tests."""

    name: str
    needs: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...] = ()
    tests: str | None = None


@dataclasses.dataclass
class Outcome:
    """What came of a level."""

    name: str
    seconds: float = 0.0
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    failed_commands: list[str] = dataclasses.field(default_factory=list)

    @property
    def ok(self) -> bool:
        """A skip counts as a failure: a part that cannot run here has shown nothing."""
        return not (self.failed or self.skipped or self.failed_commands)

    def line(self) -> str:
        """The level in one line of the summary."""
        counts = f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"
        trouble = f" (failed: {', '.join(self.failed_commands)})" if self.failed_commands else ""
        return f"{self.name:<12} {'ok' if self.ok else 'FAILED':<7} {self.seconds:6.0f} s   {counts}{trouble}"


def module(*arguments: str) -> tuple[str, ...]:
    """A command that runs a module with this Python."""
    return (sys.executable, "-m", *arguments)


PREPARATIONS = {
    p.name: p
    for p in (
        Preparation("tools", "Kubernetes, etcd, helm and an S3 server from source", module("tests.cluster", "tools")),
        Preparation("materials", "OpenAI's weights and people's recordings", module("tests.materials", "prepare")),
        Preparation("images", "the operator's and the runner's image", module("tests.cluster", "images")),
    )
}

LEVELS = (
    Level(
        "lint",
        needs=(),
        commands=(
            (str(BIN / "ruff"), "check", "."),
            (str(BIN / "ruff"), "format", "--check", "."),
            (str(BIN / "mypy"),),
            (str(BIN / "lint-imports"), "--no-cache"),
            (str(ROOT / "tests" / "lint-addresses"),),
        ),
    ),
    Level("unit", needs=("tools", "materials"), tests="tests/unit"),
    Level("integration", needs=("tools", "materials"), tests="tests/integration"),
    Level("e2e", needs=("tools", "materials", "images"), tests="tests/e2e"),
)


def prepare(preparation: Preparation) -> float:
    """Runs one preparation with its output in a log; returns its seconds, raises with the log's end if it fails."""
    log = STATE / "logs" / f"{preparation.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with log.open("w") as out:
        code = subprocess.run(preparation.command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT).returncode
    if code:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-40:])
        raise RuntimeError(f"{preparation.name}: exit {code}; the end of {log}:\n{tail}")
    return time.monotonic() - started


def prepare_all(preparations: Iterable[Preparation]) -> Iterator[tuple[str, float]]:
    """Runs preparations side by side; yields the name and seconds of each as it is done."""
    with ThreadPoolExecutor() as pool:
        waiting = {pool.submit(prepare, p): p.name for p in preparations}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


def run_level(level: Level) -> Outcome:
    """Runs a level's commands, then its tests, showing their output as it comes."""
    outcome = Outcome(level.name)
    started = time.monotonic()
    for command in level.commands:
        name = Path(command[0]).name
        if subprocess.run(command, cwd=ROOT).returncode:
            outcome.failed_commands.append(name)
            outcome.failed += 1
        else:
            outcome.passed += 1
    if level.tests:
        report = STATE / "junit" / f"{level.name}.xml"
        report.parent.mkdir(parents=True, exist_ok=True)
        report.unlink(missing_ok=True)
        command = module("pytest", level.tests, "-q", "--durations=8", f"--junitxml={report}")
        code = subprocess.run(command, cwd=ROOT).returncode
        count(report, outcome)
        if code and not outcome.failed:
            outcome.failed_commands.append(f"pytest exit {code}")
    outcome.seconds = time.monotonic() - started
    return outcome


def count(report: Path, outcome: Outcome) -> None:
    """Adds pytest's own counts to a level's."""
    if not report.exists():
        return
    for suite in ET.parse(report).iter("testsuite"):
        tests, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
        failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        outcome.skipped += skipped
        outcome.failed += failed
        outcome.passed += tests - skipped - failed


def banner(text: str) -> None:
    """A line that stands out between two levels' outputs."""
    print(f"\n=== {text} ".ljust(100, "="), flush=True)


def main() -> int:
    """Runs the levels named on the command line, or all."""
    parser = argparse.ArgumentParser(prog="tests.levels", description=__doc__)
    parser.add_argument("levels", nargs="*", help=f"of {', '.join(level.name for level in LEVELS)} (all)")
    names = parser.parse_args().levels
    unknown = set(names) - {level.name for level in LEVELS}
    if unknown:
        parser.error(f"no such level: {', '.join(sorted(unknown))}")
    levels = [level for level in LEVELS if not names or level.name in names]
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")

    needed = [p for p in PREPARATIONS.values() if any(p.name in level.needs for level in levels)]
    outcomes: list[Outcome] = []
    if needed:
        banner("set-up")
        if subprocess.run(module("tests.cluster", "system"), cwd=ROOT).returncode:
            return 1
        for p in needed:
            print(f"  {p.name}: {p.what} (log: .state/logs/{p.name}.log)", flush=True)
    with ThreadPoolExecutor() as pool:
        ready: dict[str, Future[float]] = {p.name: pool.submit(prepare, p) for p in needed}
        for level in levels:
            for name in level.needs:
                try:
                    seconds = ready[name].result()
                except RuntimeError as failure:
                    print(failure, flush=True)
                    outcomes.append(Outcome(level.name, failed_commands=[f"set-up of {name}"]))
                    break
                print(f"  {name} ready ({seconds:.0f} s)", flush=True)
            else:
                banner(level.name)
                outcomes.append(run_level(level))

    banner("summary")
    for outcome in outcomes:
        print(outcome.line())
    passed = sum(o.passed for o in outcomes)
    failed = sum(o.failed + o.skipped + (0 if o.failed else len(o.failed_commands)) for o in outcomes)
    print(f"\n{passed} passed, {failed} failed", flush=True)
    return 0 if all(outcome.ok for outcome in outcomes) else 1


if __name__ == "__main__":
    raise SystemExit(main())
