"""
runc for machines that lack a capability: it takes from a container those that this machine has not.

Docker Engine 20.10 gives privileged containers every capability that the kernel knows, and
on such a machine none of them starts ("unable to apply caps").

Source: include/uapi/linux/capability.h, whose numbers these are in order.
"""

import json
import os
import re
import sys
from pathlib import Path

NAMES = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP"),
    *("LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER"),
    *("SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE"),
    *("SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP"),
    *("MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF"),
    "CHECKPOINT_RESTORE",
)

if "--bundle" in sys.argv:
    path = Path(sys.argv[sys.argv.index("--bundle") + 1], "config.json")
    config = json.loads(path.read_text())
    bounds = int(re.search(r"CapBnd:\s*(\w+)", Path("/proc/self/status").read_text())[1], 16)
    there = {f"CAP_{name}" for number, name in enumerate(NAMES) if bounds >> number & 1}
    sets = config["process"].get("capabilities", {})
    config["process"]["capabilities"] = {kind: [each for each in held if each in there] for kind, held in sets.items()}
    path.write_text(json.dumps(config))
os.execvp("runc", ["runc", *sys.argv[1:]])
