//! mcproxy's placements beside the libraries and proxies that they stand in for: each library is asked, by a
//! program under `tests/oracles`, where it has thousands of keys in many lists of servers, and mcproxy must have
//! every one there too.
//!
//! Every run asks the libraries that `tests/install` installs for some hundred keys, and holds mcproxy against what
//! all of them said once, in `tests/data/placement`. `make placement-oracles` installs all of them and asks them
//! for 6,300 keys and for what is recorded; `make placement-oracles RECORD=1` writes the records.
//! `MCPROXY_TEST_SEED=7` chooses other keys and lists.

mod support;

#[path = "placement_oracles/ask.rs"]
mod ask;
#[path = "placement_oracles/compare.rs"]
mod compare;
#[path = "placement_oracles/keys.rs"]
mod keys;
#[path = "placement_oracles/libraries.rs"]
mod libraries;
#[path = "placement_oracles/lists.rs"]
mod lists;
#[path = "placement_oracles/published.rs"]
mod published;
#[path = "placement_oracles/record.rs"]
mod record;

use std::sync::Once;

use ask::{Said, ask};
use compare::{Mismatch, compare};
use libraries::{Case, LIBRARIES, Library, library};
use lists::Host;
use record::Record;
use support::programs::Program;
use support::report::{grouped, say, seed_from_environment};

/// The variable that says how much is asked: `all`, or `record`.
const EXTENT_VARIABLE: &str = "MCPROXY_PLACEMENT_ORACLES";

/// The seed of the records, and of a run that is not told another.
const SEED: u64 = 6;

/// Keys of each kind in the records, and lists that are made up.
const RECORDED: (usize, usize) = (35, 2);
/// The same when a library is asked in every run of the tests.
const ALWAYS: (usize, usize) = (60, 2);
/// The same when all is asked; of the keys that are text there are more than 5,000 then.
const ALL: (usize, usize) = (700, 8);

#[test]
fn libmemcached() {
    check("libmemcached");
}

#[test]
fn twemproxy() {
    check("twemproxy");
}

#[test]
fn pymemcache() {
    check("pymemcache");
}

#[test]
fn python_memcached() {
    check("python-memcached");
}

#[test]
fn gomemcache() {
    check("gomemcache");
}

#[test]
fn dalli() {
    check("dalli");
}

#[test]
fn php_memcached() {
    check("php-memcached");
}

#[test]
fn php_memcache() {
    check("php-memcache");
}

#[test]
fn spymemcached() {
    check("spymemcached");
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Some,
    All,
    Record,
}

fn extent() -> Extent {
    match std::env::var(EXTENT_VARIABLE).as_deref() {
        Err(_) => Extent::Some,
        Ok("all") => Extent::All,
        Ok("record") => Extent::Record,
        Ok(other) => panic!("{EXTENT_VARIABLE}={other} is neither `all` nor `record`"),
    }
}

/// What was compared.
#[derive(Default)]
struct Tally {
    version: String,
    cases: usize,
    keys: usize,
    comparisons: usize,
    mismatches: Vec<Mismatch>,
}

fn check(name: &str) {
    let library = library(name);
    let extent = extent();
    if extent == Extent::Record {
        make_record(library);
    }
    let recorded = Record::read(library);
    let mut tally = against_record(library, &recorded);
    if extent != Extent::Some {
        still_says_so(library, &recorded);
    }
    if extent != Extent::Some || library.always {
        let seed = seed_from_environment().unwrap_or(SEED);
        let live = against_library(library, seed, if extent == Extent::Some { ALWAYS } else { ALL });
        say_row(library, &format!("{} asked", live.version), &live);
        tally.mismatches.extend(live.mismatches);
    } else {
        say_row(library, &format!("{} recorded", tally.version), &tally);
    }
    let reports: Vec<String> = tally.mismatches.into_iter().map(|mismatch| mismatch.text).collect();
    assert!(reports.is_empty(), "\n{}", reports.join("\n\n"));
}

