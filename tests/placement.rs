//! The default placement as a contract: golden vectors, and the promises that the README makes of it.

use mcproxy::placement::rendezvous::{Rendezvous, SEED, SLOTS, slot};
use mcproxy::placement::{Placement, Server};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

fn servers(list: &[(&str, u32)]) -> Vec<Server> {
    list.iter().map(|(name, weight)| Server::named((*name).to_string(), *weight)).collect()
}

/// `count` servers of weight 1, named by `name`.
fn equals(count: usize, name: impl Fn(usize) -> String) -> Vec<Server> {
    (0..count).map(|n| Server::named(name(n), 1)).collect()
}

/// Name of the owner of each slot.
fn owners(servers: &[Server]) -> Vec<&str> {
    let table = Rendezvous::new(servers);
    (0..SLOTS).map(|slot| servers[table.slot_owner(slot)].name.as_str()).collect()
}

/// Slots of each server, in the order of the list.
fn loads(servers: &[Server]) -> Vec<usize> {
    let table = Rendezvous::new(servers);
    let mut loads = vec![0; servers.len()];
    for slot in 0..SLOTS {
        loads[table.slot_owner(slot)] += 1;
    }
    loads
}

/// Slots whose owner is another, and of those the ones that `explained(before, after)` does not account for.
fn moves(before: &[Server], after: &[Server], explained: impl Fn(&str, &str) -> bool) -> (usize, usize) {
    let (before, after) = (owners(before), owners(after));
    let moved: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
    let surprising = moved.iter().filter(|(before, after)| !explained(before, after)).count();
    (moved.len(), surprising)
}

fn mixed() -> Vec<Server> {
    servers(&[
        ("cache-a:11211", 1),
        ("cache-b:11211", 2),
        ("[::1]:11211", 10),
        ("unix:/run/memcached.sock", 100),
        ("10.0.0.9:11222", 1000),
    ])
}

/// The lists of the README: three, weighted, many, two.
fn golden_lists() -> [Vec<Server>; 4] {
    let weighted = servers(&[
        ("cache-a:11211", 100),
        ("cache-b:11211", 250),
        ("[::1]:11211", 300),
        ("unix:/run/memcached.sock", 400),
        ("10.0.0.9:11222", 1000),
    ]);
    [
        equals(3, |n| format!("10.0.0.{}:11211", n + 1)),
        weighted,
        equals(300, |n| format!("embedded-{}", n + 1)),
        servers(&[("a", 1), ("b", 3)]),
    ]
}

