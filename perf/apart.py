"""The engines of mcproxy beside each other and memcached alone, with what is measured on a core of its own.

Linux gives the time of a thread that stays in one long system call, and wakes another on its core meanwhile, to that
other one (`rq_clock_skip_update` in kernel/sched/core.c: a clock that was read at the wake-up is not read again). An
io_uring worker does all its sends in one call and wakes memcacheds by the first of them, so beside them it looks
cheaper than it is, and they look dearer. On a core of its own there is nobody to wake.
"""

import os
from functools import partial
from pathlib import Path

from compare import BESIDE_SECONDS, START_SECONDS, Compare, turned
from progress import Step
from workloads import COMPARED


class Apart(Compare):
    """The one that clients connect to on the first core, all else on the second."""

    phase = "apart"
    names = ("memcached", "mcproxy", "mcproxy-uring")

    def steps(self):
        """Rounds of all workloads; none on a machine with one core."""
        self.cores = sorted(os.sched_getaffinity(0))
        if len(self.cores) < 2:
            return
        settings = self.context.settings
        yield Step("cores apart: starting", START_SECONDS, self.start)
        for number in range(settings.rounds):
            for workload in COMPARED:
                for name in turned(self.names, number):
                    label = f"cores apart, round {number + 1} of {settings.rounds}: {workload.title}: {name}"
                    seconds = settings.warmup + settings.seconds + BESIDE_SECONDS
                    yield Step(label, seconds, partial(self.closed_loop, workload, name, number))
        yield Step("cores apart: ending", 0.5, self.end)

    def start(self):
        """What is started inherits the core; the fronts are moved to theirs."""
        os.sched_setaffinity(0, {self.cores[1]})
        super().start()
        for system in self.systems.values():
            for thread in Path(f"/proc/{system.front.pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), {self.cores[0]})

    def end(self):
        """All cores again."""
        super().end()
        os.sched_setaffinity(0, self.cores)
