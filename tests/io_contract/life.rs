//! How connections come to stand, how they fail, and how they end.

use std::time::{Duration, Instant};

use mcproxy::io::{Action, ConnId, Failure, Io};

use super::bench::{
    BY_NAME, Bench, Engine, Event, FAMILIES, Family, NOT_THERE, PATIENCE, REFUSING, outbox, pattern,
};

pub(crate) fn a_connect_succeeds<E: Engine>() {
    for family in FAMILIES {
        let mut bench = Bench::<E>::new();
        let (conn, mut peer) = bench.link(family);
        peer.write_all(b"hello").unwrap();
        assert_eq!(bench.await_bytes(conn, 5), b"hello", "{family:?}");
        bench.io.submit(Action::Send { conn, buffer: outbox(&[b"world".to_vec()]) });
        bench.await_event(Event::Sent(conn, 5, 5));
        assert_eq!(peer.read_some(10).unwrap(), b"world", "{family:?}");
        assert_eq!(bench.about(conn), [Event::Connected(conn), Event::Sent(conn, 5, 5)], "{family:?}");
    }
}

/// Fails to connect, once, and is closed.
fn fails_with<E: Engine>(bench: &mut Bench<E>, conn: ConnId, failure: Failure) {
    bench.await_event(Event::Failed(conn, failure));
    bench.io.submit(Action::Close(conn));
    bench.await_event(Event::Closed(conn));
    bench.fence();
    assert_eq!(bench.about(conn), [Event::Failed(conn, failure), Event::Closed(conn)]);
}

pub(crate) fn a_refused_connect_is_told<E: Engine>() {
    let mut bench = Bench::<E>::new();
    let conn = bench.connect(REFUSING);
    fails_with(&mut bench, conn, Failure::Refused);
    let conn = bench.connect(NOT_THERE);
    fails_with(&mut bench, conn, Failure::Refused);
}

/// A name that had more addresses when the core last heard of it.
pub(crate) fn an_address_that_is_not_there_is_told<E: Engine>() {
    let mut bench = Bench::<E>::new();
    let conn = bench.connect(BY_NAME);
    fails_with(&mut bench, conn, Failure::Unreachable);
    let conn = bench.link_id();
    bench.io.submit(Action::Connect { conn, backend: REFUSING, address: 7 });
    fails_with(&mut bench, conn, Failure::Unreachable);
}

/// Makes the other side break the connection.
fn broken<E: Engine>(bench: &mut Bench<E>, link: bool, family: Family) -> ConnId {
    let (conn, mut peer) = bench.either(link, family);
    peer.write_all(b"x").unwrap();
    bench.await_bytes(conn, 1);
    bench.io.submit(Action::Send { conn, buffer: outbox(&[pattern(0, 10)]) });
    bench.await_event(Event::Sent(conn, 10, 10));
    peer.reset();
    conn
}

pub(crate) fn a_reset_is_told_as_failed<E: Engine>() {
    for family in FAMILIES {
        for link in [false, true] {
            let mut bench = Bench::<E>::new();
            let conn = broken(&mut bench, link, family);
            bench.await_event(Event::Failed(conn, Failure::Reset));
            assert_eq!(bench.count(&Event::Eof(conn)), 0, "{family:?}: a reset is no end");
        }
    }
}

/// The other side has closed with its end told, which is no failure; what is sent then fails.
pub(crate) fn a_failed_write_is_told_as_failed_once<E: Engine>() {
    for family in FAMILIES {
        for link in [false, true] {
            let mut bench = Bench::<E>::new();
            let (conn, peer) = bench.either(link, family);
            drop(peer);
            bench.await_event(Event::Eof(conn));
            let start = Instant::now();
            let failed = Event::Failed(conn, Failure::Reset);
            while bench.count(&failed) == 0 {
                assert!(start.elapsed() < PATIENCE, "{family:?}: nobody is there to read it");
                let sent = |bench: &Bench<E>| {
                    bench.about(conn).iter().filter(|event| matches!(event, Event::Sent(..))).count()
                };
                let before = sent(&bench);
                bench.io.submit(Action::Send { conn, buffer: outbox(&[pattern(0, 1000)]) });
                bench.poll_until("the buffer", |bench| sent(bench) > before);
                bench.poll(Some(Duration::from_millis(1)));
            }
            bench.fence();
            assert_eq!(bench.count(&failed), 1, "{family:?}");
            let about = bench.about(conn);
            assert!(matches!(about[about.len() - 2], Event::Sent(_, 1000, 0)), "{family:?}: {about:?}");
            assert_eq!(about.last(), Some(&failed), "{family:?}: the buffer had come back before");
        }
    }
}

pub(crate) fn a_buffer_comes_back_before_its_connection_fails<E: Engine>() {
    for family in FAMILIES {
        for link in [false, true] {
            let mut bench = Bench::<E>::new();
            let (conn, peer) = bench.either(link, family);
            let length = bench.fill(conn);
            peer.reset();
            bench.await_event(Event::Failed(conn, Failure::Reset));
            let about = bench.about(conn);
            let [_, Event::Sent(_, given, written), Event::Failed(..)] = about[..] else {
                panic!("{family:?}: sent, then failed: {about:?}");
            };
            assert_eq!(given, length, "{family:?}");
            assert!(written < length, "{family:?}: {written} bytes of it were taken");
            let returned = bench.told.returned.take().expect("the buffer");
            assert_eq!(returned.len(), length, "{family:?}: all of it comes back");
        }
    }
}