/// The vectors of the README: key, its hash, slot, and the owners in four lists. They were computed by a
/// second implementation of the rule, in Python with exact fractions, 60-digit logarithms and the reference
/// library of XXH3.
#[test]
fn golden_vectors() {
    let lists = golden_lists();
    let tables = lists.each_ref().map(|list| Placement::rendezvous(list));
    let long = [b'k'; 250];
    let every: Vec<u8> = (0..250).collect();
    let vectors: &[(&[u8], u64, usize, [&str; 4])] = &[
        (b"", 0x69ff_b55c_9c3e_69fc, 434171, ["10.0.0.2:11211", "10.0.0.9:11222", "embedded-69", "b"]),
        (
            b"a",
            0x69fd_819b_2a4b_2d70,
            434136,
            ["10.0.0.1:11211", "unix:/run/memcached.sock", "embedded-164", "b"],
        ),
        (
            b"greeting",
            0x9c0e_82ff_43b9_6a73,
            639208,
            ["10.0.0.3:11211", "unix:/run/memcached.sock", "embedded-101", "b"],
        ),
        (
            b"user:1000",
            0x861c_8bab_4c1b_e83f,
            549320,
            ["10.0.0.1:11211", "unix:/run/memcached.sock", "embedded-165", "b"],
        ),
        (
            b"user:1001",
            0xbdcd_a565_50fc_4b40,
            777434,
            ["10.0.0.1:11211", "10.0.0.9:11222", "embedded-150", "b"],
        ),
        (
            b"session:3f0a9c52-6b1e-4d2f-9a57-0c8e1f7b2d44",
            0xa3d6_9d74_1dd7_1a2c,
            671081,
            ["10.0.0.2:11211", "cache-b:11211", "embedded-265", "b"],
        ),
        (
            b"item:17",
            0x37fd_a770_945d_668f,
            229338,
            ["10.0.0.3:11211", "10.0.0.9:11222", "embedded-159", "b"],
        ),
        (b"item:18", 0xd5b4_6643_2c93_2941, 875334, ["10.0.0.1:11211", "cache-b:11211", "embedded-70", "b"]),
        (
            b"lock/3",
            0xc458_8b08_e009_62b7,
            804232,
            ["10.0.0.3:11211", "unix:/run/memcached.sock", "embedded-116", "a"],
        ),
        (
            b"page:/index.html",
            0xc84e_d6ac_163b_2d5e,
            820461,
            ["10.0.0.3:11211", "[::1]:11211", "embedded-268", "a"],
        ),
        (
            b"v1/cart/88213",
            0xb190_6ff8_b40c_8ffd,
            727302,
            ["10.0.0.1:11211", "10.0.0.9:11222", "embedded-260", "b"],
        ),
        (
            b"schl\xc3\xbcssel",
            0xe5fa_2a61_a8a5_8501,
            941986,
            ["10.0.0.2:11211", "10.0.0.9:11222", "embedded-2", "a"],
        ),
        (
            b"\x00\x80\xff",
            0x68f3_0592_a30c_9a50,
            429872,
            ["10.0.0.2:11211", "10.0.0.9:11222", "embedded-276", "b"],
        ),
        (&long, 0xff45_4ab3_1951_c5ea, 1045588, ["10.0.0.3:11211", "cache-b:11211", "embedded-101", "b"]),
        (&every, 0xd82e_71ff_a8ba_c0a6, 885479, ["10.0.0.3:11211", "10.0.0.9:11222", "embedded-244", "b"]),
    ];
    for (key, hash, slot_of_key, expected) in vectors {
        let shown = key.escape_ascii();
        assert_eq!(xxh3_64_with_seed(key, SEED), *hash, "{shown}");
        assert_eq!(slot(*hash), *slot_of_key, "{shown}");
        let found: Vec<&str> =
            tables.iter().zip(&lists).map(|(table, list)| list[table.owner(key)].name.as_str()).collect();
        assert_eq!(found, expected, "{shown}");
    }
}

/// All slots at once: XXH3-64 with seed 0 over the owners' indexes, one byte a slot. From the same second
/// implementation.
#[test]
fn golden_tables() {
    let [three, weighted, _, two] = golden_lists();
    let expected =
        [(three, 0xcf37_4a01_d534_ae0c), (weighted, 0x7053_d23f_6e51_fa05), (two, 0x97f7_2051_79a6_56b8)];
    for (list, expected) in expected {
        let table = Rendezvous::new(&list);
        let bytes: Vec<u8> = (0..SLOTS).map(|slot| table.slot_owner(slot) as u8).collect();
        assert_eq!(xxh3_64(&bytes), expected, "{list:?}: the table has changed");
    }
}

#[test]
fn the_order_of_the_list_does_not_matter() {
    for list in [mixed(), equals(12, |n| format!("mc{n}.example.com:11211"))] {
        let expected = owners(&list);
        let mut turned = list.clone();
        for _ in 0..4 {
            turned.rotate_left(1);
            turned.swap(0, 2);
            assert_ne!(turned, list);
            assert!(owners(&turned) == expected, "{turned:?}");
        }
        turned.reverse();
        assert!(owners(&turned) == expected, "{turned:?}");
    }
}

