//! What becomes of `Action::Send`.

use std::time::Instant;

use mcproxy::io::{Action, ConnId, Io};

use super::bench::{Bench, Engine, Event, FAMILIES, Family, PATIENCE, Peer, contents, outbox, pattern};

/// Polls and reads in turns until `total` bytes are there, `most` at once.
fn read_in_turns<E: Engine>(bench: &mut Bench<E>, peer: &mut Peer, total: usize, most: usize) -> Vec<u8> {
    let start = Instant::now();
    let mut bytes = Vec::with_capacity(total);
    while bytes.len() < total {
        assert!(start.elapsed() < PATIENCE, "{} of {total} bytes came", bytes.len());
        bench.poll(Some(std::time::Duration::ZERO));
        bytes.extend(peer.read_some(most).expect("the connection goes on"));
    }
    bytes
}

/// The other side has read everything, comes to our end, and still has something to say.
#[track_caller]
fn sees_our_end_and_answers<E: Engine>(bench: &mut Bench<E>, conn: ConnId, peer: &mut Peer) {
    let start = Instant::now();
    while peer.read_some(1).is_some() {
        assert!(start.elapsed() < PATIENCE, "the other side sees our end");
        bench.poll(Some(std::time::Duration::ZERO));
    }
    peer.write_all(b"late answers").unwrap();
    assert_eq!(bench.await_bytes(conn, 12), b"late answers");
}

pub(crate) fn a_buffer_comes_back_with_the_count_of_its_bytes<E: Engine>() {
    for family in FAMILIES {
        for link in [false, true] {
            let mut bench = Bench::<E>::new();
            let (conn, mut peer) = bench.either(link, family);
            for (round, pieces) in [vec![1], vec![10, 20_000], vec![0, 30_000, 5, 40_000]].iter().enumerate()
            {
                let pieces: Vec<Vec<u8>> = pieces.iter().map(|&length| pattern(round, length)).collect();
                let all = pieces.concat();
                bench.told.events.clear();
                bench.io.submit(Action::Send { conn, buffer: outbox(&pieces) });
                bench.await_event(Event::Sent(conn, all.len(), all.len()));
                assert_eq!(bench.about(conn).len(), 1, "{family:?}: told once");
                let returned = bench.told.returned.take().expect("the buffer");
                assert!(contents(&returned) == all, "{family:?}: the buffer is the one that was given");
                assert!(read_in_turns(&mut bench, &mut peer, all.len(), 1 << 20) == all, "{family:?}");
            }
        }
    }
}

/// More pieces than one vectored write takes, of all sizes, empty ones among them.
pub(crate) fn a_buffer_of_many_pieces_is_written_in_order<E: Engine>() {
    for family in FAMILIES {
        let mut bench = Bench::<E>::new();
        let (conn, mut peer) = bench.client(family);
        let lengths: Vec<usize> = (0..3000).map(|number| number * 7919 % 4096).collect();
        let mut from = 0;
        let pieces: Vec<Vec<u8>> = lengths
            .iter()
            .map(|&length| {
                from += length;
                pattern(from - length, length)
            })
            .collect();
        bench.io.submit(Action::Send { conn, buffer: outbox(&pieces) });
        let read = read_in_turns(&mut bench, &mut peer, from, 100_000);
        assert!(read == pattern(0, from), "{family:?}: in order and whole");
        bench.await_event(Event::Sent(conn, from, from));
        assert_eq!(bench.about(conn).len(), 2, "{family:?}: accepted, and sent once");
    }
}

pub(crate) fn a_short_write_stays_in_the_engine<E: Engine>() {
    for family in FAMILIES {
        for link in [false, true] {
            let mut bench = Bench::<E>::new();
            let (conn, mut peer) = bench.either(link, family);
            let length = bench.fill(conn);
            let read = read_in_turns(&mut bench, &mut peer, length, 150_000);
            assert!(read == pattern(0, length), "{family:?}: a slow reader gets all of it in order");
            bench.await_event(Event::Sent(conn, length, length));
            assert_eq!(bench.about(conn).len(), 2, "{family:?}: it was told once");
            assert!(bench.count(&Event::Progress(conn)) > 0, "{family:?}: and that it went on");
        }
    }
}

