"""The pictures of a run, made from its CSV: `plots.py RESULTS.csv` draws them anew beside it."""

import sys
from math import log10
from pathlib import Path

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt  # noqa: E402 (the backend comes first)

from report import TITLES  # noqa: E402
from results import Results  # noqa: E402
from workloads import COMPARED, UNPIPELINED_50  # noqa: E402

# Told apart by people who see fewer colours too (Okabe and Ito's set).
COLOURS = {
    "memcached": "#999999",
    "nutcracker": "#E69F00",
    "haproxy": "#56B4E9",
    "mcproxy": "#009E73",
    "mcproxy-uring": "#D55E00",
}

matplotlib.rcParams.update(
    {
        "svg.hashsalt": "mcproxy",  # the same figures, the same file
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "grid.color": "#dddddd",
        "axes.axisbelow": True,
        "savefig.facecolor": "white",
    }
)


def draw(results, stem):
    """Writes STEM-cpu.svg, STEM-throughput.svg and STEM-latency.svg; gives their paths."""
    drawn = [("cpu", cpu), ("throughput", throughput), ("latency", latency)]
    return [save(picture(results), Path(f"{stem}-{name}.svg")) for name, picture in drawn]


def cpu(results):
    """Proxy and backends on top of each other, one field per workload, for their scales differ."""
    figure, fields = plt.subplots(1, len(COMPARED), figsize=(11, 3.2))
    for field, workload in zip(fields, COMPARED):
        for place, system in enumerate(TITLES):
            proxy, backends = (
                results.median("compare", workload.name, system, metric) or 0
                for metric in ("proxy_cpu_us", "backend_cpu_us")
            )
            field.bar(place, proxy, color=COLOURS[system])
            field.bar(
                place, backends, bottom=proxy, color=COLOURS[system], alpha=0.45, hatch="///", edgecolor="white"
            )
        label(field, workload)
    fields[0].set_ylabel("CPU, us per operation")
    return legend(figure, "CPU time per operation: the proxy, and hatched the memcacheds behind it")


def throughput(results):
    """Operations per second."""
    figure, fields = plt.subplots(1, len(COMPARED), figsize=(11, 3.2))
    for field, workload in zip(fields, COMPARED):
        for place, system in enumerate(TITLES):
            value = results.median("compare", workload.name, system, "operations_per_s") or 0
            field.bar(place, value / 1000, color=COLOURS[system])
        label(field, workload)
    fields[0].set_ylabel("thousand operations per second")
    return legend(figure, "Operations per second, the load generator on the same cores")


def latency(results):
    """The distribution at a fixed rate, on a scale that gives each further nine the same room."""
    figure, field = plt.subplots(figsize=(7, 3.6))
    shown = [50, 90, 99, 99.9, 99.99]
    for system, title in TITLES.items():
        points = {}
        for metric in results.metrics("latency", UNPIPELINED_50.name, system):
            if metric.startswith("latency_us_at_"):
                percent = float(metric.removeprefix("latency_us_at_"))
                if percent < 100:
                    points[percent] = results.median("latency", UNPIPELINED_50.name, system, metric)
        places = sorted(points)
        field.plot(
            [nines(percent) for percent in places], [points[p] for p in places], label=title, color=COLOURS[system]
        )
    field.set_xticks([nines(percent) for percent in shown], [f"{percent:g} %" for percent in shown])
    field.set_yscale("log")
    field.set_ylabel("latency, us")
    field.set_xlabel("part of the operations that was no slower")
    field.legend(frameon=False)
    rate = results.median("latency", UNPIPELINED_50.name, "mcproxy", "rate") or 0
    figure.suptitle(f"Latency at {rate:,.0f} operations per second, open loop, 50 clients", fontsize=10)
    figure.tight_layout()
    return figure


def nines(percent):
    """99 % -> 2, 99.9 % -> 3."""
    return -log10(1 - percent / 100)


def label(field, workload):
    """A field's title, without names below the bars: the legend has them."""
    field.set_title(workload.title.replace(", ", ",\n"), fontsize=9)
    field.set_xticks([])


def legend(figure, title):
    """One for all fields."""
    patches = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[system]) for system in TITLES]
    figure.legend(patches, TITLES.values(), loc="lower center", ncol=len(patches), frameon=False)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    return figure


def save(figure, path):
    """Without the date, which would make every file a new one."""
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: plots.py RESULTS.csv")
    for written in draw(Results.read(sys.argv[1]), sys.argv[1].removesuffix(".csv")):
        print(written)
