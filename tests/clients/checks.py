"""Counted assertions and the frame of a client program: `program.py HOST:PORT`, of an empty server.

A program is a list of sections, functions that take `(check, host, port)`. The first failure ends
it with exit status 1 and says what was expected, what came, and in which section.
"""

import os
import sys
import threading
import time
import traceback

# Seconds. Bounds a wait for something that must happen; nothing passes or fails by being quick.
PATIENCE = 20.0


class Failed(Exception):
    """An expectation that did not hold."""


class Checks:
    """Counts expectations; each method raises Failed with a sentence when one does not hold."""

    def __init__(self):
        self.count = 0

    def equal(self, got, want, what):
        if got != want or type(got) is not type(want):
            raise Failed(f"{what}: expected {shorten(want)}, got {shorten(got)}")
        self.count += 1

    def true(self, condition, what):
        if not condition:
            raise Failed(what)
        self.count += 1

    def raises(self, error, call, what):
        try:
            got = call()
        except error as raised:
            self.count += 1
            return raised
        raise Failed(f"{what}: expected {error.__name__}, got {shorten(got)}")

    def eventually(self, condition, what):
        """Waits until `condition()` holds, for memcached's clock moves in whole seconds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise Failed(f"{what}: not within {PATIENCE:.0f} s")
            time.sleep(0.1)
        self.count += 1


def shorten(value):
    """A value as a failure shows it: large ones by their ends and their length."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:90]} ... {text[-90:]} ({len(text)} characters)"


def run_threads(count, work):
    """Runs `work(index)` in `count` threads, waits for all, and raises the first error of any."""
    errors = []

    def guarded(index):
        try:
            work(index)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(index,), daemon=True) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def main(name, sections):
    """Runs the sections against the server named on the command line, and ends the process."""
    if len(sys.argv) != 2 or ":" not in sys.argv[1]:
        sys.exit(f"usage: {os.path.basename(sys.argv[0])} HOST:PORT")
    host, _, port = sys.argv[1].rpartition(":")
    check = Checks()
    for section in sections:
        before = check.count
        try:
            section(check, host, int(port))
        except Exception as error:
            if not isinstance(error, Failed):
                traceback.print_exc()
            print(f"{name}: FAILED in {section.__name__}: {type(error).__name__}: {error}", file=sys.stderr)
            sys.exit(1)
        print(f"  {section.__name__}: {check.count - before}", flush=True)
    print(f"{name}: {check.count} checks")
