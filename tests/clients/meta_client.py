"""meta-memcache (meta protocol) against one server: `meta_client.py HOST:PORT`."""

import logging

from meta_memcache import CacheClient, Conflict, Key, LeasePolicy, MemcacheServerError, Miss, NotStored
from meta_memcache import RecachePolicy, RequestFlags, ServerAddress, SetMode, StalePolicy, Success, Value
from meta_memcache import connection_pool_factory_builder

import checks

TTL = 1000


def connect(host, port):
    pool = connection_pool_factory_builder(
        connection_timeout=10,
        recv_timeout=10,
        # A value that does not fit takes this client 25 seconds per megabyte, from memcached too.
        read_buffer_size=2 * 1024 * 1024,
    )
    servers = [ServerAddress(host, port)]
    return CacheClient.cache_client_from_servers(servers=servers, connection_pool_factory_fn=pool)


def storage(check, host, port):
    client = connect(host, port)
    check.equal(client.get("s:absent"), None, "get of an absent key")
    check.equal(client.set("s:k", "one", TTL), True, "set")
    check.equal(client.get("s:k"), "one", "get after set")
    check.equal(client.set("s:k", "x", TTL, set_mode=SetMode.ADD), False, "add of a present key")
    check.equal(client.set("s:new", "x", TTL, set_mode=SetMode.ADD), True, "add of an absent key")
    check.equal(client.set("s:k", "two", TTL, set_mode=SetMode.REPLACE), True, "replace of a present key")
    check.equal(client.set("s:no", "x", TTL, set_mode=SetMode.REPLACE), False, "replace of an absent key")
    check.equal(client.set("s:k", "-end", TTL, set_mode=SetMode.APPEND), True, "append")
    check.equal(client.set("s:k", "start-", TTL, set_mode=SetMode.PREPEND), True, "prepend")
    check.equal(client.get("s:k"), "start-two-end", "value after append and prepend")
    check.equal(client.set("s:no", "x", TTL, set_mode=SetMode.APPEND), False, "append to an absent key")
    check.equal(client.refill("s:k", "x", TTL), False, "refill of a present key")
    check.equal(client.refill("s:refill", "x", TTL), True, "refill of an absent key")
    check.equal(client.delete("s:k"), True, "delete of a present key")
    check.equal(client.delete("s:k"), False, "delete of an absent key")
    check.equal(client.invalidate("s:k"), True, "invalidate of an absent key")
    check.equal(client.get("s:k"), None, "get after delete")
    for value in (b"\x00\xff\r\n", "текст", 12345, {"a": [1, None]}, "x" * 1000, True):
        client.set("s:typed", value, TTL)
        check.equal(client.get("s:typed"), value, "flags carry the type of a value")
    check.equal(client.get_typed("s:typed", str), None, "get_typed of another type")


def cas(check, host, port):
    first, second = connect(host, port), connect(host, port)
    check.equal(first.get_cas("c:absent"), (None, None), "get_cas of an absent key")
    check.equal(first.set("c:absent", "x", TTL, cas_token=1), False, "cas of an absent key")
    token = first.set_cas("c:k", "one", TTL)
    check.true(isinstance(token, int) and token > 0, "set answers with a token")
    check.equal(second.get_cas("c:k"), ("one", token), "the same token for another client")
    check.equal(first.set("c:k", "two", TTL, cas_token=token), True, "cas with the current token")
    check.equal(second.set("c:k", "lost", TTL, cas_token=token), False, "cas with an old token")
    check.equal(first.get("c:k"), "two", "the lost cas changed nothing")
    flags = RequestFlags(cas_token=token)
    check.equal(type(first.meta_set(Key("c:k"), "x", flags)), Conflict, "ms with an old token answers EX")
    check.equal(type(first.meta_set(Key("c:none"), "x", flags)), Miss, "ms of an absent key answers NF")
    check.equal(first.delete("c:k", cas_token=token), False, "delete with an old token")
    _, token = first.get_cas("c:k")
    check.equal(first.delete("c:k", cas_token=token), True, "delete with the current token")
    check.equal(first.get("c:k"), None, "get after delete")
    first.set("c:number", 5, TTL)
    _, token = first.get_cas("c:number")
    check.equal(first.delta_and_get("c:number", 1, cas_token=token), 6, "incr with the current token")
    check.equal(first.delta_and_get("c:number", 1, cas_token=token), None, "incr with an old token")
    check.equal(first.get("c:number"), 6, "the lost incr changed nothing")


