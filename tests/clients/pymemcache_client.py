"""pymemcache (text protocol) against one server: `pymemcache_client.py HOST:PORT`.

pymemcache 4.0.0 has no call for gat, gats, verbosity and mn; its raw_command sends those.
"""

from pymemcache import serde
from pymemcache.client.base import Client, PooledClient
from pymemcache.client.hash import HashClient
from pymemcache.exceptions import MemcacheClientError, MemcacheIllegalInputError
from pymemcache.exceptions import MemcacheServerError, MemcacheUnknownCommandError

import checks

TIMEOUTS = {"connect_timeout": 10, "timeout": 10}


def connect(host, port, **options):
    """A client that waits for answers unless told otherwise: its calls then return what came."""
    return Client((host, port), **{"default_noreply": False, **TIMEOUTS, **options})


def storage(check, host, port):
    client = connect(host, port)
    check.equal(client.get("s:absent"), None, "get of an absent key")
    check.equal(client.get("s:absent", "fallback"), "fallback", "get of an absent key with a default")
    check.equal(client.set("s:k", b"one"), True, "set")
    check.equal(client.get("s:k"), b"one", "get after set")
    check.equal(client.add("s:k", b"two"), False, "add of a present key")
    check.equal(client.add("s:new", b"two"), True, "add of an absent key")
    check.equal(client.replace("s:k", b"three"), True, "replace of a present key")
    check.equal(client.replace("s:none", b"x"), False, "replace of an absent key")
    check.equal(client.append("s:k", b"-end"), True, "append")
    check.equal(client.prepend("s:k", b"start-"), True, "prepend")
    check.equal(client.get("s:k"), b"start-three-end", "value after append and prepend")
    check.equal(client.append("s:none", b"x"), False, "append to an absent key")
    check.equal(client.prepend("s:none", b"x"), False, "prepend to an absent key")
    check.equal(client.delete("s:k"), True, "delete of a present key")
    check.equal(client.delete("s:k"), False, "delete of an absent key")
    check.equal(client.get("s:k"), None, "get after delete")
    client["s:item"] = b"item"
    check.equal(client["s:item"], b"item", "subscript")
    client.close()


def many_keys(check, host, port):
    client = connect(host, port)
    values = {f"m:{number}": b"value %d" % number for number in range(1000)}
    check.equal(client.set_many(values), [], "set_many of 1000 keys")
    check.equal(client.get_many(list(values)), values, "get_many of 1000 keys")
    mixed = ["m:5", "m:absent", "m:7", "m:5"]
    check.equal(client.get_many(mixed), {k: values[k] for k in ("m:5", "m:7")}, "get_many with a miss")
    tokens = client.gets_many(list(values))
    check.equal({key: value for key, (value, _) in tokens.items()}, values, "gets_many of 1000 keys")
    check.true(all(token.isdigit() for _, token in tokens.values()), "gets_many: a token for each key")
    check.equal(client.delete_many(["m:1", "m:2", "m:absent"]), True, "delete_many")
    check.equal(client.get_many(["m:1", "m:2", "m:3"]), {"m:3": values["m:3"]}, "get_many after delete_many")
    check.equal(client.get_many([]), {}, "get_many of nothing")
    client.close()


def numbers(check, host, port):
    client = connect(host, port)
    client.set("n:k", b"10")
    check.equal(client.incr("n:k", 5), 15, "incr")
    check.equal(client.decr("n:k", 6), 9, "decr")
    check.equal(client.get("n:k"), b"9 ", "decr keeps the length of the number")
    check.equal(client.decr("n:k", 100), 0, "decr stops at zero")
    check.equal(client.incr("n:absent", 1), None, "incr of an absent key")
    check.equal(client.decr("n:absent", 1), None, "decr of an absent key")
    client.set("n:max", str(2**64 - 1).encode())
    check.equal(client.incr("n:max", 1), 0, "incr wraps at 2^64")
    client.set("n:word", b"word")
    check.raises(MemcacheClientError, lambda: client.incr("n:word", 1), "incr of a word")
    check.equal(client.get("n:word"), b"word", "get after an error")
    client.close()


