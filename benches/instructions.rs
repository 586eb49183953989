//! Instructions, counted by callgrind: see benches/README.md for what is counted and how it is judged.

// The macros of iai-callgrind make items that need no documentation.
#![allow(missing_docs)]

mod support;

use std::hint::black_box;

use iai_callgrind::{
    Callgrind, EntryPoint, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};

use support::counted::{self, Counted};
use support::load::Load;
use support::recording::Recording;
use support::replay::Replay;
use support::request::Kind;

/// As in the program: what allocates is counted with it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Operations of every benchmark, by which its figure is divided. A multiple of 50 clients, of pipelines of
/// 16, and of gets of 20 keys.
const OPERATIONS: usize = 4_000;

/// Operations before them, until the core's buffers have found their sizes.
const WARM_UP: usize = 4_000;

/// A core that is warm, and what is to be done to it.
struct Warm {
    recording: Recording,
    replay: Replay<Counted>,
}

fn warm(load: Load) -> Warm {
    let recording = Recording::new(&load, WARM_UP, OPERATIONS);
    let replay = Replay::warm(&recording).counted();
    Warm { recording, replay }
}

#[library_benchmark(setup = warm)]
#[bench::text_get_50(Load::of(Kind::Get, 50, 1))]
#[bench::text_get_16(Load::of(Kind::Get, 1, 16))]
fn proxy(mut warm: Warm) -> Warm {
    warm.replay.run(black_box(&warm.recording));
    warm.replay.check(&warm.recording);
    warm
}

library_benchmark_group!(name = whole; benchmarks = proxy);

main!(
    config = LibraryBenchmarkConfig::default().tool(
        Callgrind::with_args(["--cache-sim=no"]).entry_point(EntryPoint::Custom(counted::PATTERN.to_string()))
    );
    library_benchmark_groups = whole
);
