"""How long and how often: the whole run, and a smoke run that only shows that everything works."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Times are seconds."""

    rounds: int = 12
    seconds: float = 1.0
    warmup: float = 0.2

    latency_rounds: int = 8
    latency_seconds: float = 3.0

    scaling_rounds: int = 8

    idle_clients: int = 10_000
    idle_seconds: float = 1.0
    memory_rounds: int = 3

    # Operations of the two runs whose difference is counted.
    traced: tuple = (4_000, 24_000)
    counter_operations: int = 100_000
    counter_rounds: int = 3


FULL = Settings()

QUICK = Settings(
    rounds=1,
    seconds=0.3,
    warmup=0.1,
    latency_rounds=1,
    latency_seconds=0.5,
    scaling_rounds=1,
    idle_clients=500,
    idle_seconds=0.3,
    memory_rounds=1,
    traced=(1_000, 5_000),
    counter_operations=10_000,
    counter_rounds=1,
)
