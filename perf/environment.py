"""What a figure depends on beside the program: machine, kernel, versions. It stands at the head of every result."""

import datetime
import os
import platform
import re
import subprocess
from pathlib import Path

from processes import Failure, binary

ROOT = Path(__file__).resolve().parent.parent


def record(mcproxy, settings, mcproxy_flags):
    """Name -> value, each on one line."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "host": host(),
        "processor": processor(),
        "cores": str(len(cores())),
        "memory": memory(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "system": system(),
        "mcproxy": said(mcproxy, "--version"),
        "mcproxy flags": " ".join(mcproxy_flags) or "none beside the backends and --threads",
        "commit": commit(),
        "rustc": said("rustc", "--version"),
        "memcached": version("memcached", "-V"),
        "nutcracker": version("nutcracker", "-V"),
        "haproxy": version("haproxy", "-v"),
        "settings": settings,
    }


def host():
    """A name that can be part of a file's."""
    return re.sub(r"[^a-z0-9-]+", "-", platform.node().lower()).strip("-") or "unknown"


def processor():
    """The first processor's model."""
    found = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    return found[1] if found else platform.processor() or "unknown"


def cores():
    """Those that this process may use."""
    return os.sched_getaffinity(0)


def memory():
    """All of it."""
    kibibytes = int(re.search(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(), re.M)[1])
    return f"{kibibytes / 2**20:.1f} GiB"


def system():
    """The distribution."""
    found = re.search(r'^PRETTY_NAME="?([^"\n]*)', Path("/etc/os-release").read_text(), re.M)
    return found[1] if found else "unknown"


def said(*words):
    """The first line that a program says, on whichever of its outputs."""
    lines = output(*words).splitlines()
    return lines[0].strip() if lines else "unknown"


def version(name, flag):
    """What an installed program says of itself."""
    try:
        return said(binary(name), flag)
    except Failure:
        return "not installed"


def commit():
    """Of the sources; says so if they have been changed since. Results of earlier runs are no change."""
    git = ["git", "-C", str(ROOT)]
    changed = output(*git, "status", "--porcelain", "--untracked-files=no")
    return said(*git, "rev-parse", "--short=12", "HEAD") + (
        ", with changes that are not committed" if changed else ""
    )


def output(*words):
    """All that a program says."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout + done.stderr).strip()
