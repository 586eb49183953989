"""Processes that are measured: started, waited for, and always ended, by their process ids."""

import ctypes
import os
import resource
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

FIRST_PORT = 21000
LAST_PORT = 32000  # below the ports that Linux gives to outgoing connections
START_SECONDS = 60  # under callgrind a start takes seconds
STOP_SECONDS = 10
PR_SET_PDEATHSIG = 1  # prctl(2)

LIBC = ctypes.CDLL(None, use_errno=True)


class Failure(Exception):
    """Something that ends the run; its text is for the user."""


def binary(name):
    """The path of an installed program; Debian has some in /usr/sbin, which not everybody searches."""
    for folder in os.environ.get("PATH", "").split(":") + ["/usr/sbin", "/usr/bin"]:
        path = Path(folder) / name
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
    raise Failure(f"{name} is not installed (perf/install does it)")


def raise_descriptor_limit(wanted):
    """Lets this process and those it starts open `wanted` files; gives how many they really may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in [(wanted, max(wanted, hard)), (min(wanted, hard), hard)]:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
            return limit[0]
        except (ValueError, OSError):  # only root may raise the hard limit
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Process:
    """One started process."""

    def __init__(self, name, popen, log):
        self.name = name
        self.popen = popen
        self.log = log

    @property
    def pid(self):
        """Its number."""
        return self.popen.pid

    def check(self):
        """Fails if it has ended."""
        status = self.popen.poll()
        if status is not None:
            raise Failure(f"{self.name} ended with status {status}; it said:\n{self.said()}")

    def said(self):
        """The end of its output."""
        return self.log.read_text(errors="replace")[-2000:]

    def wait(self, seconds):
        """Waits until it has ended by itself."""
        try:
            self.popen.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise Failure(f"{self.name} should have ended after {seconds} s") from error

    def stop(self, ask=signal.SIGTERM):
        """Asks it to end, waits, and ends it if it does not."""
        if self.popen.poll() is None:
            self.popen.send_signal(ask)
            try:
                self.popen.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()


class Processes:
    """All that was started; as a context it ends what still runs, whatever happened."""

    def __init__(self):
        self.running = []
        self.next_port = FIRST_PORT
        self.folder = None

    def __enter__(self):
        self.temporary = tempfile.TemporaryDirectory(prefix="mcproxy-perf-")
        self.folder = Path(self.temporary.name)
        return self

    def __exit__(self, *_):
        self.stop(*self.running)
        self.temporary.cleanup()

    def port(self):
        """A loopback port that nobody listens on."""
        while self.next_port < LAST_PORT:
            self.next_port += 1
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", self.next_port))
                    return self.next_port
                except OSError:
                    continue
        raise Failure(f"no free port between {FIRST_PORT} and {LAST_PORT}")

    def file(self, name, text):
        """A configuration file; gives its path."""
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def start(self, name, words, port=None):
        """Starts a program, and waits until it listens on `port`."""
        log = self.folder / f"{name}-{len(list(self.folder.iterdir()))}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for us; we end them.
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        process = Process(name, popen, log)
        self.running.append(process)
        if port is not None:
            self.wait_for(process, port)
        return process

    def wait_for(self, process, port):
        """Until somebody listens on `port`."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            process.check()
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise Failure(f"{process.name} does not listen on port {port}; it said:\n{process.said()}")

    def stop(self, *processes):
        """Ends some of them."""
        for process in processes:
            process.stop()
        self.running = [process for process in self.running if process not in processes]


def die_with_parent():
    """Should this program be killed, what it started ends too."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
