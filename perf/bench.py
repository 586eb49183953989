"""Runs of mcproxy-bench. It checks every byte of every answer; one that is wrong ends the whole run."""

import json
import subprocess

from processes import Failure

# Beside the time that a run should take.
SLACK_SECONDS = 60


class Bench:
    """The load generator."""

    def __init__(self, path):
        self.path = str(path)

    def load(self, system, workload, *flags, seconds=60.0):
        """One run, which should take `seconds`; gives what it printed with --json. Every key must be there."""
        result = self.run(system, *workload.words(), *flags, seconds=seconds)
        for what in ("misses", "errors"):
            if result[what]:
                raise Failure(f"{system.name}, {workload.name}: {result[what]} {what} among keys that were all set")
        return result

    def idle(self, system, clients, *flags, seconds=60.0):
        """Idle connections."""
        result = self.run(system, "--idle", str(clients), *flags, seconds=seconds)
        if result["misses"]:
            raise Failure(f"{system.name}: {result['misses']} misses among keys that were all set")
        return result

    def run(self, system, *words, seconds):
        """Any run."""
        words = [self.path, "--target", system.target(), "--json", *system.watch(), *words]
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=seconds + SLACK_SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise Failure(f"{system.name}: did not end: {' '.join(words)}") from error
        for process in system.processes():
            process.check()
        if done.returncode != 0:
            raise Failure(f"{system.name}: {done.stderr.strip()}\nthe command was: {' '.join(words)}")
        return json.loads(done.stdout)


def proxy_cpu(result):
    """CPU time of the proxy, microseconds per operation; 0 where there is none."""
    return result["processes"].get("proxy", {"cpu_us_per_op": 0.0})["cpu_us_per_op"]


def backend_cpu(result):
    """CPU time of all memcacheds together, microseconds per operation."""
    used = result["processes"].items()
    return sum(process["cpu_us_per_op"] for name, process in used if name.startswith("backend-"))
