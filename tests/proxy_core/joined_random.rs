//! Random clients with random pipelines, of which many meet in one tick. The backends write down what they are
//! sent and what they say to it; afterwards every answer of every client must be one that its requests got in
//! its order. Nothing fails here: that is the subject of `chaos`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use mcproxy::io::ConnId;
use mcproxy::proxy::settings::Settings;

use super::joined::joining_with;
use super::rig::{Rig, show};
use super::words::Dice;

const SEEDS: u64 = 300;

/// Ticks in which clients ask, of one seed.
const TICKS: usize = 60;

/// Keys that all clients ask for.
const SHARED_KEYS: usize = 12;

/// What one backend was asked, and what it said.
#[derive(Clone, Debug)]
struct Seen {
    /// The request without its keys. Only get and gets are the same twice.
    verb: String,
    /// Each key and the answer about it: for a read a `VALUE`, or nothing.
    answers: Vec<(String, String)>,
}

/// A part of a client's request, for one backend and one key.
#[derive(Clone, Debug)]
struct Part {
    backend: usize,
    verb: String,
    key: String,
    /// What came; `None` if nothing was to come.
    answer: Option<String>,
}

/// All that happened: by backend in the order of its link, by client in the order of its requests.
#[derive(Clone, Default)]
struct History {
    seen: [Vec<Seen>; 3],
    asked: Vec<Vec<Part>>,
}

impl History {
    /// Every part of every client finds its place on its backend's link, no earlier than those before it.
    fn check(&self) -> Result<(), String> {
        self.check_lines()?;
        for (client, parts) in self.asked.iter().enumerate() {
            let mut places = [0; 3];
            for (number, part) in parts.iter().enumerate() {
                let place = &mut places[part.backend];
                let rest = self.seen[part.backend].iter().enumerate().skip(*place);
                *place = rest.filter(|(_, seen)| seen.explains(part)).map(|(index, _)| index).next().ok_or(
                    format!("client {client}, part {number}: nothing from line {place} on explains {part:?}"),
                )?;
            }
        }
        Ok(())
    }

    /// Nothing was sent twice, or without anybody asking for it.
    fn check_lines(&self) -> Result<(), String> {
        let mut wanted: BTreeMap<(usize, &str, &str), usize> = BTreeMap::new();
        for part in self.asked.iter().flatten() {
            *wanted.entry((part.backend, &part.verb, &part.key)).or_default() += 1;
        }
        for (backend, seen) in
            self.seen.iter().enumerate().flat_map(|(b, seen)| seen.iter().map(move |s| (b, s)))
        {
            let keys: BTreeSet<&str> = seen.answers.iter().map(|(key, _)| &key[..]).collect();
            if keys.len() < seen.answers.len() {
                return Err(format!("a key is asked twice in one request: {seen:?}"));
            }
            for key in keys {
                let left = wanted.get_mut(&(backend, &seen.verb, key)).filter(|left| **left > 0);
                *left.ok_or(format!("nobody wants {key} of {seen:?}"))? -= 1;
            }
        }
        Ok(())
    }
}

impl Seen {
    fn explains(&self, part: &Part) -> bool {
        let fits = |answer: &str| part.answer.as_ref().is_none_or(|got| got == answer);
        self.verb == part.verb && self.answers.iter().any(|(key, answer)| *key == part.key && fits(answer))
    }
}

/// A backend that does its work, and writes it down.
#[derive(Default)]
struct Model {
    items: BTreeMap<String, (String, u64)>,
    tokens: u64,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
}

impl Model {
    /// Carries out the first whole request, if there is one.
    fn work(&mut self) -> Option<Seen> {
        let lf = self.inbox.iter().position(|&byte| byte == b'\n')?;
        let line = String::from_utf8(self.inbox[..lf - 1].to_vec()).expect("a line of text");
        let words: Vec<&str> = line.split(' ').collect();
        let mut used = lf + 1;
        let read = |from: usize| words[from..].iter().map(|key| key.to_string()).collect::<Vec<_>>();
        let (verb, keys, end) = match words[0] {
            "get" | "gets" => (words[0].to_string(), read(1), "END\r\n"),
            "gat" | "gats" => (words[..2].join(" "), read(2), "END\r\n"),
            "set" => {
                let length: usize = words[4].parse().expect("a length");
                let value = self.inbox.get(used..used + length)?.to_vec();
                self.inbox.get(used + length..used + length + 2)?;
                used += length + 2;
                (format!("set {}", String::from_utf8(value).unwrap()), vec![words[1].to_string()], "")
            }
            "flush_all" => (line.clone(), vec![String::new()], ""),
            _ => ([&words[..1], &words[2..]].concat().join(" "), vec![words[1].to_string()], ""),
        };
        self.inbox.drain(..used);
        let answers: Vec<(String, String)> =
            keys.into_iter().map(|key| (key.clone(), self.answer(&verb, &key))).collect();
        answers.iter().for_each(|(_, answer)| self.outbox.extend_from_slice(answer.as_bytes()));
        self.outbox.extend_from_slice(end.as_bytes());
        Some(Seen { verb, answers })
    }

