//! Seeds of the simulator (`src/sim`): the production worker loop among hostile clients, dying backends and a
//! bad network.
//!
//! `make sim SEEDS=1000000` runs on with new seeds; `SEED=7 TRACE=1 cargo test --test sim -- --nocapture
//! one_seed` replays one with all that happens.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mcproxy::sim::{self, Outcome, Tally, Tracing};

/// Seeds that `make test` runs.
const SEEDS: u64 = 2_080;

/// What no promise covers, and what it is a part of: less than one in a hundred of that.
const RARE: &[(&str, &str)] = &[
    ("outcome: cas with a token that the new owner has handed out too", "cas"),
    ("outcome: an owner with what was written late", "requests"),
];

/// What must have happened over these seeds, each of it more than once: a fault that is never drawn, or an
/// outcome that never comes, tests nothing.
const MUST_HAPPEN: &[&str] = &[
    "answer: EXISTS",
    "answer: NOT_STORED",
    "answer: STORED",
    "answer: hit",
    "answer: miss",
    "answer: no memory",
    "answer: number",
    "answer: silence",
    "answer: too large",
    "backend_errors",
    "backend_errors_as_misses",
    "backend_errors_unheard",
    "cas",
    "cas_badval",
    "client half-closed",
    "client quit",
    "desyncs",
    "ejections",
    "error: connect timed out",
    "error: down",
    "error: lost",
    "error: out of step",
    "error: overloaded",
    "error: refused",
    "error: timed out",
    "error: unreachable",
    "error: unresolved",
    "evicted_clients",
    "fault: SERVER_ERROR",
    "fault: accept waits for a descriptor",
    "fault: answer twice",
    "fault: black hole",
    "fault: client broken",
    "fault: client vanished",
    "fault: death",
    "fault: delay",
    "fault: died with a request in part",
    "fault: drain",
    "fault: flush refused",
    "fault: freeze",
    "fault: garbage",
    "fault: late answer",
    "fault: late order",
    "fault: late write",
    "fault: link broken",
    "fault: name without address",
    "fault: no answer",
    "fault: refused connect",
    "fault: reset",
    "fault: restart",
    "fault: short answer",
    "fault: short read",
    "fault: short write",
    "fault: silent death",
    "fault: slow connect",
    "fault: stall",
    "fault: surplus answer",
    "fault: thaw",
    "fault: wrong END",
    "joined_gets",
    "late_replies",
    "outcome: an owner with what an earlier change left",
    "outcome: answer cut",
    "outcome: cas with a token handed out again",
    "outcome: change cancelled",
    "outcome: waited for a change",
    "cas_fenced",
    "cas_fences",
    "backend_restarts",
    "outcome: paused",
    "paused_reads",
    "profile: calm",
    "profile: eject",
    "refused_requests",
    "rejoin_deletes",
    "rejoin_flushes",
    "requeued",
    "retired_links",
    "returns",
    "shared_keys",
    "timeouts",
];

#[test]
fn many_seeds() {
    let (first, seeds) = (number("FIRST").unwrap_or(0), number("SEEDS").unwrap_or(SEEDS));
    let tally = run_all(first, seeds);
    for (name, many) in tally.each() {
        println!("{many:>12}  {name}");
    }
    if seeds >= SEEDS {
        let missing: Vec<_> = MUST_HAPPEN.iter().filter(|name| tally.of(name) < 2).collect();
        assert!(missing.is_empty(), "in {seeds} seeds there was none, or one, of {missing:?}");
        for (what, whole) in RARE {
            let (part, all) = (tally.of(what), tally.of(whole));
            assert!(part * 100 < all, "{what}: {part}, and {all} of {whole}");
        }
    }
}

#[test]
fn one_seed() {
    let seed = number("SEED").unwrap_or(1);
    let tracing = if std::env::var_os("TRACE").is_some() { Tracing::Print } else { Tracing::Last };
    let outcome = run(seed, tracing);
    if let Some(what) = &outcome.violation {
        panic!("{}", report(seed, what));
    }
    println!("seed {seed}: hash {:016x}, {:?} of virtual time", outcome.hash, outcome.time);
}

/// Chance comes from the seed alone.
#[test]
fn the_same_seed_has_the_same_trace() {
    let hashes = |tracing| (0..40).map(|seed| run(seed, tracing).hash).collect::<Vec<_>>();
    let (first, second) = (hashes(Tracing::Off), hashes(Tracing::Last));
    assert_eq!(first, second, "two runs of the same seeds differ");
    let mut different = first;
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), 40, "different seeds have different traces");
}

/// Runs seeds on all cores; a violation ends the test with everything needed to see it again.
fn run_all(first: u64, seeds: u64) -> Tally {
    let (next, done, failed) = (AtomicU64::new(first), AtomicU64::new(0), AtomicBool::new(false));
    let (tally, violations) = (Mutex::new(Tally::default()), Mutex::new(Vec::new()));
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                return;
            }
            let outcome = run(seed, Tracing::Off);
            tally.lock().expect("no panic").merge(&outcome.tally);
            if let Some(what) = outcome.violation {
                failed.store(true, Ordering::Relaxed);
                violations.lock().expect("no panic").push((seed, what));
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores()).map(|_| scope.spawn(work)).collect();
        let (started, mut shown) = (Instant::now(), Instant::now());
        while workers.iter().any(|worker| !worker.is_finished()) {
            std::thread::sleep(Duration::from_millis(20));
            if shown.elapsed() > Duration::from_secs(10) {
                shown = Instant::now();
                let done = done.load(Ordering::Relaxed);
                println!(
                    "{done} of {seeds} seeds, {:.0} a second",
                    done as f64 / started.elapsed().as_secs_f64()
                );
            }
        }
    });
    let mut violations = violations.into_inner().expect("no panic");
    violations.sort();
    if let Some((seed, what)) = violations.first() {
        panic!("{}", report(*seed, what));
    }
    tally.into_inner().expect("no panic")
}

/// A run of a seed; a panic of the core is a violation too.
fn run(seed: u64, tracing: Tracing) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| sim::run(seed, tracing))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_string()));
        Outcome { violation: Some(format!("a panic: {}", text.unwrap_or_default())), ..Outcome::default() }
    })
}

/// The seed, what was violated, how to see it again, and what happened last.
fn report(seed: u64, what: &str) -> String {
    let trace = run(seed, Tracing::Last).trace.join("\n");
    format!(
        "seed {seed}: {what}\nthe last of its trace:\n{trace}\nall of it: \
         SEED={seed} TRACE=1 cargo test --test sim -- --nocapture one_seed"
    )
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