def cas_in_threads(check, host, port):
    """Four threads count up in a retry loop; each increment must be kept exactly once."""
    rounds, threads = 100, 4
    connect(host, port).set("c:counter", 0, TTL)

    def work(_):
        client = connect(host, port)
        for _ in range(rounds):
            while True:
                value, token = client.get_cas("c:counter")
                if client.set("c:counter", value + 1, TTL, cas_token=token):
                    break

    checks.run_threads(threads, work)
    check.equal(connect(host, port).get("c:counter"), rounds * threads, "the count of four threads")


def numbers(check, host, port):
    client = connect(host, port)
    check.equal(client.delta("n:k", 1), False, "incr of an absent key")
    check.equal(client.delta_and_get("n:k", 1), None, "incr and get of an absent key")
    check.equal(client.delta_initialize_and_get("n:k", 1, 10, TTL), 10, "an absent counter gets its start")
    check.equal(client.delta_initialize_and_get("n:k", 5, 10, TTL), 15, "incr of a present counter")
    check.equal(client.delta("n:k", -6), True, "decr")
    check.equal(client.delta_and_get("n:k", 1), 10, "value after decr")
    check.equal(client.delta_and_get("n:k", -100), 0, "decr stops at zero")
    check.equal(client.delta_and_get("n:k", 2**64 - 1), 2**64 - 1, "incr to the largest number")
    check.equal(client.delta_and_get("n:k", 1), 0, "incr wraps at 2^64")
    check.equal(client.delta("n:k", 3, no_reply=True), True, "quiet incr")
    check.equal(client.delta_and_get("n:k", 0), 3, "value after a quiet incr")
    check.equal(client.delta_initialize("n:other", 1, 7, TTL, no_reply=True), True, "quiet start")
    check.equal(client.get("n:other"), "7", "value after a quiet start")
    client.set("n:word", "word", TTL)
    check.raises(MemcacheServerError, lambda: client.delta("n:word", 1), "incr of a word")
    check.equal(client.get("n:word"), "word", "get after an error")


def quiet(check, host, port):
    """Writes with the q flag, each followed by mn; what failed must answer before the MN."""
    client = connect(host, port)
    check.equal(client.set("q:k", "one", TTL, no_reply=True), True, "quiet set")
    check.equal(client.get("q:k"), "one", "get after a quiet set")
    client.set("q:k", "lost", TTL, no_reply=True, set_mode=SetMode.ADD)
    check.equal(client.get("q:k"), "one", "a quiet add of a present key changes nothing")
    _, token = client.get_cas("q:k")
    client.set("q:k", "two", TTL, no_reply=True, cas_token=token)
    client.set("q:k", "lost", TTL, no_reply=True, cas_token=token)
    check.equal(client.get("q:k"), "two", "of two quiet cas with one token the first is applied")
    client.touch("q:k", TTL, no_reply=True)
    check.equal(client.get("q:k"), "two", "get after a quiet touch")
    client.delete("q:k", no_reply=True)
    check.equal(client.get("q:k"), None, "get after a quiet delete")
    client.delete("q:k", no_reply=True)
    check.equal(client.get("q:k"), None, "get after a quiet delete of an absent key")
    for number in range(200):
        client.set(f"q:{number}", number, TTL, no_reply=True)
    got = client.multi_get([f"q:{number}" for number in range(200)])
    check.equal([got[Key(f"q:{n}")] for n in range(200)], list(range(200)), "200 quiet sets")


