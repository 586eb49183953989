"""Puts a nutcracker in front of servers that answer each get with the address they listen on.

The servers listen where the question says, which must be on the loopback interface: 127.0.0.0/8, `::1`, a unix
socket. Two oracles would want the same addresses, so one waits for the other.
"""

import fcntl
import os
import re
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import oracle

# Pools of one nutcracker, so that neither it nor its servers need more descriptors than are usual.
POOLS = 12
# Keys asked for before answers are read: no more than socket buffers hold.
KEYS_AT_ONCE = 100
SECONDS_TO_START = 60
SECONDS_FOR_AN_ANSWER = 30


def address_of(server):
    return server["unix"] if "unix" in server else (server["host"], server["port"])


def family_of(address):
    if isinstance(address, str):
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


class Servers(threading.Thread):
    """Listens on all addresses; answers `get KEY` with the number of the address."""

    def __init__(self, addresses):
        super().__init__(daemon=True)
        self.closing = False
        self.selector = selectors.DefaultSelector()
        self.paths = [address for address in addresses if isinstance(address, str)]
        for number, address in enumerate(addresses):
            self.listen(number, address)

    def listen(self, number, address):
        listener = socket.socket(family_of(address), socket.SOCK_STREAM)
        if isinstance(address, str):
            os.makedirs(os.path.dirname(address), exist_ok=True)
            if os.path.exists(address):
                os.unlink(address)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            sys.exit(f"cannot listen on {address}: {error}")
        listener.listen(64)
        self.selector.register(listener, selectors.EVENT_READ, lambda: self.accept(listener, number))

    def accept(self, listener, number):
        link, _ = listener.accept()
        partial = b""
        item = b" 0 %d\r\n%d\r\nEND\r\n" % (len(str(number)), number)

        def read():
            nonlocal partial
            try:
                data = link.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                self.selector.unregister(link)
                link.close()
                return
            *lines, partial = (partial + data).split(b"\r\n")
            link.sendall(b"".join(b"VALUE " + line.split(b" ")[1] + item for line in lines))

        self.selector.register(link, selectors.EVENT_READ, read)

    def run(self):
        while not self.closing:
            for key, _ in self.selector.select(0.05):
                key.data()

    def close(self):
        """Waits for the end of the thread, then frees the addresses."""
        self.closing = True
        self.join()
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        for path in self.paths:
            os.unlink(path)


def pool(case, listen):
    """The lines of one pool in nutcracker's configuration."""
    distribution, key_hash = re.fullmatch(r"twemproxy-(ketama|modula):(\w+)", case["rule"]).groups()
    lines = [f"listen: {listen}", f"hash: {key_hash}", f"distribution: {distribution}", "servers:"]
    if case.get("hash_tag"):
        lines.insert(0, f'hash_tag: "{case["hash_tag"]}"')
    for server in case["servers"]:
        where = server["unix"] if "unix" in server else f"{server['host']}:{server['port']}"
        name = f" {server['name']}" if "name" in server else ""
        lines.append(f" - {where}:{server['weight']}{name}")
    return lines


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def start(cases, folder):
    """A nutcracker with a pool for each case, and the sockets it listens on."""
    listens = [os.path.join(folder, str(number)) for number in range(len(cases))]
    configuration = os.path.join(folder, "nutcracker.yml")
    with open(configuration, "w", encoding="utf-8") as file:
        for number, (case, listen) in enumerate(zip(cases, listens)):
            file.write(f"pool{number}:\n" + "".join(f"  {line}\n" for line in pool(case, listen)))
    log = os.path.join(folder, "log")
    # It opens a port for its counters, and cannot be told not to.
    command = ["nutcracker", "-c", configuration, "-o", log, "-s", str(free_port()), "-a", "127.0.0.1"]
    command += ["-p", os.path.join(folder, "pid")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    give_up = time.monotonic() + SECONDS_TO_START
    while not all(os.path.exists(listen) for listen in listens):
        if process.poll() is not None or time.monotonic() > give_up:
            process.kill()
            sys.exit(f"nutcracker did not start:\n{open(log, encoding='utf-8').read()}")
        time.sleep(0.01)
    return process, listens


def ask(listen, keys):
    """The number of the server that answers for each key."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(SECONDS_FOR_AN_ANSWER)
        link.connect(listen)
        answers = link.makefile("rb")

        def value(key):
            head = answers.readline()
            if head != b"VALUE %s 0 %s\r\n" % (key, head.split(b" ")[-1].strip()):
                sys.exit(f"nutcracker answers {head!r} for key {key.hex()}")
            number = int(answers.readline())
            answers.readline()
            return number

        numbers = []
        for first in range(0, len(keys), KEYS_AT_ONCE):
            some = keys[first : first + KEYS_AT_ONCE]
            link.sendall(b"".join(b"get %s\r\n" % key for key in some))
            numbers += [value(key) for key in some]
        return numbers


def owners_of_some(cases, keys):
    """The indexes of the owners in each of so few cases that one nutcracker serves them."""
    addresses = list(dict.fromkeys(address_of(server) for case in cases for server in case["servers"]))
    servers = Servers(addresses)
    servers.start()
    folder = tempfile.mkdtemp(prefix="nutcracker-oracle-")
    process, listens = start(cases, folder)
    found = []
    try:
        for case, listen in zip(cases, listens):
            of_case = [address_of(server) for server in case["servers"]]
            indexes = [of_case.index(address) if address in of_case else None for address in addresses]
            found.append([indexes[number] for number in ask(listen, keys)])
    finally:
        process.kill()
        process.wait()
        servers.close()
        shutil.rmtree(folder)
    return found


def version():
    try:
        said = subprocess.run(["nutcracker", "-V"], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        oracle.refuse("nutcracker is missing")
    return re.search(r"nutcracker-(\S+)", said.stdout + said.stderr).group(1)


def owners(cases, keys):
    found = []
    with open(os.path.join(tempfile.gettempdir(), "nutcracker-oracle.lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for first in range(0, len(cases), POOLS):
            found += owners_of_some(cases[first : first + POOLS], keys)
    return found


# So that what ends the oracle ends its nutcracker too.
signal.signal(signal.SIGTERM, lambda number, _: sys.exit(f"signal {number}"))
oracle.answer_all(version(), owners)