def cas(check, host, port):
    first, second = connect(host, port), connect(host, port)
    check.equal(first.gets("c:absent"), (None, None), "gets of an absent key")
    check.equal(first.cas("c:absent", b"x", b"1"), None, "cas of an absent key")
    first.set("c:k", b"one")
    value, token = first.gets("c:k")
    check.equal(value, b"one", "gets")
    check.equal(second.gets("c:k"), (b"one", token), "the same token for another client")
    check.equal(first.cas("c:k", b"two", token), True, "cas with the current token")
    check.equal(second.cas("c:k", b"lost", token), False, "cas with an old token")
    check.equal(first.get("c:k"), b"two", "the lost cas changed nothing")
    _, token = second.gets("c:k")
    check.equal(second.cas("c:k", b"three", token, expire=100, flags=7), True, "cas with expiry and flags")
    _, token = second.gets("c:k")
    second.delete("c:k")
    check.equal(second.cas("c:k", b"four", token), None, "cas of a deleted key")
    second.set("c:k", b"five")
    check.equal(first.cas("c:k", b"lost", token), False, "a token does not outlive its item")
    _, token = first.gets("c:k")
    check.equal(first.cas("c:k", b"quiet", token, noreply=True), True, "cas with noreply")
    check.equal(first.get("c:k"), b"quiet", "the cas with noreply was applied")
    first.close()
    second.close()


def cas_in_threads(check, host, port):
    """Two threads count up in a retry loop; each increment must be kept exactly once."""
    rounds, threads = 300, 2
    connect(host, port).set("c:counter", b"0")

    def work(_):
        client = connect(host, port)
        for _ in range(rounds):
            while True:
                value, token = client.gets("c:counter")
                if client.cas("c:counter", b"%d" % (int(value) + 1), token):
                    break
        client.close()

    checks.run_threads(threads, work)
    want = b"%d" % (rounds * threads)
    check.equal(connect(host, port).get("c:counter"), want, "the count of two threads")


def noreply(check, host, port):
    """Each storage command without an answer, seen by reads on the same connection."""
    client = connect(host, port, default_noreply=True)
    check.equal(client.set("q:k", b"10"), True, "quiet set")
    check.equal(client.get("q:k"), b"10", "get after a quiet set")
    client.add("q:k", b"no")
    client.add("q:new", b"new")
    check.equal(client.get_many(["q:k", "q:new"]), {"q:k": b"10", "q:new": b"new"}, "after quiet adds")
    client.replace("q:new", b"b")
    client.append("q:new", b"c")
    client.prepend("q:new", b"a")
    check.equal(client.get("q:new"), b"abc", "after quiet replace, append and prepend")
    check.equal(client.incr("q:k", 5, noreply=True), None, "quiet incr")
    check.equal(client.decr("q:k", 1, noreply=True), None, "quiet decr")
    check.equal(client.get("q:k"), b"14", "after quiet incr and decr")
    check.equal(client.touch("q:k", 100), True, "quiet touch")
    check.equal(client.set_many({f"q:{n}": b"v" for n in range(200)}), [], "quiet set_many")
    check.equal(len(client.get_many([f"q:{n}" for n in range(200)])), 200, "after a quiet set_many")
    client.delete("q:k")
    client.delete_many(["q:1", "q:2"])
    check.equal(client.get_many(["q:k", "q:1", "q:2", "q:3"]), {"q:3": b"v"}, "after quiet deletes")
    check.equal(client.flush_all(), True, "quiet flush_all")
    check.equal(client.get_many([f"q:{n}" for n in range(200)]), {}, "after a quiet flush_all")
    client.close()


