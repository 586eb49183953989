//! Whatever clients do, the process stays under 256 MiB with its default flags and two workers, and somebody
//! who behaves is served meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::fleet::Fleet;
use super::holdings::{RESIDENT_MAX, peak_of};
use super::rig::{Frozen, Talk, eventually, key_of, keys_of, stat, stats};
use super::support::pushy::Pushy;
use super::support::report::say;

const WORKERS: [&str; 2] = ["--threads", "2"];

/// How long a crowd goes on.
const SIEGE: Duration = Duration::from_secs(2);

/// What was seen of the process and of its guest while something went on.
struct Seen {
    /// The most memory that was resident since the process began, bytes.
    peak: usize,
    /// How long the guest's requests took.
    times: Vec<Duration>,
}

impl Seen {
    /// Runs `siege` while somebody sets and gets keys of backends 1 and 2 of three.
    fn during(fleet: &Fleet, siege: impl FnOnce()) -> Self {
        let over = AtomicBool::new(false);
        let keys = [1, 2].map(|owner| key_of(owner, 3, "guest"));
        let mut times = Vec::new();
        thread::scope(|scope| {
            let guest = scope.spawn(|| {
                let (mut client, mut times) = (fleet.proxy.client(), Vec::new());
                while !over.load(Ordering::Relaxed) || times.len() < 20 {
                    let key = &keys[times.len() % 2];
                    let start = Instant::now();
                    client.exchange(format!("set {key} 0 0 5\r\nhello\r\n"), "STORED\r\n");
                    client.exchange(format!("get {key}\r\n"), format!("VALUE {key} 0 5\r\nhello\r\nEND\r\n"));
                    times.push(start.elapsed());
                    thread::sleep(Duration::from_millis(2));
                }
                times
            });
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(siege));
            over.store(true, Ordering::Relaxed);
            times = guest.join().expect("the guest is served");
            if let Err(panic) = outcome {
                std::panic::resume_unwind(panic);
            }
        });
        Seen { peak: peak_of(&fleet.proxy), times }
    }

    #[track_caller]
    fn judge(mut self, what: &str) {
        self.times.sort();
        let p99 = self.times[self.times.len() * 99 / 100];
        let peak = self.peak >> 20;
        say(&format!("{what}: at most {peak} MiB; of {} visits 99 % took {p99:?}", self.times.len()));
        assert!(self.peak < RESIDENT_MAX, "{what}: {peak} MiB");
    }
}

fn pushy(fleet: &Fleet) -> Pushy {
    Pushy::connect(fleet.proxy.address())
}

/// Somebody else's value of nearly a mebibyte gets through, if not at once.
#[track_caller]
fn a_large_set_gets_through(fleet: &Fleet) {
    let key = key_of(1, 3, "large");
    let request = format!("set {key} 0 0 900000\r\n{}\r\n", "x".repeat(900_000));
    eventually("a set of 900,000 bytes gets through", || {
        let mut client = fleet.proxy.client();
        // It may be turned away while others are not yet.
        client.try_send(&request).ok()?;
        (client.first_line_or_end().ok()? == "STORED").then_some(())
    });
}

#[test]
fn a_thousand_clients_that_stop_in_the_middle_of_a_set() {
    let fleet = Fleet::start(3, &WORKERS);
    let seen = Seen::during(&fleet, || {
        let half = format!("set half 0 0 1048576\r\n{}", "y".repeat(1 << 19)).into_bytes();
        let mut crowd: Vec<(Pushy, usize)> = (0..1000).map(|_| (pushy(&fleet), 0)).collect();
        let start = Instant::now();
        while start.elapsed() < SIEGE {
            for (stream, sent) in &mut crowd {
                let until = half.len().min(*sent + (64 << 10));
                *sent += stream.push(&half[*sent..until]);
            }
        }
        a_large_set_gets_through(&fleet);
        let evicted = stat(&stats(&mut fleet.proxy.client()), "evicted_clients");
        assert!(evicted >= 500, "{evicted} of a thousand have given way");
        // One that has given way was told why.
        let words = b"SERVER_ERROR out of memory storing object\r\n";
        let told = crowd.iter_mut().any(|(stream, _)| stream.come_by_now() == words);
        assert!(told, "memcached's words");
    });
    seen.judge("a thousand half sets");
}

