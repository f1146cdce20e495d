"""Builds the operator's and the runner's image, and brings them to a node."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import base_image, registry
from tests.cluster.buildah import Buildah
from tests.cluster.cluster import Cluster
from tests.cluster.containerd import Containerd
from tests.cluster.errors import ClusterError
from tests.cluster.layout import Layout
from tests.cluster.locks import exclusive
from tests.cluster.paths import CHECKOUT, cache_root

_TARGETS = ("operator", "runner")
_BAKED = "-baked"
_SOURCES = (
    "Dockerfile",
    ".dockerignore",
    "LICENSE",
    "constraints/operator.txt",
    "constraints/runner.txt",
    "constraints/uv.txt",
    "operator",
    "pyproject.toml",
    "runner",
)
_IGNORED = {"__pycache__"}
_KEPT_TAGS = 3
_KEPT_SECONDS = 3600
_MAX_INTERMEDIATE_IMAGES = 80
_COLD_GIB = 20
_WARM_GIB = 2


@dataclass(frozen=True)
class Images:
    """The names that a chart or a pod uses."""

    operator: str
    runner: str

    @property
    def all(self) -> tuple[str, str]:
        """Both."""
        return self.operator, self.runner


def current() -> Images:
    """The images of this very tree, built or not: their tag is a hash of all that goes into them."""
    digest = hashlib.sha256(base_image.name().encode())
    for path in _source_files():
        digest.update(f"\0{path.relative_to(CHECKOUT)}\0".encode())
        digest.update(path.read_bytes())
    tag = digest.hexdigest()[:12]
    return Images(f"transcription-operator:{tag}", f"transcription-runner:{tag}")


def build() -> Images:
    """The images of this very tree: nothing to do if they are there."""
    images = current()
    root = _root()
    with exclusive(root / "lock", "it builds images"):
        buildah = Buildah(root)
        _note_use(root, images)
        if all(buildah.exists(f"localhost/{each}") for each in images.all):
            return images
        buildah.remove_leftovers()
        _check_space(root, buildah)
        _share_uv_cache(buildah)
        base = base_image.ensure(buildah)
        for target, image in zip(_TARGETS, images.all, strict=True):
            _build(buildah, base, target, image)
        _prune(buildah, root)
    return images


def build_baked(models: Sequence[str], hub: str) -> str:
    """The runner of this very tree with models of the Hub at `hub` inside; returns the image's name."""
    image = f"{build().runner}{_BAKED}"
    root = _root()
    with exclusive(root / "lock", "it builds images"):
        buildah = Buildah(root)
        if not buildah.exists(f"localhost/{image}"):
            base = base_image.ensure(buildah)
            inside = (f"--build-arg=MODELS={' '.join(models)}", f"--build-arg=HF_ENDPOINT={hub}", "--network=host")
            _build(buildah, base, "runner-baked", image, *inside)
    return image


def load(cluster: Cluster, images: Images) -> Images:
    """Bring images into a node: only the layers that it lacks travel. Returns their names there."""
    return Images(*load_each(cluster, images.all))


def load_each(cluster: Cluster, images: Sequence[str]) -> Sequence[str]:
    """The same for any of the images that are built here."""
    if cluster.kind == "existing":
        return _publish(images)
    if cluster.kind != "node":
        raise ClusterError(f"{cluster.name} has no node")
    layout = Layout(cluster.name)
    runtime = Containerd(layout.containerd_socket)
    if not _lacking(runtime, images):
        return images
    root = _root()
    with exclusive(root / "lock", "it builds or moves images"):
        wanted = _lacking(runtime, images)
        buildah = Buildah(root)
        store = root / "registry"
        with registry.serving(store) as address:
            for image in wanted:
                _move(buildah, runtime, image, address)
        registry.share_blobs(store, layout.containerd)
        _forget_old(runtime, root)
    return images


def _publish(images: Sequence[str]) -> Sequence[str]:
    """Push images to the registry that an existing cluster pulls from; without one they must be there already."""
    target = os.environ.get("TRANSCRIPTION_REGISTRY")
    if not target:
        print(f"images: no TRANSCRIPTION_REGISTRY: the cluster must have {', '.join(images)}", flush=True)
        return images
    published = [f"{target.rstrip('/')}/{image}" for image in images]
    for image, remote in zip(images, published, strict=True):
        storage().run("push", "--quiet", f"localhost/{image}", f"docker://{remote}")
    return published


def _lacking(runtime: Containerd, images: Sequence[str]) -> list[str]:
    present = runtime.images()
    return [each for each in images if _full_name(each) not in present]


def storage() -> Buildah:
    """Where the images are built and kept."""
    return Buildah(_root())


def _root() -> Path:
    root = cache_root() / "images"
    root.mkdir(parents=True, exist_ok=True)
    return root


