"""Counters driven by pymemcache from several threads: `pymemcache_counters.py HOST:PORT THREADS KEY...`.

All threads share one pool of connections. It does what gocounters/main.go does, and writes the same lines.
"""

import itertools
import random
import sys
import threading
import time

from pymemcache.client.base import PooledClient
from pymemcache.exceptions import MemcacheError, MemcacheServerError

# Nobody else's epochs are as large.
FIRST_EPOCH = 2_000_000_000

# Seconds. A token that has been held for longer is not used.
TOKEN_HELD_MAX = 2.5

# Seconds. Bounds what must happen when nothing is in the way any more.
PATIENCE = 30.0

OUTCOMES = {True: "stored", False: "exists", None: "gone"}


class Counters:
    """The counters, and what is told of them."""

    def __init__(self, address, keys):
        host, _, port = address.rpartition(":")
        options = {"connect_timeout": 10, "timeout": 10, "default_noreply": False}
        self.client = PooledClient((host, int(port)), **options)
        self.keys = keys
        self.epochs = itertools.count(FIRST_EPOCH)
        self.over = threading.Event()
        self.failed = []
        self.lock = threading.Lock()

    def say(self, line):
        """Writes a line at once: somebody looks at the tokens that are held."""
        with self.lock:
            print(line, flush=True)

    def run(self, number):
        chance = random.Random(number)
        try:
            while not self.over.is_set():
                self.count(number, chance.randrange(len(self.keys)), chance)
            for key in range(len(self.keys)):
                deadline = time.monotonic() + PATIENCE
                while not self.count(number, key, chance):
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"thread {number} cannot count {self.keys[key]}")
                    time.sleep(0.005)
        except BaseException as error:
            self.failed.append(error)
            raise

    def count(self, number, key, chance):
        """Counts a counter up by one, if it can; says whether it did."""
        asked = time.monotonic()
        try:
            value, token = self.client.gets(self.keys[key])
            if token is None:
                self.client.add(self.keys[key], b"%d.0" % next(self.epochs))
                return False
        except (MemcacheError, OSError) as error:
            self.say(f"refused {words(error)}")
            return False
        epoch, _, count = value.decode().partition(".")
        # Now and then long enough for a fault between reading and swapping.
        if chance.random() < 0.02:
            self.say(f"hold {key} {token.decode()}")
            time.sleep(chance.uniform(0.001, 0.7))
            self.say(f"release {key} {token.decode()}")
        if time.monotonic() - asked > TOKEN_HELD_MAX:
            return False
        what = f"swap {number} {key} {token.decode()} {value.decode()}"
        try:
            outcome = self.client.cas(self.keys[key], f"{epoch}.{int(count) + 1}", token)
        except (MemcacheError, OSError) as error:
            self.say(f"{what} unknown {words(error)}")
            return False
        self.say(f"{what} {OUTCOMES[outcome]}")
        return outcome is True


def words(error):
    """What the server said, or what else has gone wrong, on one line."""
    if type(error) is MemcacheServerError:
        return f"SERVER_ERROR {error.args[0].decode()}"
    return " ".join(repr(error).split())


def main():
    if len(sys.argv) < 4:
        sys.exit("usage: pymemcache_counters.py HOST:PORT THREADS KEY...")
    counters = Counters(sys.argv[1], sys.argv[3:])
    threads = [threading.Thread(target=counters.run, args=(number,)) for number in range(int(sys.argv[2]))]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    counters.over.set()
    for thread in threads:
        thread.join()
    if counters.failed:
        sys.exit(1)
    counters.say("done")


main()