    fn answer(&mut self, verb: &str, key: &str) -> String {
        let (verb, rest) = verb.split_once(' ').unwrap_or((verb, ""));
        let item = self.items.get(key).cloned();
        match (verb, item) {
            ("get" | "gat", Some((value, _))) => format!("VALUE {key} 0 {}\r\n{value}\r\n", value.len()),
            ("gets" | "gats", Some((value, cas))) => {
                format!("VALUE {key} 0 {} {cas}\r\n{value}\r\n", value.len())
            }
            ("get" | "gets" | "gat" | "gats", None) => String::new(),
            ("mg", Some((value, _))) => format!("VA {} {}\r\n{value}\r\n", value.len(), mark_of(rest)),
            ("mg", None) => "EN\r\n".into(),
            ("md", Some(_)) => {
                self.items.remove(key);
                format!("HD {}\r\n", mark_of(rest))
            }
            ("md", None) => format!("NF {}\r\n", mark_of(rest)),
            ("set", _) => {
                self.put(key, rest.to_string());
                "STORED\r\n".into()
            }
            ("incr", Some((value, _))) => {
                let sum = value.parse::<u64>().expect("a number") + rest.parse::<u64>().expect("a number");
                self.put(key, sum.to_string());
                format!("{sum}\r\n")
            }
            ("touch", Some(_)) => "TOUCHED\r\n".into(),
            ("incr" | "touch", None) => "NOT_FOUND\r\n".into(),
            ("flush_all", _) => "OK\r\n".into(),
            _ => panic!("nobody asks for {verb} {rest}"),
        }
    }

    fn put(&mut self, key: &str, value: String) {
        self.tokens += 1;
        self.items.insert(key.to_string(), (value, self.tokens));
    }
}

/// The opaque among meta flags.
fn mark_of(flags: &str) -> &str {
    flags.split(' ').find(|flag| flag.starts_with('O')).expect("an opaque")
}

/// How an answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `VALUE`s of some of the keys, and END.
    Values,
    /// One line, behind a value if that is what its length is for.
    Line,
    /// The same line from all backends, once.
    Everybody,
    /// None.
    Silence,
}

/// A client: what it has asked is in the history.
struct Player {
    conn: ConnId,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    /// What awaits its answer: how that is read, and its parts.
    waiting: std::collections::VecDeque<(Form, Range<usize>)>,
}

struct Run {
    rig: Rig,
    dice: Dice,
    models: [Model; 3],
    players: Vec<Player>,
    history: History,
    shared: Vec<String>,
    /// Numbers that tell requests apart.
    next: u64,
}

impl Run {
    fn new(settings: Arc<Settings>, seed: u64) -> Self {
        let mut rig = Rig::with(settings);
        let shared = (0..SHARED_KEYS).map(|number| rig.key(number % 3, number / 3)).collect();
        (0..3).for_each(|backend| rig.hold(rig.link(backend)));
        rig.holding = true;
        let mut run = Run {
            rig,
            dice: Dice::new(seed),
            models: Default::default(),
            players: Vec::new(),
            history: History::default(),
            shared,
            next: 10,
        };
        for _ in 0..2 + run.dice.throw(8) {
            let conn = run.rig.client();
            let (outgoing, incoming, waiting) = Default::default();
            run.players.push(Player { conn, outgoing, incoming, waiting });
            run.history.asked.push(Vec::new());
        }
        run
    }

    /// Asks for a while, then waits until everybody has their answers.
    fn play(&mut self) {
        for _ in 0..TICKS {
            for _ in 0..self.dice.throw(4) {
                let player = self.dice.throw(self.players.len());
                (0..1 + self.dice.throw(5)).for_each(|_| self.ask(player));
            }
            self.tick();
        }
        for _ in 0..5000 {
            if self.players.iter().all(|player| player.waiting.is_empty() && player.outgoing.is_empty()) {
                // Nobody waits for quiet requests, and they may have waited for their turn.
                (0..100).for_each(|_| self.tick());
                return;
            }
            self.tick();
        }
        panic!("somebody still waits");
    }

