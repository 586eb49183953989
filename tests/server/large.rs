//! Answers to multi-key gets that are larger than what is held back: fetched in windows, sent in the order of
//! the keys while the client reads, and closed after the last whole value if a part fails.

use std::time::{Duration, Instant};

use super::rig::{Frozen, Proxy, Talk, eventually, list_of, owner, stat, stats, three_memcacheds};
use super::support::process::Server;
use super::support::report::escape;

/// More than the bound on what is held back, which is 1 MiB.
const OVER_THE_BOUND: usize = 1 << 20;

/// Values of 100 kB and 24 MB in all: more than what the kernel and the proxy take for a client that does not
/// read.
const KEYS: usize = 240;
const VALUE: usize = 100_000;

/// Three memcacheds, filled.
struct Filled {
    servers: Vec<Server>,
    proxy: Proxy,
    keys: Vec<String>,
}

impl Filled {
    fn start(arguments: &[&str]) -> Self {
        let servers: Vec<Server> = three_memcacheds().into();
        let proxy = Proxy::start(&list_of(&servers), arguments);
        let keys: Vec<String> = (0..KEYS).map(|number| format!("key{number}")).collect();
        let mut direct: Vec<Talk> = servers.iter().map(|server| Talk::tcp(server.address)).collect();
        for key in &keys {
            let set = [format!("set {key} 7 0 {VALUE}\r\n").as_bytes(), &value_of(key), b"\r\n"].concat();
            direct[owner(key, 3)].exchange(set, "STORED\r\n");
        }
        Filled { servers, proxy, keys }
    }

    fn request(&self) -> String {
        format!("get {}\r\n", self.keys.join(" "))
    }

    /// The whole answer.
    fn answer(&self) -> Vec<u8> {
        let mut answer: Vec<u8> = self.keys.iter().flat_map(|key| text_value(key)).collect();
        answer.extend_from_slice(b"END\r\n");
        answer
    }

    /// Waits until the proxy fetches nothing more for a client that does not read, with values yet to be
    /// fetched. Looking too early shows nothing wrong, only less.
    fn wait_until_it_holds_back(&self) {
        let mut client = self.proxy.client();
        let mut last = (0, Instant::now());
        eventually("the proxy fetches no more", || {
            let fetched = stat(&stats(&mut client), "backend_bytes_read");
            if fetched != last.0 {
                last = (fetched, Instant::now());
            }
            (fetched > OVER_THE_BOUND as u64 && last.1.elapsed() > Duration::from_millis(100)).then_some(())
        });
        let all = (KEYS * VALUE) as u64;
        assert!(last.0 < all, "{} of {all} bytes were fetched for a client that reads none", last.0);
    }
}

/// Differs from key to key and from place to place.
fn value_of(key: &str) -> Vec<u8> {
    key.bytes().chain(*b": ").cycle().take(VALUE).collect()
}

fn text_value(key: &str) -> Vec<u8> {
    [format!("VALUE {key} 7 {VALUE}\r\n").as_bytes(), &value_of(key), b"\r\n"].concat()
}

/// Fails unless `got` is the start of `whole`, at least `least` bytes of it, and ends after a whole value.
fn check_whole_values(got: &[u8], whole: &[u8], least: usize) -> Result<(), String> {
    if !whole.starts_with(got) {
        let same = got.iter().zip(whole).take_while(|(one, other)| one == other).count();
        return Err(format!("byte {same} differs: {}", escape(&got[same..])));
    }
    let mut end = 0;
    while end < got.len() {
        let line = whole[end..].windows(2).position(|pair| pair == b"\r\n").expect("a line end");
        end += line + 2 + VALUE + 2;
    }
    if end != got.len() || got.len() == whole.len() {
        return Err(format!("{} of {} bytes came, which ends with {}", got.len(), whole.len(), escape(got)));
    }
    if got.len() < least {
        return Err(format!("only {} bytes came", got.len()));
    }
    Ok(())
}

#[test]
fn a_multi_key_answer_larger_than_1_mib_arrives_whole_and_in_order() {
    let rig = Filled::start(&[]);
    let mut client = rig.proxy.client();
    // Twice, with a request behind: its place is behind the large answer.
    client.send(format!("{0}{0}set last 0 0 1\r\nx\r\n", rig.request()));
    let answer = rig.answer();
    client.expect(&answer);
    client.expect(&answer);
    client.expect("STORED\r\n");
    // Keys that are not there, and keys asked for again.
    let keys: Vec<String> =
        (0..30).flat_map(|n| [format!("none{n}"), "key5".into(), format!("key{n}")]).collect();
    let there = keys.iter().filter(|key| key.starts_with("key"));
    let answer: Vec<u8> = there.flat_map(|key| text_value(key)).chain(*b"END\r\n").collect();
    client.exchange(format!("get {}\r\n", keys.join(" ")), answer);
}

#[test]
fn a_large_answer_arrives_whole_and_in_order_when_the_client_reads_slowly() {
    let rig = Filled::start(&["--threads", "1"]);
    let mut slow = Talk::with_little_room(rig.proxy.address());
    slow.send(rig.request() + "mn\r\n");
    rig.wait_until_it_holds_back();
    // Others go on as ever, on the same worker and the same links.
    rig.proxy.client().exchange("get key3\r\n", [text_value("key3"), b"END\r\n".to_vec()].concat());
    slow.expect(rig.answer());
    slow.expect("MN\r\n");
}

