"""The systems that are measured, each with one thread per process and otherwise as it comes."""

import os
from dataclasses import dataclass, field

from processes import binary
from workloads import COMPARED

# Enough for all values of all workloads, MiB.
MEMORY = 512

BACKENDS = 3

# Descriptors of a process that are no client's and no relay's.
OTHER_DESCRIPTORS = 200

# Clients of the workload that has most.
CLIENTS_MAX = max(workload.clients for workload in COMPARED)

# Connections that a load has beside the idle clients that are being counted.
OTHER_CONNECTIONS = 600


@dataclass
class System:
    """One running system: what clients connect to, and what is behind it."""

    name: str
    port: int
    front: object
    backends: list = field(default_factory=list)

    def processes(self):
        """All of its processes."""
        return [self.front, *self.backends]

    def target(self):
        """Where the load goes."""
        return f"127.0.0.1:{self.port}"

    def watch(self):
        """The flags by which mcproxy-bench reports its CPU time: `proxy`, and `backend-1` and so on."""
        named = [("backend-1" if self.name == "memcached" else "proxy", self.front)]
        named += [(f"backend-{number}", process) for number, process in enumerate(self.backends, 1)]
        return [word for name, process in named for word in ("--pid", f"{name}={process.pid}")]


class Starter:
    """Starts systems that take as many idle clients as are wanted and as a process's `descriptors` allow.

    `mcproxy` is the path of the program, `mcproxy_flags` what it is given beside the usual.
    """

    def __init__(self, processes, idle_clients, descriptors, mcproxy, mcproxy_flags=()):
        self.processes = processes
        self.wanted = idle_clients
        self.descriptors = descriptors - OTHER_DESCRIPTORS
        self.mcproxy_path = mcproxy
        self.mcproxy_flags = list(mcproxy_flags)

    def start(self, name, prefix=()):
        """A system by its name; `prefix` is put before the command line of its front (callgrind)."""
        return {
            "memcached": self.memcached,
            "nutcracker": self.nutcracker,
            "haproxy": self.haproxy,
            "mcproxy": self.mcproxy,
            "mcproxy-uring": self.mcproxy_uring,
        }[name](list(prefix))

    def connections(self, name):
        """How many clients a system is told to take; a relay has a second descriptor for each."""
        possible = self.descriptors // 2 if name == "haproxy" else self.descriptors
        return min(max(self.wanted, CLIENTS_MAX) + OTHER_CONNECTIONS, possible)

    def idle_clients(self, name):
        """How many idle ones it can be given."""
        return min(self.wanted, self.connections(name) - 100)

    def stop(self, system):
        """Ends it, front first."""
        self.processes.stop(*system.processes())

    def memcached(self, prefix=()):
        """memcached alone, which its clients reach directly."""
        port, process = self.cache(prefix)
        return System("memcached", port, process)

    def nutcracker(self, prefix=()):
        """twemproxy before three memcacheds; its own defaults, which give every backend one connection."""
        ports, backends = self.caches(BACKENDS)
        port, stats_port = self.processes.port(), self.processes.port()
        servers = "".join(f"    - 127.0.0.1:{backend}:1\n" for backend in ports)
        configuration = self.processes.file(
            f"nutcracker-{port}.yml",
            f"pool:\n  listen: 127.0.0.1:{port}\n  hash: fnv1a_64\n  distribution: ketama\n"
            f"  server_connections: 1\n  servers:\n{servers}",
        )
        folder = self.processes.folder
        words = [*prefix, binary("nutcracker"), "-c", configuration, "-a", "127.0.0.1", "-s", str(stats_port)]
        words += ["-o", str(folder / f"nutcracker-{port}.log"), "-p", str(folder / f"nutcracker-{port}.pid")]
        return System("nutcracker", port, self.processes.start("nutcracker", words, port), backends)

    def haproxy(self, prefix=()):
        """haproxy as a TCP relay before one memcached: a connection there for each client."""
        ports, backends = self.caches(1)
        port = self.processes.port()
        configuration = self.processes.file(
            f"haproxy-{port}.cfg",
            f"global\n  nbthread 1\n  maxconn {self.connections('haproxy')}\n"
            "defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n  timeout server 1h\n"
            f"listen cache\n  bind 127.0.0.1:{port}\n  server one 127.0.0.1:{ports[0]}\n",
        )
        words = [*prefix, binary("haproxy"), "-db", "-f", configuration]
        return System("haproxy", port, self.processes.start("haproxy", words, port), backends)

    def mcproxy(self, prefix=(), threads=1, name="mcproxy", flags=()):
        """mcproxy before three memcacheds."""
        ports, backends = self.caches(BACKENDS)
        addresses = ",".join(f"127.0.0.1:{backend}" for backend in ports)
        port, process = self.proxy(prefix, threads, addresses, flags)
        return System(name, port, process, backends)

    def mcproxy_uring(self, prefix=()):
        """The same on its other engine."""
        return self.mcproxy(prefix, name="mcproxy-uring", flags=("--io", "uring"))

    def embedded(self, threads):
        """mcproxy before the backends inside it."""
        port, process = self.proxy((), threads, f"embedded:{BACKENDS}")
        return System(f"{threads} workers" if threads > 1 else "1 worker", port, process)

    def proxy(self, prefix, threads, backends, flags=()):
        """One mcproxy."""
        port = self.processes.port()
        words = [*prefix, self.mcproxy_path, "--threads", str(threads), "--listen", f"127.0.0.1:{port}"]
        words += ["--backends", backends, "--max-conns", str(self.connections("mcproxy")), "--log-level", "warn"]
        return port, self.processes.start("mcproxy", [*words, *flags, *self.mcproxy_flags], port)

    def caches(self, count):
        """Several memcacheds: their ports and their processes."""
        return [list(column) for column in zip(*(self.cache() for _ in range(count)))]

    def cache(self, prefix=()):
        """One memcached."""
        port = self.processes.port()
        words = [*prefix, binary("memcached"), "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-t", "1"]
        words += ["-m", str(MEMORY), "-c", str(self.connections("memcached"))]
        if os.getuid() == 0:
            words += ["-u", "root"]  # it wants to be told so
        return port, self.processes.start("memcached", words, port)
