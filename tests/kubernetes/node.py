"""
A node for tests: a kubelet with a containerd of its own, on this machine, beside any number of others.

    with scheduling(server), Node(server, folder, "n1") as node: ...

Both live in namespaces of processes and of mounts: all they write lies in a file system in memory,
and ends with them, as do their containers. They share the machine's network, where the node has an
address of its own on the loopback device (a kubelet refuses 127.0.0.1), from the block that RFC 2544
keeps for tests. So pods must share the host's network: there is no plugin for any other, though
containerd is told of one, or the node would never be ready. Tried with cgroup v1; version 2 is prepared as runc's documentation asks.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import lightkube
from lightkube.resources.core_v1 import Node as NodeObject
from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.images import BUSYBOX, PAUSE, write_image
from tests.processes import running

START_LIMIT_S = 120
POLL_S = 0.2
KUBELET_PORT = 10250
CGROUPS = Path("/sys/fs/cgroup")
PARAMETERS = (
    *("vm/overcommit_memory", "vm/panic_on_oom"),
    *("kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"),
)
"""Kernel parameters that a kubelet sets. It is shown copies of them."""

# What they would write to the machine's own folders is kept in memory.
_SET_UP = """
set -eu
mount -t tmpfs tmpfs {home}
for folder in /var/lib /var/log; do
    mkdir -p "{home}/own$folder/upper" "{home}/own$folder/work"
    mount -t overlay overlay -o "lowerdir=$folder,upperdir={home}/own$folder/upper,workdir={home}/own$folder/work" "$folder"
done
mount -t tmpfs tmpfs /run
for parameter in {parameters}; do
    cp "/proc/sys/$parameter" "{home}/own/$(basename "$parameter")"
    mount --bind "{home}/own/$(basename "$parameter")" "/proc/sys/$parameter"
done
echo up
exec cat > /dev/null
"""

# A container may get a lower score from the kubelet than this process may give (CAP_SYS_RESOURCE).
_CONTAINERD = """
version = 2
root = "{home}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{home}/cni/bin"
    conf_dir = "{home}/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"""