def many_keys(check, host, port):
    client = connect(host, port)
    keys = [Key(f"m:{number}") for number in range(500)]
    for number, key in enumerate(keys):
        client.set(key, f"value {number}", TTL)
    got = client.multi_get(keys)
    check.equal([got[key] for key in keys], [f"value {n}" for n in range(500)], "multi_get of 500 keys")
    got = client.multi_get(["m:1", "m:absent", "m:2"])
    want = {Key("m:1"): "value 1", Key("m:absent"): None, Key("m:2"): "value 2"}
    check.equal(got, want, "multi_get with a miss")
    tokens = client.multi_get_cas(keys)
    check.true(all(token > 0 for _, token in tokens.values()), "multi_get_cas: a token for each key")
    value, token = tokens[keys[9]]
    check.equal(client.set(keys[9], value + "!", TTL, cas_token=token), True, "cas with a token of a batch")
    check.equal(client.set(keys[9], "lost", TTL, cas_token=token), False, "and only once")


def leases(check, host, port):
    """The herd flags: N (lease on a miss), R (recache), I (stale), and W, Z, X in the answers."""
    client, other = connect(host, port), connect(host, port)
    once = LeasePolicy(ttl=TTL, miss_retries=1)
    check.equal(client.get_or_lease("l:k", once), None, "the first to miss wins the lease")
    check.equal(other.get_or_lease("l:k", once), None, "the second loses, and sees a miss too")

    waits = []

    def fill_while_waiting(seconds):
        waits.append(seconds)
        client.set("l:k", "filled", TTL)

    patient = LeasePolicy(ttl=TTL, miss_retries=3)
    got = other.get_or_lease("l:k", patient, lease_wait_fn=fill_while_waiting)
    check.equal(got, "filled", "the loser gets what the winner filled in")
    check.equal(len(waits), 1, "and waited once")
    check.equal(client.get_or_lease_cas("l:k", once)[0], "filled", "no lease on a hit")

    recache = RecachePolicy(ttl=TTL * 2)
    client.set("l:r", "old", TTL)
    check.equal(client.get("l:r", recache_policy=recache), None, "one client wins the recache")
    check.equal(other.get("l:r", recache_policy=recache), "old", "the others keep the old value")
    client.set("l:r", "new", TTL * 3)
    check.equal(other.get("l:r", recache_policy=recache), "new", "no recache while the TTL is long")

    stale = StalePolicy(mark_stale_on_deletion_ttl=TTL, mark_stale_on_cas_mismatch=True)
    token = client.set_cas("l:s", "old", TTL)
    check.equal(client.delete("l:s", stale_policy=stale), True, "delete that marks stale")
    check.equal(client.get("l:s"), None, "one client wins the stale item")
    check.equal(other.get("l:s"), "old", "the others see the stale value")
    later = client.set_cas("l:s", "new", TTL)
    check.true(later > token, "tokens grow")
    check.equal(client.set("l:s", "raced", TTL, cas_token=token, stale_policy=stale), True, "stale write")
    result = client.meta_get(Key("l:s"), RequestFlags(return_value=True))
    check.equal((result.value, result.flags.stale, result.flags.win), ("raced", True, True), "X and W")


