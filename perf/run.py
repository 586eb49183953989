"""`make perf`: measures mcproxy and its peers side by side, and writes a CSV, a Markdown page and plots.

The order of things: all phases say which steps they have (so that the time left can be told), the steps run one
after the other, every value becomes a row of the CSV at once, and the page and the plots are made from the rows.
"""

import argparse
import datetime
import os
import shlex
import signal
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import environment
import plots
import report
from apart import Apart
from bench import Bench
from compare import Compare
from memory import Memory
from processes import Failure, Processes, raise_descriptor_limit
from progress import clock, run_steps
from results import Results
from scaling import Scaling
from settings import FULL, QUICK, Settings
from syscalls import Syscalls
from systems import CLIENTS_MAX, Starter

PHASES = {"compare": Compare, "apart": Apart, "scaling": Scaling, "memory": Memory, "syscalls": Syscalls}


@dataclass
class Context:
    """What the phases work with."""

    settings: Settings
    processes: Processes
    starter: Starter
    bench: Bench
    results: Results


def main():
    """Status 0 if everything was measured, whether budgets are met or not."""
    arguments = parse()
    # So that a polite end, too, ends what was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("perf: ended by SIGTERM"))
    try:
        written = measure(arguments)
    except Failure as failure:
        sys.exit(f"perf: {failure}")
    except KeyboardInterrupt:
        sys.exit("perf: interrupted")
    for path in written:
        print(path)


def parse():
    """The command line."""
    parser = argparse.ArgumentParser(description="Measures mcproxy beside memcached, nutcracker and haproxy.")
    parser.add_argument("--quick", action="store_true", help="a smoke run of about a minute; its figures mean little")
    parser.add_argument("--bin", type=Path, required=True, help="the folder of mcproxy and mcproxy-bench")
    parser.add_argument("--output", type=Path, required=True, help="the folder for what is written")
    parser.add_argument("--phases", default=",".join(PHASES), help="some of %(default)s")
    parser.add_argument("--rounds", type=int, help="of the comparison, instead of the usual number")
    parser.add_argument("--host", default=environment.host(), help="the machine's name in the results")
    parser.add_argument(
        "--mcproxy-flags",
        default=os.environ.get("MCPROXY_FLAGS", ""),
        help="more flags for mcproxy (or the variable MCPROXY_FLAGS); they are recorded",
    )
    arguments = parser.parse_args()
    unknown = set(arguments.phases.split(",")) - set(PHASES)
    if unknown:
        parser.error(f"--phases: no phase {', '.join(sorted(unknown))}")
    return arguments


def measure(arguments):
    """Everything; gives the paths of what was written."""
    flags = shlex.split(arguments.mcproxy_flags)
    settings = QUICK if arguments.quick else FULL
    settings = replace(settings, rounds=arguments.rounds or settings.rounds)
    mcproxy = arguments.bin / "mcproxy"
    about = environment.record(str(mcproxy), ", ".join(f"{k}={v}" for k, v in asdict(settings).items()), flags)
    about["host"] = arguments.host
    stem = arguments.output / f"{datetime.date.today().isoformat()}-{arguments.host}"
    unfinished = Path(f"{stem}.unfinished.csv")
    results = Results(about, unfinished)
    # A relay of 10,000 clients has 20,000 connections.
    descriptors = raise_descriptor_limit(2 * max(settings.idle_clients, CLIENTS_MAX) + 4_000)
    with Processes() as processes:
        starter = Starter(processes, settings.idle_clients, descriptors, str(mcproxy), flags)
        context = Context(settings, processes, starter, Bench(arguments.bin / "mcproxy-bench"), results)
        steps = [step for name in arguments.phases.split(",") for step in PHASES[name](context).steps()]
        print(f"perf: {len(steps)} steps, about {clock(sum(s.seconds for s in steps))} minutes", file=sys.stderr)
        took = run_steps(steps)
    results.close()
    print(f"perf: took {clock(took)} minutes", file=sys.stderr)
    table = unfinished.rename(f"{stem}.csv")
    return [table, *write(Results.read(table), stem)]


def write(results, stem):
    """The page and the pictures."""
    compared = any(key[0] == "compare" for key in results.rows)
    pictures = plots.draw(results, stem) if compared else []
    page = Path(f"{stem}.md")
    page.write_text(report.markdown(results, [path.name for path in pictures]))
    return [page, *pictures]


if __name__ == "__main__":
    main()