pub(crate) fn one_send_after_the_other_keeps_the_order<E: Engine>() {
    for family in FAMILIES {
        let mut bench = Bench::<E>::new();
        let (conn, mut peer) = bench.client(family);
        let (mut sent, mut read) = (0, Vec::new());
        for round in 0..200 {
            let length = 1 + round * 7919 % 50_000;
            bench.io.submit(Action::Send { conn, buffer: outbox(&[pattern(sent, length)]) });
            sent += length;
            bench.told.events.clear();
            bench.poll_until("the send's end", |bench| {
                read.extend(peer.read_some(9_000).expect("the connection goes on"));
                bench.told.events.contains(&Event::Sent(conn, length, length))
            });
        }
        let rest = read_in_turns(&mut bench, &mut peer, sent - read.len(), 1 << 20);
        assert!([read, rest].concat() == pattern(0, sent), "{family:?}");
    }
}

/// A buffer always comes back, so that its bytes can be counted off.
pub(crate) fn a_send_to_a_connection_that_is_gone_comes_back_unwritten<E: Engine>() {
    let mut bench = Bench::<E>::new();
    let (conn, _peer) = bench.client(Family::Tcp);
    bench.io.submit(Action::Close(conn));
    bench.await_event(Event::Closed(conn));
    let (next, mut next_peer) = bench.client(Family::Tcp);
    assert_eq!((next.index(), next.generation()), (conn.index(), conn.generation() + 1));
    bench.io.submit(Action::Send { conn, buffer: outbox(&[pattern(0, 100)]) });
    bench.await_event(Event::Sent(conn, 100, 0));
    bench.fence();
    assert_eq!(next_peer.read_some(100), Some(Vec::new()), "nobody else gets it");
}

pub(crate) fn after_their_eof_we_can_still_send<E: Engine>() {
    for family in FAMILIES {
        for link in [false, true] {
            let mut bench = Bench::<E>::new();
            let (conn, mut peer) = bench.either(link, family);
            peer.write_all(b"that is all").unwrap();
            peer.shutdown();
            bench.await_event(Event::Eof(conn));
            assert_eq!(bench.told.take(conn), b"that is all");
            let length = 4 << 20;
            bench.io.submit(Action::Send { conn, buffer: outbox(&[pattern(0, length)]) });
            let read = read_in_turns(&mut bench, &mut peer, length, 1 << 20);
            assert!(read == pattern(0, length), "{family:?}");
            bench.await_event(Event::Sent(conn, length, length));
            assert_eq!(bench.count(&Event::Eof(conn)), 1);
        }
    }
}

pub(crate) fn after_our_shutdown_we_can_still_receive<E: Engine>() {
    for family in FAMILIES {
        let mut bench = Bench::<E>::new();
        let (conn, mut peer): (ConnId, Peer) = bench.link(family);
        bench.io.submit(Action::Send { conn, buffer: outbox(&[pattern(0, 1000)]) });
        bench.await_event(Event::Sent(conn, 1000, 1000));
        bench.io.submit(Action::ShutdownWrite(conn));
        assert_eq!(read_in_turns(&mut bench, &mut peer, 1000, 5000), pattern(0, 1000));
        sees_our_end_and_answers(&mut bench, conn, &mut peer);
        peer.shutdown();
        bench.await_event(Event::Eof(conn));
    }
}

pub(crate) fn a_shutdown_ends_a_send_in_flight_and_nothing_else<E: Engine>() {
    for family in FAMILIES {
        let mut bench = Bench::<E>::new();
        let (conn, mut peer): (ConnId, Peer) = bench.link(family);
        let length = bench.fill(conn);
        bench.told.events.clear();
        bench.io.submit(Action::ShutdownWrite(conn));
        let sent = |bench: &Bench<E>| match bench.about(conn)[..] {
            [] => None,
            [Event::Sent(_, of, written)] => Some((of, written)),
            ref others => panic!("{family:?}: {others:?}"),
        };
        bench.poll_until("the buffer", |bench| sent(bench).is_some());
        let (of, written) = sent(&bench).expect("it is there");
        assert!(of == length && written < length, "{family:?}: {written} of {length}");
        // What the kernel had is read, then the end; the connection itself has not failed.
        let read = read_in_turns(&mut bench, &mut peer, written, 1 << 20);
        assert!(read == pattern(0, written), "{family:?}");
        sees_our_end_and_answers(&mut bench, conn, &mut peer);
        assert_eq!(bench.about(conn), [Event::Sent(conn, length, written)], "{family:?}");
    }
}
