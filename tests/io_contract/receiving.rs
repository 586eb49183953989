//! What the handler is told of bytes, of their end, and of pauses.

use std::time::{Duration, Instant};

use mcproxy::io::{Action, ConnId, Io};

use super::bench::{Bench, Engine, Event, FAMILIES, Family, PATIENCE, Peer, pattern};

/// What one poll may bring of one connection, bytes: the others have their turn after it.
const POLL_MAX: usize = 1 << 20;

/// Writes and polls in turns until all is written.
fn write_in_turns<E: Engine>(bench: &mut Bench<E>, peer: &mut Peer, bytes: &[u8]) {
    let start = Instant::now();
    let mut written = 0;
    while written < bytes.len() {
        assert!(start.elapsed() < PATIENCE, "{written} of {} bytes were taken", bytes.len());
        written += peer.write_some(&bytes[written..]);
        bench.poll(Some(Duration::ZERO));
    }
}

/// Writes until the other side takes no more, however long it is given; at most `most` bytes.
fn write_until_full<E: Engine>(bench: &mut Bench<E>, peer: &mut Peer, bytes: &[u8]) -> usize {
    let (mut written, mut idle) = (0, 0);
    while written < bytes.len() && idle < 5 {
        let more = peer.write_some(&bytes[written..]);
        written += more;
        idle = if more == 0 { idle + 1 } else { 0 };
        bench.fence();
    }
    written
}

pub(crate) fn many_bytes_come_whole_and_in_order<E: Engine>() {
    for family in FAMILIES {
        for link in [false, true] {
            let mut bench = Bench::<E>::new();
            let (conn, mut peer) = bench.either(link, family);
            let bytes = pattern(0, 8 << 20);
            write_in_turns(&mut bench, &mut peer, &bytes);
            assert!(bench.await_bytes(conn, bytes.len()) == bytes, "{family:?}");
        }
    }
}

pub(crate) fn many_small_pieces_come_whole_and_in_order<E: Engine>() {
    for family in FAMILIES {
        let mut bench = Bench::<E>::new();
        let (conn, mut peer) = bench.client(family);
        let bytes = pattern(0, 40_000);
        for (number, piece) in bytes.chunks(7).enumerate() {
            peer.write_all(piece).unwrap();
            if number % 3 == 0 {
                bench.poll(Some(Duration::ZERO));
            }
        }
        assert!(bench.await_bytes(conn, bytes.len()) == bytes, "{family:?}");
    }
}

/// The core closes a client whose long line comes in pieces, as memcached does. So many that they go round any
/// buffers of the engine, wherever in these they begin.
pub(crate) fn what_was_sent_at_once_comes_at_once<E: Engine>() {
    for family in FAMILIES {
        let mut bench = Bench::<E>::new();
        let (conn, mut peer) = bench.client(family);
        let mut from = 0;
        for round in 0..1000 {
            let length = 1 + round * 7919 % E::PIECE;
            let bytes = pattern(from, length);
            peer.write_all(&bytes).unwrap();
            bench.told.events.clear();
            assert!(bench.await_bytes(conn, length) == bytes, "{family:?} round {round}");
            let told = &bench.told.events;
            assert_eq!(
                bench.count(&Event::Received(conn, length)),
                1,
                "{family:?} {round}: {length}: {told:?}"
            );
            from += length;
        }
    }
}

/// Bytes and end, all there before the engine looks, and then nothing happens any more.
pub(crate) fn eof_comes_once_and_after_all_bytes<E: Engine>() {
    for family in FAMILIES {
        for link in [false, true] {
            for length in [0, 1, 1000, 65_535, 65_536, 65_537, 150_000] {
                let mut bench = Bench::<E>::new();
                let (conn, mut peer) = bench.either(link, family);
                let bytes = pattern(0, length);
                let written = peer.write_some(&bytes);
                peer.shutdown();
                bench.await_event(Event::Eof(conn));
                assert!(bench.told.take(conn) == bytes[..written], "{family:?} {length}: before its end");
                bench.fence();
                assert_eq!(bench.count(&Event::Eof(conn)), 1, "{family:?} {length}");
                assert_eq!(bench.about(conn).len(), 2, "{family:?} {length}: {:?}", bench.about(conn));
            }
        }
    }
}

