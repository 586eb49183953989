//! What is left when all is over, and what is wrong about it.

use std::collections::HashMap;

use super::holdings::{Holdings, RESIDENT_MAX};
use super::rig::stat;

/// So much more memory may be resident in the end than after the warm-up, bytes: what the allocator keeps of
/// what was in use for a while, however long that was. It was 7 to 39 MiB after a minute or less, and 34 and 45
/// MiB after half an hour.
pub(crate) const GROWTH_MAX: usize = 64 << 20;

/// What there is.
pub(crate) struct Verdict {
    /// When it was warm, and nobody there but one who asks.
    pub(crate) start: Holdings,
    /// When everybody has left but one who asks.
    pub(crate) end: Holdings,
    /// The most memory that was resident, bytes.
    pub(crate) peak: usize,
    /// The proxy's `stats` in the end.
    pub(crate) stats: HashMap<String, String>,
    /// Items that each memcached has dropped for want of memory.
    pub(crate) evictions: Vec<u64>,
    /// Reads that were too old, where keys move.
    pub(crate) stale: Vec<String>,
}

impl Verdict {
    /// A sentence for each thing that is wrong.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut must = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        let (start, end) = (&self.start, &self.end);
        must(
            end.descriptors <= start.descriptors,
            format!("{} descriptors, which were {}", end.descriptors, start.descriptors),
        );
        must(self.peak < RESIDENT_MAX, format!("{} bytes were resident", self.peak));
        must(
            end.resident <= start.resident + GROWTH_MAX,
            format!("{} bytes are resident, which were {}", end.resident, start.resident),
        );
        let counter = |name: &str| stat(&self.stats, name);
        must(counter("curr_connections") == 1, format!("{} connections", counter("curr_connections")));
        must(counter("desyncs") == 0, format!("{} desyncs", counter("desyncs")));
        for server in 0..self.evictions.len() {
            let of = |name: &str| self.stats[&format!("backend:s{server}:{name}")].clone();
            must(of("state") == "up", format!("s{server} is {}", of("state")));
            must(of("retired_links") == "0", format!("{} retired links of s{server}", of("retired_links")));
            must(of("waiting") == "0", format!("{} requests wait for s{server}", of("waiting")));
        }
        must(self.evictions.iter().all(|&items| items == 0), format!("evictions: {:?}", self.evictions));
        // After a flush those that stood in may keep what is old: see the README.
        let excused = counter("rejoin_flushes") > 0;
        must(
            excused || self.stale.is_empty(),
            format!("{} reads were too old, such as {:?}", self.stale.len(), self.stale.first()),
        );
        problems
    }
}

/// Makes something wrong.
type Spoil<'a> = &'a dyn Fn(&mut Verdict);

#[test]
fn canary_whatever_is_left_is_found() {
    let good = || {
        let holds = Holdings { descriptors: 20, resident: 10 << 20 };
        let mut stats: HashMap<String, String> = ["curr_connections 1", "desyncs 0", "rejoin_flushes 0"]
            .iter()
            .filter_map(|line| line.split_once(' '))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        for server in 0..3 {
            for (name, value) in [("state", "up"), ("retired_links", "0"), ("waiting", "0")] {
                stats.insert(format!("backend:s{server}:{name}"), value.to_owned());
            }
        }
        Verdict { start: holds, end: holds, peak: 200 << 20, stats, evictions: vec![0; 3], stale: Vec::new() }
    };
    assert_eq!(good().problems(), Vec::<String>::new());
    let set = |verdict: &mut Verdict, name: &str, value: &str| {
        assert!(verdict.stats.insert(name.to_owned(), value.to_owned()).is_some(), "{name}");
    };
    let spoil: [(&str, Spoil<'_>); 10] = [
        ("21 descriptors", &|verdict| verdict.end.descriptors += 1),
        ("bytes were resident", &|verdict| verdict.peak = 256 << 20),
        ("bytes are resident", &|verdict| verdict.end.resident += GROWTH_MAX + 1),
        ("2 connections", &|verdict| set(verdict, "curr_connections", "2")),
        ("1 desyncs", &|verdict| set(verdict, "desyncs", "1")),
        ("s1 is down", &|verdict| set(verdict, "backend:s1:state", "down")),
        ("1 retired links of s2", &|verdict| set(verdict, "backend:s2:retired_links", "1")),
        ("4 requests wait", &|verdict| set(verdict, "backend:s0:waiting", "4")),
        ("evictions", &|verdict| verdict.evictions[2] = 1),
        ("too old", &|verdict| verdict.stale.push("old".to_owned())),
    ];
    for (words, spoil) in spoil {
        let mut verdict = good();
        spoil(&mut verdict);
        let problems = verdict.problems();
        assert!(problems.len() == 1 && problems[0].contains(words), "{words:?}: {problems:?}");
    }
}
