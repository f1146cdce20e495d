"""The test cluster from a terminal: `python -m tests.cluster COMMAND`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable

from tests.cluster import gpus, lifecycle, system, tools
from tests.cluster.cluster import Cluster
from tests.cluster.errors import ClusterError


def _system(arguments: argparse.Namespace) -> int:
    return system.ensure(install=not arguments.check)


def _tools(arguments: argparse.Namespace) -> int:
    print(tools.ensure().bin)
    return 0


def _up(arguments: argparse.Namespace) -> int:
    started = time.monotonic()
    cluster = lifecycle.up(control_plane=arguments.control_plane)
    print(f"{cluster.name} is up ({time.monotonic() - started:.1f} s)")
    _describe(cluster)
    return 0


def _down(arguments: argparse.Namespace) -> int:
    lifecycle.down(control_plane=arguments.control_plane, purge=arguments.purge)
    return 0


def _status(arguments: argparse.Namespace) -> int:
    cluster = lifecycle.find(control_plane=arguments.control_plane)
    if cluster is None:
        print("not up: start it with `python -m tests.cluster up`")
        return 1
    if cluster.kind == "existing":
        print(f"an existing cluster, by {cluster.kubeconfig}")
        return 0
    well = lifecycle.healthy(cluster)
    print(f"{cluster.name} is {'up' if well else 'NOT well'}")
    _describe(cluster)
    if cluster.supervisor and cluster.supervisor.alive():
        for each in cluster.components():
            state = "runs" if each["running"] else "does not run"
            print(f"  {each['name']:<24} {state}, started again {each['restarts']} times")
    return 0 if well else 1


def _kubeconfig(arguments: argparse.Namespace) -> int:
    cluster = lifecycle.find(control_plane=arguments.control_plane)
    if cluster is None:
        raise ClusterError("not up: start it with `python -m tests.cluster up`")
    print(cluster.kubeconfig)
    return 0


def _images(arguments: argparse.Namespace) -> int:
    from tests.cluster import images

    built = images.build()
    if arguments.load:
        cluster = lifecycle.find()
        if cluster is None:
            raise ClusterError("no cluster to load the images into: start it with `python -m tests.cluster up`")
        images.load(cluster, built)
    if arguments.json:
        print(json.dumps({"operator": built.operator, "runner": built.runner}))
    else:
        print(f"{built.operator}\n{built.runner}")
    return 0


def _describe(cluster: Cluster) -> None:
    print(f"  export KUBECONFIG={cluster.kubeconfig}")
    if cluster.kind == "existing":
        return
    print(f"  logs: {cluster.logs}")
    if cluster.kind == "node":
        print(f"  {gpus.NOTICE}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, action: Callable[[argparse.Namespace], int], about: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=about)
        added.set_defaults(action=action)
        return added

    command("system", _system, "install the Debian packages that are missing").add_argument(
        "--check", action="store_true", help="only say what is missing"
    )
    command("tools", _tools, "build the pinned programs, once")
    for name, action, about in (
        ("up", _up, "start this checkout's cluster, or find it running"),
        ("down", _down, "stop it; images and the shared volume stay"),
        ("status", _status, "what of it runs"),
        ("kubeconfig", _kubeconfig, "the path of its kubeconfig"),
    ):
        added = command(name, action, about)
        added.add_argument("--control-plane", action="store_true", help="etcd, API server, controller manager alone")
        if name == "down":
            added.add_argument("--purge", action="store_true", help="remove images and the shared volume too")
        else:
            added.add_argument("--existing", action="store_true", help="KUBECONFIG's cluster instead of an own one")
    images = command("images", _images, "build the operator's and the runner's image")
    images.add_argument("--load", action="store_true", help="bring them into the running cluster too")
    images.add_argument("--json", action="store_true", help="print the names as JSON")
    return parser


def main() -> int:
    """Run one command."""
    arguments = _parser().parse_args()
    if getattr(arguments, "existing", False):
        os.environ["TRANSCRIPTION_CLUSTER"] = "existing"
    try:
        code: int = arguments.action(arguments)
    except ClusterError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Its reader has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


if __name__ == "__main__":
    raise SystemExit(main())
