"""python-binary-memcached (binary protocol) against one server: `binary_client.py HOST:PORT`.

The client has no call for touch, gat, append and prepend. It takes a lost connection for a miss,
so each section also reads something that is there.
"""

import bmemcached
from bmemcached.exceptions import MemcachedException

import checks


def connect(host, port, kind=bmemcached.Client, **options):
    return kind((f"{host}:{port}",), socket_timeout=10, **options)


def storage(check, host, port):
    client = connect(host, port)
    check.equal(client.get("s:absent"), None, "get of an absent key")
    check.equal(client.get("s:absent", default="d"), "d", "get of an absent key with a default")
    check.equal(client.set("s:k", "one"), True, "set")
    check.equal(client.get("s:k"), "one", "get after set")
    check.equal(client.add("s:k", "two"), False, "add of a present key")
    check.equal(client.add("s:new", "two"), True, "add of an absent key")
    check.equal(client.replace("s:k", "three"), True, "replace of a present key")
    check.equal(client.replace("s:none", "x"), False, "replace of an absent key")
    check.equal(client.get("s:k"), "three", "get after replace")
    check.equal(client.delete("s:k"), True, "delete")
    check.equal(client.get("s:k"), None, "get after delete")
    check.equal(client.delete("s:k"), True, "delete of an absent key, which this client calls success")
    for value in (b"\x00\xff\r\n", "текст", 12345, {"a": [1, None]}, "x" * 1000, True):
        client.set("s:typed", value)
        check.equal(client.get("s:typed"), value, "flags carry the type of a value")
    client.disconnect_all()


def cas(check, host, port):
    first, second = connect(host, port), connect(host, port)
    check.equal(first.gets("c:absent"), (None, None), "gets of an absent key")
    stored, token = first.set("c:k", "one", get_cas=True)
    check.true(stored and token > 0, "set answers with a token")
    check.equal(second.gets("c:k"), ("one", token), "the same token for another client")
    check.equal(first.cas("c:k", "two", token), True, "cas with the current token")
    check.equal(second.cas("c:k", "lost", token), False, "cas with an old token")
    check.equal(first.get("c:k"), "two", "the lost cas changed nothing")
    value, token = first.get("c:k", get_cas=True)
    check.equal(first.cas("c:k", "three", token, get_cas=True), (True, first.gets("c:k")[1]), "token of a cas")
    check.equal(first.delete("c:k", cas=token), False, "delete with an old token")
    check.equal(first.delete("c:k", cas=first.gets("c:k")[1]), True, "delete with the current token")
    check.equal(first.cas("c:k", "four", token), False, "cas of a deleted key")
    check.equal(first.cas("c:k", "five", None), True, "cas without a token adds")
    check.equal(first.cas("c:k", "six", None), False, "and adds only once")
    check.equal(second.get("c:k"), "five", "value after all that")


def cas_in_threads(check, host, port):
    """Four threads count up in a retry loop; each increment must be kept exactly once."""
    rounds, threads = 100, 4
    connect(host, port).set("c:counter", 0)

    def work(_):
        client = connect(host, port)
        for _ in range(rounds):
            while True:
                value, token = client.gets("c:counter")
                if client.cas("c:counter", value + 1, token):
                    break
        client.disconnect_all()

    checks.run_threads(threads, work)
    check.equal(connect(host, port).get("c:counter"), rounds * threads, "the count of four threads")


def numbers(check, host, port):
    client = connect(host, port)
    check.equal(client.incr("n:k", 5, default=10), 10, "incr of an absent key stores the default")
    check.equal(client.incr("n:k", 5), 15, "incr")
    check.equal(client.decr("n:k", 6), 9, "decr")
    check.equal(client.decr("n:k", 100), 0, "decr stops at zero")
    check.equal(client.incr("n:k", 2**64 - 1), 2**64 - 1, "incr to the largest number")
    check.equal(client.incr("n:k", 1), 0, "incr wraps at 2^64")
    client.set("n:word", "word")
    check.raises(MemcachedException, lambda: client.incr("n:word", 1), "incr of a word")
    check.equal(client.get("n:word"), "word", "get after an error")


