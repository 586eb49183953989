//! Somebody who misbehaves, in one way after the other. Nothing is expected for such a one but that the proxy
//! bears it, and ends connections that are over.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use super::rig::{End, Talk};
use super::support::binary::Frame;
use super::support::binary::opcode::GET;
use super::support::flag::is_up;
use super::support::pushy::Pushy;
use super::support::random::Random;
use super::support::tally::Tally;

/// Misbehaviour.
type Way<T> = fn(&mut T);

/// What each of them does at present.
#[derive(Default)]
pub(crate) struct Doing(Mutex<BTreeMap<usize, String>>);

impl Doing {
    /// In words.
    pub(crate) fn now(&self) -> String {
        let doing = self.0.lock().expect("no holder panicked");
        doing.values().map(String::as_str).collect::<Vec<_>>().join(" and ")
    }

    fn begins(&self, number: usize, what: String) {
        self.0.lock().expect("no holder panicked").insert(number, what);
    }
}

/// One of them.
pub(crate) struct Rogue<'a> {
    address: SocketAddr,
    number: usize,
    doing: &'a Doing,
    random: Random,
    over: &'a AtomicBool,
    /// What it has done.
    pub(crate) done: Tally,
}

impl<'a> Rogue<'a> {
    /// Goes on until `over`.
    pub(crate) fn new(
        address: SocketAddr,
        number: usize,
        (doing, over): (&'a Doing, &'a AtomicBool),
        seed: u64,
    ) -> Self {
        let random = Random::new(seed ^ (number as u64 + 1) << 48);
        Rogue { address, number, doing, random, over, done: Tally::default() }
    }

