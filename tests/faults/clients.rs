//! Clients that come and go by the thousand, close one side, say little, or vanish: nothing of them stays,
//! and the others are served.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::fleet::Fleet;
use super::holdings::{self, Holdings};
use super::rig::{Talk, eventually, key_of, keys_of, stat, stats};
use super::support::binary::Frame;
use super::support::binary::opcode::{GET, NOOP};
use super::support::report::{grouped, say};

/// How long a storm lasts.
const STORM: Duration = Duration::from_secs(3);

/// More memory than this, bytes, that is not given back would be a leak: of some ten thousand clients.
const GROWTH_MAX: usize = 16 << 20;

const PATIENT: [&str; 2] = ["--threads", "2"];

/// What the proxy holds before and after `misbehave` must be the same, and a client of each worker is served
/// all the while.
#[track_caller]
fn nothing_stays(fleet: &Fleet, misbehave: impl FnOnce()) {
    let mut clients = fleet.clients();
    let keys = [0, 1].map(|owner| key_of(owner, 2, "served"));
    serve(&mut clients, &keys, 0);
    open_links(fleet, 2);
    fleet.until_alone(4);
    let before = Holdings::of(&fleet.proxy);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let served = scope.spawn(|| {
            let mut round = 1;
            while !over.load(Ordering::Relaxed) || round < 20 {
                serve(&mut clients, &keys, round);
                round += 1;
            }
            clients
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(misbehave));
        over.store(true, Ordering::Relaxed);
        let mut clients = served.join().expect("the others are served");
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
        eventually("all others have left", || {
            let lines = stats(&mut clients[0]);
            let waiting = [0, 1].map(|member| stat(&lines, &format!("backend:s{member}:waiting")));
            (stat(&lines, "curr_connections") == 4 && waiting == [0, 0]).then_some(())
        });
        let after = eventually("their descriptors are closed", || {
            let after = Holdings::of(&fleet.proxy);
            (after.descriptors <= before.descriptors).then_some(after)
        });
        let growth = after.resident.saturating_sub(before.resident);
        assert!(growth < GROWTH_MAX, "{before:?} before, {after:?} after");
    });
}

#[track_caller]
fn serve(clients: &mut [Talk; 4], keys: &[String; 2], round: usize) {
    for (client, key) in clients.iter_mut().zip(keys.iter().cycle()) {
        let value = round.to_string();
        let size = value.len();
        let answer = format!("STORED\r\nVALUE {key} 0 {size}\r\n{value}\r\nEND\r\n");
        client.exchange(format!("set {key} 0 0 {size}\r\n{value}\r\nget {key}\r\n"), answer);
    }
}

#[track_caller]
fn open_links(fleet: &Fleet, members: usize) {
    let addresses: Vec<_> = (0..members).map(|member| fleet.address(member)).collect();
    holdings::open_links(&fleet.proxy, &addresses);
}

/// As fast as they can, some thousand in each second: with nothing said, with a request whose answer nobody
/// takes, with half a request, by a reset or by a close.
#[test]
fn a_storm_of_connects_and_disconnects_leaves_nothing_behind() {
    let fleet = Fleet::start(2, &PATIENT);
    let came = AtomicUsize::new(0);
    nothing_stays(&fleet, || {
        let started = Instant::now();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    // On a slow machine until there were enough.
                    while started.elapsed() < STORM || came.load(Ordering::Relaxed) < 1000 {
                        let mut client = fleet.proxy.client();
                        match came.fetch_add(1, Ordering::Relaxed) % 6 {
                            0 => {}
                            1 => drop(client.try_send("get storm\r\n")),
                            2 => drop(client.try_send("set storm 0 0 100\r\nhalf of it")),
                            3 => client.exchange("mn\r\n", "MN\r\n"),
                            4 => drop(client.try_send(Frame::request(GET, 1).key(b"storm").bytes())),
                            _ => drop(client.try_send(b"\x80\0\0")),
                        }
                        // A close would leave a port of ours waiting for a minute.
                        client.reset();
                    }
                });
            }
        });
    });
    let total = fleet.counter("total_connections");
    let came_in_all = came.load(Ordering::Relaxed);
    say(&format!("storm: {} connects and disconnects in {} s", grouped(came_in_all), STORM.as_secs()));
    assert!(total >= came_in_all as u64 / 2, "{total} of {came_in_all} were seen");
}

/// What was asked before the end is answered, then the connection ends.
#[test]
fn half_closed_clients_get_all_their_answers() {
    let fleet = Fleet::start(2, &PATIENT);
    let keys: Vec<String> = (0..2).flat_map(|owner| keys_of(owner, 2, "key", 50)).collect();
    nothing_stays(&fleet, || {
        for round in 0..10 {
            let mut clients = fleet.clients();
            for client in &mut clients {
                let requests = keys.iter().map(|key| format!("set {key} 0 0 1\r\n{round}\r\nget {key}\r\n"));
                client.send(requests.collect::<String>() + "set half 0 0 10\r\nnot all");
                client.half_close();
            }
            let answers = keys.iter().map(|key| format!("STORED\r\nVALUE {key} 0 1\r\n{round}\r\nEND\r\n"));
            let answers: String = answers.collect();
            for client in &mut clients {
                client.expect(&answers);
                client.expect_closed();
            }
            let mut binary = fleet.proxy.client();
            let gets = keys.iter().map(|key| Frame::request(GET, 7).key(key.as_bytes()).bytes());
            binary.send(gets.collect::<Vec<_>>().concat());
            binary.half_close();
            for _ in &keys {
                assert_eq!(binary.frame().value, round.to_string().as_bytes());
            }
            binary.expect_closed();
        }
    });
    fleet.proxy.client().exchange("get half\r\n", "END\r\n");
}

