//! How a poll begins, waits and ends, and what comes from other threads.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use mcproxy::control::{Control, Mail};
use mcproxy::io::{Action, Failure, Io};
use mcproxy::proxy::message::Message;
use mcproxy::time::Time;

use super::bench::{BY_NAME, Bench, Engine, Event, Family, PATIENCE, outbox, pattern};

fn drain() -> Message {
    Message::Drain(Duration::from_secs(1))
}

fn told_drain() -> Event {
    Event::Message(format!("{:?}", drain()))
}

/// [`Bench::poll`] looks at every poll of every test; here there is something of each kind to tell.
pub(crate) fn events_begin_with_the_time<E: Engine>() {
    let mut bench = Bench::<E>::new();
    let (conn, mut peer) = bench.client(Family::Tcp);
    let mut last = Time::default();
    for round in 0..100 {
        bench.io.submit(Action::Send { conn, buffer: outbox(&[pattern(round, 10)]) });
        peer.write_all(b"x").unwrap();
        let now = bench.io.now();
        assert!(now >= last, "time does not go back");
        bench.poll(Some(Duration::from_millis(1)));
        let times = bench.told.events.iter().filter_map(|event| match event {
            Event::Now(now) => Some(*now),
            _ => None,
        });
        last = times.fold(last, |last, now| {
            assert!(now >= last, "time does not go back");
            now
        });
        assert_eq!(bench.io.now(), last, "the time of the tick is the one that was told");
        bench.told.events.clear();
    }
    assert!(last > Time::default());
}

/// With nothing to tell, a poll ends by its timeout, neither long before it nor never.
pub(crate) fn a_poll_waits_no_longer_than_it_may<E: Engine>() {
    let mut bench = Bench::<E>::new();
    bench.fence();
    for timeout in [Duration::ZERO, Duration::from_millis(5), Duration::from_millis(50)] {
        let mut waited = Duration::ZERO;
        // A few polls may end early, for what a fence has left behind.
        for _ in 0..5 {
            let start = Instant::now();
            bench.poll(Some(timeout));
            waited = start.elapsed();
            assert!(waited < PATIENCE);
            if waited >= timeout {
                break;
            }
        }
        assert!(waited >= timeout, "it slept {waited:?} of {timeout:?}");
    }
}

/// Runs an engine in a thread of its own, without timeouts, until it is told to drain. What it then knows.
fn in_a_thread<E: Engine>(
    control: std::sync::Arc<Control>,
    handle: mcproxy::control::WorkerHandle,
) -> (mpsc::Receiver<&'static str>, thread::JoinHandle<()>) {
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || {
        let mut bench = Bench::<E>::with(control, handle);
        tell.send("ready").unwrap();
        while !bench.told.events.contains(&told_drain()) {
            bench.poll(None);
        }
        tell.send("told").unwrap();
    });
    (told, thread)
}

pub(crate) fn mail_ends_a_poll_without_timeout<E: Engine>() {
    let (control, mut handles) = Control::new(1, vec![None; 5], crossbeam_channel::unbounded().0);
    let (told, thread) = in_a_thread::<E>(control.clone(), handles.remove(0));
    assert_eq!(told.recv_timeout(PATIENCE), Ok("ready"));
    // Most likely it sleeps by now; if not, the mail must not be lost either.
    thread::sleep(Duration::from_millis(20));
    control.send(0, Mail::Message(drain()));
    assert_eq!(told.recv_timeout(PATIENCE), Ok("told"), "mail wakes a worker");
    thread.join().unwrap();
}

pub(crate) fn mail_sent_before_the_first_poll_arrives<E: Engine>() {
    for before_it_is_made in [true, false] {
        let (control, mut handles) = Control::new(1, vec![None; 5], crossbeam_channel::unbounded().0);
        if before_it_is_made {
            control.send(0, Mail::Message(drain()));
        }
        let (told, thread) = in_a_thread::<E>(control.clone(), handles.remove(0));
        assert_eq!(told.recv_timeout(PATIENCE), Ok("ready"));
        if !before_it_is_made {
            control.send(0, Mail::Message(drain()));
        }
        assert_eq!(told.recv_timeout(PATIENCE), Ok("told"));
        thread.join().unwrap();
    }
}

pub(crate) fn a_message_reaches_the_other_worker<E: Engine>() {
    let (control, mut handles) = Control::new(2, vec![None; 5], crossbeam_channel::unbounded().0);
    let (told, thread) = in_a_thread::<E>(control.clone(), handles.remove(1));
    let mut bench = Bench::<E>::with(control, handles.remove(0));
    assert_eq!(told.recv_timeout(PATIENCE), Ok("ready"));
    bench.io.submit(Action::Tell { worker: 1, message: Box::new(drain()) });
    bench.poll(Some(Duration::ZERO));
    assert_eq!(told.recv_timeout(PATIENCE), Ok("told"));
    thread.join().unwrap();
    assert_eq!(bench.count(&told_drain()), 0, "it was for the other");
    bench.io.submit(Action::Tell { worker: 0, message: Box::new(drain()) });
    bench.await_event(told_drain());
}