/// The kernel knows of the end while there is more to be read than a tick's share.
pub(crate) fn eof_comes_however_much_is_before_it<E: Engine>() {
    for length in [100_000, 263_000, 300_000, 350_000, 400_000] {
        let mut bench = Bench::<E>::new();
        bench.widen();
        let (conn, mut peer) = bench.client(Family::Tcp);
        let bytes = pattern(length, length);
        // All that the two kernel buffers hold; it is not looked at before the end is there too.
        let written = peer.write_some(&bytes);
        peer.shutdown();
        bench.await_event(Event::Eof(conn));
        assert!(bench.told.take(conn) == bytes[..written], "{length}");
    }
    eof_follows_at_once::<E>();
}

fn eof_follows_at_once<E: Engine>() {
    for round in 0..20 {
        let mut bench = Bench::<E>::new();
        let (conn, mut peer) = bench.client(Family::Tcp);
        let bytes = pattern(round, 3 << 20);
        // A thread, so that the end follows the bytes at once, whatever the engine is doing.
        let all = bytes.clone();
        let writer = std::thread::spawn(move || {
            peer.write_all(&all).expect("the other side reads");
            peer.shutdown();
            peer
        });
        bench.await_event(Event::Eof(conn));
        assert!(bench.told.take(conn) == bytes, "round {round}");
        drop(writer.join().expect("all was written"));
    }
}

pub(crate) fn a_paused_connection_is_not_read_without_end<E: Engine>() {
    for family in FAMILIES {
        let mut bench = Bench::<E>::new();
        let (conn, mut peer) = bench.client(family);
        bench.io.submit(Action::PauseRead(conn));
        let bytes = pattern(0, 64 << 20);
        let written = write_until_full(&mut bench, &mut peer, &bytes);
        assert!(written < bytes.len(), "{family:?}: its sender is held up");
        let early = bench.told.take(conn);
        assert!(early.len() <= POLL_MAX, "{family:?}: {} bytes came in a pause", early.len());
        bench.io.submit(Action::ResumeRead(conn));
        write_in_turns(&mut bench, &mut peer, &bytes[written..]);
        let rest = bench.await_bytes(conn, bytes.len() - early.len());
        assert!([early, rest].concat() == bytes, "{family:?}: nothing was lost");
    }
}

pub(crate) fn pausing_loses_nothing<E: Engine>() {
    for family in FAMILIES {
        let mut bench = Bench::<E>::new();
        let (conn, mut peer) = bench.client(family);
        let bytes = pattern(0, 6 << 20);
        let (mut written, mut step) = (0, 1);
        while written < bytes.len() {
            step = step * 7 % 131_071;
            match step % 5 {
                0 => bench.io.submit(Action::PauseRead(conn)),
                1 | 2 => bench.io.submit(Action::ResumeRead(conn)),
                _ => {}
            }
            written += peer.write_some(&bytes[written..(written + step).min(bytes.len())]);
            bench.poll(Some(Duration::ZERO));
        }
        // Twice, as it may be: a resume without a pause is nothing.
        bench.io.submit(Action::ResumeRead(conn));
        bench.io.submit(Action::ResumeRead(conn));
        assert!(bench.await_bytes(conn, bytes.len()) == bytes, "{family:?}");
    }
}

pub(crate) fn eof_that_came_during_a_pause_is_told_after_it<E: Engine>() {
    for family in FAMILIES {
        for length in [0, 10, 100_000] {
            let mut bench = Bench::<E>::new();
            let (conn, mut peer): (ConnId, Peer) = bench.client(family);
            bench.io.submit(Action::PauseRead(conn));
            bench.fence();
            let bytes = pattern(0, length);
            let written = peer.write_some(&bytes);
            peer.shutdown();
            bench.fence();
            bench.io.submit(Action::ResumeRead(conn));
            bench.await_event(Event::Eof(conn));
            assert!(bench.told.take(conn) == bytes[..written], "{family:?} {length}");
            bench.fence();
            assert_eq!(bench.count(&Event::Eof(conn)), 1, "{family:?} {length}");
        }
    }
}

