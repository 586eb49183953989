"""Private memory per idle client: connected, after a request of each, after a large answer to each."""

from functools import partial

from compare import SYSTEMS, turned
from progress import Step

TOUCH = ("--touch-idle", "--preload", "--keys", "100")

# What is done with every connection before it is left alone, and how long that takes 10,000 of them at worst.
STATES = (
    ("connected", (), 1.0),
    ("after a request", TOUCH, 1.5),
    ("after 100 KiB", (*TOUCH, "--value-bytes", "102400"), 4.0),
)


class Memory:
    """A fresh process for every measurement: what an allocator keeps from before would hide what is new."""

    def __init__(self, context):
        self.context = context

    def steps(self):
        """Rounds of every system in every state."""
        settings = self.context.settings
        for number in range(settings.memory_rounds):
            for state, flags, slow in STATES:
                for name in turned(SYSTEMS, number):
                    label = f"memory of idle clients, round {number + 1} of {settings.memory_rounds}, {state}: {name}"
                    seconds = settings.idle_seconds + 0.5 + slow * settings.idle_clients / 10_000
                    yield Step(label, seconds, partial(self.measure, state, flags, name, number))

    def measure(self, state, flags, name, number):
        """One measurement: with the clients, less without."""
        starter, bench = self.context.starter, self.context.bench
        clients = starter.idle_clients(name)
        system = starter.start(name)
        # The links to the backends are opened by the first request; they are no client's.
        bench.run(system, "--preload", "--keys", "100", "--requests", "100", seconds=10)
        hold = ["--seconds", str(self.context.settings.idle_seconds)]
        result = bench.idle(system, clients, *flags, *hold)
        starter.stop(system)
        used = result["processes"].get("proxy") or result["processes"]["backend-1"]
        self.context.results.add(
            "memory",
            state,
            name,
            number,
            clients=clients,
            bytes_per_client=used["bytes_per_client"],
            bytes_before=used["before_bytes"],
            bytes_after=used["after_bytes"],
        )