/// A client may have few requests in flight before it has had answers: it has had a hundred of its own
/// protocol.
#[track_caller]
fn well_known(mut client: Talk) -> Talk {
    client.exchange("mn\r\n".repeat(100), "MN\r\n".repeat(100));
    client
}

#[track_caller]
fn well_known_by_noops(mut client: Talk) -> Talk {
    client.send(Frame::request(NOOP, 1).bytes().repeat(100));
    (0..100).for_each(|_| assert_eq!(client.frame().opcode, NOOP));
    client
}

/// A hundred requests of each are in flight, on both backends and in all protocols, when they vanish.
#[test]
fn clients_that_vanish_with_100_requests_in_flight_leave_nothing_behind() {
    let fleet = Fleet::start(2, &PATIENT);
    let keys: Vec<String> = (0..2).flat_map(|owner| keys_of(owner, 2, "key", 50)).collect();
    let text: String = keys.iter().map(|key| format!("set {key} 0 0 1\r\nx\r\n")).collect();
    let meta: String = keys.iter().map(|key| format!("mg {key} v c\r\n")).collect();
    let binary = keys.iter().map(|key| Frame::request(GET, 1).key(key.as_bytes()).bytes());
    let binary: Vec<u8> = binary.collect::<Vec<_>>().concat();
    let all = [text.into_bytes(), meta.into_bytes(), binary];
    nothing_stays(&fleet, || {
        for round in 0..100 {
            for requests in &all {
                let mut client = match requests[0] {
                    0x80 => well_known_by_noops(fleet.proxy.client()),
                    _ => well_known(fleet.proxy.client()),
                };
                client.send(requests);
                if round % 2 == 0 { client.reset() } else { drop(client) }
            }
        }
    });
}

/// They vanish while the backend is silent, so that every one of their requests is answered to nobody.
#[test]
fn answers_to_clients_that_have_vanished_reach_nobody_else() {
    let fleet = Fleet::start(1, &PATIENT);
    let mut filler = fleet.proxy.client();
    let keys = keys_of(0, 1, "key", 100);
    for key in &keys {
        filler.exchange(format!("set {key} 0 0 {}\r\n{key}\r\n", key.len()), "STORED\r\n");
    }
    open_links(&fleet, 1);
    fleet.until_alone(1);
    let before = Holdings::of(&fleet.proxy);
    for _ in 0..3 {
        let frozen = fleet.freeze(0);
        let asked = stat(&stats(&mut filler), "cmd_get");
        for number in 0..10 {
            let mut client = well_known(fleet.proxy.client());
            let verb = ["get", "gets", "mg"][number % 3];
            client.send(keys.iter().map(|key| format!("{verb} {key} v\r\n")).collect::<String>());
            eventually("they are in flight", || {
                (stat(&stats(&mut filler), "cmd_get") >= asked + 100 * (number as u64 + 1)).then_some(())
            });
            client.reset();
        }
        let mut others = fleet.clients();
        for (client, key) in others.iter_mut().zip(&keys) {
            client.send(format!("get {key}\r\nget {key}x\r\n"));
        }
        frozen.thaw();
        for (client, key) in others.iter_mut().zip(&keys) {
            client.expect(format!("VALUE {key} 0 {}\r\n{key}\r\nEND\r\nEND\r\n", key.len()));
        }
    }
    eventually("they are forgotten", || {
        let lines = stats(&mut filler);
        let gone = stat(&lines, "curr_connections") == 1 && stat(&lines, "backend:s0:waiting") == 0;
        (gone && Holdings::of(&fleet.proxy).descriptors <= before.descriptors).then_some(())
    });
}

/// Two hundred clients that each say a byte now and then hold up nobody, and in the end get their answers.
#[test]
fn slow_clients_hold_up_nobody() {
    let fleet = Fleet::start(2, &PATIENT);
    nothing_stays(&fleet, || {
        let mut slow: Vec<Talk> = (0..200).map(|_| fleet.proxy.client()).collect();
        let requests: [&[u8]; 3] = [
            b"set slow 0 0 5\r\nvalue\r\n",
            b"gets a key that comes byte by byte\r\n",
            &Frame::request(GET, 5).key(b"slow by one byte").bytes(),
        ];
        for at in 0..requests.iter().map(|request| request.len()).max().unwrap_or(0) {
            for (client, request) in slow.iter_mut().zip(requests.iter().cycle()) {
                client.send(&request[at.min(request.len())..(at + 1).min(request.len())]);
            }
        }
        for (number, client) in slow.iter_mut().enumerate() {
            match number % 3 {
                0 => client.expect("STORED\r\n"),
                1 => client.expect("END\r\n"),
                _ => assert_eq!(client.frame().opaque, 5),
            }
        }
    });
}
