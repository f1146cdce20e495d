"""`transcription-runner models list|download|verify|remove|du`: a cache of models, without a cluster."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from transcription_runner import arguments, cache, certificates, inventory, receipt, removal
from transcription_runner.errors import CorruptModelCache, ModelMissing, RunnerError, Usage
from transcription_runner.manifest import Manifest
from transcription_runner.model_report import ModelReporter
from transcription_runner.models_arguments import models_parser
from transcription_runner.names import ModelName, folder_name, parse_model, repository, url_repository
from transcription_runner.progress import human_bytes
from transcription_runner.removal import Removed

Answer: TypeAlias = "tuple[dict[str, Any], str]"
"""What is said of one model: for machines, and for people."""

_log = logging.getLogger(__name__)


def run(words: Sequence[str]) -> int:
    """Run the command and return its exit code. Raises RunnerError."""
    parsed = models_parser().parse_args(words)
    # Folders and files must be readable by other users, whatever this one's habits (docs/contracts.md: 755).
    os.umask(0o022)
    return {"list": _list, "download": _download, "verify": _verify, "remove": _remove, "du": _du}[parsed.command](
        parsed
    )


def _roots(parsed: argparse.Namespace) -> list[Path]:
    return list(dict.fromkeys(arguments.roots(parsed.model_dir)))


def _root(parsed: argparse.Namespace) -> Path:
    return _roots(parsed)[0]


def _repository(name: str, revision: str | None) -> ModelName:
    model = parse_model(name, revision=revision)
    if model.repo is None:
        raise Usage(f"{name} is a path, not a repository.", hint="Give OWNER/REPO or a short name.")
    return model


def _list(parsed: argparse.Namespace) -> int:
    roots = _roots(parsed)[: 1 if parsed.model_dir else None]
    models = [entry for root in roots if root.is_dir() for entry in inventory.entries(root)]
    if parsed.json:
        print(json.dumps(models))
        return 0
    for entry in models:
        size = human_bytes(entry.get("bytes", 0))
        revision = f"{entry.get('revision', '?')} ({entry.get('commit', '')[:12]})"
        print(f"{entry['repo']}\t{revision}\t{size}\t{entry['state']}\t{entry.get('problem') or ''}".rstrip())
    if not models:
        print(f"no models in {', '.join(map(str, roots))}", file=sys.stderr)
    return 0


def _du(parsed: argparse.Namespace) -> int:
    root = _root(parsed)
    used = inventory.usage(root)
    if parsed.json:
        print(json.dumps({"models": used.models, "stagingBytes": used.staging, **used.receipt()}))
        return 0
    for repo, count in sorted(used.models.items(), key=lambda item: -item[1]):
        print(f"{human_bytes(count)}\t{repo}")
    print(f"{human_bytes(used.staging)}\tunfinished downloads")
    print(f"{human_bytes(used.bytes)}\tin all; {human_bytes(used.free)} of {human_bytes(used.total)} are free")
    return 0


def _download(parsed: argparse.Namespace) -> int:
    certificates.install()
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from transcription_runner.download import PATIENCE, download_model

    if parsed.name is not None and (len(parsed.names) > 1 or "://" not in parsed.names[0]):
        raise Usage("--name is for one URL.", hint="A model of the Hub is called as it is there.")
    root = _root(parsed)
    patience = dataclasses.replace(PATIENCE, stall_seconds=parsed.stall_timeout)
    reporter = ModelReporter.from_environment()

    def download(name: str) -> Answer:
        url = name if "://" in name else None
        if url is None:
            model = _repository(name, parsed.revision)
            repo, revision = str(model.repo), model.revision
        else:
            repo, revision = _name_of_url(parsed), "main"
        found = download_model(
            repo, revision, root, url=url, patience=patience, refresh=parsed.refresh, reporter=reporter
        )
        return found.receipt(), f"{found.repo}@{found.revision} is ready: {found.path}"

    try:
        return _each(parsed, parsed.names, download, root)
    finally:
        if reporter is not None:
            reporter.stop()


def _name_of_url(parsed: argparse.Namespace) -> str:
    if parsed.name is None:
        raise Usage("A model of a URL needs a name.", hint="Give one: --name my-model, and use it as --model later.")
    if parsed.revision is not None:
        raise Usage("--revision is for models of the Hub.", hint="Name the folder of that version in the URL.")
    return url_repository(parsed.name)


def _verify(parsed: argparse.Namespace) -> int:
    roots = _roots(parsed)

    def verify(name: str) -> Answer:
        model = parse_model(name, revision=parsed.revision)
        if model.path is not None:
            return _verified_path(model.path)
        return _verified(model, roots)

    return _each(parsed, _names(parsed, roots[:1]), verify, roots[0])


def _verified(model: ModelName, roots: Sequence[Path]) -> Answer:
    for root in roots:
        folder = root / folder_name(str(model.repo))
        commit = cache.resolve(folder, model.revision)
        if commit is None:
            continue
        problems = cache.verify(folder, commit)
        if problems:
            raise CorruptModelCache(
                f"{model.shown} in {root} is corrupt: {'; '.join(problems)}.",
                hint=f"`transcription-runner models download {model.shown} --refresh --model_dir {root}` repairs it.",
            )
        return {"model": _described(folder, commit, model.revision), "verified": True}, (
            f"{model.shown} (commit {commit}) agrees with its hashes"
        )
    raise ModelMissing(f"{model.shown} is not in {', '.join(map(str, roots))}.", hint="Download it first.")


def _verified_path(path: Path) -> Answer:
    found = cache.find(ModelName(path=path), [])
    problems = cache.verify_path(path)
    if found is None or problems:
        raise CorruptModelCache(f"{path} is corrupt: {'; '.join(problems)}.", hint="Copy the model again.")
    files = [file for _, file in cache.snapshot_files(path)]
    model = {"repo": None, "path": str(path), "bytes": sum(f.stat().st_size for f in files), "files": len(files)}
    return {"model": model, "verified": True}, f"{path} is whole as far as can be told without a manifest"


def _described(folder: Path, commit: str, revision: str) -> dict[str, Any]:
    manifest = Manifest.read(folder)
    snapshot = manifest.snapshots.get(commit) if manifest else None
    sizes = (
        [record.size for record in snapshot.files.values()]
        if snapshot
        else [path.stat().st_size for _, path in cache.snapshot_files(folder / "snapshots" / commit)]
    )
    repo = repository(folder.name)
    return {"repo": repo, "revision": revision, "commit": commit, "bytes": sum(sizes), "files": len(sizes)}


def _remove(parsed: argparse.Namespace) -> int:
    root = _root(parsed)
    total = Removed()

    def remove(name: str) -> Answer:
        nonlocal total
        model = _repository(name, parsed.revision)
        repo = str(model.repo)
        try:
            removed = (
                removal.remove_repository(repo, root) if parsed.all else removal.remove(repo, model.revision, root)
            )
        except ModelMissing:
            if not parsed.missing_ok:
                raise
            removed = Removed()
        total += removed
        value = {"model": {"repo": repo, "revision": model.revision}, "removed": dataclasses.asdict(removed)}
        return value, f"{model.shown}: {removed.files} files removed, {human_bytes(removed.bytes)}"

    return _each(parsed, _names(parsed, [root]), remove, root, together=lambda: {"removed": dataclasses.asdict(total)})


def _names(parsed: argparse.Namespace, roots: Sequence[Path]) -> list[str]:
    """The models that a command is about."""
    if bool(parsed.names) == parsed.all:
        raise Usage(
            "Name models, or say --all; one of both.", hint=f"`models {parsed.command} --help` lists every option."
        )
    if not parsed.all:
        return list(parsed.names)
    if parsed.command == "remove":
        return removal.repositories(roots[0])
    return [
        f"{entry['repo']}@{entry['revision']}"
        for root in roots
        for entry in inventory.entries(root)
        if "commit" in entry
    ]


def _each(
    parsed: argparse.Namespace,
    names: Sequence[str],
    act: Callable[[str], Answer],
    root: Path,
    *,
    together: Callable[[], dict[str, Any]] = dict,
) -> int:
    """Do something to each model, whatever becomes of the others; print it, and leave a receipt.

    Raises the first failure's error once all had their turn.
    """
    values: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    failures: list[RunnerError] = []
    for name in names:
        try:
            value, text = act(name)
        except RunnerError as error:
            failures.append(error)
            answers.append({"name": name, "error": receipt.error_entry(error)})
            continue
        values.append(value)
        answers.append(value)
        if not parsed.json:
            print(text)
    if parsed.json:
        print(json.dumps(answers[0] if len(parsed.names) == 1 else answers))
    for failure in failures[1:]:
        _log.error("%s%s", failure.message, f"\n{failure.hint}" if failure.hint else "")
    if failures:
        raise failures[0]
    one = values[0] if len(values) == 1 else {"models": [value["model"] for value in values]}
    receipt.write(one | together() | {"cache": inventory.usage(root).receipt()})
    return 0
