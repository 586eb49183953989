//! Prints, as Markdown, how evenly each placement spreads keys and how many move when a server leaves or joins:
//! `make placement-table`. The keys and servers are fixed, so every run prints the same.

use mcproxy::placement::{HashedPart, Label, Method, Placement, Server};

/// Enough that chance makes less than 3 % of the largest of 100 servers.
const KEYS: usize = 1_000_000;

/// Before one of them leaves, or one more joins.
const SERVERS: usize = 10;

fn main() {
    let sequential: Vec<String> = (0..KEYS).map(|n| format!("key{n}")).collect();
    let uuids: Vec<String> = (0..KEYS as u64).map(uuid).collect();
    println!(
        "| placement | 3, key*n* | 3, UUID | 10, key*n* | 10, UUID | 100, key*n* | 100, UUID | leaves | joins |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for method in Method::all().into_iter().filter(|method| !is_one_of_many(*method)) {
        let mut cells = Vec::new();
        for count in [3, 10, 100] {
            let placement = placement(method, &servers(0..count));
            cells.extend(
                [&sequential, &uuids].map(|keys| format!("{:.2}", max_over_mean(&placement, count, keys))),
            );
        }
        let all = servers(0..SERVERS);
        let mut fewer = all.clone();
        fewer.remove(SERVERS / 2);
        cells.push(format!("{:.1} %", moved(method, &all, &fewer, &uuids)));
        cells.push(format!("{:.1} %", moved(method, &all, &servers(0..SERVERS + 1), &uuids)));
        println!("| `{method}` | {} |", cells.join(" | "));
    }
}

/// twemproxy's hashes are shown over its ring, and over its list the default alone.
fn is_one_of_many(method: Method) -> bool {
    let name = method.to_string();
    name.starts_with("twemproxy-modula:") && name != "twemproxy-modula:fnv1a_64"
}

fn servers(numbers: std::ops::Range<usize>) -> Vec<Server> {
    let server = |n: usize| {
        let host = format!("10.0.0.{}", n + 1);
        Server { name: format!("{host}:11211"), weight: 1, label: Label::Tcp { host, port: 11211 } }
    };
    numbers.map(server).collect()
}

fn placement(method: Method, servers: &[Server]) -> Placement {
    Placement::new(method, HashedPart::default(), servers).expect("every placement takes these servers")
}

/// Keys of the server with the most, over the mean.
fn max_over_mean(placement: &Placement, servers: usize, keys: &[String]) -> f64 {
    let mut counts = vec![0_usize; servers];
    keys.iter().for_each(|key| counts[placement.owner(key.as_bytes())] += 1);
    let most = counts.into_iter().max().unwrap_or(0);
    most as f64 * servers as f64 / keys.len() as f64
}

/// The percentage of keys whose server is another once the list is another.
fn moved(method: Method, before: &[Server], after: &[Server], keys: &[String]) -> f64 {
    let (old, new) = (placement(method, before), placement(method, after));
    let moves =
        |key: &&String| before[old.owner(key.as_bytes())].name != after[new.owner(key.as_bytes())].name;
    keys.iter().filter(moves).count() as f64 * 100.0 / keys.len() as f64
}

/// A UUID of version 4, of two outputs of SplitMix64.
fn uuid(number: u64) -> String {
    let bits = u128::from(mixed(2 * number)) << 64 | u128::from(mixed(2 * number + 1));
    let bits = bits & !(0xf << 76) & !(3 << 62) | 4 << 76 | 2 << 62;
    let digits = format!("{bits:032x}");
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

fn mixed(number: u64) -> u64 {
    let z = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
