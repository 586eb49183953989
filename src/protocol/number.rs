//! Numbers as memcached 1.6.18 reads and we write them (its util.c: safe_strtoul and its kin).
