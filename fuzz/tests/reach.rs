//! What the corpus of the whole proxy reaches: inputs that no longer get anywhere are found here.

use std::collections::BTreeMap;
use std::path::Path;

/// Counters that the corpus moves.
const REACHED: [&str; 14] = [
    "joined_gets",
    "shared_keys",
    "timeouts",
    "late_replies",
    "desyncs",
    "retired_links",
    "requeued",
    "paused_reads",
    "refused_requests",
    "backend_errors",
    "backend_errors_unheard",
    "get_hits",
    "get_misses",
    "cmd_meta",
];

#[test]
fn the_corpus_reaches_what_matters() {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for file in
        std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/proxy")).expect("a corpus")
    {
        let input = std::fs::read(file.expect("a file").path()).expect("an input");
        for (name, count) in mcproxy_fuzz::proxy::counters(&input) {
            *sums.entry(name).or_default() += count;
        }
    }
    let unreached: Vec<&str> =
        REACHED.into_iter().filter(|name| sums.get(name).is_none_or(|&sum| sum == 0)).collect();
    assert!(unreached.is_empty(), "never counted: {unreached:?}\n{sums:#?}");
}
