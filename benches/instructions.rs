//! Instructions, counted by callgrind. `make bench-instructions` runs this and judges the figures;
//! benches/README.md says how.

// The macros of iai-callgrind make items that nobody reads about.
#![allow(missing_docs)]

mod support;

use std::hint::black_box;

use iai_callgrind::{
    Callgrind, EntryPoint, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};
use mcproxy::placement::Placement;

use support::counted::{self, Counted};
use support::load::Load;
use support::parts::{self, Stream};
use support::recording::Recording;
use support::replay::Replay;
use support::request::Kind;
use support::{OPERATIONS, WARM_UP};

/// As in the program: what allocating costs is counted too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
#[bench::text_get(Load::of(Kind::Get, 50, 1))]
#[bench::text_get_500_clients(Load::of(Kind::Get, 500, 1))]
#[bench::text_get_pipelined(Load::of(Kind::Get, 1, 16))]
#[bench::text_get_out_of_turn(Load::of(Kind::Get, 50, 16).out_of_turn())]
#[bench::text_get_bytewise(Load::of(Kind::Get, 50, 1).bytewise())]
#[bench::text_gets(Load::of(Kind::Gets, 50, 1))]
#[bench::text_set(Load::of(Kind::Set, 50, 1))]
#[bench::text_set_pipelined(Load::of(Kind::Set, 1, 16))]
#[bench::text_mixed(Load::nine_gets_a_set(50, 1))]
#[bench::text_mixed_pipelined(Load::nine_gets_a_set(1, 16))]
#[bench::text_get_of_20(Load::of(Kind::GetOfTwenty, 50, 1))]
#[bench::text_get_of_20_alone(Load::of(Kind::GetOfTwenty, 1, 1))]
#[bench::text_get_of_20_bytewise(Load::of(Kind::GetOfTwenty, 50, 1).bytewise())]
#[bench::mg(Load::of(Kind::MetaGet, 50, 1))]
#[bench::mg_pipelined(Load::of(Kind::MetaGet, 1, 16))]
#[bench::ms(Load::of(Kind::MetaSet, 50, 1))]
#[bench::binary_get(Load::of(Kind::BinaryGet, 50, 1))]
#[bench::binary_get_pipelined(Load::of(Kind::BinaryGet, 1, 16))]
#[bench::binary_set(Load::of(Kind::BinarySet, 50, 1))]
fn proxy(mut warm: Warm) -> Warm {
    warm.replay.run(black_box(&warm.recording));
    warm.replay.check(&warm.recording);
    warm
}

fn requests(kind: Kind) -> Stream {
    parts::requests(kind, OPERATIONS)
}

fn replies(kind: Kind) -> Stream {
    parts::replies(kind, OPERATIONS)
}

#[library_benchmark(setup = requests)]
#[bench::text_get(Kind::Get)]
#[bench::text_gets(Kind::Gets)]
#[bench::text_get_of_20(Kind::GetOfTwenty)]
#[bench::text_set(Kind::Set)]
#[bench::mg(Kind::MetaGet)]
#[bench::ms(Kind::MetaSet)]
fn parser(stream: Stream) -> Stream {
    assert_eq!(parts::parse_text(black_box(&stream.requests)), OPERATIONS);
    stream
}

#[library_benchmark(setup = requests)]
#[bench::text_get(Kind::Get)]
#[bench::text_get_of_20(Kind::GetOfTwenty)]
fn parser_bytewise(stream: Stream) -> Stream {
    assert_eq!(parts::parse_text_bytewise(black_box(&stream.requests)), OPERATIONS);
    stream
}

#[library_benchmark(setup = requests)]
#[bench::get(Kind::BinaryGet)]
#[bench::set(Kind::BinarySet)]
fn parser_binary(stream: Stream) -> Stream {
    assert_eq!(parts::parse_binary(black_box(&stream.requests)), OPERATIONS);
    stream
}

#[library_benchmark(setup = replies)]
#[bench::get(Kind::Get)]
fn reply_hit(stream: Stream) -> Stream {
    assert_eq!(parts::frame_hits(black_box(&stream.replies), &stream.keys), OPERATIONS);
    stream
}

#[library_benchmark(setup = replies)]
#[bench::get_of_20(Kind::GetOfTwenty)]
fn reply_values(stream: Stream) -> Stream {
    assert_eq!(parts::frame_values(black_box(&stream.replies)), OPERATIONS);
    stream
}

#[library_benchmark(setup = replies)]
#[bench::set(Kind::Set)]
fn reply_line(stream: Stream) -> Stream {
    assert_eq!(parts::frame_lines(black_box(&stream.replies)), OPERATIONS);
    stream
}