class Node:
    """
    One node; a context manager in which it is ready.

    Args:
        server: The API server that it belongs to.
        folder: For its logs.
        name: Its name, one of a kind among all nodes of the machine's cgroups.
        labels: Labels of the node.
    """

    def __init__(self, server: ApiServer, folder: Path, name: str, labels: Mapping[str, str] | None = None) -> None:
        self.name, self._server, self._labels = name, server, dict(labels or {})
        self.address = f"198.18.{secrets.randbelow(256)}.{1 + secrets.randbelow(254)}"
        self._logs = folder
        folder.mkdir(parents=True, exist_ok=True)
        # Short, for the names of the kubelet's sockets have 107 characters at most.
        self.home = Path(tempfile.mkdtemp(prefix="node-"))
        self.cgroup = f"batchyard-{secrets.token_hex(4)}"
        self._socket = "/run/containerd/containerd.sock"
        self.processes = Path()
        """The namespace of its processes."""
        self._kubelet: subprocess.Popen[bytes] | None = None
        self._end = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as end:
            self._end = end
            end.callback(self.home.rmdir)
            subprocess.run(["ip", "address", "add", f"{self.address}/32", "dev", "lo"], check=True)
            end.callback(subprocess.run, ["ip", "address", "delete", f"{self.address}/32", "dev", "lo"], check=True)
            end.callback(self._remove_cgroups)
            self._make_cgroups()
            self._start_init()
            self._start_containerd()
            self.start_kubelet()
            self._end = end.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.close()

    def start_kubelet(self) -> None:
        """
        Start the kubelet and wait until the node is ready; once more if it ends, as whoever has it started would.

        That of 1.34 may be ended by Go as it starts ("concurrent map iteration and map write": who wipes resource
        slices reads what can be allocated while the container manager writes it).
        """
        with lightkube.Client(lightkube.KubeConfig.from_file(self._server.admin)) as client:
            for is_last in (False, True):
                self._kubelet = self._start("kubelet", *self._kubelet_command())
                try:
                    self._wait("kubelet", self._kubelet, lambda: self._is_ready(client))
                except RuntimeError:
                    if is_last or "concurrent map" not in (self._logs / "kubelet.log").read_text():
                        raise
                else:
                    return

    def kill_kubelet(self) -> None:
        """Kill the kubelet; containers go on."""
        assert self._kubelet is not None
        self._kubelet.kill()
        self._kubelet.wait()

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command on the node, and return what it wrote."""
        answer = subprocess.run(self._inside(*command), capture_output=True, text=True, check=False, timeout=60)
        assert not check or answer.returncode == 0, f"{command}: {answer.returncode}\n{answer.stdout}{answer.stderr}"
        return answer.stdout

    def _start_init(self) -> None:
        """Make the namespaces: all in them ends with their first process, and that with what it is told from here."""
        own = ["unshare", "--mount", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
        script = _SET_UP.format(home=self.home, parameters=" ".join(PARAMETERS))
        line = [*own, "sh", "-c", script]
        self._init = self._end.enter_context(running(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        assert self._init.stdout is not None
        assert self._init.stdout.readline() == "up\n", f"{self.name} does not come up"
        self.processes = Path(f"/proc/{self._first_process()}/ns/pid").readlink()
        self._end.callback(self._end_init)

    def _end_init(self) -> None:
        """End the first process, which is gone when all others are."""
        assert self._init.stdin is not None
        self._init.stdin.close()
        self._init.wait()

    def _first_process(self) -> int:
        """Return the process id of the first process, seen from outside."""
        return int(Path(f"/proc/{self._init.pid}/task/{self._init.pid}/children").read_text().split()[0])

    def _start_containerd(self) -> None:
        config = _CONTAINERD.format(home=self.home, socket=self._socket, pause=PAUSE)
        self._write("containerd.toml", config)
        network = {"cniVersion": "0.4.0", "name": "none", "plugins": [{"type": "none"}]}
        self._write("cni/net.d/none.conflist", json.dumps(network))
        containerd = self._start("containerd", "containerd", "--config", f"{self.home}/containerd.toml")
        ctr = ("ctr", "--address", self._socket, "--namespace", "k8s.io")
        self._wait("containerd", containerd, lambda: "linux" in self.run(*ctr, "plugins", "ls", check=False))
        for name in (BUSYBOX, PAUSE):
            archive = write_image(self._logs / "image.tar", name)
            self.run(*ctr, "images", "import", str(archive))

    def _kubelet_command(self) -> list[str]:
        serving = self._server.authority.issue(f"kubelet-{self.name}", hosts=(self.address, self.name))
        who = self._server.authority.issue(f"system:node:{self.name}", group="system:nodes")
        config = _kubelet_config(
            address=self.address,
            cgroupRoot=f"/{self.cgroup}",
            volumePluginDir=str(self.home / "volume-plugins"),
            containerRuntimeEndpoint=f"unix://{self._socket}",
            tlsCertFile=str(serving.certificate),
            tlsPrivateKeyFile=str(serving.key),
            authentication={
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self._server.authority.certificate)},
            },
        )
        self._write("kubelet.json", json.dumps(config, indent=2))
        flags = {
            "config": self.home / "kubelet.json",
            "kubeconfig": self._server.write_kubeconfig(self.name, who),
            "hostname-override": self.name,
            "node-ip": self.address,
            "node-labels": ",".join(f"{key}={value}" for key, value in self._labels.items()),
            "root-dir": self.home / "kubelet",
        }
        return [str(self._server.binary), "kubelet", *(f"--{name}={value}" for name, value in flags.items())]

    def _write(self, name: str, content: str) -> None:
        """Write a file to what the node alone sees."""
        script = 'mkdir -p "$(dirname "$1")" && cat > "$1"'
        line = self._inside("sh", "-c", script, "sh", str(self.home / name))
        subprocess.run(line, input=content, text=True, check=True, timeout=60)

    def _start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        # A process in another namespace of processes is not nsenter, but a child of it.
        line = self._inside("setpriv", "--pdeathsig", "KILL", *command)
        with (self._logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._end.callback(process.wait)
        self._end.callback(process.kill)
        return process

    def _inside(self, *command: str) -> list[str]:
        return ["nsenter", f"--target={self._first_process()}", "--mount", "--ipc", "--pid", "--", *command]

    def _wait(self, name: str, process: subprocess.Popen[bytes], is_there: Any) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while not is_there():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start:\n{(self._logs / f'{name}.log').read_text()[-4000:]}")
            time.sleep(POLL_S)

    def _is_ready(self, client: lightkube.Client) -> bool:
        try:
            node = client.get(NodeObject, self.name)
        except lightkube.ApiError as error:
            if error.status.code != 404:
                raise
            return False
        conditions = (node.status and node.status.conditions) or []
        return any(each.type == "Ready" and each.status == "True" for each in conditions)

    def _make_cgroups(self) -> None:
        for hierarchy in hierarchies():
            (hierarchy / self.cgroup).mkdir()

    def _remove_cgroups(self) -> None:
        """Remove the node's cgroups, which are empty when its processes are gone."""
        # The kubelet makes them in the unified hierarchy too, which on a machine of version 1 controls nothing.
        for top in (CGROUPS / self.cgroup, *CGROUPS.glob(f"*/{self.cgroup}")):
            for folder, _, _ in os.walk(top, topdown=False):
                Path(folder).rmdir()