/// One row of a table: library, version, cases, keys, comparisons, mismatches.
fn say_row(library: &Library, version: &str, tally: &Tally) {
    let mismatches: usize = tally.mismatches.iter().map(|mismatch| mismatch.keys).sum();
    let numbers = [tally.cases, tally.keys, tally.comparisons, mismatches].map(grouped);
    say(&format!("| {} | {version} | {} |", library.name, numbers.join(" | ")));
}

/// The command that repeats the test of `library`.
fn repeat(library: &Library, seed: u64, all: bool) -> String {
    let all = if all { format!("{EXTENT_VARIABLE}=all ") } else { String::new() };
    let test = library.name.replace('-', "_");
    format!("MCPROXY_TEST_SEED={seed} {all}cargo test --test placement_oracles {test}")
}

/// Those of `keys` that `library` takes in this case.
fn taken<'a>(library: &Library, case: &Case, keys: &'a [Vec<u8>]) -> Vec<&'a [u8]> {
    keys.iter().map(Vec::as_slice).filter(|key| library.takes(case, key)).collect()
}

/// The answers of `library` to all cases, each for those of `keys` that it takes; the cases that take the same keys
/// are asked at once.
fn ask_all(library: &Library, cases: &[Case], keys: &[Vec<u8>]) -> Said {
    let mut all = Said { version: String::new(), owners: vec![Vec::new(); cases.len()] };
    let mut left: Vec<usize> = (0..cases.len()).collect();
    while let Some(&first) = left.first() {
        let keys = taken(library, &cases[first], keys);
        let alike = |place: &usize| library.takes_as(&cases[first], &cases[*place]);
        let places: Vec<usize> = left.extract_if(.., |place| alike(place)).collect();
        let some: Vec<Case> = places.iter().map(|&place| cases[place].clone()).collect();
        let said = ask(library, &some, &keys).unwrap_or_else(|error| panic!("{error}"));
        all.version = said.version;
        for (place, owners) in places.into_iter().zip(said.owners) {
            all.owners[place] = owners;
        }
    }
    all
}

fn compare_all(library: &Library, cases: &[Case], keys: &[Vec<u8>], said: &Said, repeat: &str) -> Tally {
    let mut tally = Tally { version: said.version.clone(), cases: cases.len(), ..Tally::default() };
    for (case, owners) in cases.iter().zip(&said.owners) {
        let keys = taken(library, case, keys);
        assert_eq!(keys.len(), owners.len(), "{}, {}: answers", library.name, case.placement);
        tally.keys = tally.keys.max(keys.len());
        tally.comparisons += keys.len();
        tally.mismatches.extend(compare((library.name, &said.version), case, (&keys, owners), repeat).err());
    }
    tally
}

fn against_library(library: &Library, seed: u64, (each, random): (usize, usize)) -> Tally {
    let (cases, keys) = (library.cases(seed, random), keys::keys(seed, each));
    let said = ask_all(library, &cases, &keys);
    compare_all(library, &cases, &keys, &said, &repeat(library, seed, random > 0))
}

fn against_record(library: &Library, recorded: &Record) -> Tally {
    let said = Said { version: format!("{} (recorded)", recorded.version), owners: recorded.owners.clone() };
    let repeat = repeat(library, SEED, false);
    let tally = compare_all(library, &recorded.cases, &record::read_keys(), &said, &repeat);
    Tally { version: recorded.version.clone(), ..tally }
}

/// Another version may say the same; another answer is a finding.
fn still_says_so(library: &Library, recorded: &Record) {
    let said = ask_all(library, &recorded.cases, &record::read_keys());
    if said.version != recorded.version {
        say(&format!("{}: {} is recorded, {} is asked", library.name, recorded.version, said.version));
    }
    for (case, (now, once)) in recorded.cases.iter().zip(said.owners.iter().zip(&recorded.owners)) {
        assert!(
            now == once,
            "{} {} says something else than {} said: {}, list {:?}; `make placement-oracles RECORD=1` writes it \
             anew\nnow:  {now:?}\nonce: {once:?}",
            library.name,
            said.version,
            recorded.version,
            case.placement,
            case.list.name
        );
    }
}

