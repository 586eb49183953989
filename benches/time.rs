//! Time, by criterion: what instructions do not show (mispredicted branches, cache misses, dependencies).
//! Noisy on a busy machine, so nothing is gated by it.

// The macros of criterion make items that nobody reads about.
#![allow(missing_docs)]

mod support;

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};

use support::load::Load;
use support::parts::{self, Stream};
use support::recording::Recording;
use support::replay::Replay;
use support::request::Kind;
use support::{OPERATIONS, WARM_UP};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The whole core, and what the engine would do around its calls left out.
fn proxy(criterion: &mut Criterion) {
    let mut group = group(criterion, "proxy");
    for (name, load) in [
        ("text_get", Load::of(Kind::Get, 50, 1)),
        ("text_get_500_clients", Load::of(Kind::Get, 500, 1)),
        ("text_get_pipelined", Load::of(Kind::Get, 1, 16)),
        ("text_get_out_of_turn", Load::of(Kind::Get, 50, 16).out_of_turn()),
        ("text_set", Load::of(Kind::Set, 50, 1)),
        ("text_mixed", Load::nine_gets_a_set(50, 1)),
        ("text_mixed_pipelined", Load::nine_gets_a_set(1, 16)),
        ("text_get_of_20", Load::of(Kind::GetOfTwenty, 50, 1)),
        ("mg", Load::of(Kind::MetaGet, 50, 1)),
        ("ms", Load::of(Kind::MetaSet, 50, 1)),
        ("binary_get", Load::of(Kind::BinaryGet, 50, 1)),
        ("binary_set", Load::of(Kind::BinarySet, 50, 1)),
    ] {
        let recording = Recording::new(&load, WARM_UP, OPERATIONS);
        group.bench_function(name, |bencher| {
            let run = |replay: &mut Replay<_>| {
                replay.run(black_box(&recording));
                replay.check(&recording);
            };
            bencher.iter_batched_ref(|| Replay::warm(&recording), run, BatchSize::PerIteration);
        });
    }
}

/// Requests from bytes.
fn parser(criterion: &mut Criterion) {
    let mut group = group(criterion, "parser");
    let mut bench = |name: &str, kind: Kind, work: fn(&[u8]) -> usize| {
        let stream = parts::requests(kind, OPERATIONS);
        group.bench_function(name, |bencher| bencher.iter(|| count(work(black_box(&stream.requests)))));
    };
    bench("text_get", Kind::Get, parts::parse_text);
    bench("text_gets", Kind::Gets, parts::parse_text);
    bench("text_get_of_20", Kind::GetOfTwenty, parts::parse_text);
    bench("text_set", Kind::Set, parts::parse_text);
    bench("mg", Kind::MetaGet, parts::parse_text);
    bench("ms", Kind::MetaSet, parts::parse_text);
    bench("text_get_bytewise", Kind::Get, parts::parse_text_bytewise);
    bench("text_get_of_20_bytewise", Kind::GetOfTwenty, parts::parse_text_bytewise);
    bench("binary_get", Kind::BinaryGet, parts::parse_binary);
    bench("binary_set", Kind::BinarySet, parts::parse_binary);
}

/// Frames of replies.
fn reply(criterion: &mut Criterion) {
    let mut group = group(criterion, "reply");
    let mut bench = |name: &str, kind: Kind, work: fn(&Stream) -> usize| {
        let stream = parts::replies(kind, OPERATIONS);
        group.bench_function(name, |bencher| bencher.iter(|| count(work(black_box(&stream)))));
    };
    bench("hit_get", Kind::Get, |stream| parts::frame_hits(&stream.replies, &stream.keys));
    bench("values_get_of_20", Kind::GetOfTwenty, |stream| parts::frame_values(&stream.replies));
    bench("line_set", Kind::Set, |stream| parts::frame_lines(&stream.replies));
    bench("meta_mg", Kind::MetaGet, |stream| parts::frame_meta(&stream.replies));
    bench("meta_ms", Kind::MetaSet, |stream| parts::frame_meta(&stream.replies));
    bench("binary_get", Kind::BinaryGet, |stream| parts::frame_binary(&stream.replies));
    bench("binary_set", Kind::BinarySet, |stream| parts::frame_binary(&stream.replies));
}

/// Key -> backend.
fn placement(criterion: &mut Criterion) {
    let mut group = group(criterion, "placement");
    let (placement, stream) = (parts::placement(), parts::requests(Kind::Get, OPERATIONS));
    group.bench_function("rendezvous", |bencher| {
        bencher.iter(|| count(parts::place(&placement, black_box(&stream.keys))));
    });
    for name in parts::foreign_placements() {
        let placement = parts::placement_called(&name);
        group.bench_function(&name, |bencher| {
            bencher.iter(|| count(parts::place(&placement, black_box(&stream.keys))));
        });
    }
}

/// All of them were understood.
fn count(operations: usize) {
    assert_eq!(operations, OPERATIONS);
}

/// Figures come as operations per second too: one iteration does [`OPERATIONS`] of them.
fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(OPERATIONS as u64));
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    group
}

criterion_group!(benches, proxy, parser, reply, placement);
criterion_main!(benches);