#[test]
fn a_server_that_leaves_or_joins_moves_its_own_share_alone() {
    for list in [mixed(), equals(12, |n| format!("mc{n}.example.com:11211"))] {
        let loads = loads(&list);
        for (leaver, load) in list.iter().zip(loads) {
            let rest: Vec<Server> = list.iter().filter(|server| *server != leaver).cloned().collect();
            let left = moves(&list, &rest, |before, _| before == leaver.name);
            assert_eq!(left, (load, 0), "{} leaves", leaver.name);
            let joined = moves(&rest, &list, |_, after| after == leaver.name);
            assert_eq!(joined, (load, 0), "{} joins", leaver.name);
        }
    }
}

#[test]
fn a_weight_that_grows_moves_slots_to_that_server_alone() {
    let before = mixed();
    for index in 0..before.len() - 1 {
        let mut after = before.clone();
        after[index].weight *= 3;
        let (moved, surprising) = moves(&before, &after, |_, owner| owner == before[index].name);
        assert!(
            moved > 0 && surprising == 0,
            "{}: {moved} moved, {surprising} elsewhere",
            before[index].name
        );
    }
}

/// The check above must be able to fail: renaming a server moves slots between the others.
#[test]
fn canary_a_renamed_server_moves_the_slots_of_others() {
    let before = mixed();
    let mut after = before.clone();
    after[4].name = "10.0.0.9:11223".to_string();
    let (moved, surprising) = moves(&before, &after, |_, owner| owner == before[3].name);
    assert!(moved > 0 && surprising > 0, "{moved} moved, {surprising} of them elsewhere");
}

#[test]
fn a_hundred_equal_servers_are_within_5_percent_of_the_mean() {
    let lists = [
        equals(100, |n| format!("10.0.0.{}:11211", n + 1)),
        equals(100, |n| format!("127.0.0.1:{}", 11211 + n)),
        equals(100, |n| format!("cache-{n:02}.example.com:11211")),
        equals(100, |n| format!("[2001:db8::{:x}]:11211", n + 1)),
        equals(100, |n| format!("{n}")),
    ];
    for list in lists {
        let loads = loads(&list);
        let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
        let mean = SLOTS as f64 / 100.0;
        let (low, high) = (*least as f64 / mean, *most as f64 / mean);
        println!("{} ..: least {low:.4}, most {high:.4} of the mean", list[0].name);
        assert!(high <= 1.05 && low >= 0.95, "{} ..: {low} to {high} of the mean", list[0].name);
    }
}

#[test]
fn a_weight_of_1_beside_a_hundred_of_10_gets_its_share() {
    for light in ["light:11211", "10.0.0.200:11211", "unix:/run/memcached.sock", "z"] {
        let mut list = equals(100, |n| format!("10.0.0.{}:11211", n + 1));
        list.iter_mut().for_each(|server| server.weight = 10);
        list.push(Server::named(light.to_string(), 1));
        let loads = loads(&list);
        let share = loads[100] as f64 / (SLOTS as f64 / 1001.0);
        println!("{light}: {share:.4} of its share");
        assert!((0.8..=1.2).contains(&share), "{light}: {share} of its share");
        let heaviest = *loads[..100].iter().max().unwrap() as f64 / (SLOTS as f64 * 10.0 / 1001.0);
        assert!(heaviest <= 1.05, "with {light}: {heaviest} of the mean");
    }
}

#[test]
fn shares_are_proportional_to_weights_from_1_to_1000() {
    let weights = [1, 1000, 2, 500, 5, 200, 10, 100, 20, 50, 3, 999, 333];
    let list: Vec<Server> = weights
        .iter()
        .enumerate()
        .map(|(n, weight)| Server::named(format!("10.2.0.{n}:11211"), *weight))
        .collect();
    let total: u32 = weights.iter().sum();
    for (server, load) in list.iter().zip(loads(&list)) {
        let share = f64::from(server.weight) / f64::from(total);
        let expected = SLOTS as f64 * share;
        // Slots are independent draws, so the load is binomial; four deviations of it.
        let allowed = 4.0 * (expected * (1.0 - share)).sqrt();
        assert!((load as f64 - expected).abs() <= allowed, "{server:?}: {load} slots, {expected} expected");
    }
}