def _source_files() -> list[Path]:
    found: list[Path] = []
    for source in _SOURCES:
        path = CHECKOUT / source
        found += [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    unwanted = (".egg-info", ".mypy_cache")
    return sorted(
        each
        for each in found
        if not _IGNORED & set(each.parts) and not any(part.endswith(unwanted) for part in each.parts)
    )


def _check_space(root: Path, buildah: Buildah) -> None:
    cold = not buildah.tags("localhost/transcription-runner")
    needed = _COLD_GIB if cold else _WARM_GIB
    free = shutil.disk_usage(root).free >> 30
    if free < needed:
        raise ClusterError(f"the images and the node's copy of them need {needed} GiB, and {root} has {free} GiB free")
    if cold:
        print(f"images: the first time takes minutes and {needed} GiB of the {free} GiB free at {root}", flush=True)


def _build(buildah: Buildah, base: str, target: str, image: str, *more: str) -> None:
    started = time.monotonic()
    print(f"images: {image}", flush=True)
    with contextlib.ExitStack() as stack:
        secrets = []
        if authority := _authority():
            secrets.append(f"--secret=id=ca,src={authority}")
        if index := _package_index():
            path = buildah.temporary / f"index-{os.getpid()}"
            stack.callback(path.unlink, missing_ok=True)
            path.touch(mode=0o600)
            path.write_text(index)
            secrets.append(f"--secret=id=index,src={path}")
        buildah.run(
            "build", "--layers", "--pull-never", f"--build-arg=BASE_IMAGE={base}", *secrets, *more,
            f"--target={target}", f"--tag=localhost/{image}", str(CHECKOUT),
        )  # fmt: skip
    size = buildah.size(f"localhost/{image}") / 1e6
    print(f"images: {image} built in {time.monotonic() - started:.0f} s, {size:,.0f} MB", flush=True)


def _authority() -> Path | None:
    """The authorities that this machine trusts, its own among them: for the build alone."""
    path = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))
    return path if path.is_file() else None


def _package_index() -> str | None:
    """Where this machine gets Python packages from, if not from where everyone does: for the build alone."""
    named = next((v for k in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL") if (v := os.environ.get(k))), "")
    if not named:
        asked = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
        named = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    if not named:
        return None
    return "".join(f"export {each}={shlex.quote(named)}\n" for each in ("UV_DEFAULT_INDEX", "PIP_INDEX_URL"))


def _share_uv_cache(buildah: Buildah) -> None:
    """The build's cache mount `uv` is this person's own uv cache: gigabytes are fetched and kept once."""
    base = os.environ.get("XDG_CACHE_HOME")
    usual = (Path(base) if base else Path.home() / ".cache") / "uv"
    cache = Path(os.environ.get("UV_CACHE_DIR", usual))
    cache.mkdir(parents=True, exist_ok=True)
    link = buildah.temporary / "buildah-cache" / "uv"
    link.parent.mkdir(exist_ok=True)
    if link.is_symlink() and link.readlink() == cache:
        return
    if link.is_dir() and not link.is_symlink():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    link.symlink_to(cache)


def _move(buildah: Buildah, runtime: Containerd, image: str, address: str) -> None:
    started = time.monotonic()
    remote = f"{address}/{image}"
    buildah.run(
        "push", "--quiet", "--tls-verify=false", "--format=oci", "--compression-format=zstd",
        f"localhost/{image}", f"docker://{remote}",
    )  # fmt: skip
    pushed = time.monotonic()
    runtime.run("images", "pull", "--plain-http", remote)
    runtime.run("images", "tag", "--force", remote, _full_name(image))
    runtime.run("images", "remove", remote)
    seconds = time.monotonic() - pushed
    print(f"images: {image} on the node (pushed {pushed - started:.1f} s, pulled {seconds:.1f} s)", flush=True)


def _full_name(image: str) -> str:
    return f"docker.io/library/{image}"


def _note_use(root: Path, images: Images) -> None:
    """A file for each tag, as old as its last use: another checkout may be about to load what it has just built."""
    folder = root / "used"
    folder.mkdir(exist_ok=True)
    (folder / images.operator.rpartition(":")[2]).touch()


def _used_tags(root: Path) -> set[str]:
    """Those of the last hour, and the latest few."""
    notes = sorted((root / "used").iterdir(), key=lambda each: each.stat().st_mtime, reverse=True)
    now = time.time()
    kept = {
        each for place, each in enumerate(notes) if place < _KEPT_TAGS or now - each.stat().st_mtime < _KEPT_SECONDS
    }
    for each in set(notes) - kept:
        each.unlink()
    return {each.name for each in kept}


def _names_under(tags: Iterable[str]) -> Iterator[str]:
    for tag in tags:
        yield from (f"transcription-{target}:{tag}" for target in _TARGETS)
        yield f"transcription-runner:{tag}{_BAKED}"


def _prune(buildah: Buildah, root: Path) -> None:
    """Old tags go, here and in the registry."""
    used = _used_tags(root)
    kept = set(_names_under(used))
    for target in _TARGETS:
        for tag in buildah.tags(f"localhost/transcription-{target}"):
            if tag.removeprefix("localhost/") not in kept:
                buildah.run("rmi", tag)
    for old in buildah.tags("localhost/transcription-base"):
        if old != base_image.name():
            with contextlib.suppress(ClusterError):
                buildah.run("rmi", old)
    if len(buildah.run("images", "--all", "--quiet").split()) > _MAX_INTERMEDIATE_IMAGES:
        buildah.run("rmi", "--prune")
    registry.keep_only(root / "registry", kept)


def _forget_old(runtime: Containerd, root: Path) -> None:
    """On the node stay the tags that may still be asked for, and those in use."""
    wanted = {_full_name(name) for name in _names_under(_used_tags(root))}
    repositories = {_full_name(f"transcription-{target}") for target in _TARGETS}
    running = set(runtime.run("containers", "list").split())
    for each in runtime.images():
        if each.rpartition(":")[0] in repositories and each not in wanted | running:
            runtime.run("images", "remove", each)
