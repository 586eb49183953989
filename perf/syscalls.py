"""System calls per operation: by strace of every system, and by the counters of mcproxy's own driver."""

import re
import signal
import socket
import time
from functools import partial

from compare import SYSTEMS
from processes import Failure, binary
from progress import Step
from workloads import COUNTED

# What mcproxy's driver counts, as far as this version of it does.
COUNTERS = ("driver_polls", "driver_reads", "driver_writes")

# Operations a second of a system under strace, for the estimate of time.
TRACED_PER_SECOND = 5_000

ATTACH_SECONDS = 20


class Syscalls:
    """strace slows what it watches, so that more requests meet in one turn of its loop: it is a phase of its own."""

    def __init__(self, context):
        self.context = context
        self.system = None

    def steps(self):
        """Every system under strace, then mcproxy at full speed by its own counters."""
        settings = self.context.settings
        for name in SYSTEMS:
            yield Step(f"system calls: starting {name}", 0.5, partial(self.start, name))
            for workload in COUNTED:
                seconds = sum(settings.traced) / TRACED_PER_SECOND + 0.5
                label = f"system calls by strace: {workload.title}: {name}"
                yield Step(label, seconds, partial(self.traced, workload))
            if name.startswith("mcproxy"):
                yield from self.counter_steps(name)
            yield Step(f"system calls: ending {name}", 0.2, self.end)

    def counter_steps(self, name):
        """Of an mcproxy, while it runs."""
        settings = self.context.settings
        for number in range(settings.counter_rounds):
            for workload in COUNTED:
                label = f"system calls by mcproxy's counters: {workload.title}: {name}"
                seconds = settings.counter_operations / 40_000
                yield Step(label, seconds, partial(self.counted, workload, number))

    def start(self, name):
        """One system, with all keys set."""
        self.system = self.context.starter.start(name)
        self.context.bench.load(self.system, COUNTED[0], "--preload", "--requests", "1000")

    def end(self):
        """It ends."""
        self.context.starter.stop(self.system)

    def traced(self, workload):
        """The difference of two runs, which leaves out what connecting and ending took."""
        few, many = self.context.settings.traced
        calls_few, calls_many = self.trace(workload, few), self.trace(workload, many)
        each = {name: (calls_many[name] - calls_few.get(name, 0)) / (many - few) for name in calls_many}
        metrics = {f"calls_{name}": value for name, value in each.items() if value >= 0.005}
        self.context.results.add("strace", workload.name, self.system.name, 0, calls=sum(each.values()), **metrics)

    def trace(self, workload, operations):
        """System call -> how often the front made it during a run."""
        processes = self.context.processes
        output = processes.folder / "strace.txt"
        output.unlink(missing_ok=True)
        pid = self.system.front.pid
        words = [binary("strace"), "-c", "-f", "-o", str(output), "-p", str(pid)]
        strace = processes.start("strace", words)
        wait_until_traced(strace, pid)
        self.context.bench.load(self.system, workload, "--requests", str(operations), "--timeout", "60", seconds=120)
        strace.stop(signal.SIGINT)
        processes.stop(strace)
        return read_strace(output.read_text())

    def counted(self, workload, number):
        """By the counters in `stats`, at full speed."""
        before = stats(self.system.port)
        if not all(name in before for name in COUNTERS):
            return  # this version of mcproxy does not count them
        operations = self.context.settings.counter_operations
        self.context.bench.load(self.system, workload, "--requests", str(operations), "--seed", str(number + 1))
        after = stats(self.system.port)
        each = {name: (after[name] - before[name]) / operations for name in COUNTERS}
        self.context.results.add("counters", workload.name, self.system.name, number, calls=sum(each.values()), **each)


def wait_until_traced(strace, pid):
    """Until strace has attached itself."""
    end = time.monotonic() + ATTACH_SECONDS
    while time.monotonic() < end:
        strace.check()
        with open(f"/proc/{pid}/status") as status:
            if int(re.search(r"^TracerPid:\s+(\d+)", status.read(), re.M)[1]) == strace.pid:
                return
        time.sleep(0.01)
    raise Failure(f"strace does not attach itself; it said:\n{strace.said()}")


def read_strace(text):
    """System call -> calls, from strace -c: % time, seconds, usecs/call, calls, errors or nothing, name."""
    calls = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) in (5, 6) and fields[3].isdigit() and fields[-1] != "total":
            calls[fields[-1]] = int(fields[3])
    if not calls:
        raise Failure(f"strace counted nothing:\n{text}")
    return calls


def stats(port):
    """The numbers that a text `stats` gives."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"stats\r\n")
        while not answer.endswith(b"END\r\n"):
            piece = connection.recv(65536)
            if not piece:
                raise Failure("stats: the connection was closed")
            answer += piece
    pairs = (line.split() for line in answer.decode().splitlines() if line.startswith("STAT "))
    return {words[1]: int(words[2]) for words in pairs if len(words) == 3 and words[2].isdigit()}
