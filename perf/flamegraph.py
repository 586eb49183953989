"""`make flamegraph`: where mcproxy spends its CPU time under load, as a picture.

`perf` samples by the clock of the CPU, which works without hardware counters, and so on virtual machines too; it sees
the kernel's side as well, where most of the time of small requests goes. Stacks are unwound by the program's debug
information, since the system's C library keeps no frame pointers. inferno draws.
"""

import argparse
import datetime
import signal
import subprocess
import sys
from pathlib import Path

import environment
from bench import Bench
from processes import Failure, Processes, binary, raise_descriptor_limit
from systems import Starter
from workloads import COMPARED

# Samples per second; a prime, so as not to beat with anything.
FREQUENCY = 997

DESCRIPTORS = 4_000
QUICK_SECONDS = 2.0


def main():
    """Status 0 if the picture was drawn."""
    arguments = parse()
    seconds = QUICK_SECONDS if arguments.quick else arguments.seconds
    workload = next(workload for workload in COMPARED if workload.name == arguments.workload)
    stem = arguments.output / f"{datetime.date.today().isoformat()}-{arguments.host}-flame-{workload.name}"
    path = Path(f"{stem}.svg")
    path.parent.mkdir(parents=True, exist_ok=True)
    with Processes() as processes:
        starter = Starter(processes, 0, raise_descriptor_limit(DESCRIPTORS), str(arguments.bin / "mcproxy"))
        system = starter.mcproxy()
        bench = Bench(arguments.bench)
        bench.load(system, workload, "--preload", "--requests", "1000")
        print(f"perf: {workload.title}, {seconds:g} s", file=sys.stderr)
        data = record(processes, bench, system, workload, seconds)
        title = f"mcproxy, {workload.title} ({environment.commit()})"
        draw(arguments.inferno, data, path, title)
    print(path)


def record(processes, bench, system, workload, seconds):
    """Samples mcproxy while it is loaded; gives the path of perf's file."""
    data = processes.folder / "perf.data"
    words = [binary("perf"), "record", "-q", "-e", "cpu-clock", "-F", str(FREQUENCY), "--call-graph", "dwarf,8192"]
    words += ["-o", str(data), "-p", str(system.front.pid)]
    recorder = processes.start("perf", words)
    bench.load(system, workload, "--seconds", str(seconds), seconds=seconds)
    # It has died long ago if it may not do this.
    recorder.check()
    recorder.stop(signal.SIGINT)
    processes.stop(recorder)
    if not data.exists() or data.stat().st_size == 0:
        raise Failure(f"perf recorded nothing (as root it may): {recorder.said()}")
    return data


def draw(inferno, data, path, title):
    """Samples -> stacks, one on each line -> the picture."""
    samples = piped([binary("perf"), "script", "--no-inline", "-i", str(data)], b"")
    stacks = piped([str(inferno / "inferno-collapse-perf"), "--all"], samples)
    if not stacks.strip():
        raise Failure("perf took no samples")
    picture = [str(inferno / "inferno-flamegraph"), "--title", title]
    picture += ["--countname", "ns", "--colors", "rust", "--minwidth", "0.1"]
    path.write_bytes(piped(picture, stacks))


def piped(words, text):
    """What a program makes of its input."""
    done = subprocess.run(words, input=text, capture_output=True, timeout=300)
    if done.returncode != 0:
        raise Failure(f"{words[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def parse():
    """The command line."""
    parser = argparse.ArgumentParser(description="A flame graph of mcproxy under load.")
    parser.add_argument("--bin", type=Path, required=True, help="the folder of an mcproxy with debug information")
    parser.add_argument("--bench", type=Path, required=True, help="the path of mcproxy-bench")
    parser.add_argument("--inferno", type=Path, required=True, help="the folder of inferno's programs")
    parser.add_argument("--output", type=Path, required=True, help="the folder for the picture")
    parser.add_argument("--host", default=environment.host(), help="the machine's name in the picture's")
    parser.add_argument("--quick", action="store_true", help="two seconds of load; --seconds says how many else")
    parser.add_argument("--seconds", type=float, default=10.0, help="of load, %(default)s")
    names = [workload.name for workload in COMPARED]
    parser.add_argument("--workload", choices=names, default="unpipelined-50", help="%(default)s")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"perf: {failure}")
    except KeyboardInterrupt:
        sys.exit("perf: interrupted")