#[test]
fn multi_key_gets_of_thousands_of_keys_are_answered_in_the_order_asked_duplicates_included() {
    let servers = three_memcacheds();
    let proxy = Proxy::start(&list_of(&servers), &[]);
    let mut client = proxy.client();
    let value = |number: usize| format!("VALUE key{number} 0 4\r\n{number:04}\r\n");
    let set = |number: usize| format!("set key{number} 0 0 4 noreply\r\n{number:04}\r\n");
    client.exchange((0..5000).map(set).collect::<String>() + "mn\r\n", "MN\r\n");
    // Backwards, each third one missing and each fifth asked for twice.
    let asked: Vec<String> = (0..5000)
        .rev()
        .flat_map(|number| match number {
            _ if number % 3 == 0 => vec![format!("none{number}")],
            _ if number % 5 == 0 => vec![format!("key{number}"); 2],
            _ => vec![format!("key{number}")],
        })
        .collect();
    let there = asked.iter().filter_map(|key| key.strip_prefix("key")?.parse().ok());
    let answer = there.map(value).collect::<String>() + "END\r\n";
    client.exchange(format!("get {}\r\n", asked.join(" ")), &answer);
}

#[test]
fn gets_and_gat_of_many_keys_are_fetched_in_windows_too() {
    let rig = Filled::start(&[]);
    let mut client = rig.proxy.client();
    client.exchange(format!("gat 0 {}\r\n", rig.keys.join(" ")), rig.answer());
    client.send(format!("gets {}\r\n", rig.keys.join(" ")));
    for key in &rig.keys {
        let line = client.line();
        assert!(line.starts_with(&format!("VALUE {key} 7 {VALUE} ")), "{line:?} for {key}");
        client.expect(value_of(key));
        client.expect("\r\n");
    }
    client.expect("END\r\n");
}

#[test]
fn when_a_part_ends_after_more_than_1_mib_was_sent_the_connection_closes_after_the_last_whole_value() {
    a_part_fails(&[], |rig| drop(rig.servers.remove(1)));
}

#[test]
fn when_a_part_times_out_after_more_than_1_mib_was_sent_the_connection_closes_after_the_last_whole_value() {
    // Long enough for what is answered, on a slow machine too.
    a_part_fails(&["--timeout", "4s"], |rig| std::mem::forget(Frozen::freeze(rig.servers[1].id())));
}

/// Lets s1 fail while a client that does not read is owed the rest of a large answer.
fn a_part_fails(limits: &[&str], fail: impl FnOnce(&mut Filled)) {
    let mut rig = Filled::start(&[limits, &["--threads", "1"]].concat());
    let mut slow = Talk::with_little_room(rig.proxy.address());
    slow.send(rig.request() + "mn\r\n");
    rig.wait_until_it_holds_back();
    let mut other = rig.proxy.client();
    fail(&mut rig);
    let got = slow.rest();
    if let Err(error) = check_whole_values(&got, &rig.answer(), OVER_THE_BOUND) {
        panic!("{error}");
    }
    other.exchange("mn\r\n", "MN\r\n");
}

/// Misses were asked for in place of errors, so that there is no reason to close.
#[test]
fn when_a_part_of_a_large_answer_fails_with_read_errors_miss_the_rest_of_its_keys_are_misses() {
    let mut rig = Filled::start(&["--read-errors", "miss", "--threads", "1"]);
    let mut slow = Talk::with_little_room(rig.proxy.address());
    slow.send(rig.request());
    rig.wait_until_it_holds_back();
    drop(rig.servers.remove(1));
    let got = slow.until(b"\r\nEND\r\n");
    let (mut at, mut misses) = (0, 0);
    for key in &rig.keys {
        let value = text_value(key);
        if got[at..].starts_with(&value) {
            at += value.len();
            assert!(misses == 0 || !is_on_s1(key), "{key} came after a miss on the same backend");
        } else {
            assert!(is_on_s1(key), "{key} is missing, and its backend is there");
            misses += 1;
        }
    }
    assert_eq!(&got[at..], b"END\r\n");
    assert!(misses > 0, "no key was lost");
    slow.exchange("mn\r\n", "MN\r\n");
}

fn is_on_s1(key: &str) -> bool {
    owner(key, 3) == 1
}

#[test]
fn when_a_part_fails_before_1_mib_was_sent_one_error_line_takes_the_place_of_the_answer() {
    let mut rig = Filled::start(&[]);
    let mut client = rig.proxy.client();
    drop(rig.servers.remove(1));
    let error = client.ask(rig.request());
    assert!(error.starts_with("SERVER_ERROR backend s1 "), "{error:?}");
    client.exchange("mn\r\n", "MN\r\n");
}

#[test]
fn canary_half_values_error_lines_and_whole_answers_are_told_from_whole_values() {
    let (one, two) = (text_value("key0"), text_value("key1"));
    let whole = [&one[..], &two, b"END\r\n"].concat();
    let half = [&one[..], &two[..two.len() - 1]].concat();
    let error = [&one[..], b"SERVER_ERROR backend s1 timed out\r\n"].concat();
    let swapped = [&two[..], &one].concat();
    assert_eq!(check_whole_values(&one, &whole, 1), Ok(()));
    for wrong in [&half, &error, &swapped, &whole] {
        assert!(check_whole_values(wrong, &whole, 1).is_err(), "{}", escape(wrong));
    }
    assert!(check_whole_values(&one, &whole, one.len() + 1).is_err());
}
