"""Asks python-memcached's Client which server is for a key; its servers say that they are connected."""

import memcache

import oracle

memcache._Host.connect = lambda self: 1


def address(server):
    if "unix" in server:
        return f"unix:{server['unix']}"
    host = f"inet6:[{server['host']}]" if ":" in server["host"] else server["host"]
    return f"{host}:{server['port']}"


def owners(case, keys):
    client = memcache.Client([(address(server), server["weight"]) for server in case["servers"]])

    def owner(key):
        host, _ = client._get_server(client._encode_key(key))
        return client.servers.index(host)

    return [owner(key) for key in keys]


oracle.answer(memcache.__version__, owners)