fn make_record(library: &Library) {
    static KEYS: Once = Once::new();
    KEYS.call_once(|| record::write_keys(&keys::keys(SEED, RECORDED.0)));
    let cases = library.cases(SEED, RECORDED.1);
    let Said { version, owners } = ask_all(library, &cases, &record::read_keys());
    Record { version, cases, owners }.write(library);
}

/// Another list: one server more, which moves keys where their hash is divided by the number of servers, and each in
/// the place of the next, which moves them on rings.
fn confused(case: &Case) -> Case {
    let mut case = case.clone();
    case.list.hosts.rotate_left(1);
    case.list.hosts.push(Host::tcp("10.0.0.6", 11211));
    case
}

#[test]
fn canary_another_list_is_noticed_for_every_placement() {
    let keys = record::read_keys();
    for library in LIBRARIES.iter() {
        let recorded = Record::read(library);
        for rule in library.rules {
            let golden = |case: &&Case| case.placement == rule.placement && case.list.name == "golden";
            let place =
                recorded.cases.iter().position(|case| golden(&case)).expect("a record of each placement");
            let case = confused(&recorded.cases[place]);
            let keys = taken(library, &case, &keys);
            let answers = (&keys[..], &recorded.owners[place][..]);
            let report =
                compare((library.name, &recorded.version), &case, answers, "THIS").expect_err("it is wrong");
            let mismatch = report.text;
            for word in [
                library.name,
                &recorded.version,
                rule.placement,
                "golden",
                "repeat: THIS",
                "the library says",
            ] {
                assert!(mismatch.contains(word), "{word:?} is not in:\n{mismatch}");
            }
            assert!(report.keys > keys.len() / 2, "{mismatch}");
        }
    }
}

#[test]
fn canary_one_wrong_answer_among_all_is_noticed() {
    for library in LIBRARIES.iter() {
        let mut recorded = Record::read(library);
        let many = |case: &Case| case.list.hosts.len() == 17;
        let place = recorded.cases.iter().position(many).expect("a list of 17");
        let owner = recorded.owners[place].last_mut().expect("keys");
        *owner = (*owner + 1) % 17;
        let tally = against_record(library, &recorded);
        let keys: usize = tally.mismatches.iter().map(|mismatch| mismatch.keys).sum();
        assert_eq!(keys, 1, "{}", library.name);
    }
}

/// It is the live answers that are compared.
#[test]
fn canary_live_answers_are_compared() {
    let all = extent() != Extent::Some;
    for library in LIBRARIES.iter().filter(|library| all || library.always) {
        let keys = keys::keys(SEED, ALWAYS.0);
        let cases = library.cases(SEED, 0);
        let cases: Vec<Case> = cases.into_iter().filter(|case| case.list.name == "golden").take(2).collect();
        let said = ask_all(library, &cases, &keys);
        let cases: Vec<Case> = cases.iter().map(confused).collect();
        let tally = compare_all(library, &cases, &keys, &said, "");
        assert_eq!(tally.mismatches.len(), cases.len(), "{}", library.name);
    }
}

type MakesProgram = fn() -> Program;

#[test]
fn canary_a_missing_library_fails_and_says_what_installs_it() {
    let missing = || Program { path: "no-such-interpreter".into(), arguments: Vec::new() };
    let broken =
        || Program { path: "/bin/sh".into(), arguments: vec!["-c".into(), "echo no; exit 3".into()] };
    let silent = || Program { path: "/bin/true".into(), arguments: Vec::new() };
    let programs: [(MakesProgram, &str); 3] =
        [(missing, "no-such-interpreter is missing"), (broken, "exit status: 3"), (silent, "it answered")];
    for (program, why) in programs {
        for (name, install) in [("dalli", "tests/oracles/install"), ("libmemcached", "tests/install")] {
            let Library { name, rules, always, hosts, unix, .. } = *library(name);
            let library = Library { name, program, rules, always, hosts, unix };
            let error = ask(&library, &library.cases(SEED, 0), &[b"key"]).expect_err("nobody answers");
            assert!(error.contains(install) && error.contains(why), "{error}");
        }
    }
}