    /// What can be done, and its name.
    const WAYS: [(&'static str, Way<Self>); 9] = [
        ("storms of connects", Self::storm),
        ("vanished with requests in flight", Self::vanish),
        ("never read", Self::never_read),
        ("half-closed", Self::half_close),
        ("lines without end", Self::endless_lines),
        ("half sets", Self::half_sets),
        ("a byte now and then", Self::drip),
        ("gets without end", Self::endless_gets),
        ("nonsense", Self::nonsense),
    ];

    /// Misbehaves in some way for a second or two, then has a rest.
    pub(crate) fn misbehave(&mut self) {
        let (name, way) = *self.random.pick(&Self::WAYS);
        self.doing.begins(self.number, name.to_owned());
        way(self);
        self.doing.begins(self.number, format!("nothing, after {name}"));
        self.done.count(name);
        self.rest(0, 300);
    }

    fn rest(&mut self, least: usize, most: usize) {
        thread::sleep(Duration::from_millis(self.random.between(least, most) as u64));
    }

    /// Calls `act` for a while.
    fn for_a_while(&mut self, most_milliseconds: usize, mut act: impl FnMut(&mut Self)) {
        let until =
            Instant::now() + Duration::from_millis(self.random.between(100, most_milliseconds) as u64);
        while Instant::now() < until && !is_up(self.over) {
            act(self);
        }
    }

    /// Mostly a few, at times many.
    fn crowd(&mut self, most: usize) -> usize {
        let most = if self.random.percent(25) { most } else { most.div_ceil(10) };
        self.random.between(1, most)
    }

    /// So many at once.
    fn crowd_of(&mut self, most: usize, what: &str) -> Vec<(Pushy, usize)> {
        let count = self.crowd(most);
        self.doing.begins(self.number, format!("{count} {what}"));
        (0..count).map(|_| (Pushy::connect(self.address), 0)).collect()
    }

    fn talk(&self) -> Talk {
        Talk::tcp(self.address)
    }

    /// Comes and goes as fast as it can, with nothing said or half a request.
    fn storm(&mut self) {
        self.for_a_while(1000, |rogue| {
            let mut client = rogue.talk();
            let binary = Frame::request(GET, 1).key(b"storm").bytes();
            let said: &[u8] = match rogue.random.below(6) {
                0 => b"",
                1 => b"get storm\r\n",
                2 => b"set storm 0 0 100\r\nhalf of it",
                3 => b"mn\r\n",
                4 => &binary,
                _ => b"\x80\0\0",
            };
            let _ = client.try_send(said);
            // A close would leave a port of ours waiting for a minute.
            client.reset();
        });
    }

    /// Up to a hundred requests in flight, and nobody is there for their answers.
    fn vanish(&mut self) {
        for _ in 0..self.crowd(40) {
            let (text, count) = (self.random.percent(60), self.random.between(1, 100));
            let requests: Vec<u8> = (0..count).flat_map(|number| self.request(text, number)).collect();
            let mut client = self.talk();
            let _ = client.try_send(requests);
            if self.random.percent(50) {
                self.rest(0, 20);
            }
            client.reset();
        }
    }

    /// A whole request, for a key of nobody else's.
    fn request(&mut self, text: bool, number: usize) -> Vec<u8> {
        let key = format!("rogue{}", self.random.below(50));
        if !text {
            return Frame::request(GET, number as u32).key(key.as_bytes()).bytes();
        }
        let request = match self.random.below(6) {
            0 => format!("get {key}\r\n"),
            1 => format!("gets {key} {key}x {key}y\r\n"),
            2 => format!("mg {key} v c k\r\n"),
            3 => format!("set {key} 0 0 300\r\n{}\r\n", "r".repeat(300)),
            4 => format!("incr {key} 1\r\n"),
            _ => format!("touch {key} 100\r\n"),
        };
        request.into_bytes()
    }

    /// Asks for large values, and takes none.
    fn never_read(&mut self) {
        let mut filler = self.talk();
        for number in 0..5 {
            let set = format!("set large{number} 0 0 900000\r\n{}\r\n", "z".repeat(900_000));
            // Its server may be gone, and it may itself have to give way.
            if filler.try_send(set).is_err() || filler.first_line_or_end().is_err() {
                break;
            }
        }
        let gets = b"get large0 large1 large2\r\nget large3\r\nmg large4 v\r\n".repeat(40);
        let mut crowd = self.crowd_of(60, "never read");
        self.for_a_while(1500, |_| {
            for (client, sent) in &mut crowd {
                *sent += client.push(&gets[*sent % gets.len()..]);
            }
            thread::sleep(Duration::from_millis(5));
        });
    }

    /// Says all that it has to say, and half a request, and that this was all: it must get its answers and then
    /// the end.
    fn half_close(&mut self) {
        for _ in 0..self.crowd(20) {
            let count = self.random.between(0, 50);
            let requests: Vec<u8> = (0..count).flat_map(|number| self.request(true, number)).collect();
            let mut client = self.talk();
            let _ = client.try_send(requests);
            let _ = client.try_send("set half 0 0 10\r\nnot all");
            client.half_close();
            let end = loop {
                if let Err(end) = client.skip() {
                    break end;
                }
            };
            assert_ne!(end, End::Silent, "a half-closed client waits for the end of its connection");
        }
    }

    /// A request that is never over: keys without end, or a key without end.
    fn endless_lines(&mut self) {
        let keys = [b"get ".to_vec(), b"key ".repeat(16 << 10)].concat();
        let word = b"w".repeat(64 << 10);
        let some = self.random.percent(70);
        let line = if some { &keys } else { &word };
        let what = if some { "lines of keys without end" } else { "words without end" };
        let mut crowd = self.crowd_of(60, what);
        self.for_a_while(1200, |_| {
            for (client, sent) in &mut crowd {
                // Behind the verb it goes round and round.
                let from = if *sent < line.len() { *sent } else { 4 + (*sent - 4) % (line.len() - 4) };
                *sent += client.push(&line[from..]);
            }
            thread::sleep(Duration::from_millis(2));
        });
    }

    /// They send half of a large set, and stop.
    fn half_sets(&mut self) {
        let half = format!("set half 0 0 1048576\r\n{}", "y".repeat(800 << 10)).into_bytes();
        let most = self.random.between(1, half.len());
        let mut crowd = self.crowd_of(400, &format!("half sets of {most} bytes"));
        self.for_a_while(1500, |_| {
            for (client, sent) in &mut crowd {
                let until = most.min(*sent + (64 << 10));
                *sent += client.push(&half[(*sent).min(until)..until]);
            }
            thread::sleep(Duration::from_millis(5));
        });
    }

    /// They say a byte now and then.
    fn drip(&mut self) {
        let binary = Frame::request(GET, 5).key(b"slow by one byte").bytes();
        let requests: [&[u8]; 3] =
            [b"set slow 0 0 5\r\nvalue\r\n", b"gets a key that comes slowly\r\n", &binary];
        let mut crowd = self.crowd_of(100, "that say a byte now and then");
        let mut at = 0;
        self.for_a_while(1500, |rogue| {
            for ((client, _), request) in crowd.iter_mut().zip(requests.iter().cycle()) {
                client.push(&request[at.min(request.len())..(at + 1).min(request.len())]);
                client.come_by_now();
            }
            at += 1;
            rogue.rest(1, 30);
        });
    }

    /// As many gets as can be pushed, and now and then it reads something.
    fn endless_gets(&mut self) {
        let gets = b"get nothing\r\n".repeat(5_000);
        let (mut client, mut sent) = (Pushy::connect(self.address), 0);
        self.for_a_while(1000, |rogue| {
            sent += client.push(&gets[sent % 13..]);
            if rogue.random.percent(10) {
                client.come_by_now();
            }
            thread::sleep(Duration::from_micros(500));
        });
    }

    /// What is no request, or none that can be.
    fn nonsense(&mut self) {
        for _ in 0..self.crowd(50) {
            let said = match self.random.below(6) {
                0 => b"GET / HTTP/1.1\r\nHost: cache\r\n\r\n".to_vec(),
                1 => b"set a 0 0 99999999999\r\nmg a ! ! !\r\ncas a 0 0 7x 1\r\n".to_vec(),
                2 => [&[0x80][..], &self.random.bytes(60)].concat(),
                3 => b"\x80\x01\0\x05\x08\0\0\0\xff\xff\xff\xff".repeat(4),
                4 => b"get \0\0\0 \r\nquit\r\nget a\r\n".to_vec(),
                _ => {
                    let count = self.random.between(1, 4000);
                    self.random.bytes(count)
                }
            };
            let mut client = Pushy::connect(self.address);
            client.push(&said);
            self.rest(0, 5);
            client.come_by_now();
        }
    }
}