pub(crate) fn a_connection_that_failed_says_nothing_more<E: Engine>() {
    for family in FAMILIES {
        for link in [false, true] {
            let mut bench = Bench::<E>::new();
            let conn = broken(&mut bench, link, family);
            bench.await_event(Event::Failed(conn, Failure::Reset));
            bench.fence();
            bench.io.submit(Action::ResumeRead(conn));
            bench.fence();
            assert_eq!(bench.told.events.iter().filter(|event| event.conn() == Some(conn)).count(), 4);
            bench.io.submit(Action::Close(conn));
            bench.await_event(Event::Closed(conn));
            bench.fence();
            let about = bench.about(conn);
            let told = [Event::Failed(conn, Failure::Reset), Event::Closed(conn)];
            assert_eq!(about[about.len() - 2..], told, "{family:?}");
        }
    }
}

pub(crate) fn a_close_gives_the_buffer_back_and_is_told_last<E: Engine>() {
    for family in FAMILIES {
        for link in [false, true] {
            let mut bench = Bench::<E>::new();
            let (conn, mut peer) = bench.either(link, family);
            let length = bench.fill(conn);
            // More events for it are on their way.
            peer.write_all(b"too late").unwrap();
            bench.io.submit(Action::Close(conn));
            bench.await_event(Event::Closed(conn));
            let start = Instant::now();
            while peer.read_some(1 << 20).is_some() {
                assert!(start.elapsed() < PATIENCE, "{family:?}: the other side sees the end");
            }
            drop(peer);
            bench.fence();
            let about = bench.about(conn);
            let [_, Event::Sent(_, given, written), Event::Closed(_)] = about[..] else {
                panic!("{family:?}: sent, then closed, and nothing else: {about:?}");
            };
            assert_eq!(given, length);
            assert!(written < length, "{family:?}");
        }
    }
}

pub(crate) fn a_close_of_an_idle_connection_is_told_once<E: Engine>() {
    for family in FAMILIES {
        for link in [false, true] {
            let mut bench = Bench::<E>::new();
            let (conn, mut peer) = bench.either(link, family);
            bench.io.submit(Action::Close(conn));
            // It is told of by the next poll, not from within the action.
            assert_eq!(bench.count(&Event::Closed(conn)), 0);
            bench.await_event(Event::Closed(conn));
            bench.fence();
            assert_eq!(bench.count(&Event::Closed(conn)), 1);
            assert_eq!(peer.read_some(1), None, "{family:?}: the other side sees the end");
        }
    }
}

pub(crate) fn a_close_during_the_connect_is_told_once<E: Engine>() {
    for backend in [super::bench::TCP, super::bench::UNIX, REFUSING, NOT_THERE] {
        let mut bench = Bench::<E>::new();
        let conn = bench.connect(backend);
        bench.io.submit(Action::Close(conn));
        bench.await_event(Event::Closed(conn));
        bench.fence();
        assert_eq!(bench.about(conn).last(), Some(&Event::Closed(conn)));
        assert_eq!(bench.count(&Event::Closed(conn)), 1);
        assert_eq!(bench.count(&Event::Connected(conn)), 0, "backend {backend}");
    }
}

/// Late events of the old tenant, and late actions for it, do not touch the new one.
pub(crate) fn an_index_is_used_again_for_another_connection<E: Engine>() {
    for family in FAMILIES {
        let mut bench = Bench::<E>::new();
        let (mut conn, mut peer) = bench.client(family);
        for round in 0..50 {
            peer.write_all(b"of the old one").unwrap();
            bench.io.submit(Action::Close(conn));
            bench.await_event(Event::Closed(conn));
            drop(peer);
            let (next, next_peer) = bench.client(family);
            assert_eq!((next.index(), next.generation()), (conn.index(), conn.generation() + 1));
            bench.io.submit(Action::PauseRead(conn));
            bench.io.submit(Action::ShutdownWrite(conn));
            bench.io.submit(Action::ResumeRead(conn));
            (conn, peer) = (next, next_peer);
            let bytes = pattern(round, 100);
            peer.write_all(&bytes).unwrap();
            assert_eq!(bench.await_bytes(conn, 100), bytes, "{family:?} round {round}");
            bench.io.submit(Action::Send { conn, buffer: outbox(std::slice::from_ref(&bytes)) });
            bench.await_event(Event::Sent(conn, 100, 100));
            assert_eq!(peer.read_some(200).unwrap(), bytes);
            assert_eq!(bench.about(conn), [Event::Accepted(conn), Event::Sent(conn, 100, 100)]);
        }
        assert_eq!(bench.control.clients(), 1);
    }
}

/// With sends and receives of every kind under way: nothing hangs, and the other sides see the end.
pub(crate) fn an_engine_that_ends_lets_go_of_everything<E: Engine>() {
    for family in FAMILIES {
        let mut bench = Bench::<E>::new();
        let (idle, idle_peer) = bench.client(family);
        let (full, full_peer) = bench.either(true, family);
        let (busy, busy_peer) = bench.client(family);
        let (closing, closing_peer) = bench.client(family);
        bench.fill(full);
        bench.fill(closing);
        let mut peers = [idle_peer, full_peer, busy_peer, closing_peer];
        peers[2].write_all(b"never seen").unwrap();
        // None of these has been looked at by a poll when the engine ends; what was to be sent still is.
        bench.io.submit(Action::Send { conn: idle, buffer: outbox(&[b"goodbye".to_vec()]) });
        bench.io.submit(Action::PauseRead(busy));
        bench.io.submit(Action::Close(closing));
        bench.connect(super::bench::TCP);
        drop(bench);
        let start = Instant::now();
        for (number, peer) in peers.iter_mut().enumerate() {
            let mut all = Vec::new();
            while let Some(bytes) = peer.read_some(1 << 20) {
                assert!(start.elapsed() < PATIENCE, "{family:?}: the other side of {number} sees the end");
                all.extend(bytes);
            }
            assert!(number > 0 || all == b"goodbye", "{family:?}: what was submitted goes out");
        }
    }
}
