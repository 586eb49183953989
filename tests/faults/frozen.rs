//! A memcached that is stopped and goes on again, with hundreds of requests in flight.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::fleet::{Fleet, QUICK};
use super::rig::{Talk, eventually, key_of, keys_of, stat, stats};
use super::support::binary::Frame;
use super::support::binary::opcode::GET;
use super::support::binary::status::TEMPORARY_FAILURE;

const CLIENTS: usize = 20;
const REQUESTS: usize = 25;

/// Longer than a busy machine keeps anybody else waiting.
const TIMEOUT: Duration = Duration::from_secs(3);

/// A client in one of the three protocols, with keys of its own whose values name them.
struct Asker {
    client: Talk,
    number: usize,
    keys: Vec<String>,
}

impl Asker {
    fn value_of(key: &str) -> String {
        format!("the value of {key}")
    }

    /// Stores what it will ask for.
    fn fill(&self, filler: &mut Talk) {
        for key in &self.keys {
            let value = Asker::value_of(key);
            filler.exchange(format!("set {key} 0 0 {}\r\n{value}\r\n", value.len()), "STORED\r\n");
        }
    }

    /// Asks for all its keys at once.
    fn ask(&mut self) {
        let request = |(opaque, key): (usize, &String)| match self.number % 3 {
            0 => format!("get {key}\r\n").into_bytes(),
            1 => format!("mg {key} k v\r\n").into_bytes(),
            _ => Frame::request(GET, opaque as u32).key(key.as_bytes()).bytes(),
        };
        let requests: Vec<u8> = self.keys.iter().enumerate().flat_map(request).collect();
        self.client.send(requests);
    }

    /// Each is answered with its value, or with the error `words` if there are such.
    #[track_caller]
    fn expect(&mut self, words: Option<&str>) {
        for (opaque, key) in self.keys.iter().enumerate() {
            let value = Asker::value_of(key);
            let size = value.len();
            match (self.number % 3, words) {
                (0, None) => self.client.expect(format!("VALUE {key} 0 {size}\r\n{value}\r\nEND\r\n")),
                (1, None) => self.client.expect(format!("VA {size} k{key}\r\n{value}\r\n")),
                (_, None) => {
                    let reply = self.client.frame();
                    assert_eq!((reply.opaque, reply.status), (opaque as u32, 0), "{reply}");
                    assert_eq!(reply.value, value.as_bytes());
                }
                (0 | 1, Some(words)) => assert_eq!(self.client.line(), words),
                (_, Some(words)) => {
                    let reply = self.client.frame();
                    let expected =
                        Frame::reply(GET, TEMPORARY_FAILURE, opaque as u32).value(words.as_bytes());
                    assert_eq!(reply, expected, "{reply}");
                }
            }
        }
    }
}

/// Two pauses, and with --failure-limit 2 the backend would be down if either were more than one failure, or
/// if the answers between them did not count.
#[test]
fn a_pause_with_500_requests_in_flight_is_one_failure() {
    let timeout = format!("{}s", TIMEOUT.as_secs());
    let fleet = Fleet::start(2, &["--threads", "2", "--timeout", &timeout, "--failure-limit", "2"]);
    let mut filler = fleet.proxy.client();
    let mut askers: Vec<Asker> = (0..CLIENTS)
        .map(|number| {
            let keys = keys_of(0, 2, &format!("key{number}:"), REQUESTS);
            Asker { client: fleet.proxy.client(), number, keys }
        })
        .collect();
    askers.iter().for_each(|asker| asker.fill(&mut filler));
    // Each worker opens its links of both kinds.
    for _ in 0..2 {
        askers.iter_mut().for_each(Asker::ask);
        askers.iter_mut().for_each(|asker| asker.expect(None));
    }
    let others = keys_of(1, 2, "other", 2);
    for pause in 1..=2 {
        let frozen = fleet.freeze(0);
        let before = stat(&stats(&mut filler), "timeouts");
        let started = Instant::now();
        askers.iter_mut().for_each(Asker::ask);
        while_asking_for(&fleet, &others, || {
            for asker in &mut askers {
                asker.expect(Some("SERVER_ERROR backend s0 timed out"));
            }
        });
        assert!(started.elapsed() >= TIMEOUT, "given up after {:?}", started.elapsed());
        frozen.thaw();
        let lines = stats(&mut filler);
        assert_eq!(stat(&lines, "timeouts") - before, (CLIENTS * REQUESTS) as u64);
        assert_eq!(lines["backend:s0:state"], "up");
        // The late answers come now, and nobody gets them; everybody gets what was asked for anew.
        for _ in 0..3 {
            askers.iter_mut().for_each(Asker::ask);
            askers.iter_mut().for_each(|asker| asker.expect(None));
        }
        assert!(stat(&stats(&mut filler), "late_replies") > 0);
        let log = fleet.proxy.stderr();
        let about: Vec<&str> = log.lines().filter(|line| line.contains("backend s0")).collect();
        assert_eq!(about.len(), pause, "{log}");
        assert!(about.iter().all(|line| line.ends_with("backend s0: timed out")), "{log}");
    }
}

/// Runs `faulty` while two pairs of clients use `keys`, and lose nothing.
#[track_caller]
fn while_asking_for(fleet: &Fleet, keys: &[String], faulty: impl FnOnce()) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for key in keys {
            let (over, mut text, mut binary) = (&over, fleet.proxy.client(), fleet.proxy.client());
            scope.spawn(move || {
                let mut round = 0;
                while !over.load(Ordering::Relaxed) || round < 10 {
                    let value = format!("{round}");
                    let size = value.len();
                    text.exchange(format!("set {key} 0 0 {size}\r\n{value}\r\n"), "STORED\r\n");
                    let reply = binary.ask_frame(&Frame::request(GET, round).key(key.as_bytes()));
                    assert_eq!(reply.value, value.as_bytes(), "{reply}");
                    round += 1;
                }
            });
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(faulty));
        over.store(true, Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Stopped long enough to be down: its clients are told at once, and it is taken back without a hand. The 10
/// seconds are the promise itself.
#[test]
fn one_that_is_down_goes_on_and_is_taken_back() {
    let fleet = Fleet::start(2, &QUICK);
    let key = key_of(0, 2, "key");
    let mut clients = fleet.clients();
    clients[0].exchange(format!("set {key} 0 0 1\r\nx\r\n"), "STORED\r\n");
    let frozen = fleet.freeze(0);
    assert_eq!(clients[1].ask(format!("get {key}\r\n")), "SERVER_ERROR backend s0 timed out");
    fleet.until_state(0, "down");
    for client in &mut clients {
        eventually("each worker knows", || {
            let error = client.ask(format!("get {key}\r\n"));
            assert!(error.starts_with("SERVER_ERROR backend s0 "), "{error:?}");
            (error == "SERVER_ERROR backend s0 is down").then_some(())
        });
    }
    // The answers to probes that it missed are for nobody.
    thread::sleep(Duration::from_secs(1));
    frozen.thaw();
    let started = Instant::now();
    fleet.until_state(0, "up");
    for client in &mut clients {
        eventually("it is taken back", || {
            client.send(format!("get {key}\r\nmn\r\n"));
            let answer = client.until(b"MN\r\n");
            answer.starts_with(b"VALUE").then_some(())
        });
    }
    let took = started.elapsed();
    assert!(took < Duration::from_secs(10), "taken back after {took:?}");
}
