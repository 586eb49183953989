"""Private memory per idle client: connected, after a request of each, after a large answer to each."""

from compare import SYSTEMS
from progress import Step

# What is done with every connection before it is left alone, and how long that takes 10,000 of them at worst.
STATES = (
    ("connected", (), 1.5),
    ("after-request", ("--touch-idle", "--preload", "--keys", "100"), 2.5),
    ("after-100KiB", ("--touch-idle", "--preload", "--keys", "100", "--value-bytes", "102400"), 5.0),
)


class Memory:
    """A fresh process for every measurement: what an allocator keeps from before would hide what is new."""

    def __init__(self, context):
        self.context = context

    def steps(self):
        """Every system in every state."""
        settings = self.context.settings
        for state, flags, seconds in STATES:
            for name in SYSTEMS:
                label = f"memory of {settings.idle_clients:,} idle clients, {state}: {name}"
                seconds = settings.idle_seconds + 0.5 + seconds * settings.idle_clients / 10_000
                yield Step(label, seconds, lambda s=state, f=flags, n=name: self.measure(s, f, n))

    def measure(self, state, flags, name):
        """One measurement: with the clients, less without."""
        settings = self.context.settings
        system = self.context.starter.start(name)
        hold = ["--seconds", str(settings.idle_seconds)]
        # The links to the backends are opened by the first request; they are no client's.
        self.context.bench.run(system, "--preload", "--keys", "100", "--requests", "100", seconds=10)
        result = self.context.bench.idle(system, settings.idle_clients, *flags, *hold)
        self.context.starter.stop(system)
        used = result["processes"].get("proxy") or result["processes"]["backend-1"]
        self.context.results.add(
            "memory",
            state,
            name,
            0,
            clients=settings.idle_clients,
            bytes_per_client=used["bytes_per_client"],
            bytes_before=used["before_bytes"],
            bytes_after=used["after_bytes"],
        )