#[library_benchmark(setup = replies)]
#[bench::mg(Kind::MetaGet)]
#[bench::ms(Kind::MetaSet)]
fn reply_meta(stream: Stream) -> Stream {
    assert_eq!(parts::frame_meta(black_box(&stream.replies)), OPERATIONS);
    stream
}

#[library_benchmark(setup = replies)]
#[bench::get(Kind::BinaryGet)]
#[bench::set(Kind::BinarySet)]
fn reply_binary(stream: Stream) -> Stream {
    assert_eq!(parts::frame_binary(black_box(&stream.replies)), OPERATIONS);
    stream
}

fn placed(kind: Kind) -> (Placement, Stream) {
    (parts::placement(), requests(kind))
}

#[library_benchmark(setup = placed)]
#[bench::rendezvous(Kind::Get)]
fn placement(placed: (Placement, Stream)) -> (Placement, Stream) {
    assert_eq!(parts::place(&placed.0, black_box(&placed.1.keys)), OPERATIONS);
    placed
}

fn placed_elsewhere(name: &str) -> (Placement, Stream) {
    (parts::placement_called(name), requests(Kind::Get))
}

#[library_benchmark(setup = placed_elsewhere)]
#[bench::libmemcached_modula("libmemcached-modula")]
#[bench::libmemcached_ketama("libmemcached-ketama")]
#[bench::libmemcached_ketama_weighted("libmemcached-ketama-weighted")]
#[bench::pymemcache("pymemcache")]
#[bench::pymemcache_bytes("pymemcache-bytes")]
#[bench::gomemcache("gomemcache")]
#[bench::python_memcached("python-memcached")]
#[bench::dalli("dalli")]
#[bench::php_memcache("php-memcache")]
#[bench::php_memcache_standard("php-memcache-standard")]
#[bench::spymemcached_ketama("spymemcached-ketama")]
#[bench::spymemcached_modula("spymemcached-modula")]
#[bench::mcrouter_ch3("mcrouter-ch3")]
#[bench::mcrouter_crc32("mcrouter-crc32")]
#[bench::memcached_proxy_jump("memcached-proxy-jump")]
#[bench::memcached_proxy_ring("memcached-proxy-ring")]
#[bench::twemproxy_ketama_one_at_a_time("twemproxy-ketama:one_at_a_time")]
#[bench::twemproxy_ketama_md5("twemproxy-ketama:md5")]
#[bench::twemproxy_ketama_crc16("twemproxy-ketama:crc16")]
#[bench::twemproxy_ketama_crc32("twemproxy-ketama:crc32")]
#[bench::twemproxy_ketama_crc32a("twemproxy-ketama:crc32a")]
#[bench::twemproxy_ketama_fnv1_64("twemproxy-ketama:fnv1_64")]
#[bench::twemproxy_ketama_fnv1a_64("twemproxy-ketama:fnv1a_64")]
#[bench::twemproxy_ketama_fnv1_32("twemproxy-ketama:fnv1_32")]
#[bench::twemproxy_ketama_fnv1a_32("twemproxy-ketama:fnv1a_32")]
#[bench::twemproxy_ketama_hsieh("twemproxy-ketama:hsieh")]
#[bench::twemproxy_ketama_murmur("twemproxy-ketama:murmur")]
#[bench::twemproxy_ketama_jenkins("twemproxy-ketama:jenkins")]
#[bench::twemproxy_modula_fnv1a_64("twemproxy-modula:fnv1a_64")]
fn placement_of(placed: (Placement, Stream)) -> (Placement, Stream) {
    assert_eq!(parts::place(&placed.0, black_box(&placed.1.keys)), OPERATIONS);
    placed
}

library_benchmark_group!(
    name = whole;
    config = LibraryBenchmarkConfig::default()
        .tool(callgrind().entry_point(EntryPoint::Custom(counted::PATTERN.to_string())));
    benchmarks = proxy
);

library_benchmark_group!(
    name = single;
    benchmarks = parser, parser_bytewise, parser_binary, reply_hit, reply_values, reply_line, reply_meta,
        reply_binary, placement, placement_of
);

/// Counts instructions and nothing else: simulated caches would make it slower, and gate nothing.
fn callgrind() -> Callgrind {
    Callgrind::with_args(["--cache-sim=no"])
}

// The allocator gives memory back to the system by the clock, which would count now and then.
main!(
    config = LibraryBenchmarkConfig::default().tool(callgrind()).env("MIMALLOC_PURGE_DELAY", "-1");
    library_benchmark_groups = whole, single
);
