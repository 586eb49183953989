//! Connections that only stay open, and what they cost the watched processes in private memory.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::arguments::Plan;
use crate::inbox::Inbox;
use crate::items::Items;
use crate::load::{self, Load};
use crate::progress::{Goal, Progress};
use crate::report::{grouped, quoted};
use crate::requests::{Asked, Op};
use crate::tally::Tally;
use crate::target::Socket;
use crate::trouble::{Trouble, WrongReply};
use crate::wire::{Reading, Step, Wire};

/// Connections that fetch their value at the same time, if it is small.
const AT_ONCE: u64 = 64;

/// Bytes of values that are fetched at the same time. What a crowd's large answers leave behind in the
/// target's pools depends on the size of the crowd and not on the number of connections; here the latter is
/// asked for.
const AT_ONCE_BYTES: u64 = 256 << 10;

/// Between the last answer and the first look at memory, for the target to settle.
const SETTLE: Duration = Duration::from_millis(100);

/// Memory of one process.
struct Memory {
    name: String,
    /// Without the idle connections, bytes.
    before: u64,
    /// With them, at the end, bytes.
    after: u64,
}

/// Runs a plan with `--idle` to its end; gives what to print.
pub(crate) fn run(plan: &Plan) -> Result<String, Trouble> {
    let count = plan.idle.unwrap_or(0);
    load::fit_descriptors(count);
    if plan.preload {
        let load = Load::connect(plan, 1, 1)?;
        load.preload()?;
        load.close();
        thread::sleep(SETTLE);
    }
    let before = memories(plan)?;
    let mut sockets = open(plan, count)?;
    let tally = if plan.touch_idle { Some(touch(plan, &mut sockets)?) } else { None };
    hold(plan, &mut sockets)?;
    let after = memories(plan)?;
    let memories = plan.watched.iter().zip(before.into_iter().zip(after));
    let memories: Vec<Memory> = memories
        .map(|(watched, (before, after))| Memory { name: watched.name.clone(), before, after })
        .collect();
    Ok(print(plan, count, tally.as_ref(), &memories))
}

fn memories(plan: &Plan) -> Result<Vec<u64>, Trouble> {
    plan.watched.iter().map(crate::process::Watched::private_bytes).collect()
}

fn open(plan: &Plan, count: u64) -> Result<Vec<Socket>, Trouble> {
    let mut progress = Progress::start("connecting", Goal::Operations(count));
    let mut sockets = Vec::new();
    for number in 0..count {
        let what = || format!("--target {}: connection {number}", plan.target);
        let socket = Socket::connect(&plan.target).map_err(Trouble::system(what()))?;
        socket.set_timeout(plan.timeout).map_err(Trouble::system(what()))?;
        sockets.push(socket);
        progress.show(number + 1);
    }
    Ok(sockets)
}

/// One get on each connection, many at the same time.
fn touch(plan: &Plan, sockets: &mut [Socket]) -> Result<Tally, Trouble> {
    let items = Items::new(plan.keys, plan.key_bytes as usize, plan.value_bytes as usize);
    let wire = Wire::new(plan, Arc::new(items));
    let mut progress = Progress::start("fetching", Goal::Operations(sockets.len() as u64));
    let (mut tally, mut inbox, mut request) = (Tally::new(), Inbox::default(), Vec::new());
    let mut first = 0;
    let at_once = (AT_ONCE_BYTES / plan.value_bytes).clamp(1, AT_ONCE) as usize;
    for some in sockets.chunks_mut(at_once) {
        let asked = |place: usize| {
            let number = (first + place) as u64;
            Asked { at: 0, subject: number % plan.keys, opaque: number as u32, op: Op::Get }
        };
        for (place, socket) in some.iter_mut().enumerate() {
            request.clear();
            wire.put(&asked(place), 0, 0, &mut request);
            let what = format!("connection {}", first + place);
            socket.write_all(&request).map_err(Trouble::system(what))?;
            tally.sent += request.len() as u64;
        }
        for (place, socket) in some.iter_mut().enumerate() {
            receive(&wire, &asked(place), (first + place) as u32, socket, &mut inbox, &mut tally)?;
        }
        first += some.len();
        progress.show(tally.operations());
    }
    Ok(tally)
}

