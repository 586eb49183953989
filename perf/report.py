"""The Markdown of a run, made from its CSV: `report.py RESULTS.csv` prints it anew."""

import sys

from budgets import number, verdicts
from memory import STATES
from results import Results
from workloads import COMPARED, COUNTED, UNPIPELINED_50

TITLES = {
    "memcached": "memcached alone",
    "nutcracker": "nutcracker (twemproxy)",
    "haproxy": "haproxy, a TCP relay",
    "mcproxy": "mcproxy",
    "mcproxy-uring": "mcproxy, io_uring",
}
APART = ("memcached", "mcproxy", "mcproxy-uring")

ABOUT = (
    "Medians over rounds in which the systems took turns; the quartiles stand in brackets. Absolute figures hold for "
    "this machine at this time: compare within a row only. Every value that came back was checked to belong to the "
    "key that was asked for."
)


def markdown(results, plots=()):
    """The whole page. `plots` are the names of files beside it."""
    parts = [
        head(results),
        budgets(results),
        side_by_side(results),
        throughput(results),
        apart(results),
        latency(results),
        scaling(results),
        calls(results),
        *(f"![{name}]({name})" for name in plots),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def head(results, title="Measurements", about=ABOUT):
    """Where and with what."""
    checked = sum(
        value for key, rounds in results.rows.items() if key[3] == "values_checked" for value in rounds.values()
    )
    rows = [[name, text] for name, text in results.environment.items()]
    rows.append(["values checked", f"{checked:,.0f}"])
    return f"# {title}\n\n{about}\n\n" + table(["", ""], rows)


def budgets(results):
    """What mcproxy is held to."""
    rows = [verdict.row for verdict in verdicts(results)]
    if not rows:
        return ""
    met = sum(verdict.met for verdict in verdicts(results))
    title = f"## Budgets: {met} of {len(rows)} met"
    return f"{title}\n\n" + table(["what", "measured", "target", ""], rows)


def side_by_side(results):
    """The table of all systems."""
    rows = []
    for workload in COMPARED:
        cells = [cpu_cell(results, workload.name, system) for system in TITLES]
        rows.append([f"CPU, us per operation: {workload.title}", *cells])
    for workload in COUNTED:
        cells = [number(results.median("strace", workload.name, system, "calls")) for system in TITLES]
        rows.append([f"system calls per operation (strace): {workload.title}", *cells])
    for state, *_ in STATES:
        cells = [number(results.median("memory", state, system, "bytes_per_client")) for system in TITLES]
        rows.append([f"private bytes per idle client: {state}", *cells])
    rows = [row for row in rows if any(row[1:])]
    if not rows:
        return ""
    note = (
        "CPU time as proxy + memcacheds behind it, all of them together: three behind nutcracker and mcproxy, one "
        "behind haproxy. memcached's own proxy is not in the table: Debian builds its memcached without it."
    )
    return f"## Side by side\n\n{note}\n\n" + table(["", *TITLES.values()], rows)


def cpu_cell(results, workload, system):
    """`10.2 + 6.1`; nothing for io_uring beside others on its core, see apart.py."""
    return "" if system == "mcproxy-uring" else cpu_cell_of("compare", results, workload, system)


def cpu_cell_of(phase, results, workload, system):
    """The same of any phase."""
    metrics = ["backend_cpu_us"] if system == "memcached" else ["proxy_cpu_us", "backend_cpu_us"]
    values = [results.median(phase, workload, system, metric) for metric in metrics]
    return "" if None in values else " + ".join(number(value) for value in values)


def throughput(results):
    """Operations a second; the load generator shares the machine."""
    rows = []
    for workload in COMPARED:
        values = [results.median("compare", workload.name, system, "operations_per_s") for system in TITLES]
        rows.append([workload.title, *(number(value) for value in values)])
    if not any(row[1] for row in rows):
        return ""
    note = "With the load generator on the same cores: what all of it together reaches here."
    return f"## Operations per second\n\n{note}\n\n" + table(["", *TITLES.values()], rows)


def apart(results):
    """What is measured on a core of its own."""
    rows = []
    for workload in COMPARED:
        cells = [cpu_cell_of("apart", results, workload.name, system) for system in APART]
        rows.append([f"CPU, us per operation: {workload.title}", *cells])
    for workload in COMPARED:
        values = [results.median("apart", workload.name, system, "operations_per_s") for system in APART]
        rows.append([f"operations per second: {workload.title}", *(number(value) for value in values)])
    if not any(row[1] for row in rows):
        return ""
    note = (
        "memcached alone, or mcproxy, has one core for itself; the load generator and the memcacheds behind mcproxy "
        "share the other. CPU time as proxy + memcacheds behind it."
    )
    return f"## Cores apart\n\n{note}\n\n" + table(["", *(TITLES[system] for system in APART)], rows)


def latency(results):
    """At a fixed rate."""
    workload, rows = UNPIPELINED_50.name, []
    direct = [results.median("latency", workload, "memcached", metric) for metric in ("p50_us", "p99_us")]
    for system, title in TITLES.items():
        p50, p99, late = (
            results.median("latency", workload, system, metric) for metric in ("p50_us", "p99_us", "sent_late_p99_us")
        )
        if p50 is None or None in direct:
            continue
        added = ["", ""] if system == "memcached" else [f"{p50 - direct[0]:+.1f}", f"{p99 - direct[1]:+.1f}"]
        rows.append([title, number(p50), number(p99), *added, number(late)])
    if not rows:
        return ""
    rate = results.median("latency", workload, "mcproxy", "rate")
    note = (
        f"Open loop, {UNPIPELINED_50.clients} clients, {rate:,.0f} operations per second, half of what the slower of "
        "mcproxy and nutcracker can do. A latency counts from when the operation was due, so it includes how late "
        "the load generator sent it, which is the last column."
    )
    columns = ["", "p50, us", "p99, us", "p50 over direct, us", "p99 over direct, us", "sent late, p99, us"]
    return f"## Latency\n\n{note}\n\n" + table(columns, rows)


def scaling(results):
    """One worker and two."""
    rows = []
    for workload in dict.fromkeys(key[1] for key in results.rows if key[0] == "scaling"):
        for workers in ("1-workers", "2-workers"):
            metrics = ("operations_per_s", "worker_cpu_us", "operations_per_busiest_cpu_s")
            values = [results.median("scaling", workload, workers, metric) for metric in metrics]
            rows.append([workload, workers.split("-")[0], *(number(value) for value in values)])
    if not rows:
        return ""
    note = (
        "Before three backends inside mcproxy, 50 clients for each worker. The load generator and the backends take "
        "their part of the same cores, so operations per second cannot double here; the last column is what the "
        "workers would do with a core each. The instructions of one worker and of two (`make perf-instructions`) say "
        "it without a clock."
    )
    columns = ["", "workers", "operations per second", "CPU of all workers, us per operation"]
    columns.append("operations per second of the busiest worker's CPU")
    return f"## Scaling\n\n{note}\n\n" + table(columns, rows)


def calls(results):
    """Which system calls mcproxy makes."""
    rows = []
    for workload in COUNTED:
        names = results.metrics("strace", workload.name, "mcproxy")
        each = {
            name[6:]: results.median("strace", workload.name, "mcproxy", name) for name in names if name != "calls"
        }
        if each:
            text = ", ".join(f"{name} {value:.2f}" for name, value in sorted(each.items(), key=lambda pair: -pair[1]))
            rows.append([workload.title, text])
    return "## mcproxy's system calls per operation, by strace\n\n" + table(["", ""], rows) if rows else ""


def table(columns, rows):
    """Markdown's."""
    lines = [columns, ["---"] * len(columns), *rows]
    escaped = ([str(cell).replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join("| " + " | ".join(line) + " |" for line in escaped)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: report.py RESULTS.csv")
    print(markdown(Results.read(sys.argv[1])), end="")
