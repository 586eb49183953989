//! How many clients there may be, and which worker gets them.

use std::collections::HashMap;

use super::rig::{End, Proxy, Talk, eventually, stat, stats};
use super::support::process::Server;

const REFUSAL: &[u8] = b"ERROR Too many open connections\r\n";

#[test]
fn max_conns_is_exact_over_all_workers() {
    let server = Server::memcached();
    let proxy = Proxy::start(&server.address.to_string(), &["--max-conns", "5", "--threads", "2"]);
    let mut clients = admitted(&proxy, 5);
    for _ in 0..3 {
        let mut surplus = proxy.client();
        assert_eq!(surplus.rest(), REFUSAL);
    }
    for round in 0..5 {
        drop(clients.remove(0));
        clients.push(eventually("the next client is admitted", || try_to_enter(&proxy)));
        let mut surplus = proxy.client();
        assert_eq!(surplus.rest(), REFUSAL, "in round {round}");
    }
    for client in &mut clients {
        client.exchange("mn\r\n", "MN\r\n");
    }
    assert_eq!(stat(&stats(&mut clients[0]), "curr_connections"), 5);
}

/// All come at once, and all stay: as many are let in as may be, no more and no fewer.
#[test]
fn max_conns_is_exact_when_all_clients_come_at_once() {
    let server = Server::memcached();
    let proxy = Proxy::start(&server.address.to_string(), &["--max-conns", "20", "--threads", "2"]);
    let mut crowd: Vec<Talk> = (0..100).map(|_| proxy.client()).collect();
    let entered: Vec<bool> = crowd.iter_mut().map(has_entered).collect();
    assert_eq!(entered.iter().filter(|&&entered| entered).count(), 20);
    drop(crowd);
    // Those who were turned away do not count any more, and those who left do not either.
    let mut seats: Vec<Talk> = Vec::new();
    for _ in 0..20 {
        seats.push(eventually("all seats are free again", || try_to_enter(&proxy)));
    }
    assert_eq!(proxy.client().rest(), REFUSAL);
}

#[test]
fn where_the_descriptor_limit_cannot_be_raised_a_warning_says_which_number_holds_instead() {
    let server = Server::memcached();
    let arguments = ["--max-conns", "10000", "--threads", "2"];
    let proxy = Proxy::with_descriptors(200, &server.address.to_string(), &arguments);
    let warning = proxy.log_line(&["--max-conns 10000", "at most"]);
    let number = warning.split_once("at most ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    let number: usize = number.unwrap_or_else(|| panic!("no number in {warning:?}"));
    let mut clients = admitted(&proxy, number);
    assert_eq!(proxy.client().rest(), REFUSAL);
    // Backends are reached all the same.
    for client in &mut clients {
        client.exchange("touch key 0\r\n", "NOT_FOUND\r\n");
    }
    assert_eq!(stat(&stats(&mut clients[0]), "max_connections"), number as u64);
}

#[test]
fn with_2_workers_and_100_long_lived_connections_neither_holds_more_than_60() {
    let server = Server::memcached();
    let proxy = Proxy::start(&server.address.to_string(), &["--threads", "2"]);
    let mut clients = admitted(&proxy, 100);
    check_spread(&stats(&mut clients[0]), 100).expect("evenly spread");
    // Half of them leave, all of one kind; others come in their place, with short-lived ones between.
    let mut number = 0;
    clients.retain(|_| {
        number += 1;
        number % 2 == 0
    });
    eventually("they have left", || (stat(&stats(&mut clients[0]), "curr_connections") == 50).then_some(()));
    for _ in 0..50 {
        proxy.client().exchange("mn\r\n", "MN\r\n");
        clients.extend(admitted(&proxy, 1));
    }
    let lines = eventually("the short-lived have left", || {
        let lines = stats(&mut clients[0]);
        (stat(&lines, "curr_connections") == 100).then_some(lines)
    });
    check_spread(&lines, 100).expect("evenly spread");
}

fn check_spread(lines: &HashMap<String, String>, clients: u64) -> Result<(), String> {
    let workers = [0, 1].map(|worker| stat(lines, &format!("worker:{worker}:curr_connections")));
    if workers[0] + workers[1] == clients && workers.iter().all(|&held| held <= clients * 60 / 100) {
        Ok(())
    } else {
        Err(format!("{clients} clients over two workers: {workers:?}"))
    }
}

#[test]
fn canary_an_uneven_spread_is_found() {
    for (one, other, even) in
        [(50, 50, true), (60, 40, true), (61, 39, false), (100, 0, false), (50, 40, false)]
    {
        let line = |worker, held: u64| (format!("worker:{worker}:curr_connections"), held.to_string());
        let lines = HashMap::from([line(0, one), line(1, other)]);
        assert_eq!(check_spread(&lines, 100).is_ok(), even, "{one} and {other}");
    }
}

/// So many clients, each of which has been served.
#[track_caller]
fn admitted(proxy: &Proxy, count: usize) -> Vec<Talk> {
    let enter = |_| {
        let mut client = proxy.client();
        client.exchange("mn\r\n", "MN\r\n");
        client
    };
    (0..count).map(enter).collect()
}

/// A client, if it is let in.
fn try_to_enter(proxy: &Proxy) -> Option<Talk> {
    let mut client = proxy.client();
    has_entered(&mut client).then_some(client)
}

/// True if it is served. One that was turned away may see the words or, as it has sent something itself, only
/// the end of its connection.
fn has_entered(client: &mut Talk) -> bool {
    if client.try_send("mn\r\n").is_err() {
        return false;
    }
    match client.first_line_or_end() {
        Ok(line) if line == "MN" => true,
        Ok(line) if line.as_bytes() == &REFUSAL[..REFUSAL.len() - 2] => false,
        Err(End::Closed | End::Reset) => false,
        other => panic!("neither served nor turned away: {other:?}"),
    }
}