def leftovers(node: Node) -> list[str]:
    """Return what of a node there is on this machine: its processes, mounts, cgroups, address and files."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it may end meanwhile
            if (process / "ns/pid").readlink() == node.processes:
                found.append(f"process {process.name}: {(process / 'comm').read_text().strip()}")
    found += [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(node.home) in line]
    found += [str(each) for each in (CGROUPS / node.cgroup, *CGROUPS.glob(f"*/{node.cgroup}")) if each.exists()]
    addresses = subprocess.run(["ip", "-o", "address"], stdout=subprocess.PIPE, text=True, check=True).stdout
    found += [line for line in addresses.splitlines() if f" {node.address}/" in line]
    return found + [str(node.home)] * node.home.exists()


def hierarchies() -> list[Path]:
    """Return where this machine's cgroups lie: a folder for each controller, or (version 2) one for all."""
    if (CGROUPS / "cgroup.controllers").exists():
        controllers = (CGROUPS / "cgroup.controllers").read_text().split()
        (CGROUPS / "cgroup.subtree_control").write_text(" ".join(f"+{each}" for each in controllers))
        return [CGROUPS]
    return [each for each in CGROUPS.iterdir() if (each / "tasks").exists() and not each.is_symlink()]


@contextlib.contextmanager
def scheduling(server: ApiServer) -> Iterator[None]:
    """Run kube-scheduler, which binds pods to nodes."""
    who = server.write_kubeconfig("scheduler", server.authority.issue("system:kube-scheduler"))
    flags = (f"--kubeconfig={who}", "--leader-elect=false", "--secure-port=0", "--authentication-skip-lookup")
    with (server.folder / "kube-scheduler.log").open("ab") as log:
        line = [str(server.binary), "kube-scheduler", *flags]
        with running(line, stdin=subprocess.DEVNULL, stdout=log, stderr=log):
            yield


def _kubelet_config(**given: Any) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "port": KUBELET_PORT,
        "readOnlyPort": 0,
        "healthzPort": 0,
        "cgroupDriver": "cgroupfs",
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        # The machine's disk and memory are not ours to judge.
        "evictionHard": {"memory.available": "1Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        "nodeStatusUpdateFrequency": "2s",
        **given,
    }