def expiry(check, host, port):
    client = connect(host, port)
    client.set("e:short", b"v", expire=1)
    client.set("e:touched", b"v")
    check.equal(client.touch("e:touched", 1), True, "touch")
    check.equal(client.touch("e:absent", 1), False, "touch of an absent key")
    client.set("e:gat", b"v", flags=3)
    got = client.raw_command(b"gat 1 e:gat e:absent", end_tokens=b"END\r\n")
    check.equal(got, b"VALUE e:gat 3 1\r\nv\r\n", "gat")
    client.set("e:gats", b"v")
    _, token = client.gets("e:gats")
    got = client.raw_command(b"gats 1 e:absent e:gats", end_tokens=b"END\r\n")
    check.equal(got, b"VALUE e:gats 0 1 " + token + b"\r\nv\r\n", "gats")
    client.set("e:stays", b"v", expire=1000)
    check.equal(client.set("e:past", b"v", expire=-1), True, "set with an expiry in the past")
    check.equal(client.get("e:past"), None, "a negative expiry is over at once")
    mortal = ["e:short", "e:touched", "e:gat", "e:gats"]
    check.eventually(lambda: client.get_many(mortal) == {}, "keys of one second expire")
    check.equal(client.get("e:stays"), b"v", "a key of 1000 seconds stays")
    client.close()