/// Nobody looks names up for this backend: nothing is told, and nothing hangs.
pub(crate) fn a_resolve_without_a_resolver_is_nothing<E: Engine>() {
    let mut bench = Bench::<E>::new();
    bench.io.submit(Action::Resolve { backend: BY_NAME });
    bench.fence();
    assert!(!bench.told.events.iter().any(|event| matches!(event, Event::Resolved(..))));
}

pub(crate) fn a_resolved_name_has_its_addresses<E: Engine>() {
    let (ask, asked) = crossbeam_channel::unbounded();
    let mut resolvers = vec![None; 5];
    resolvers[BY_NAME] = Some(ask);
    let (control, mut handles) = Control::new(1, resolvers, crossbeam_channel::unbounded().0);
    let mut bench = Bench::<E>::with(control.clone(), handles.remove(0));
    bench.io.submit(Action::Resolve { backend: BY_NAME });
    assert_eq!(asked.recv_timeout(PATIENCE), Ok(0), "it says which worker asks");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let there = listener.local_addr().unwrap();
    // A listener that is closed refuses; which port it had does not matter, as long as nobody takes it: it is
    // bound and does not listen.
    let nobody = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    nobody.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let refusing = nobody.local_addr().unwrap().as_socket().unwrap();
    control.send(0, Mail::Resolved { backend: BY_NAME, addresses: vec![refusing, there] });
    bench.await_event(Event::Resolved(BY_NAME, 2));
    let first = bench.connect(BY_NAME);
    bench.await_event(Event::Failed(first, Failure::Refused));
    let second = bench.link_id();
    bench.io.submit(Action::Connect { conn: second, backend: BY_NAME, address: 1 });
    bench.await_event(Event::Connected(second));
    // A name that has lost its meaning keeps the addresses it had.
    control.send(0, Mail::Resolved { backend: BY_NAME, addresses: Vec::new() });
    bench.await_event(Event::Resolved(BY_NAME, 0));
    let third = bench.link_id();
    bench.io.submit(Action::Connect { conn: third, backend: BY_NAME, address: 1 });
    bench.await_event(Event::Connected(third));
}

/// The core has something to do because of what it was told of its last actions: then there is no waiting.
pub(crate) fn actions_that_wait_end_a_poll<E: Engine>() {
    let mut bench = Bench::<E>::new();
    let (conn, _peer) = bench.client(Family::Tcp);
    bench.io.submit(Action::Close(conn));
    bench.told.actions = true;
    let start = Instant::now();
    bench.poll(Some(PATIENCE));
    assert!(start.elapsed() < PATIENCE, "it has waited");
    bench.told.actions = false;
    bench.await_event(Event::Closed(conn));
}

/// Links and clients have something to say in the same tick, whichever was first.
pub(crate) fn links_come_before_clients_in_a_tick<E: Engine>() {
    let mut bench = Bench::<E>::new();
    let mut together = 0;
    for round in 0..200 {
        let (client, mut user) = bench.client(Family::Unix);
        let (link, mut backend) = bench.link(if round % 2 == 0 { Family::Tcp } else { Family::Unix });
        bench.fence();
        user.write_all(b"a request").unwrap();
        match round % 3 {
            0 => backend.write_all(b"an answer").unwrap(),
            1 => backend.shutdown(),
            _ => drop(backend),
        }
        bench.told.events.clear();
        let mut seen = [None, None];
        bench.poll_until("both", |bench| {
            let mut polls = 0;
            for event in &bench.told.events {
                match event {
                    Event::Now(_) => polls += 1,
                    event if event.conn() == Some(link) => _ = seen[0].get_or_insert(polls),
                    event if event.conn() == Some(client) => _ = seen[1].get_or_insert(polls),
                    _ => {}
                }
            }
            seen.iter().all(Option::is_some)
        });
        let place = |conn| bench.told.events.iter().position(|event| event.conn() == Some(conn));
        if seen[0] == seen[1] {
            together += 1;
            assert!(place(link) < place(client), "round {round}: {:?}", bench.told.events);
        }
        for conn in [link, client] {
            bench.io.submit(Action::Close(conn));
            bench.await_event(Event::Closed(conn));
        }
    }
    assert!(together > 0, "they never came in one tick, so nothing was shown");
}

/// After a tick in which much has come an engine may wait for more, but not for those who have left in it.
pub(crate) fn one_event_ends_a_poll_after_a_crowd_has_left<E: Engine>() {
    // A machine that stands still makes one try long; an engine that waits makes all of them so.
    let quick = (0..10).any(|_| {
        let mut bench = Bench::<E>::new();
        let crowd: Vec<_> = (0..100).map(|_| bench.client(Family::Tcp)).collect();
        let (conns, peers): (Vec<_>, Vec<_>) = crowd.into_iter().unzip();
        drop(peers);
        bench.poll(Some(PATIENCE));
        conns.iter().for_each(|&conn| bench.io.submit(Action::Close(conn)));
        bench.control.send(0, Mail::Message(drain()));
        let start = Instant::now();
        bench.poll(Some(PATIENCE));
        start.elapsed() < Duration::from_millis(250)
    });
    assert!(quick, "it waits for what cannot come");
}
