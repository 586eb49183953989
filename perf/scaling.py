"""One worker and two, before backends inside mcproxy: what they do, and what an operation costs the workers.

Two workers get twice the clients of one: with the same clients each would find half as many requests in a turn of its
loop, and the dearer operation would be that of an idler worker, not that of workers in each other's way.
"""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

from compare import BESIDE_SECONDS, turned
from progress import Step
from workloads import PIPELINE_16, UNPIPELINED_50

WORKERS = (1, 2)
WORKLOADS = (UNPIPELINED_50, PIPELINE_16)


class Scaling:
    """Every run has a process of its own: how the kernel deals connections out to workers is part of it."""

    def __init__(self, context):
        self.context = context

    def steps(self):
        """Rounds of one worker and two."""
        settings = self.context.settings
        for number in range(settings.scaling_rounds):
            for workload in WORKLOADS:
                for workers in turned(WORKERS, number):
                    of = f"round {number + 1} of {settings.scaling_rounds}"
                    label = f"scaling, {of}: {workers} workers, {workload.title}"
                    seconds = settings.seconds + 2 * BESIDE_SECONDS
                    yield Step(label, seconds, partial(self.measure, workload, workers, number))

    def measure(self, workload, workers, number):
        """One run."""
        starter, bench, settings = self.context.starter, self.context.bench, self.context.settings
        system = starter.embedded(workers)
        workload = replace(workload, clients=workload.clients * workers)
        bench.load(system, workload, "--preload", "--requests", "1")
        before = worker_seconds(system.front.pid)
        result = bench.load(system, workload, "--seconds", str(settings.seconds), "--seed", str(number + 1))
        after = worker_seconds(system.front.pid)
        starter.stop(system)
        used = [after[thread] - before[thread] for thread in sorted(before)]
        operations = result["operations"]
        self.context.results.add(
            "scaling",
            workload.name,
            f"{workers}-workers",
            number,
            operations_per_s=result["operations_per_s"],
            worker_cpu_us=sum(used) / operations * 1e6,
            # What the workers could do if each had a core and nothing else were slow.
            operations_per_busiest_cpu_s=operations / max(used),
            values_checked=result["hits"],
        )


def worker_seconds(pid):
    """Thread id -> CPU time of every worker of mcproxy, seconds, by the scheduler's account (proc(5))."""
    used = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        folder = Path(f"/proc/{pid}/task/{task}")
        if (folder / "comm").read_text().startswith("worker"):
            used[int(task)] = int((folder / "schedstat").read_text().split()[0]) / 1e9
    return used