/// Reads the reply to the one request of a connection.
fn receive(
    wire: &Wire,
    asked: &Asked,
    client: u32,
    socket: &mut Socket,
    inbox: &mut Inbox,
    tally: &mut Tally,
) -> Result<(), Trouble> {
    let mut reading = Reading::default();
    let wrong = |what, key, bytes: &[u8]| {
        let (request, bytes) = (wire.shown(asked), bytes.to_vec());
        Trouble::WrongReply(Box::new(WrongReply { client, what, request, key, bytes }))
    };
    loop {
        while inbox.has_bytes() {
            match wire.take(asked, &mut reading, tally, inbox.bytes()) {
                Ok(Step::More) => break,
                Ok(Step::Part(length)) => inbox.take(length),
                Ok(Step::Done(length)) => {
                    inbox.take(length);
                    tally.answered(asked.op, 0);
                    return match inbox.has_bytes() {
                        true => Err(wrong("bytes behind the reply", 0, inbox.bytes())),
                        false => Ok(()),
                    };
                }
                Err(what) => return Err(wrong(what, reading.key, inbox.bytes())),
            }
        }
        match inbox.read_from(socket, wire.frame_max()) {
            Ok((0, _)) => return Err(Trouble::Closed { client, in_flight: 1 }),
            Ok((count, _)) => tally.received += count as u64,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Trouble::System { what: format!("connection {client}"), error }),
        }
    }
}

/// Keeps the connections open, and sees to it that the target does too.
fn hold(plan: &Plan, sockets: &mut [Socket]) -> Result<(), Trouble> {
    let time = plan.duration().unwrap_or(SETTLE).max(SETTLE);
    let progress = Progress::start("holding", Goal::Time(time));
    let started = Instant::now();
    loop {
        let elapsed = started.elapsed();
        let Some(left) = time.checked_sub(elapsed).filter(|left| !left.is_zero()) else { break };
        if elapsed >= progress.interval() {
            let (done, all) = (elapsed.as_secs_f64(), time.as_secs_f64());
            progress.say(&format!("{} connections, {done:.0} of {all} s", sockets.len()));
        }
        thread::sleep(left.min(progress.interval()));
    }
    for (number, socket) in sockets.iter_mut().enumerate() {
        let client = number as u32;
        socket.set_nonblocking().map_err(Trouble::system(format!("connection {client}")))?;
        match socket.read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => return Err(Trouble::Closed { client, in_flight: 0 }),
            Ok(_) => {
                let (what, request, bytes) = ("bytes on an idle connection", Vec::new(), Vec::new());
                return Err(Trouble::WrongReply(Box::new(WrongReply {
                    client,
                    what,
                    request,
                    key: 0,
                    bytes,
                })));
            }
        }
    }
    Ok(())
}

impl Memory {
    fn per_client(&self, count: u64) -> f64 {
        (self.after as f64 - self.before as f64) / count as f64
    }
}

fn print(plan: &Plan, count: u64, tally: Option<&Tally>, memories: &[Memory]) -> String {
    let touched = if tally.is_some() { plan.value_bytes } else { 0 };
    let misses = tally.map_or(0, |tally| tally.misses);
    if plan.json {
        let processes = memories.iter().map(|memory| {
            let (before, after, each) = (memory.before, memory.after, memory.per_client(count));
            let name = quoted(&memory.name);
            format!(
                "{name}:{{\"before_bytes\":{before},\"after_bytes\":{after},\"bytes_per_client\":{each:.1}}}"
            )
        });
        let processes = processes.collect::<Vec<_>>().join(",");
        let target = quoted(&plan.target.to_string());
        return format!(
            "{{\"target\":{target},\"idle\":{count},\"touched_bytes\":{touched},\"misses\":{misses},\
             \"processes\":{{{processes}}}}}"
        );
    }
    let mut text = String::new();
    if plan.csv {
        if plan.csv_header {
            text.push_str(
                "target,idle,touched_bytes,misses,process,before_bytes,after_bytes,bytes_per_client\n",
            );
        }
        for memory in memories {
            let (before, after, each) = (memory.before, memory.after, memory.per_client(count));
            let (target, name) = (&plan.target, &memory.name);
            let _ = writeln!(text, "{target},{count},{touched},{misses},{name},{before},{after},{each:.1}");
        }
        return text;
    }
    let _ = writeln!(text, "{} idle connections to {}", grouped(count), plan.target);
    if tally.is_some() {
        let _ = writeln!(text, "  each fetched a value of {} bytes; {misses} misses", grouped(touched));
    }
    for memory in memories {
        let (before, after, each) = (grouped(memory.before), grouped(memory.after), memory.per_client(count));
        let name = &memory.name;
        let _ = writeln!(
            text,
            "  {name}: private memory {before} before, {after} now, {each:.1} bytes a connection"
        );
    }
    text
}