    /// Links bring bytes, clients bring bytes, some of them twice; then all is written that can be.
    fn tick(&mut self) {
        for backend in 0..3 {
            let model = &mut self.models[backend];
            while self.dice.throw(5) > 0 {
                let Some(seen) = model.work() else { break };
                self.history.seen[backend].push(seen);
            }
            let count = if self.dice.once_in(3) { self.dice.throw(30) } else { usize::MAX };
            let bytes: Vec<u8> = model.outbox.drain(..count.min(model.outbox.len())).collect();
            if !bytes.is_empty() {
                self.rig.hand(self.rig.link(backend), &bytes);
            }
        }
        for _ in 0..self.dice.throw(2 * self.players.len()) {
            let player = self.dice.throw(self.players.len());
            let player = &mut self.players[player];
            let count = if self.dice.once_in(3) { 1 + self.dice.throw(30) } else { 1000 };
            let bytes: Vec<u8> = player.outgoing.drain(..count.min(player.outgoing.len())).collect();
            if !bytes.is_empty() {
                self.rig.hand(player.conn, &bytes);
            }
        }
        self.write();
        self.rig.settle();
        self.read();
    }

    /// Some of the sends in flight get on.
    fn write(&mut self) {
        let sending = self.rig.ends.iter().filter(|(_, end)| end.in_flight.is_some());
        let sending: Vec<u64> = sending.map(|(&bits, _)| bits).collect();
        for bits in sending {
            let count = if self.dice.once_in(2) { self.dice.throw(40) } else { 5000 };
            self.rig.write_some(ConnId::from_bits(bits), count);
        }
    }

    /// Everybody looks at what came.
    fn read(&mut self) {
        for backend in 0..3 {
            let bytes = self.rig.saw(backend);
            self.models[backend].inbox.extend_from_slice(bytes.as_bytes());
        }
        for (player, parts) in self.players.iter_mut().zip(&mut self.history.asked) {
            player.incoming.extend(self.rig.got_bytes(player.conn));
            while let Some((form, range)) = player.waiting.front() {
                let Some(used) = take_answer(*form, &mut parts[range.clone()], &player.incoming) else {
                    break;
                };
                player.incoming.drain(..used);
                player.waiting.pop_front();
            }
            assert!(!player.waiting.is_empty() || player.incoming.is_empty(), "{}", show(&player.incoming));
        }
    }

    /// A player makes up a request.
    fn ask(&mut self, player: usize) {
        self.next += 1;
        let (number, key) = (self.next, self.dice.pick(&self.shared).clone());
        let lone = format!("lone{number}");
        let form = match self.dice.throw(13) {
            0..=2 => self.read_keys(player, "get", &[key]),
            3 => self.read_keys(player, "gets", &[key]),
            4 => self.read_keys(player, "get", &[lone]),
            5 | 6 => {
                let mut keys = self.shared.clone();
                (0..keys.len()).for_each(|place| keys.swap(place, self.dice.throw(SHARED_KEYS)));
                keys.truncate(2 + self.dice.throw(8));
                keys.push(lone);
                let verb = if self.dice.once_in(4) { "gets" } else { "get" };
                self.read_keys(player, verb, &keys)
            }
            7 => {
                let keys = [key, lone];
                self.read_keys(player, &format!("gat {number}"), &keys)
            }
            8 => {
                let quiet = self.dice.once_in(3);
                let value = number.to_string();
                let noreply = if quiet { " noreply" } else { "" };
                let line = format!("set {key} 0 0 {}{noreply}\r\n{value}\r\n", value.len());
                let form = if quiet { Form::Silence } else { Form::Line };
                self.send(player, &line, form, &format!("set {value}"), &[key])
            }
            9 => {
                let delta = number * 1_000_000;
                self.send(
                    player,
                    &format!("incr {key} {delta}\r\n"),
                    Form::Line,
                    &format!("incr {delta}"),
                    &[key],
                )
            }
            10 => self.send(
                player,
                &format!("touch {key} {number}\r\n"),
                Form::Line,
                &format!("touch {number}"),
                &[key],
            ),
            11 if self.dice.once_in(6) => self.flush(player, number),
            11 => self.send(
                player,
                &format!("md {key} O{number}\r\n"),
                Form::Line,
                &format!("md O{number}"),
                &[key],
            ),
            _ => self.send(
                player,
                &format!("mg {key} v O{number}\r\n"),
                Form::Line,
                &format!("mg v O{number}"),
                &[key],
            ),
        };
        let Some((form, count)) = form else { return };
        let end = self.history.asked[player].len();
        self.players[player].waiting.push_back((form, end - count..end));
    }

