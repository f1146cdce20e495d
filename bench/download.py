"""A model's download against curl writing the same bytes to the same volume.

    python -m bench.download [--gigabytes 3] [--rounds 3] [--folder /tmp]

The Hub is on loopback, in a process of its own, and hands files to the kernel (sendfile). Each round has curl alone,
curl and a flush of its file to the disk, which a download needs to be durable, and `models download` (sha256, flush
and rename included), each on a volume that was synced before. Prints a table for bench/results/download.md.
"""

from __future__ import annotations

import argparse
import hashlib
import http.server
import json
import multiprocessing
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

COMMIT = "c" * 40
REPO = "bench/whisper"


def write_repository(folder: Path, size: int) -> None:
    """A config.json, and weights that are a valid safetensors file of random bytes."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "whisper"}')
    header = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        left = size
        while left:
            left -= stream.write(os.urandom(min(left, 1 << 20)))


def listing(folder: Path) -> dict[str, Any]:
    """The Hub's answer about the repository."""
    siblings = []
    for path in sorted(folder.iterdir()):
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        size = path.stat().st_size
        siblings.append(
            {
                "rfilename": path.name,
                "size": size,
                "blobId": "0" * 40,
                "lfs": {"sha256": sha256, "size": size, "pointerSize": 134},
            }
        )
    return {"_id": "0" * 24, "id": REPO, "modelId": REPO, "sha": COMMIT, "tags": [], "siblings": siblings}


def serve(folder: Path, answer: dict[str, Any], port: multiprocessing.Queue[int]) -> None:
    """A Hub of one repository."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            if path.startswith("/api/"):
                body = json.dumps(answer).encode()
                self._begin(200, len(body))
                self.wfile.write(body)
                return
            with (folder / path.rpartition("/")[2]).open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
                extra = {"Content-Range": f"bytes {first}-{size - 1}/{size}"} if "Range" in self.headers else {}
                self._begin(206 if extra else 200, size - first, extra)
                self.connection.sendfile(stream, first)

        def _begin(self, status: int, length: int, extra: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(length), "ETag": f'"{COMMIT}"', **(extra or {})}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port.put(server.server_port)
    server.serve_forever()


def timed(words: list[str], **environ: str) -> tuple[float, float]:
    """Seconds that a command takes, and the MB of memory that it held at most. Raises RuntimeError if it fails."""
    began = time.monotonic()
    process = subprocess.Popen(words, env={**os.environ, **environ}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{words[0]} ended with status {status}")
    return time.monotonic() - began, usage.ru_maxrss / 1024


def measure(scratch: Path, url: str, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds and MB of each way, a round at a time."""
    found: dict[str, list[tuple[float, float]]] = {"curl": [], "curl and flush": [], "models download": []}
    weights = f"{url}/{REPO}/resolve/{COMMIT}/model.safetensors"
    target = scratch / "target"
    ways = {
        "curl": ["curl", "-sSf", "-o", str(target / "weights"), weights],
        "curl and flush": ["sh", "-c", f"curl -sSf -o {target}/weights {weights} && sync {target}/weights"],
        "models download": [
            *(sys.executable, "-m", "transcription_runner.cli", "models", "download"),
            *(REPO, "--model_dir", str(target / "models")),
        ],
    }
    for _ in range(rounds):
        for way, words in ways.items():
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir()
            os.sync()
            found[way].append(timed(words, HF_ENDPOINT=url, HF_HUB_DISABLE_TELEMETRY="1"))
    shutil.rmtree(target)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where the volume is")
    asked = parser.parse_args()
    size = int(asked.gigabytes * 1e9)
    with tempfile.TemporaryDirectory(prefix="bench-download-", dir=asked.folder) as name:
        scratch = Path(name)
        write_repository(scratch / "repository", size)
        port: multiprocessing.Queue[int] = multiprocessing.Queue()
        answer = listing(scratch / "repository")
        server = multiprocessing.Process(target=serve, args=(scratch / "repository", answer, port), daemon=True)
        server.start()
        try:
            found = measure(scratch, f"http://127.0.0.1:{port.get(timeout=30)}", asked.rounds)
        finally:
            server.terminate()
            server.join()
    print(
        f"{asked.gigabytes:g} GB, {asked.rounds} rounds, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}\n"
    )
    print("| way | seconds, each round | median | MB/s | most memory, MB |\n|---|---|---|---|---|")
    medians = {}
    for way, results in found.items():
        median = medians[way] = statistics.median(seconds for seconds, _ in results)
        every = ", ".join(f"{seconds:.1f}" for seconds, _ in results)
        memory = max(memory for _, memory in results)
        print(f"| {way} | {every} | {median:.1f} | {size / median / 1e6:.0f} | {memory:.0f} |")
    for way in ("curl", "curl and flush"):
        print(f"\nspeed against {way}: {medians[way] / medians['models download']:.2f}")


if __name__ == "__main__":
    main()
