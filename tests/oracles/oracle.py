"""What the Python oracles share: a question on standard input, the answer on standard output.

The question is one JSON document, the same for the oracles of all libraries:

    {"keys": ["6b657930", ...],                                      in hexadecimal
     "cases": [{"rule": "libmemcached-ketama",                       as `--placement` names it
                "hash_tag": "{}",                                    nutcracker's only, may be missing
                "prefix": "app:",                                    put before each key, may be missing
                "servers": [{"host": "10.0.0.1", "port": 11211, "weight": 1},
                            {"unix": "/run/memcached.sock", "weight": 1}]}]}

nutcracker's servers may have a "name" too, and spymemcached's hosts an "ip"; a unix socket with a "name" is one that
libmemcached is given as a host. The answer:

    {"version": "1.1.4", "owners": [[0, 3, ...], ...]}

has for each case, and in it for each key, the index of the server that the library itself chooses. An oracle
computes no placement: it asks a function of the library, or sees which server is asked for the key. What a library
does not take (a key, a weight, a unix socket) ends the program with an error.
"""

import json
import sys


def answer(version, owners_of):
    """Answers the question; `owners_of(case, keys)` gives the indexes of one case, keys being bytes."""
    answer_all(version, lambda cases, keys: [owners_of(case, keys) for case in cases])


def answer_all(version, owners_of):
    """As `answer`, where all cases are asked at once."""
    question = json.load(sys.stdin)
    keys = [bytes.fromhex(key) for key in question["keys"]]
    json.dump({"version": version, "owners": owners_of(question["cases"], keys)}, sys.stdout)


def refuse(why):
    """Ends the program: the library has no such thing."""
    sys.exit(f"not asked: {why}")


def without_weight(server):
    """Refuses a weight, of which the library knows nothing."""
    if server["weight"] != 1:
        refuse(f"it has no weights: {server}")
    return server
