"""`make perf-instructions`: user-space instructions per operation of a whole proxy process, counted by callgrind.

Every workload runs twice against a fresh process before real memcacheds, once with few operations and once with many.
The difference of the two counts, divided by the difference of the operations, leaves out starting, connecting and
setting the keys. Unlike times, the counts come out nearly the same on every machine and under any other load; what
still moves them is how many requests meet in one turn of the loop, and callgrind, which slows the process some thirty
times, lets more of them meet.
"""

import argparse
import datetime
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import environment
import report
from bench import Bench
from processes import Failure, Processes, binary, raise_descriptor_limit
from progress import Step, clock, run_steps
from results import Results
from systems import Starter
from workloads import INSTRUCTED

# Operations of the two runs.
FULL = (20_000, 120_000)
QUICK = (5_000, 20_000)

# Under callgrind.
OPERATIONS_PER_SECOND = 20_000
START_SECONDS = 2.5

DESCRIPTORS = 4_000

# Functions that are shown.
TOP = 15

ABOUT = (
    "What user space executes, counted by callgrind: the difference of two runs, divided by the difference of their "
    "operations. Every value that came back was checked to belong to the key that was asked for."
)

# callgrind_annotate's name of the sum.
TOTAL = "PROGRAM TOTALS"


class Instructions:
    """Counts; and the functions that they were spent in."""

    def __init__(self, processes, starter, bench, results, counts):
        self.processes = processes
        self.starter = starter
        self.bench = bench
        self.results = results
        self.counts = counts
        self.functions = {}
        self.checked = 0

    def steps(self, systems, workloads):
        """Every workload of every system, mcproxy's with one worker and with two."""
        for workload in workloads:
            for system in systems:
                if system == "nutcracker" and workload.protocol() != "text":
                    continue  # it speaks no other
                for workers in (1, 2) if system == "mcproxy" else (1,):
                    label = f"instructions: {workload.title}: {named(system, workers)}"
                    seconds = 2 * START_SECONDS + sum(self.counts) / OPERATIONS_PER_SECOND
                    yield Step(label, seconds, partial(self.measure, workload, system, workers))

    def measure(self, workload, system, workers):
        """The difference of two runs."""
        few, many = self.counts
        # Each worker has the same number of clients, or it would find fewer requests in a turn.
        load = replace(workload, clients=workload.clients * workers)
        less, more = (self.count(load, system, workers, operations) for operations in (few, many))
        name = named(system, workers)
        each = {place: (more[place] - less.get(place, 0)) / (many - few) for place in more}
        total = each.pop(TOTAL)
        self.results.add("instructions", workload.name, name, 0, instructions=total, values_checked=self.checked)
        if workers == 1:
            self.functions[workload.title, name] = sorted(each.items(), key=lambda pair: -pair[1])[:TOP]

    def count(self, workload, system, workers, operations):
        """Function -> its own instructions, and `TOTAL` -> all of them, of a whole process."""
        output = self.processes.folder / "callgrind.out"
        output.unlink(missing_ok=True)
        # Threads take turns under valgrind; fair-sched makes it a fair one.
        prefix = [binary("valgrind"), "--tool=callgrind", "--fair-sched=yes", f"--callgrind-out-file={output}"]
        if system == "mcproxy":
            started = self.starter.mcproxy(prefix, workers)
        else:
            started = self.starter.start(system, prefix)
        words = ["--preload", "--requests", str(operations), "--timeout", "60"]
        self.checked = self.bench.load(started, workload, *words, seconds=300)["hits"]
        self.starter.stop(started)
        return annotated(output)


def named(system, workers):
    """As the rows call it."""
    return f"{system}, {workers} worker{'s' if workers > 1 else ''}"