/// What one poll told of a connection, bytes.
fn bytes_of(events: &[Event], conn: ConnId) -> usize {
    let of_conn = |event: &Event| match event {
        Event::Received(from, bytes) if *from == conn => *bytes,
        _ => 0,
    };
    events.iter().map(of_conn).sum()
}

pub(crate) fn a_flood_does_not_starve_the_others<E: Engine>() {
    for family in FAMILIES {
        let mut bench = Bench::<E>::new();
        let (flood, mut flooder) = bench.client(family);
        let (quiet, mut whisperer) = bench.client(family);
        let bytes = pattern(0, 64 << 10);
        let mut answered = 0;
        for round in 0..200 {
            while flooder.write_some(&bytes) > 0 {}
            if round % 4 == 0 {
                whisperer.write_all(b"?").unwrap();
            }
            let events = bench.poll(Some(Duration::from_millis(10)));
            let flooded = bytes_of(events, flood);
            assert!(flooded <= POLL_MAX, "{family:?}: {flooded} bytes of one connection in one poll");
            answered += bytes_of(events, quiet);
            bench.told.take(flood);
            bench.told.events.clear();
        }
        assert!(answered >= 45, "{family:?}: heard {answered} of 50 through the flood");
    }
}

/// Sixty send whatever is taken, and more than is read of them in one poll. Who says a byte has his turn.
pub(crate) fn a_crowd_of_floods_does_not_starve_the_others<E: Engine>() {
    let mut bench = Bench::<E>::new();
    let mut crowd: Vec<(ConnId, Peer)> = (0..60).map(|_| bench.client(Family::Tcp)).collect();
    let (quiet, mut peer) = bench.client(Family::Tcp);
    let bytes = pattern(0, 1 << 20);
    let push = |crowd: &mut [(ConnId, Peer)]| {
        for (_, flood) in crowd {
            flood.write_some(&bytes);
        }
    };
    for _ in 0..10 {
        push(&mut crowd);
        bench.poll(Some(Duration::ZERO));
    }
    peer.write_all(b"x").expect("room for a byte");
    let served = (0..E::TURNS).any(|_| {
        push(&mut crowd);
        bench.poll(Some(Duration::ZERO));
        !bench.told.take(quiet).is_empty()
    });
    assert!(served, "{} polls went by", E::TURNS);
}

/// Longer than any engine keeps its room for what has not come.
pub(crate) fn bytes_come_after_a_long_pause<E: Engine>() {
    let mut bench = Bench::<E>::new();
    let (conn, mut peer) = bench.client(Family::Tcp);
    for round in 0..3 {
        let bytes = pattern(round, 50_000);
        write_in_turns(&mut bench, &mut peer, &bytes);
        assert!(bench.await_bytes(conn, bytes.len()) == bytes, "round {round}");
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(700) {
            bench.poll(Some(Duration::from_secs(1)));
        }
    }
}

pub(crate) fn many_connections_are_served<E: Engine>() {
    let mut bench = Bench::<E>::new();
    let mut clients: Vec<(ConnId, Peer)> = (0..300).map(|_| bench.client(Family::Unix)).collect();
    assert_eq!(bench.control.clients(), 300);
    for round in 0..5 {
        for (number, (_, peer)) in clients.iter_mut().enumerate() {
            peer.write_all(&pattern(number + round, 100)).unwrap();
        }
        for (number, (conn, _)) in clients.iter().enumerate() {
            assert_eq!(bench.await_bytes(*conn, 100), pattern(number + round, 100));
        }
    }
    for (conn, _) in &clients {
        bench.io.submit(Action::Close(*conn));
    }
    for (conn, _) in &clients {
        bench.await_event(Event::Closed(*conn));
    }
    assert_eq!(bench.control.clients(), 0, "each close is counted once");
}
