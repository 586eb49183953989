//! A warm worker allocates nothing for a small request. The core is driven in memory, by the replay of a run
//! that was recorded before, so whatever is allocated meanwhile is the core's.

// The counting allocator below, and nothing else here, needs it.
#![allow(unsafe_code)]

#[path = "../benches/support/mod.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use mcproxy::io::Handler;
use mcproxy::proxy::Proxy;
use support::load::Load;
use support::recording::{Recording, SEED, settings};
use support::replay::Replay;
use support::request::Kind;

/// Requests of each kind by itself, and of all kinds mixed.
const REQUESTS_OF_A_KIND: usize = 4_000;
const MIXED_REQUESTS: usize = 100_000;

thread_local! {
    static COUNT: Cell<Allocations> = const { Cell::new(Allocations { calls: 0, bytes: 0 }) };
}

/// What one thread has asked the allocator for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Allocations {
    /// Blocks asked for, and blocks that were to grow or shrink.
    calls: u64,
    bytes: u64,
}

struct Counting;

impl Counting {
    fn note(bytes: usize) {
        COUNT.with(|count| {
            let Allocations { calls, bytes: sum } = count.get();
            count.set(Allocations { calls: calls + 1, bytes: sum + bytes as u64 });
        });
    }
}

// SAFETY: every call goes to the system's allocator with the arguments it came with. The count is a constant
// at a thread's start and has no destructor, so touching it neither allocates nor fails at a thread's end.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::note(layout.size());
        // SAFETY: the caller keeps the contract of this function, which is that of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        Self::note(new_size);
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, new_size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What this thread allocates in `work`.
fn allocations(work: impl FnOnce()) -> Allocations {
    let before = COUNT.get();
    work();
    let after = COUNT.get();
    Allocations { calls: after.calls - before.calls, bytes: after.bytes - before.bytes }
}

/// What a warm core allocates for `operations` more.
fn of_core(load: &Load, operations: usize) -> Allocations {
    let recording = Recording::new(load, operations, operations);
    let mut replay = Replay::warm(&recording);
    let counted = allocations(|| replay.run(&recording));
    replay.check(&recording);
    counted
}

/// Each byte of a line that comes in pieces is copied once, and again only as the room for it doubles.
#[test]
fn a_long_line_in_small_pieces_is_not_copied_at_each() {
    const PIECES: usize = 2_000;
    let mut proxy = Proxy::new(settings(), 1);
    let client = proxy.handle_accepted();
    let piece = format!("{} ", "k".repeat(249)).repeat(4);
    proxy.handle_received(client, b"get ");
    let line = PIECES * piece.len();
    let counted = allocations(|| (0..PIECES).for_each(|_| proxy.handle_received(client, piece.as_bytes())));
    assert!(counted.bytes < 6 * line as u64, "{counted:?} for a line of {line} bytes");
    assert!(counted.bytes > line as u64, "the line is kept, so that the check can fail: {counted:?}");
}

#[test]
fn a_warm_core_allocates_nothing_for_100_000_mixed_requests() {
    // Twenty keys of a multi-key get are one request here, and so the operations are more than the requests.
    let load = Load::mixed(40, 10, 4).out_of_turn();
    let operations = load.operations(MIXED_REQUESTS);
    let mixed = of_core(&load, operations);
    let unpipelined = of_core(&Load::mixed(40, 10, 1), operations);
    if mixed == Allocations::default() && unpipelined == Allocations::default() {
        return;
    }
    let line = |name: &str, of: &str, count: Allocations, requests: usize| {
        let mean = count.calls as f64 / requests as f64;
        format!("{name:<16} {of:<28} {:>8} {:>12} bytes {mean:>9.3}\n", count.calls, count.bytes)
    };
    let mut table = line("mixed", "pipelines of 4, out of turn", mixed, MIXED_REQUESTS);
    table += &line("mixed", "one at a time", unpipelined, MIXED_REQUESTS);
    for kind in Kind::TEXT.into_iter().chain(Kind::BINARY) {
        let operations = REQUESTS_OF_A_KIND * kind.operations();
        for (of, load) in [
            ("50 clients, one at a time", Load::of(kind, 50, 1)),
            ("1 client, pipeline of 16", Load::of(kind, 1, 16)),
            ("50 of 16, out of turn", Load::of(kind, 50, 16).out_of_turn()),
        ] {
            let name = format!("{kind:?}");
            table += &line(&name, of, of_core(&load, operations), REQUESTS_OF_A_KIND);
        }
    }
    panic!(
        "a warm core allocates (seed {SEED}; cargo test --test allocations):\n\
         {:<16} {:<28} {:>8} {:>18} {:>9}\n{table}",
        "requests", "of", "calls", "", "each"
    );
}

/// The count counts: what is allocated shows, and what is not does not.
#[test]
fn an_allocation_is_found_out() {
    let mut vector: Vec<u8> = Vec::new();
    assert_eq!(allocations(|| vector.reserve_exact(100)), Allocations { calls: 1, bytes: 100 });
    assert_eq!(allocations(|| vector.reserve_exact(200)), Allocations { calls: 1, bytes: 200 });
    assert_eq!(allocations(|| vector.resize(200, 7)), Allocations::default());
    assert_eq!(allocations(|| drop(std::mem::take(&mut vector))), Allocations::default());
    assert_eq!(allocations(|| drop(black_box(Box::new([0u64; 4])))), Allocations { calls: 1, bytes: 32 });
    // A core that is not warm has to allocate.
    let recording = Recording::new(&Load::of(Kind::Get, 50, 1), 100, 100);
    assert!(allocations(|| drop(Replay::warm(&recording))).calls > 100);
}