def values_and_keys(check, host, port):
    client = connect(host, port)
    for size in (0, 1, 4096, 65536, 500_000, 1_000_000):
        value = bytes(range(256)) * (size // 256 + 1)
        client.set(f"v:{size}", value[:size])
        check.true(client.get(f"v:{size}") == value[:size], f"a value of {size} bytes comes back whole")
    sizes = [f"v:{size}" for size in (0, 1, 4096, 65536, 500_000, 1_000_000)]
    check.equal(sum(map(len, client.get_many(sizes).values())), 1_569_633, "large values in one get_many")
    huge = b"x" * (1024 * 1024 + 1)
    check.raises(MemcacheServerError, lambda: client.set("v:huge", huge), "a value over the limit")
    check.equal(client.get("v:1"), b"\x00", "get after a value over the limit")
    commands = b"END\r\nset v:1 0 0 1\r\nx\r\n"
    client.set("v:lines", commands)
    check.equal(client.get("v:lines"), commands, "a value that looks like commands")
    longest = "k" * 250
    client.set(longest, b"long")
    check.equal(client.get(longest), b"long", "a key of 250 bytes")
    check.raises(MemcacheIllegalInputError, lambda: client.get("k" * 251), "a key of 251 bytes")
    unicode = connect(host, port, allow_unicode_keys=True, encoding="utf-8")
    unicode.set("ключ", "значение")
    check.equal(unicode.get("ключ"), "значение".encode(), "a key and a value in Cyrillic")
    prefixed = connect(host, port, key_prefix=b"pre:")
    prefixed.set("k", b"v")
    check.equal(client.get("pre:k"), b"v", "a key prefix")
    check.equal(prefixed.get_many(["k"]), {"k": b"v"}, "get_many with a key prefix")
    pickled = connect(host, port, serde=serde.compressed_serde)
    thing = {"list": [1, 2.5, None], "text": "x" * 10_000}
    pickled.set("v:thing", thing)
    check.equal(pickled.get("v:thing"), thing, "flags carry the type: a pickled, compressed dict")
    pickled.set("v:number", 12)
    check.equal(pickled.get("v:number"), 12, "flags carry the type: an int")
    for each in (client, unicode, prefixed, pickled):
        each.close()


def server(check, host, port):
    client = connect(host, port)
    version = client.version()
    check.true(version[:1].isdigit() and b"." in version, f"version looks like a version: {version!r}")
    stats = client.stats()
    for name in (b"curr_connections", b"cmd_get", b"cmd_set", b"get_hits", b"get_misses", b"bytes_read"):
        check.true(isinstance(stats.get(name), int), f"stats has a number for {name.decode()}")
    before = stats[b"cmd_get"]
    client.get("server:k")
    check.true(client.stats()[b"cmd_get"] > before, "stats count a get")
    check.equal(client.raw_command(b"verbosity 0"), b"OK", "verbosity")
    check.equal(client.raw_command(b"mn"), b"MN", "a meta command on a text connection")
    check.raises(MemcacheUnknownCommandError, lambda: client.raw_command(b"nosuch"), "an unknown command")
    check.equal(client.version(), version, "the connection is good after an unknown command")
    client.set("server:k", b"v")
    check.equal(client.flush_all(), True, "flush_all")
    check.equal(client.get("server:k"), None, "get after flush_all")
    client.set("server:k", b"v")
    check.equal(client.get("server:k"), b"v", "set after flush_all")
    client.quit()
    check.equal(client.version(), version, "a client reconnects after quit")
    client.close()


def delayed_flush(check, host, port):
    """Last of all: what is written within the second of the flush is flushed too."""
    client = connect(host, port)
    client.set("f:k", b"v")
    check.equal(client.flush_all(delay=1), True, "flush_all with a delay")
    check.eventually(lambda: client.get("f:k") is None, "a delayed flush_all takes effect")
    check.eventually(
        lambda: client.set("f:k", b"v") and client.get("f:k") == b"v",
        "keys can be written again after a delayed flush_all",
    )
    client.close()


def pooled(check, host, port):
    client = PooledClient((host, port), max_pool_size=4, default_noreply=False, **TIMEOUTS)
    client.set("p:counter", b"0")

    def work(index):
        for number in range(50):
            client.set(f"p:{index}:{number}", b"%d" % number)
            if client.get(f"p:{index}:{number}") != b"%d" % number:
                raise checks.Failed(f"PooledClient: thread {index} read another value than it wrote")
            while True:
                value, token = client.gets("p:counter")
                if client.cas("p:counter", b"%d" % (int(value) + 1), token):
                    break

    checks.run_threads(4, work)
    check.equal(client.get("p:counter"), b"200", "PooledClient: the count of four threads")
    keys = [f"p:{index}:7" for index in range(4)]
    check.equal(client.get_many(keys), {key: b"7" for key in keys}, "PooledClient: get_many")
    check.equal(client.incr("p:counter", 1), 201, "PooledClient: incr")
    check.equal(client.touch("p:counter", 100), True, "PooledClient: touch")
    check.equal(client.delete("p:counter"), True, "PooledClient: delete")
    check.equal(client.gets("p:counter"), (None, None), "PooledClient: gets after delete")
    client.close()


def hashed(check, host, port):
    """HashClient, with and without pools. It parts a batch by server name, so the server has two."""
    names = [(host, port), ("localhost", port)] if host == "127.0.0.1" else [(host, port)]
    for pooling in (False, True):
        client = HashClient(names, use_pooling=pooling, default_noreply=False, **TIMEOUTS)
        values = {f"h:{pooling}:{number}": b"%d" % number for number in range(100)}
        check.equal(client.set_many(values), [], "HashClient: set_many")
        check.equal(client.get_many(list(values)), values, "HashClient: get_many")
        key = next(iter(values))
        check.equal(client.set(key, b"5"), True, "HashClient: set")
        check.equal(client.incr(key, 2), 7, "HashClient: incr")
        check.equal(client.decr(key, 1), 6, "HashClient: decr")
        check.equal(client.add(key, b"x"), False, "HashClient: add of a present key")
        check.equal(client.replace(key, b"r"), True, "HashClient: replace")
        check.equal(client.append(key, b"a"), True, "HashClient: append")
        check.equal(client.prepend(key, b"p"), True, "HashClient: prepend")
        value, token = client.gets(key)
        check.equal(value, b"pra", "HashClient: gets")
        check.equal(client.cas(key, b"won", token), True, "HashClient: cas won")
        check.equal(client.cas(key, b"lost", token), False, "HashClient: cas lost")
        check.equal(client.touch(key, 100), True, "HashClient: touch")
        check.equal(len(client.gets_many(list(values))), 100, "HashClient: gets_many")
        check.equal(client.delete_many(list(values)[:50]), True, "HashClient: delete_many")
        check.equal(len(client.get_many(list(values))), 50, "HashClient: get_many after delete_many")
        client.flush_all()
        check.equal(client.get_many(list(values)), {}, "HashClient: flush_all")
        client.close()


if __name__ == "__main__":
    checks.main(
        "pymemcache",
        [storage, many_keys, numbers, cas, cas_in_threads, noreply, expiry]
        + [values_and_keys, server, pooled, hashed, delayed_flush],
    )