#[test]
fn clients_that_ask_for_large_values_and_never_read() {
    let fleet = Fleet::start(3, &WORKERS);
    let keys = keys_of(0, 3, "value", 20);
    let mut client = fleet.proxy.client();
    for key in &keys {
        client.exchange(format!("set {key} 0 0 1000000\r\n{}\r\n", "z".repeat(1_000_000)), "STORED\r\n");
    }
    let gets: String = keys.iter().map(|key| format!("get {key}\r\n")).collect();
    let gets = gets.repeat(100).into_bytes();
    let seen = Seen::during(&fleet, || {
        let mut crowd: Vec<Pushy> = (0..100).map(|_| pushy(&fleet)).collect();
        let start = Instant::now();
        while start.elapsed() < SIEGE {
            crowd.iter_mut().for_each(|stream| {
                stream.push(&gets);
            });
            thread::sleep(Duration::from_millis(5));
        }
        a_large_set_gets_through(&fleet);
    });
    seen.judge("a hundred that never read");
    // What they had asked for is not fetched for nobody.
    client.exchange(format!("set {} 0 0 1\r\nx\r\n", keys[0]), "STORED\r\n");
}

#[test]
fn a_client_that_pipelines_gets_without_end() {
    let fleet = Fleet::start(3, &WORKERS);
    let gets = "get nothing\r\n".repeat(10_000).into_bytes();
    let seen = Seen::during(&fleet, || {
        let (mut stream, mut sent) = (pushy(&fleet), 0);
        let start = Instant::now();
        while start.elapsed() < SIEGE {
            sent += stream.push(&gets[sent % 13..]);
            thread::sleep(Duration::from_micros(200));
        }
        assert!(sent > 13 * 100_000, "only {sent} bytes were taken");
    });
    seen.judge("gets without end");
}

#[test]
fn a_backend_that_stops_reading() {
    let fleet = Fleet::start(3, &WORKERS);
    let key = key_of(0, 3, "stuck");
    let set = format!("set {key} 0 0 100000\r\n{}\r\n", "w".repeat(100_000)).into_bytes();
    let seen = Seen::during(&fleet, || {
        let _frozen: Frozen = fleet.freeze(0);
        let mut crowd: Vec<(Pushy, usize)> = (0..200).map(|_| (pushy(&fleet), 0)).collect();
        let start = Instant::now();
        while start.elapsed() < SIEGE {
            for (stream, sent) in &mut crowd {
                *sent += stream.push(&set[*sent % set.len()..]);
            }
        }
    });
    seen.judge("a backend that stops reading");
}

#[test]
fn a_get_of_a_hundred_thousand_keys() {
    let fleet = Fleet::start(3, &WORKERS);
    let keys: Vec<String> = (0..100_000).map(|number| format!("key-{number:09}")).collect();
    let mut client = fleet.proxy.client();
    client.exchange(format!("set {} 0 0 4\r\nlast\r\n", keys[99_999]), "STORED\r\n");
    let seen = Seen::during(&fleet, || {
        let answer = format!("VALUE {} 0 4\r\nlast\r\nEND\r\n", keys[99_999]);
        client.exchange(format!("get {}\r\n", keys.join(" ")), answer);
    });
    seen.judge("a get of a hundred thousand keys");
}

#[test]
fn lines_without_end() {
    let fleet = Fleet::start(3, &WORKERS);
    let keys = [b"get ".to_vec(), b"key ".repeat(16 << 10)].concat();
    let seen = Seen::during(&fleet, || {
        let mut crowd: Vec<(Pushy, usize)> = (0..60).map(|_| (pushy(&fleet), 0)).collect();
        let start = Instant::now();
        while start.elapsed() < SIEGE {
            for (stream, sent) in &mut crowd {
                // Behind the verb it goes round and round.
                let from = if *sent < keys.len() { *sent } else { 4 + (*sent - 4) % (keys.len() - 4) };
                *sent += stream.push(&keys[from..]);
            }
        }
        a_large_set_gets_through(&fleet);
    });
    seen.judge("lines without end");
    let mut talk: Talk = fleet.proxy.client();
    talk.exchange("mn\r\n", "MN\r\n");
}

/// Each answer is of several values, which meet in it.
#[test]
fn clients_that_ask_for_several_large_values_at_once_and_never_read() {
    let fleet = Fleet::start(3, &WORKERS);
    let keys = [0, 1, 2].map(|owner| key_of(owner, 3, "large"));
    let mut client = fleet.proxy.client();
    for key in &keys {
        client.exchange(format!("set {key} 0 0 900000\r\n{}\r\n", "z".repeat(900_000)), "STORED\r\n");
    }
    let gets = format!("get {}\r\n", keys.join(" ")).repeat(40).into_bytes();
    let seen = Seen::during(&fleet, || {
        let mut crowd: Vec<Pushy> = (0..150).map(|_| pushy(&fleet)).collect();
        let start = Instant::now();
        while start.elapsed() < SIEGE {
            crowd.iter_mut().for_each(|stream| {
                stream.push(&gets);
            });
            thread::sleep(Duration::from_millis(5));
        }
    });
    seen.judge("150 that ask for several values and never read");
}
