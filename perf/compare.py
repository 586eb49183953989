"""CPU time per operation and throughput of every system under every workload; latency at a fixed rate."""

from functools import partial

import bench as benches
from processes import Failure
from progress import Step
from workloads import COMPARED, UNPIPELINED_50

SYSTEMS = ("memcached", "nutcracker", "haproxy", "mcproxy", "mcproxy-uring")

START_SECONDS = 2.0

# A run of mcproxy-bench beside its measuring: connecting, setting all keys, ending.
BESIDE_SECONDS = 0.2


class Compare:
    """The systems side by side. All are up all the time, and one at a time is loaded."""

    phase = "compare"
    names = SYSTEMS

    def __init__(self, context):
        self.context = context
        self.systems = {}

    def steps(self):
        """Rounds of all workloads; then rounds at a fixed rate."""
        settings = self.context.settings
        yield Step("starting the systems", START_SECONDS, self.start)
        for number in range(settings.rounds):
            for workload in COMPARED:
                for name in turned(self.names, number):
                    label = f"round {number + 1} of {settings.rounds}: {workload.title}: {name}"
                    seconds = settings.warmup + settings.seconds + BESIDE_SECONDS
                    yield Step(label, seconds, partial(self.closed_loop, workload, name, number))
        for number in range(settings.latency_rounds):
            for name in turned(self.names, number):
                label = f"latency, round {number + 1} of {settings.latency_rounds}: {name}"
                seconds = settings.warmup + settings.latency_seconds + BESIDE_SECONDS
                yield Step(label, seconds, partial(self.open_loop, name, number))
        yield Step("ending the systems", 0.5, self.end)

    def start(self):
        """All of them."""
        self.systems = {name: self.context.starter.start(name) for name in self.names}

    def end(self):
        """All of them."""
        for system in self.systems.values():
            self.context.starter.stop(system)

    def closed_loop(self, workload, name, number):
        """As fast as answers come."""
        settings = self.context.settings
        flags = ["--preload", "--warmup", str(settings.warmup), "--seconds", str(settings.seconds)]
        result = self.context.bench.load(self.systems[name], workload, *flags, "--seed", str(number + 1))
        self.context.results.add(
            self.phase,
            workload.name,
            name,
            number,
            operations_per_s=result["operations_per_s"],
            proxy_cpu_us=benches.proxy_cpu(result),
            backend_cpu_us=benches.backend_cpu(result),
            bench_cpu_us=result["processes"]["mcproxy-bench"]["cpu_us_per_op"],
            p50_us=result["p50_us"],
            p99_us=result["p99_us"],
            values_checked=result["hits"],
        )

    def rate(self):
        """Half of what the slower of mcproxy and nutcracker can do, operations per second."""
        results = self.context.results
        able = [
            results.median("compare", UNPIPELINED_50.name, name, "operations_per_s")
            for name in ("mcproxy", "nutcracker")
        ]
        return max(1, int(min(able) / 2))

    def open_loop(self, name, number):
        """At a constant rate, whether answers come or not."""
        settings, rate = self.context.settings, self.rate()
        flags = ["--preload", "--warmup", str(settings.warmup), "--seconds", str(settings.latency_seconds)]
        flags += ["--rate", str(rate), "--seed", str(number + 1)]
        result = self.context.bench.load(self.systems[name], UNPIPELINED_50, *flags)
        if result["unsent"]:
            raise Failure(f"{name} does not keep up with {rate} operations a second, half of what it was said to do")
        points = {f"latency_us_at_{percent:g}": value for percent, value in result["distribution_us"]}
        self.context.results.add(
            "latency",
            UNPIPELINED_50.name,
            name,
            number,
            rate=rate,
            p50_us=result["p50_us"],
            p99_us=result["p99_us"],
            p99_9_us=result["p99_9_us"],
            sent_late_p50_us=result["late_p50_us"],
            sent_late_p99_us=result["late_p99_us"],
            values_checked=result["hits"],
            **points,
        )


def turned(names, number):
    """In another order each round, so that none is always behind the same other."""
    start = number % len(names)
    return names[start:] + names[:start]