    fn read_keys(&mut self, player: usize, verb: &str, keys: &[String]) -> Option<(Form, usize)> {
        self.send(player, &format!("{verb} {}\r\n", keys.join(" ")), Form::Values, verb, keys)
    }

    /// Gives how its answer is read, and of how many parts; `None` if there is none.
    fn send(
        &mut self,
        player: usize,
        line: &str,
        form: Form,
        verb: &str,
        keys: &[String],
    ) -> Option<(Form, usize)> {
        self.players[player].outgoing.extend_from_slice(line.as_bytes());
        for key in keys {
            let backend = self.rig.settings.placement.owner(key.as_bytes());
            let part = Part { backend, verb: verb.to_string(), key: key.clone(), answer: None };
            self.history.asked[player].push(part);
        }
        (form != Form::Silence).then_some((form, keys.len()))
    }

    /// One that drops nothing before its time.
    fn flush(&mut self, player: usize, number: u64) -> Option<(Form, usize)> {
        let verb = format!("flush_all {number}");
        self.players[player].outgoing.extend_from_slice(format!("{verb}\r\n").as_bytes());
        let part = |backend| Part { backend, verb: verb.clone(), key: String::new(), answer: None };
        self.history.asked[player].extend((0..3).map(part));
        Some((Form::Everybody, 3))
    }
}

/// Enters the answer at the start of `incoming`; gives its bytes once it is whole.
fn take_answer(form: Form, parts: &mut [Part], incoming: &[u8]) -> Option<usize> {
    if form == Form::Values {
        return take_values(parts, incoming);
    }
    let mut used = incoming.iter().position(|&byte| byte == b'\n')? + 1;
    let line = String::from_utf8(incoming[..used].to_vec()).expect("a line of text");
    if let Some(rest) = line.strip_prefix("VA ") {
        used += rest.split(' ').next().unwrap().parse::<usize>().expect("a length") + 2;
    }
    let answer = String::from_utf8(incoming.get(..used)?.to_vec()).expect("text");
    parts.iter_mut().for_each(|part| part.answer = Some(answer.clone()));
    Some(used)
}

fn take_values(parts: &mut [Part], incoming: &[u8]) -> Option<usize> {
    let (mut at, mut answers) = (0, vec![String::new(); parts.len()]);
    let mut next = 0;
    loop {
        let end = incoming[at..].iter().position(|&byte| byte == b'\n')? + 1;
        let line = std::str::from_utf8(&incoming[at..at + end]).expect("a line of text");
        if line == "END\r\n" {
            parts.iter_mut().zip(answers).for_each(|(part, answer)| part.answer = Some(answer));
            return Some(at + end);
        }
        let words: Vec<&str> = line.trim_end().split(' ').collect();
        let found = parts[next..].iter().position(|part| words[0] == "VALUE" && words[1] == part.key);
        next += found.unwrap_or_else(|| panic!("{line:?} is no answer to {parts:?}"));
        let total = end + words[3].parse::<usize>().expect("a length") + 2;
        let frame = incoming.get(at..at + total)?;
        answers[next] = String::from_utf8(frame.to_vec()).expect("text");
        at += total;
        next += 1;
    }
}

/// What is tried with every fourth seed.
fn variants() -> [Arc<Settings>; 4] {
    [1, 40, 100, 64 << 10].map(|bytes| {
        joining_with(|settings| {
            let limits = &mut settings.limits;
            limits.joined_bytes_max = bytes;
            limits.window_keys_max = if bytes == 40 { 128 } else { 2 };
            limits.held_answer_max = 100;
            limits.client_requests_max = 10;
            limits.client_unread_max = 400;
        })
    })
}

/// Says on failure how to repeat it.
struct Repeat(u64);

impl Drop for Repeat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}: SEED={} cargo test --test proxy_core joined_random", self.0, self.0);
        }
    }
}

#[test]
fn every_answer_is_one_that_the_clients_order_explains() {
    let variants = variants();
    let only: Option<u64> = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    let names = ["joined_gets", "shared_keys", "paused_reads", "backend_gets"];
    let mut reached = [0; 4];
    for seed in only.map_or(0..SEEDS, |seed| seed..seed + 1) {
        let _repeat = Repeat(seed);
        let mut run = Run::new(variants[seed as usize % variants.len()].clone(), seed);
        run.play();
        if let Err(error) = run.history.check() {
            panic!("{error}\n{:#?}", run.history.seen);
        }
        let counters = run.rig.counters();
        reached.iter_mut().zip(names).for_each(|(sum, name)| *sum += counters[name]);
    }
    assert!(only.is_some() || reached.iter().all(|&sum| sum > 1000), "{names:?} came to {reached:?}");
}

