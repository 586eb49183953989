//! What `stats` says, under memcached's names.

use super::store::{Clock, Store};

/// The version whose behaviour a backend has: clients choose by it which features they use.
pub(super) const VERSION: &[u8] = b"1.6.18";

/// The general counters, in the order in which memcached prints them. The line `embedded` tells that this is
/// no memcached.
pub(super) fn general(store: &Store, clock: Clock) -> Vec<(&'static str, String)> {
    let counters = &store.counters;
    let mut lines = vec![
        ("pid", store.process.to_string()),
        ("uptime", clock.0.saturating_sub(store.started().0).to_string()),
        ("time", clock.0.to_string()),
        ("version", String::from_utf8_lossy(VERSION).into_owned()),
        ("embedded", concat!("mcproxy-", env!("CARGO_PKG_VERSION")).to_owned()),
        ("pointer_size", usize::BITS.to_string()),
    ];
    let numbers = [
        ("curr_connections", store.connections),
        ("total_connections", counters.total_connections),
        ("cmd_get", counters.cmd_get),
        ("cmd_set", counters.cmd_set),
        ("cmd_flush", counters.cmd_flush),
        ("cmd_touch", counters.cmd_touch),
        ("cmd_meta", counters.cmd_meta),
        ("get_hits", counters.get_hits),
        ("get_misses", counters.get_misses),
        ("get_expired", counters.get_expired),
        ("get_flushed", counters.get_flushed),
        ("delete_misses", counters.delete_misses),
        ("delete_hits", counters.delete_hits),
        ("incr_misses", counters.incr_misses),
        ("incr_hits", counters.incr_hits),
        ("decr_misses", counters.decr_misses),
        ("decr_hits", counters.decr_hits),
        ("cas_misses", counters.cas_misses),
        ("cas_hits", counters.cas_hits),
        ("cas_badval", counters.cas_badval),
        ("touch_hits", counters.touch_hits),
        ("touch_misses", counters.touch_misses),
        ("store_too_large", counters.store_too_large),
        ("store_no_memory", counters.store_no_memory),
        ("bytes_read", counters.bytes_read),
        ("bytes_written", counters.bytes_written),
        ("limit_maxbytes", store.bytes_max() as u64),
        ("threads", 1),
        ("bytes", store.bytes() as u64),
        ("curr_items", store.items() as u64),
        ("total_items", counters.total_items),
        ("evictions", counters.evictions),
    ];
    lines.extend(numbers.map(|(name, number)| (name, number.to_string())));
    lines
}