def flags(check, host, port):
    """Flags one by one: those of the answer come back with the values the item has."""
    client = connect(host, port)
    client.set("f:k", "value", TTL)
    unread = RequestFlags(return_size=True, opaque=b"op4que", return_key=True, no_update_lru=True)
    got = client.meta_get(Key("f:k"), unread)
    check.equal(type(got), Success, "mg without v answers HD")
    check.equal((got.flags.size, got.flags.opaque), (5, b"op4que"), "size and opaque")
    every = RequestFlags(
        return_value=True, return_ttl=True, return_client_flag=True, return_cas_token=True,
        return_last_access=True, return_fetched=True, return_size=True, no_update_lru=True,
    )  # fmt: skip
    got = client.meta_get(Key("f:k"), every)
    check.equal((type(got), got.value, got.size), (Value, "value", 5), "mg with every flag")
    check.true(0 < got.flags.ttl <= TTL, "t: the remaining seconds")
    check.true(got.flags.cas_token > 0 and got.flags.client_flag == 0, "c and f")
    check.equal(got.flags.fetched, False, "h: only read without a bump so far")
    client.get("f:k")
    check.equal(client.meta_get(Key("f:k"), every).flags.fetched, True, "h after a get")
    refused = client.meta_set(Key("f:k"), "x", RequestFlags(mode=SetMode.ADD.value))
    check.equal(type(refused), NotStored, "ms in mode add answers NS")
    missed = client.meta_delete(Key("f:none"), RequestFlags(opaque=b"1"))
    check.equal(type(missed), Miss, "md of an absent key answers NF")
    stored = client.meta_set(Key("f:k"), "x", RequestFlags(cache_ttl=TTL, opaque=b"7", return_cas_token=True))
    check.equal(stored.flags.opaque, b"7", "ms returns the opaque")
    check.true(stored.flags.cas_token > 0, "ms returns the token")


def expiry(check, host, port):
    client = connect(host, port)
    ttl = lambda key: client.meta_get(Key(key), RequestFlags(return_ttl=True)).flags.ttl
    client.set("e:long", "v", 10)
    check.equal(client.touch("e:long", TTL), True, "touch")
    check.true(ttl("e:long") > 10, "touch lengthened the TTL")
    check.equal(client.get("e:long", touch_ttl=TTL * 2), "v", "get and touch")
    check.true(ttl("e:long") > TTL, "get and touch lengthened the TTL")
    check.equal(client.touch("e:absent", TTL), False, "touch of an absent key")
    client.set("e:forever", "v", 0)
    check.equal(ttl("e:forever"), -1, "a TTL of 0 is for ever")
    client.set("e:short", "v", 1)
    client.touch("e:long", 1)
    check.eventually(lambda: client.get("e:short") is None, "a key of one second expires")
    check.eventually(lambda: client.get("e:long") is None, "a key touched to one second expires")
    check.equal(client.get("e:forever"), "v", "a key without a TTL stays")


def values_and_keys(check, host, port):
    client = connect(host, port)
    for size in (0, 1, 4096, 65536, 500_000, 1_000_000):
        # Of bytes that zlib, which this client uses, cannot make smaller.
        value = incompressible(size)
        check.equal(client.set(f"v:{size}", value, TTL), True, f"set of {size} bytes")
        check.true(client.get(f"v:{size}") == value, f"a value of {size} bytes comes back whole")
    huge = incompressible(1024 * 1024 + 1)
    check.raises(MemcacheServerError, lambda: client.set("v:huge", huge, TTL), "a value over the limit")
    check.equal(client.get("v:1"), incompressible(1), "get after a value over the limit")
    for key in ("k" * 250, "ключ", "with space", "日本語" * 10):
        check.equal(client.set(key, f"value of {key}", TTL), True, f"set of key {key[:20]}")
        check.equal(client.get(key), f"value of {key}", f"get of key {key[:20]}")
    got = client.multi_get(["ключ", "with space", "v:1"])
    check.equal(got[Key("ключ")], "value of ключ", "base64 keys in a batch")
    check.equal(client.delete("ключ"), True, "delete of a base64 key")
    check.equal(client.get("ключ"), None, "get of a deleted base64 key")


def incompressible(size):
    state, out = 1, bytearray()
    while len(out) < size:
        state = state * 6364136223846793005 % 2**64 + 1442695040888963407
        out += (state >> 13 & 2**48 - 1).to_bytes(6, "big")
    return bytes(out[:size])


if __name__ == "__main__":
    # The client logs each error that it raises too, and some are wanted here.
    logging.getLogger("meta_memcache").setLevel(logging.CRITICAL)
    checks.main(
        "meta-memcache",
        [storage, cas, cas_in_threads, numbers, quiet, many_keys, leases, flags, expiry, values_and_keys],
    )
