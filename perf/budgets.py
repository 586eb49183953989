"""What mcproxy is held to, and where a run says that it stands. Ratios are medians over rounds."""

from dataclasses import dataclass

from memory import STATES
from results import median, quartiles
from workloads import (
    COMPARED,
    GET_20,
    INSTRUCTED,
    LARGE,
    PIPELINE_16,
    UNPIPELINED_50,
    UNPIPELINED_500,
    UNPIPELINED_5000,
)

PROXY = ["proxy_cpu_us"]
BACKENDS = ["backend_cpu_us"]
BOTH = ["proxy_cpu_us", "backend_cpu_us"]
COUNT = ["instructions"]


@dataclass(frozen=True)
class Verdict:
    """One budget and what was measured."""

    subject: str
    target: float
    at_least: bool
    value: float
    low: float
    high: float

    @property
    def met(self):
        """Whether the median is within the target."""
        return self.value >= self.target if self.at_least else self.value <= self.target

    @property
    def row(self):
        """Cells of the table."""
        spread = "" if self.low == self.high else f" ({number(self.low)} to {number(self.high)})"
        bound = f"{'at least' if self.at_least else 'at most'} {self.target:g}"
        return [self.subject, number(self.value) + spread, bound, "met" if self.met else "**not met**"]


def verdicts(results):
    """Those of which the values were measured."""
    found = [*cpu(results), *fan_in(results), *system_calls(results), *latency(results), *memory(results)]
    found += [*scaling(results), *instructions(results), *uring(results)]
    return [verdict for verdict in found if verdict is not None]


def cpu(results):
    """CPU time per operation of the proxy alone."""
    memcached, nutcracker = ("memcached", BACKENDS), ("nutcracker", PROXY)
    for workload, other, target in [
        (UNPIPELINED_50, memcached, 1.2),
        (UNPIPELINED_500, memcached, 0.9),
        (UNPIPELINED_50, nutcracker, 0.65),
        (UNPIPELINED_500, nutcracker, 0.65),
        (PIPELINE_16, nutcracker, 0.3),
        (GET_20, nutcracker, 0.6),
        (LARGE, nutcracker, 0.85),
    ]:
        values = results.ratios("compare", workload.name, ("mcproxy", PROXY), other)
        what = "of memcached alone" if other is memcached else "of nutcracker"
        yield verdict(f"CPU of the proxy, {what}: {workload.title}", target, values)


def fan_in(results):
    """What many unpipelined clients cost the memcacheds, and all together."""
    alone = ("memcached", BACKENDS)
    for own, what, target in [
        (BACKENDS, "the memcacheds behind mcproxy together", 0.3),
        (BOTH, "mcproxy and its memcacheds together", 1.25),
    ]:
        values = results.ratios("compare", UNPIPELINED_500.name, ("mcproxy", own), alone)
        yield verdict(f"CPU of {what}, of memcached alone: {UNPIPELINED_500.title}", target, values)


def system_calls(results):
    """Per operation."""
    for phase, how, targets in [
        ("counters", "mcproxy's counters", (2.6, 2.3, 0.3)),
        ("strace", "strace", (2.4, 2.15, 0.2)),
    ]:
        for workload, target in zip((UNPIPELINED_50, UNPIPELINED_500, PIPELINE_16), targets):
            values = results.values(phase, workload.name, "mcproxy", "calls").values()
            yield verdict(f"System calls per operation by {how}: {workload.title}", target, values)


def latency(results):
    """At a fixed rate."""
    for metric, name, target in [("p50_us", "p50", 0.9), ("p99_us", "p99", 1.1)]:
        values = results.ratios("latency", UNPIPELINED_50.name, ("mcproxy", [metric]), ("nutcracker", [metric]))
        yield verdict(f"Latency at a fixed rate, {name}, of nutcracker: {UNPIPELINED_50.title}", target, values)


def memory(results):
    """Private bytes."""
    for state, *_ in STATES:
        values = results.values("memory", state, "mcproxy", "bytes_per_client").values()
        yield verdict(f"Private bytes per idle client: {state}", 300, values)


def scaling(results):
    """Two workers, of one."""
    metric = ["operations_per_busiest_cpu_s"]
    for workload in (UNPIPELINED_50, PIPELINE_16):
        values = results.ratios("scaling", workload.name, ("2-workers", metric), ("1-workers", metric))
        title = f"Operations per second of the busiest worker's CPU, 2 workers, of 1: {workload.title}"
        yield verdict(title, 1.8, values, at_least=True)


def instructions(results):
    """User-space instructions per operation."""
    for workload, target in [(UNPIPELINED_50, 600), (PIPELINE_16, 450)]:
        values = results.values("instructions", workload.name, "mcproxy, 1 worker", "instructions").values()
        yield verdict(f"User-space instructions per operation: {workload.title}", target, values)
    for workload in INSTRUCTED:
        each = results.ratios(
            "instructions", workload.name, ("mcproxy, 1 worker", COUNT), ("mcproxy, 2 workers", COUNT)
        )
        title = f"What 2 workers do, of 1, by instructions per operation: {workload.title}"
        yield verdict(title, 1.8, [2 * ratio for ratio in each], at_least=True)


def uring(results):
    """The engine over io_uring, beside mio's, on a core of its own (apart.py says why)."""
    own = "mcproxy-uring"
    for workload in COMPARED:
        target = 0.9 if workload in (UNPIPELINED_500, UNPIPELINED_5000) else 1.05
        values = results.ratios("apart", workload.name, (own, PROXY), ("mcproxy", PROXY))
        yield verdict(f"io_uring: CPU of the proxy, of mio's: {workload.title}", target, values)
    values = results.ratios("apart", UNPIPELINED_500.name, (own, BOTH), ("memcached", BACKENDS))
    yield verdict(
        f"io_uring: CPU of mcproxy and its memcacheds together, of memcached alone: {UNPIPELINED_500.title}", 1, values
    )
    values = results.values("counters", UNPIPELINED_500.name, own, "calls").values()
    yield verdict(f"io_uring: system calls per operation by its counters: {UNPIPELINED_500.title}", 0.3, values)
    for state, *_ in STATES:
        values = results.values("memory", state, own, "bytes_per_client").values()
        yield verdict(f"io_uring: private bytes per idle client: {state}", 300, values)


def verdict(subject, target, values, at_least=False):
    """None of what was not measured."""
    values = list(values)
    if not values:
        return None
    return Verdict(subject, target, at_least, median(values), *quartiles(values))


def number(value):
    """With as many digits as mean something."""
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
