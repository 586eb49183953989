"""Measured values: one row each, in a CSV that everything else (tables, plots, budgets) is made from."""

import csv
import statistics
from pathlib import Path

COLUMNS = ["phase", "workload", "system", "round", "metric", "value"]


class Results:
    """Rows, and the record of the environment that stands before them as `# name: value`."""

    def __init__(self, environment=None, path=None):
        self.environment = dict(environment or {})
        self.rows = {}
        self.file = None
        if path is not None:
            self.open(Path(path))

    def open(self, path):
        """Writes every row as it comes, so that a run that is cut short has not measured for nothing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("w", newline="")
        for name, value in self.environment.items():
            self.file.write(f"# {name}: {value}\n")
        self.writer = csv.writer(self.file, lineterminator="\n")
        self.writer.writerow(COLUMNS)
        self.file.flush()

    def close(self):
        """No more rows."""
        if self.file is not None:
            self.file.close()
            self.file = None

    def add(self, phase, workload, system, number, **metrics):
        """The values of one measurement in round `number`."""
        for metric, value in metrics.items():
            self.rows.setdefault((phase, workload, system, metric), {})[number] = float(value)
            if self.file is not None:
                self.writer.writerow([phase, workload, system, number, metric, f"{float(value):.6g}"])
        if self.file is not None:
            self.file.flush()

    def values(self, phase, workload, system, metric):
        """Round -> value."""
        return self.rows.get((phase, workload, system, metric), {})

    def median(self, phase, workload, system, metric):
        """Over the rounds; None if it was not measured."""
        return median(self.values(phase, workload, system, metric).values())

    def ratios(self, phase, workload, above, below):
        """The quotient within each round of two measurements, each a system and a list of metrics to add up.

        Values of different rounds are never divided: the machine may be another tenth faster by then.
        """
        upper = self.sums(phase, workload, *above)
        lower = self.sums(phase, workload, *below)
        rounds = sorted(set(upper) & set(lower))
        return [upper[number] / lower[number] for number in rounds if lower[number] > 0]

    def sums(self, phase, workload, system, metrics):
        """Round -> sum of several metrics."""
        columns = [self.values(phase, workload, system, metric) for metric in metrics]
        rounds = set.intersection(*(set(column) for column in columns))
        return {number: sum(column[number] for column in columns) for number in rounds}

    def metrics(self, phase, workload, system):
        """The names of what was measured."""
        return [key[3] for key in self.rows if key[:3] == (phase, workload, system)]

    @classmethod
    def read(cls, path):
        """What `open` wrote."""
        results = cls()
        with Path(path).open(newline="") as file:
            lines = list(file)
        comments = [line[2:].rstrip("\n") for line in lines if line.startswith("# ")]
        results.environment = dict(line.split(": ", 1) for line in comments)
        for row in csv.DictReader(line for line in lines if not line.startswith("# ")):
            metric = {row["metric"]: float(row["value"])}
            results.add(row["phase"], row["workload"], row["system"], int(row["round"]), **metric)
        return results


def median(values):
    """None of nothing."""
    values = list(values)
    return statistics.median(values) if values else None


def quartiles(values):
    """The first and the third; the least and the greatest of fewer than four."""
    values = sorted(values)
    if len(values) < 4:
        return values[0], values[-1]
    first, _, third = statistics.quantiles(values, n=4)
    return first, third
