"""Amazon's EFS CSI driver on the node, with a folder in the place of a file system in AWS.

The driver is Amazon's own code: it registers with kubelet and turns each PersistentVolume's handle, attributes and
options into a call of `mount -t efs`. That ends in a stand-in for amazon-efs-utils here: it notes its arguments and
mounts the folder, or refuses in the words of the real one. The instance metadata that the driver asks for are one too.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from tests.cluster import tools
from tests.cluster.cluster import Cluster
from tests.kubectl import Kubectl, Object, eventually
from tests.materials.web import running

NAME = "efs.csi.aws.com"
_IDENTITY = {"instanceId": "i-0123456789abcdef0", "region": "eu-central-1", "availabilityZone": "eu-central-1a"}
_MOUNT = """#!/bin/sh
# mount -t efs -o OPTIONS SOURCE TARGET, as the driver calls it
[ "$1 $2 $3" = "-t efs -o" ] || exec {real} "$@"
[ -e {refusal} ] && {{ cat {refusal} >&2; exit 32; }}
echo "$4 $5" >> {log}
{real} --bind {folder} "$6" || exit 32
case ",$4," in *,ro,*) exec {real} -o remount,ro,bind "$6";; esac
"""


@dataclass(frozen=True)
class Efs:
    """The driver at work."""

    folder: Path
    """What the file system holds."""
    _scratch: Path

    @property
    def mounts(self) -> list[tuple[set[str], str]]:
        """Options and source of every `mount -t efs` so far."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [(set(options.split(",")), source) for options, source in (line.split() for line in lines)]

    @contextlib.contextmanager
    def refusing(self, words: str) -> Iterator[None]:
        """Let every mount fail with these words for a while."""
        refusal = self._scratch / "refusal"
        refusal.write_text(f"{words}\n")
        try:
            yield
        finally:
            refusal.unlink()

    @property
    def _log(self) -> Path:
        return self._scratch / "log"


def _programs(scratch: Path, folder: Path) -> Path:
    """A folder with `mount` and the watchdog, which come before the machine's own in the driver's PATH."""
    programs = scratch / "bin"
    programs.mkdir()
    quoted = {name: shlex.quote(str(scratch / name)) for name in ("refusal", "log")}
    written = {
        "mount": _MOUNT.format(real="/bin/mount", folder=shlex.quote(str(folder)), **quoted),
        "amazon-efs-mount-watchdog": "#!/bin/sh\nexec sleep infinity\n",
    }
    for name, text in written.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return programs


def _metadata() -> web.Application:
    """What the driver asks an EC2 instance for."""

    async def instance(_: web.Request) -> web.Response:
        return web.Response(text=_IDENTITY["instanceId"])

    async def identity(_: web.Request) -> web.Response:
        return web.json_response(_IDENTITY)

    app = web.Application()
    app.router.add_get("/latest/meta-data/instance-id", instance)
    app.router.add_get("/latest/dynamic/instance-identity/document", identity)
    return app


@contextlib.contextmanager
def driver(node: Cluster, kubectl: Kubectl, folder: Path, scratch: Path) -> Iterator[Efs]:
    """The driver, registered with the node's kubelet; `folder` is the file system, `scratch` is empty."""
    for each in ("files", "static"):
        (scratch / each).mkdir()
    programs = _programs(scratch, folder)
    body: Object = {"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": NAME}}
    kubectl.apply({**body, "spec": {"attachRequired": False}})
    home = f"/var/lib/kubelet/plugins/{NAME}"
    registration = f"/var/lib/kubelet/plugins_registry/{NAME}-reg.sock"
    node.run_in_node(["mkdir", "-p", home])
    assert node.init is not None
    with running(_metadata(), node.host_address, 0) as port, (scratch / "driver.log").open("w") as log:
        words = ["nsenter", "--target", str(node.init.pid), "--mount", "--net", "--pid"]
        words += ["setpriv", "--pdeathsig", "KILL", "--"]
        words += ["env", f"PATH={programs}:/usr/sbin:/usr/bin:/sbin:/bin"]
        words += [f"AWS_EC2_METADATA_SERVICE_ENDPOINT=http://{node.host_address}:{port}"]
        words += [str(tools.binary("efs-csi")), f"--socket={home}/csi.sock"]
        words += [f"--registration-socket={registration}"]
        words += [f"--files={scratch / 'files'}", f"--static-files={scratch / 'static'}"]
        with subprocess.Popen(words, stdout=log, stderr=log) as process:
            try:
                eventually(
                    lambda: _registered(node, kubectl) or (scratch / "driver.log").read_text(),
                    lambda found: found is True,
                    what="kubelet knows the driver",
                    seconds=60,
                )
                yield Efs(folder, scratch)
            finally:
                process.kill()
                node.run_in_node(["rm", "-f", registration])  # kubelet forgets the driver
    kubectl.delete("csidriver", NAME)


def _registered(node: Cluster, kubectl: Kubectl) -> bool:
    found = kubectl.get("csinode", node.node_name) or {}
    return any(each["name"] == NAME for each in (found.get("spec") or {}).get("drivers") or [])
