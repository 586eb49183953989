"""Asks libmemcached, its shared library by ctypes, by `memcached_generate_hash`."""

import ctypes
import os

import oracle

# enum memcached_behavior_t of libmemcached-1.0/types/behavior.h.
BEHAVIOR_KETAMA = 3
BEHAVIOR_KETAMA_WEIGHTED = 16
# enum memcached_callback_t of types/callback.h.
CALLBACK_PREFIX_KEY = 0

BEHAVIORS = {
    "libmemcached-modula": None,
    "libmemcached-ketama": BEHAVIOR_KETAMA,
    "libmemcached-ketama-weighted": BEHAVIOR_KETAMA_WEIGHTED,
}


def load():
    try:
        library = ctypes.CDLL("libmemcached.so.11")
    except OSError as error:
        oracle.refuse(str(error))
    library.memcached_create.restype = ctypes.c_void_p
    library.memcached_lib_version.restype = ctypes.c_char_p
    library.memcached_free.argtypes = [ctypes.c_void_p]
    library.memcached_behavior_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64]
    library.memcached_server_add_with_weight.argtypes = [
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_uint16,
        ctypes.c_uint32,
    ]
    library.memcached_server_add_unix_socket_with_weight.argtypes = [
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_uint32,
    ]
    library.memcached_callback_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p]
    library.memcached_generate_hash.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    library.memcached_generate_hash.restype = ctypes.c_uint32
    return library


LIBRARY = load()


def checked(status):
    if status != 0:
        oracle.refuse(f"libmemcached says {status}")


def owners(case, keys):
    client = LIBRARY.memcached_create(None)
    behavior = BEHAVIORS[case["rule"]]
    # Before the servers, as clients do that then add servers with weights.
    if behavior is not None:
        checked(LIBRARY.memcached_behavior_set(client, behavior, 1))
    for server in case["servers"]:
        weight = server["weight"]
        if "unix" in server and "name" in server:
            path = os.fsencode(server["unix"])
            checked(LIBRARY.memcached_server_add_with_weight(client, path, 11211, weight))
        elif "unix" in server:
            path = os.fsencode(server["unix"])
            checked(LIBRARY.memcached_server_add_unix_socket_with_weight(client, path, weight))
        else:
            host = server["host"].encode()
            checked(LIBRARY.memcached_server_add_with_weight(client, host, server["port"], weight))
    if "prefix" in case:
        checked(LIBRARY.memcached_callback_set(client, CALLBACK_PREFIX_KEY, case["prefix"].encode()))
    chosen = [LIBRARY.memcached_generate_hash(client, key, len(key)) for key in keys]
    LIBRARY.memcached_free(client)
    return chosen


oracle.answer(LIBRARY.memcached_lib_version().decode(), owners)
