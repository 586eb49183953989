"""What is asked of every system: the rows of the table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    """One kind of load, as mcproxy-bench takes it."""

    name: str
    title: str
    flags: tuple
    clients: int = 50
    threads: int = 1

    def protocol(self):
        """`text`, `meta` or `binary`."""
        return self.flags[self.flags.index("--protocol") + 1] if "--protocol" in self.flags else "text"

    def words(self):
        """The flags of mcproxy-bench."""
        return ["--clients", str(self.clients), "--threads", str(self.threads), *self.flags]


# Keys of 31 bytes, values of 100 bytes and 90 % gets are what mcproxy-bench does by itself.
UNPIPELINED_50 = Workload("unpipelined-50", "50 clients, unpipelined", ())
UNPIPELINED_500 = Workload("unpipelined-500", "500 clients, unpipelined", (), clients=500)
UNPIPELINED_5000 = Workload("unpipelined-5000", "5,000 clients, unpipelined", (), clients=5000)
PIPELINE_16 = Workload("pipeline-16", "50 clients, pipeline of 16", ("--pipeline", "16"))
GET_20 = Workload("get-20", "a get of 20 keys, 50 clients", ("--workload", "multiget", "--multiget", "20"))
LARGE = Workload("large", "100 KiB values, 50 clients", ("--value-bytes", "102400", "--keys", "300"))

# The workloads that are compared by CPU time and throughput.
COMPARED = (UNPIPELINED_50, UNPIPELINED_500, UNPIPELINED_5000, PIPELINE_16, GET_20, LARGE)

# Those whose system calls are counted.
COUNTED = (UNPIPELINED_50, UNPIPELINED_500, PIPELINE_16)

# Those whose instructions are counted; meta and binary as the text ones.
META = Workload("meta", "meta, 50 clients, unpipelined", ("--protocol", "meta"))
META_16 = Workload("meta-16", "meta, 50 clients, pipeline of 16", ("--protocol", "meta", "--pipeline", "16"))
BINARY = Workload("binary", "binary, 50 clients, unpipelined", ("--protocol", "binary"))
BINARY_16 = Workload("binary-16", "binary, 50 clients, pipeline of 16", ("--protocol", "binary", "--pipeline", "16"))
INSTRUCTED = (UNPIPELINED_50, PIPELINE_16, GET_20, META, META_16, BINARY, BINARY_16)
