"""The line that says how far a run is and how long it will still take."""

import sys
import time
from dataclasses import dataclass
from typing import Callable

# Where stderr is a file: between two lines.
ELSEWHERE_SECONDS = 10


@dataclass
class Step:
    """One piece of work and how long it should take."""

    label: str
    seconds: float
    run: Callable[[], None]


def run_steps(steps):
    """Runs all of them, in order."""
    started = time.monotonic()
    planned = sum(step.seconds for step in steps)
    line = Line()
    done = 0.0
    try:
        for number, step in enumerate(steps, 1):
            elapsed = time.monotonic() - started
            # The plan is a guess until a tenth of it has been tried.
            pace = elapsed / done if done > planned / 10 else 1.0
            left = (planned - done) * pace
            line.show(f"{number} of {len(steps)}, {clock(elapsed)} gone, about {clock(left)} left: {step.label}")
            step.run()
            done += step.seconds
    finally:
        line.end()
    return time.monotonic() - started


class Line:
    """One line on a terminal that changes; elsewhere a new line now and then."""

    def __init__(self):
        self.terminal = sys.stderr.isatty()
        self.shown = 0.0

    def show(self, text):
        """Says something."""
        now = time.monotonic()
        if self.terminal:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
        elif now - self.shown >= ELSEWHERE_SECONDS:
            print(text, file=sys.stderr, flush=True)
            self.shown = now

    def end(self):
        """The line goes away."""
        if self.terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def clock(seconds):
    """83 seconds as 1:23."""
    seconds = int(seconds)
    return f"{seconds // 60}:{seconds % 60:02}"