/// Histories of a few runs, which are good.
fn good_histories() -> Vec<History> {
    let variants = variants();
    let run = |seed: u64| {
        let mut run = Run::new(variants[seed as usize % variants.len()].clone(), seed);
        run.play();
        run.history.check().expect("a good history");
        run.history
    };
    (0..5).map(run).collect()
}

/// Where a request stands that is sent only once.
fn place_of(history: &History, part: &Part) -> Option<usize> {
    let is_it = |seen: &Seen| seen.verb == part.verb && seen.answers.iter().any(|(key, _)| *key == part.key);
    let alone = !part.verb.starts_with("get") || part.key.starts_with("lone");
    history.seen[part.backend].iter().position(is_it).filter(|_| alone)
}

/// All pairs of requests of one client for one backend, with their places, of which the second is another's
/// than the first.
fn pairs(history: &History) -> Vec<(Part, usize, Part, usize)> {
    let mut pairs = Vec::new();
    for parts in &history.asked {
        for backend in 0..3 {
            let own = parts.iter().filter(|part| part.backend == backend);
            let placed: Vec<(&Part, usize)> =
                own.filter_map(|part| Some((part, place_of(history, part)?))).collect();
            let behind = placed.windows(2).filter(|pair| pair[0].1 != pair[1].1);
            pairs.extend(behind.map(|pair| (pair[0].0.clone(), pair[0].1, pair[1].0.clone(), pair[1].1)));
        }
    }
    pairs
}

#[test]
fn canary_two_requests_of_a_client_in_the_wrong_order_are_found_out() {
    let mut tried = 0;
    for history in good_histories() {
        for (first, early, second, late) in pairs(&history) {
            let mut spoilt = history.clone();
            let seen = &mut spoilt.seen[first.backend];
            if second.verb.starts_with("get") {
                // The get alone goes past the other, as if it had joined what stands there.
                let place = seen[late].answers.iter().position(|(key, _)| *key == second.key).unwrap();
                let moved = seen[late].answers.remove(place);
                seen.insert(early, Seen { verb: second.verb.clone(), answers: vec![moved] });
            } else {
                let moved = seen.remove(late);
                seen.insert(early, moved);
            }
            assert!(spoilt.check().is_err(), "{second:?} went past {first:?}");
            tried += 1;
        }
    }
    assert!(tried > 500, "only {tried} were tried");
}

/// A get of a key that its client has written is answered with what was there before.
#[test]
fn canary_an_answer_from_before_the_own_write_is_found_out() {
    let mut tried = 0;
    for history in good_histories() {
        for (client, parts) in history.asked.iter().enumerate() {
            for (number, part) in parts.iter().enumerate().filter(|(_, part)| part.verb == "get") {
                let own = |other: &&Part| other.key == part.key && other.verb.starts_with("set");
                let Some(write) = parts[..number].iter().rev().find(own) else { continue };
                let place = place_of(&history, write).expect("it was sent");
                let (before, after) = history.seen[part.backend].split_at(place);
                let answers = |seen: &[Seen]| -> BTreeSet<String> {
                    let reads = seen.iter().filter(|seen| seen.verb == "get");
                    let reads = reads.flat_map(|seen| seen.answers.clone());
                    reads.filter(|(key, _)| *key == part.key).map(|(_, answer)| answer).collect()
                };
                for stale in answers(before).difference(&answers(after)) {
                    let mut spoilt = history.clone();
                    spoilt.asked[client][number].answer = Some(stale.clone());
                    assert!(spoilt.check().is_err(), "{part:?} was answered with {stale:?}");
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 100, "only {tried} were tried");
}

#[test]
fn canary_a_request_that_is_sent_twice_is_found_out() {
    for history in good_histories() {
        let places = history
            .seen
            .iter()
            .enumerate()
            .flat_map(|(backend, seen)| (0..seen.len()).map(move |at| (backend, at)));
        for (backend, at) in places {
            if history.seen[backend][at].verb.starts_with("get") {
                continue;
            }
            let mut spoilt = history.clone();
            let again = spoilt.seen[backend][at].clone();
            spoilt.seen[backend].push(again);
            assert!(spoilt.check().is_err(), "{:?} came twice", history.seen[backend][at]);
        }
    }
}
