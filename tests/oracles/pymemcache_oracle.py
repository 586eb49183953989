"""Asks pymemcache's HashClient which of its clients is for a key, given as str or as bytes."""

import pymemcache
from pymemcache.client.hash import HashClient

import oracle

KEY_TYPES = {"pymemcache": bytes.decode, "pymemcache-bytes": bytes}


def address(server):
    oracle.without_weight(server)
    return server["unix"] if "unix" in server else (server["host"], server["port"])


def owners(case, keys):
    addresses = [address(server) for server in case["servers"]]
    key_type = KEY_TYPES[case["rule"]]
    prefix = case.get("prefix", "").encode()
    client = HashClient(addresses, allow_unicode_keys=True, key_prefix=prefix)
    return [addresses.index(client._get_client(key_type(key)).server) for key in keys]


oracle.answer(pymemcache.__version__, owners)
