//! The workers' counters at the end: they must agree with what went through, and with each other.

use crate::proxy::message::{Message, Report};
use crate::stats::Counters;

use super::network::Desk;
use super::tally::Tally;

/// Holds a worker's last report against what its engine carried. A worker that was ended in the middle has
/// made none.
///
/// # Errors
/// What does not agree.
pub(super) fn check(desk: &Desk) -> Result<(), String> {
    let Some(report) = report(desk) else { return Ok(()) };
    let counters = &report.counters;
    let [from_clients, to_clients, from_backends, to_backends] = desk.bytes;
    let equal = [
        ("bytes written to clients", counters.bytes_written, to_clients),
        ("bytes read from backends", counters.backend_bytes_read, from_backends),
        ("bytes written to backends", counters.backend_bytes_written, to_backends),
        ("clients connected", counters.curr_connections, 0),
        ("clients that ever came", counters.total_connections, desk.clients),
        ("requests waiting", report.backends.iter().map(|backend| backend.waiting).sum(), 0),
        ("retired links", report.backends.iter().map(|backend| backend.retired).sum(), 0),
    ];
    for (what, counted, is) in equal {
        if counted != is {
            return Err(format!("{counted} {what} are counted, and it was {is}"));
        }
    }
    let at_most = [
        ("bytes read from clients", counters.bytes_read, from_clients),
        ("hits and misses", counters.get_hits + counters.get_misses, counters.cmd_get),
        ("keys in gets", counters.backend_get_keys, counters.cmd_get),
        ("gets", counters.backend_gets, counters.backend_get_keys),
        // The greeting of a link may be late too.
        ("late replies", counters.late_replies, counters.timeouts + desk.links),
        ("retired links", counters.retired_links, desk.links),
        ("desyncs", counters.desyncs, desk.links),
        ("joined keys", counters.joined_gets, counters.cmd_get),
        ("writes", counters.cas_hits + counters.cas_misses + counters.cas_badval, counters.cmd_set),
    ];
    for (what, counted, most) in at_most {
        if counted > most {
            return Err(format!("{counted} {what} are counted, and it can be {most} at most"));
        }
    }
    if desk.evicted > counters.evicted_clients {
        let (seen, counted) = (desk.evicted, counters.evicted_clients);
        return Err(format!("{seen} clients were closed for no reason of theirs, {counted} are counted"));
    }
    Ok(())
}

/// Adds what a worker has counted to the tally.
pub(super) fn count(desk: &Desk, tally: &mut Tally) {
    let Some(report) = report(desk) else { return };
    report.counters.each(|name, value| {
        if OUTCOMES.contains(&name) {
            tally.add(name, value);
        }
    });
}

/// Counters of what a simulation must have seen.
const OUTCOMES: [&str; 21] = [
    "ejections",
    "returns",
    "rejoin_flushes",
    "rejoin_deletes",
    "evicted_clients",
    "cas_fenced",
    "cas_fences",
    "backend_restarts",
    "timeouts",
    "late_replies",
    "desyncs",
    "retired_links",
    "requeued",
    "joined_gets",
    "shared_keys",
    "paused_reads",
    "refused_requests",
    "backend_errors",
    "backend_errors_as_misses",
    "backend_errors_unheard",
    "cas_badval",
];

fn report(desk: &Desk) -> Option<&Report> {
    let last = desk.told.iter().rev().find_map(|message| match message {
        Message::Counters { report, .. } => Some(report),
        _ => None,
    })?;
    // Somebody has begun counting anew.
    let Counters { ticks, .. } = last.counters;
    (ticks > 0).then_some(last)
}