#[test]
fn keys_spread_over_the_servers_as_slots_do() {
    let list = equals(10, |n| format!("10.0.0.{}:11211", n + 1));
    let placement = Placement::rendezvous(&list);
    for form in ["user:", "0000000000000000000000000000", "session:3f0a9c52-6b1e-4d2f-9a57-"] {
        let mut counts = [0_u32; 10];
        for n in 0..200_000 {
            counts[placement.owner(format!("{form}{n}").as_bytes())] += 1;
        }
        // 1 % for the slots, and four deviations of 200,000 draws.
        assert!(counts.iter().all(|count| (19_200..=20_800).contains(count)), "{form}: {counts:?}");
    }
}

#[test]
fn one_server_owns_all() {
    let placement = Placement::rendezvous(&servers(&[("only:11211", 1000)]));
    for key in [&b""[..], b"a", &[0xff; 250], &[0; 1000]] {
        assert_eq!(placement.owner(key), 0);
    }
}

/// The same rule in floating point and the plainest words: the owner, and how close the runner-up comes (the
/// quotient of the two scores, at most 1).
fn slow_owner(servers: &[(u64, u32)], slot: u64) -> (usize, f64) {
    let (mut best, mut best_score, mut second) = (0, 0.0, 0.0);
    for (index, (state, weight)) in servers.iter().enumerate() {
        let mut split = *state;
        split = split.wrapping_add(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(slot + 1));
        split = (split ^ split >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        split = (split ^ split >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        split ^= split >> 31;
        // Near 1 a hash loses its last bits as an f64; its distance from 1 does not.
        let distance = ((1_u128 << 64) - u128::from(split)) as f64 / 2_f64.powi(64);
        let score = f64::from(*weight) / -(-distance).ln_1p();
        if score > best_score {
            (best, best_score, second) = (index, score, best_score);
        } else if score > second {
            second = score;
        }
    }
    (best, second / best_score)
}

/// Slots where table and slow twin disagree, and how far the runner-up is at most behind in those.
fn disagreements(servers: &[Server], twin: &[Server]) -> (usize, f64) {
    let table = Rendezvous::new(servers);
    let twin: Vec<(u64, u32)> = twin
        .iter()
        .map(|server| (xxh3_64_with_seed(server.name.as_bytes(), 0x6d63_7072_6f78_7901), server.weight))
        .collect();
    let (mut count, mut farthest) = (0, 1.0_f64);
    for slot in 0..SLOTS {
        let (owner, closeness) = slow_owner(&twin, slot as u64);
        if owner != table.slot_owner(slot) {
            count += 1;
            farthest = farthest.min(closeness);
        }
    }
    (count, 1.0 - farthest)
}

#[test]
fn the_table_agrees_with_floating_point_but_for_near_ties() {
    let weighted = |n: usize| Server::named(format!("10.3.0.{n}:11211"), (n * n % 1000 + 1) as u32);
    let lists = [mixed(), equals(9, |n| format!("mc{n}:11211")), (0..30).map(weighted).collect()];
    for list in lists {
        let (count, gap) = disagreements(&list, &list);
        println!("{} servers: {count} of {SLOTS} slots differ, gap at most {gap:.2e}", list.len());
        // Costs are lines between logarithms, off by less than 2.5e-4; so two may trade places within 5e-4.
        assert!(gap < 5e-4, "{list:?}: disagree over a gap of {gap}");
        assert!(count <= 100, "{list:?}: disagree over {count} slots");
    }
}

/// The comparison must be able to fail: one weight changed by a hundredth is seen.
#[test]
fn canary_another_weight_is_seen_by_the_slow_twin() {
    let mut twin = mixed();
    twin[3].weight = 101;
    let (count, gap) = disagreements(&mixed(), &twin);
    assert!(gap > 5e-4 && count > 100, "{count} slots differ, gap at most {gap}");
}