def many_keys(check, host, port):
    for kind in (bmemcached.Client, bmemcached.DistributedClient):
        client = connect(host, port, kind=kind)
        values = {f"m:{number}": f"value {number}" for number in range(500)}
        check.equal(client.set_multi(values, time=100), [], "set_multi (SetQ and Noop)")
        check.equal(client.get_multi(list(values)), values, "get_multi (GetKQ and GetK)")
        mixed = client.get_multi(["m:1", "m:absent", "m:2"])
        check.equal(mixed, {"m:1": "value 1", "m:2": "value 2"}, "get_multi with a miss")
        last = client.get_multi(["m:1", "m:absent"])
        check.equal(last, {"m:1": "value 1"}, "get_multi whose last key is a miss")
        tokens = client.get_multi(["m:1", "m:2"], get_cas=True)
        check.true(all(token > 0 for _, token in tokens.values()), "get_multi with tokens")
        stored = client.set_multi_cas({"m:1": "x", "m:2": "y"})
        check.true(all(stored.values()), "set_multi_cas answers with tokens")
        check.equal(client.gets("m:1"), ("x", stored["m:1"]), "the token of set_multi_cas is the item's")
        check.equal(client.delete_multi(["m:1", "m:2"]), True, "delete_multi")
        check.equal(client.delete_multi(["m:1", "m:3"]), False, "delete_multi with an absent key")
        check.equal(client.get_multi(["m:1", "m:2", "m:3", "m:4"]), {"m:4": "value 4"}, "after delete_multi")
        check.equal(client.get_multi([]), {}, "get_multi of nothing")
        client.disconnect_all()


def quiet_failures(check, host, port):
    """A batch of quiet sets of which some fail: their errors must name the right request."""
    client = connect(host, port)
    client.set_multi({"q:1": "a", "q:2": "b", "q:3": "c"})
    tokens = {key: token for key, (_, token) in client.get_multi(["q:1", "q:2", "q:3"], get_cas=True).items()}
    client.set("q:2", "changed")
    batch = {(key, token): "new" for key, token in tokens.items()}
    failed = client.set_multi(batch)
    check.equal([key for key, _ in failed], ["q:2"], "only the changed key fails in a quiet batch")
    now = client.get_multi(["q:1", "q:2", "q:3"])
    check.equal(now, {"q:1": "new", "q:2": "changed", "q:3": "new"}, "values after the batch")
    failed = client.set_multi({("q:1", 0): "x", ("q:9", 0): "y"})
    check.equal([key for key, _ in failed], ["q:1"], "AddQ of a present key fails, of an absent one not")
    check.equal(client.get("q:9"), "y", "the AddQ of the absent key was applied")


def values_and_keys(check, host, port):
    client = connect(host, port, raw_data=True)
    for size in (0, 1, 4096, 65536, 500_000, 1_000_000):
        value = (bytes(range(256)) * (size // 256 + 1))[:size]
        check.equal(client.set(f"v:{size}", value), True, f"set of {size} bytes")
        check.true(client.get(f"v:{size}") == value, f"a value of {size} bytes comes back whole")
    large = client.get_multi([f"v:{size}" for size in (4096, 500_000, 1_000_000)])
    check.equal(sum(map(len, large.values())), 1_504_096, "large values in one get_multi")
    huge = b"x" * (1024 * 1024 + 1)
    check.raises(MemcachedException, lambda: client.set("v:huge", huge), "a value over the limit")
    check.equal(client.get("v:1"), b"\x00", "get after a value over the limit")
    for key in (b"\x00\x01 \r\n\xff", b"k" * 250, "ключ"):
        client.set(key, b"v")
        check.equal(client.get(key), b"v", "a key of any bytes")
        check.equal(client.get_multi([key]), {key: b"v"}, "get_multi of a key of any bytes")
    check.raises(MemcachedException, lambda: client.get("k" * 251), "a key of 251 bytes")
    # memcached closes the connection after such a key, and the client takes that for one miss.
    check.eventually(lambda: client.get("k" * 250) == b"v", "the client reconnects after a key of 251 bytes")


def server(check, host, port):
    client = connect(host, port)
    (stats,) = client.stats().values()
    for name in ("curr_connections", "cmd_get", "cmd_set", "get_hits", "get_misses", "bytes_read"):
        check.true(stats.get(name, b"").isdigit(), f"stats has a number for {name}")
    client.set("server:k", "v")
    check.equal(client.flush_all(), True, "flush_all")
    check.equal(client.get("server:k"), None, "get after flush_all")
    client.set("server:k", "v", time=1)
    check.eventually(lambda: client.get("server:k") is None, "a key of one second expires")
    client.set("server:k", "v", time=1000)
    check.equal(client.get("server:k"), "v", "a key of 1000 seconds stays")
    check.equal(next(client.servers).noop(), 0, "Noop")
    named = connect(host, port, username="user", password="secret")
    check.equal(named.set("server:sasl", "v"), True, "set after SASL was refused as unknown")
    check.equal(named.get("server:sasl"), "v", "get after SASL was refused as unknown")
    client.disconnect_all()
    check.equal(client.get("server:k"), "v", "a client reconnects")


if __name__ == "__main__":
    checks.main(
        "python-binary-memcached",
        [storage, cas, cas_in_threads, numbers, many_keys, quiet_failures, values_and_keys, server],
    )