def annotated(output):
    """What `count` gives, by callgrind_annotate."""
    words = [binary("callgrind_annotate"), "--threshold=100", "--auto=no", str(output)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    found = re.findall(r"^\s*([\d,]+) \([ \d.]+%\)\s+(\S.*?)(?: \[[^\]]*\])?$", done.stdout, re.M)
    counts = {}
    for number, place in found:
        place = TOTAL if place.startswith(TOTAL) else shortened(place)
        counts[place] = counts.get(place, 0) + int(number.replace(",", ""))
    if TOTAL not in counts:
        raise Failure(f"callgrind counted nothing:\n{done.stdout}{done.stderr}")
    return counts


def shortened(place):
    """`file:function` without what is long and says little."""
    file, _, function = place.partition(":")
    parts = Path(file).parts
    # A path from the sources on, or the end of one to a library.
    file = "/".join(parts[-3:])
    function = re.sub(r"::h[0-9a-f]{16}$", "", function)
    return f"{file}: {function}"


def page(results, functions):
    """The Markdown."""
    rows = []
    for workload in INSTRUCTED:
        keys = [key for key in results.rows if key[:2] == ("instructions", workload.name)]
        for system in dict.fromkeys(key[2] for key in keys):
            value = results.median("instructions", workload.name, system, "instructions")
            rows.append([workload.title, system, f"{value:,.0f}"])
    parts = [
        report.head(results, "Instructions", ABOUT),
        report.budgets(results),
        "## User-space instructions per operation\n\n" + report.table(["", "", "instructions"], rows),
    ]
    for (workload, system), top in functions.items():
        rows = [[f"{each:,.1f}", f"`{place}`"] for place, each in top if each > 0]
        title = f"## {workload}: {system}: where"
        note = "The functions with the most, by file; what was inlined stands under the function that it is in."
        parts.append(f"{title}\n\n{note}\n\n" + report.table(["instructions per operation", "where"], rows))
    return "\n\n".join(part for part in parts if part) + "\n"


def main():
    """Status 0 if everything was counted, whether budgets are met or not."""
    arguments = parse()
    counts = QUICK if arguments.quick else FULL
    mcproxy = str(arguments.bin / "mcproxy")
    about = environment.record(mcproxy, f"operations={counts[0]} and {counts[1]}", [])
    about["valgrind"] = environment.version("valgrind", "--version")
    stem = arguments.output / f"{datetime.date.today().isoformat()}-{arguments.host}-instructions"
    results = Results(about, Path(f"{stem}.csv"))
    workloads = [workload for workload in INSTRUCTED if workload.name in arguments.workloads.split(",")]
    with Processes() as processes:
        starter = Starter(processes, 0, raise_descriptor_limit(DESCRIPTORS), mcproxy)
        instructions = Instructions(processes, starter, Bench(arguments.bench), results, counts)
        took = run_steps(list(instructions.steps(arguments.systems.split(","), workloads)))
    results.close()
    text = page(results, instructions.functions)
    Path(f"{stem}.md").write_text(text)
    print(text)
    print(f"perf: took {clock(took)} minutes; written: {stem}.csv, {stem}.md", file=sys.stderr)


def parse():
    """The command line."""
    parser = argparse.ArgumentParser(description="User-space instructions per operation, by callgrind.")
    parser.add_argument("--quick", action="store_true", help="few operations; the figures mean little")
    parser.add_argument("--bin", type=Path, required=True, help="the folder of an mcproxy with debug information")
    parser.add_argument("--bench", type=Path, required=True, help="the path of mcproxy-bench")
    parser.add_argument("--output", type=Path, required=True, help="the folder for what is written")
    parser.add_argument("--host", default=environment.host(), help="the machine's name in the results")
    parser.add_argument("--systems", default="mcproxy", help="mcproxy, nutcracker, haproxy")
    parser.add_argument("--workloads", default=",".join(workload.name for workload in INSTRUCTED), help="%(default)s")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"perf: {failure}")
    except KeyboardInterrupt:
        sys.exit("perf: interrupted")
