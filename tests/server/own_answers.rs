//! What the proxy answers about itself: version, stats, verbosity.

use std::collections::HashMap;

use super::one_worker::OneWorker;
use super::rig::{Nobody, Proxy, Talk, eventually, key_of, list_of, stat, stats, three_memcacheds};
use super::support::binary::Frame;
use super::support::binary::opcode::{GET, STAT, VERSION};
use super::support::mock::{Manner, Mock};
use super::support::process::{Server, named_backends};

fn mock_of_version(version: &'static str) -> Mock {
    Mock::with(Manner { version: Some(version), ..Manner::default() })
}

#[test]
fn version_answers_the_backends_lowest_version() {
    // By number, not by letter: as text 1.6.9 is higher than 1.6.18.
    let (older, newer, real) = (mock_of_version("1.6.9"), mock_of_version("1.6.40"), Server::memcached());
    let list = named_backends(&[newer.address, older.address, real.address]);
    let proxy = Proxy::start(&list, &["--threads", "2"]);
    // One client on each worker.
    for mut client in [proxy.client(), proxy.client()] {
        eventually("the lowest version is known", || {
            let version = client.ask("version\r\n");
            assert!(version.starts_with("VERSION 1.6."), "{version:?}");
            (version == "VERSION 1.6.9").then_some(())
        });
    }
    let reply = proxy.client().ask_frame(&Frame::request(VERSION, 5));
    assert_eq!(reply, Frame::reply(VERSION, 0, 5).value(b"1.6.9"), "{reply}");
    assert_eq!(stats(&mut proxy.client())["version"], "1.6.9");
}

#[test]
fn version_of_real_memcacheds_is_theirs() {
    let (single, servers) = (Server::memcached(), three_memcacheds());
    let version = Talk::tcp(single.address).ask("version\r\n");
    let proxy = Proxy::start(&list_of(&servers), &[]);
    let mut client = proxy.client();
    eventually("the version is known", || (client.ask("version\r\n") == version).then_some(()));
}

#[test]
fn version_before_any_backend_was_reachable_is_the_oldest_supported_never_an_error() {
    let nobody = Nobody::there();
    let proxy = Proxy::start(&nobody.address.to_string(), &["--failure-limit", "1"]);
    let mut client = proxy.client();
    assert_eq!(client.ask("version\r\n"), "VERSION 1.6.0");
    assert!(client.ask("get key\r\n").starts_with("SERVER_ERROR backend "));
    assert_eq!(client.ask("version\r\n"), "VERSION 1.6.0");
    let reply = proxy.client().ask_frame(&Frame::request(VERSION, 1));
    assert_eq!(reply, Frame::reply(VERSION, 0, 1).value(b"1.6.0"), "{reply}");
}

/// What the two clients of [`ask_for_everything`] make of the counters.
const EXPECTED: [(&str, u64); 19] = [
    ("cmd_set", 14),
    ("cmd_get", 14),
    ("get_hits", 8),
    ("get_misses", 6),
    ("cas_hits", 2),
    ("cas_badval", 2),
    ("cas_misses", 2),
    ("incr_hits", 2),
    ("incr_misses", 2),
    ("decr_hits", 2),
    ("decr_misses", 2),
    ("touch_hits", 2),
    ("touch_misses", 2),
    ("cmd_touch", 4),
    ("delete_hits", 2),
    ("delete_misses", 2),
    ("cmd_flush", 0),
    ("curr_connections", 2),
    ("total_connections", 2),
];

fn ask_for_everything(client: &mut Talk, name: &str) {
    let fill = |text: &str| text.replace("$K", &format!("{name}-key")).replace("$N", &format!("{name}-none"));
    client.exchange(fill("set $K 0 0 1\r\n5\r\nget $K\r\nget $N\r\n"), {
        fill("STORED\r\nVALUE $K 0 1\r\n5\r\nEND\r\nEND\r\n")
    });
    client.exchange(fill("get $K $N\r\nget $N $K\r\n"), fill(&"VALUE $K 0 1\r\n5\r\nEND\r\n".repeat(2)));
    client.send(fill("gets $K\r\n"));
    let answer = String::from_utf8(client.until(b"END\r\n")).expect("text");
    let token = answer.split([' ', '\r']).nth(4).expect("a token").to_owned();
    // The five of set, and the compare-and-swaps, count as storage commands.
    client.exchange(fill(&format!("cas $K 0 0 1 {token}\r\n6\r\n")), "STORED\r\n");
    client.exchange(fill(&format!("cas $K 0 0 1 {token}\r\n7\r\n")), "EXISTS\r\n");
    client.exchange(fill("cas $N 0 0 1 1\r\n8\r\n"), "NOT_FOUND\r\n");
    client.exchange(fill("add $K 0 0 1\r\n1\r\nreplace $N 0 0 1\r\n1\r\nappend $N 0 0 1\r\n1\r\n"), {
        "NOT_STORED\r\n".repeat(3)
    });
    client.exchange(
        fill("incr $K 1\r\ndecr $K 1\r\nincr $N 1\r\ndecr $N 1\r\n"),
        "7\r\n6\r\nNOT_FOUND\r\nNOT_FOUND\r\n",
    );
    client.exchange(fill("touch $K 0\r\ntouch $N 0\r\n"), "TOUCHED\r\nNOT_FOUND\r\n");
    client.exchange(fill("delete $K\r\ndelete $N\r\n"), "DELETED\r\nNOT_FOUND\r\n");
}

/// The names and what they count are memcached's, so a memcached is asked too.
#[test]
fn stats_answers_totals_under_memcacheds_names() {
    let (single, servers) = (Server::memcached(), three_memcacheds());
    let proxy = Proxy::start(&list_of(&servers), &["--threads", "2"]);
    let tables = [single.address, proxy.address()].map(|address| {
        let mut clients = [Talk::tcp(address), Talk::tcp(address)];
        let [one, other] = &mut clients;
        ask_for_everything(one, "one");
        ask_for_everything(other, "other");
        stats(one)
    });
    let [theirs, ours] = &tables;
    let shown = |table: &HashMap<String, String>| -> Vec<(&str, u64)> {
        let own = ["curr_connections", "total_connections"];
        let names = EXPECTED.iter().map(|(name, _)| *name).filter(|name| !own.contains(name));
        names.map(|name| (name, stat(table, name))).collect()
    };
    assert_eq!(shown(ours), shown(theirs), "the proxy's counters, and a memcached's");
    for (name, expected) in EXPECTED {
        assert_eq!(stat(ours, name), expected, "{name}");
    }
    for name in ["pid", "uptime", "time", "version", "pointer_size", "max_connections", "threads"] {
        assert!(theirs.contains_key(name) && ours.contains_key(name), "{name}");
    }
    assert_eq!(stat(ours, "pid"), u64::from(proxy.id()));
    assert_eq!((stat(ours, "threads"), stat(ours, "max_connections")), (2, 10000));
    assert!(stat(ours, "bytes_read") > 0 && stat(ours, "bytes_written") > 0);
}

#[test]
fn stats_has_a_group_of_lines_per_worker_that_add_up_to_the_totals() {
    let servers = three_memcacheds();
    let proxy = Proxy::start(&list_of(&servers), &["--threads", "2"]);
    let mut clients: Vec<Talk> = (0..6).map(|_| proxy.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        ask_for_everything(client, &number.to_string());
    }
    let lines = stats(&mut clients[0]);
    for (name, per_pair) in EXPECTED {
        let workers = [0, 1].map(|worker| stat(&lines, &format!("worker:{worker}:{name}")));
        assert_eq!(workers[0] + workers[1], stat(&lines, name), "{name}");
        assert_eq!(stat(&lines, name), per_pair * 3, "{name}");
    }
    assert_eq!(stat(&lines, "worker:0:curr_connections"), 3);
    assert_eq!(stat(&lines, "worker:1:curr_connections"), 3);
    assert!(!lines.contains_key("worker:2:curr_connections"));
}

#[test]
fn stats_has_a_group_of_lines_per_backend_with_its_state() {
    let (server, nobody) = (Server::memcached(), Nobody::there());
    let list = named_backends(&[server.address, nobody.address]);
    let proxy = Proxy::start(&list, &["--failure-limit", "1", "--threads", "2"]);
    let mut client = proxy.client();
    client.exchange(format!("touch {} 0\r\n", key_of(0, 2, "key")), "NOT_FOUND\r\n");
    assert!(client.ask(format!("get {}\r\n", key_of(1, 2, "key"))).starts_with("SERVER_ERROR backend s1 "));
    let lines = eventually("the states are known", || {
        let lines = stats(&mut client);
        let states = ["backend:s0:state", "backend:s1:state"].map(|name| lines[name].clone());
        (states == ["up", "down"]).then_some(lines)
    });
    assert_eq!(lines["backend:s0:version"], lines["version"]);
    assert_eq!(stat(&lines, "backend:s0:requests"), 1);
    assert_eq!((stat(&lines, "backend:s0:errors"), stat(&lines, "backend:s1:errors")), (0, 1));
    assert_eq!(stat(&lines, "backend_errors"), 1);
}

/// The second of two workers does not even run.
#[test]
fn a_worker_that_does_not_report_its_counters_in_time_is_left_out_of_stats_and_named() {
    let worker = OneWorker::of(2);
    let mut client = worker.client();
    let lines = stats(&mut client);
    assert_eq!(lines["worker:1:state"], "did not report in time");
    assert!(!lines.contains_key("worker:1:curr_connections"), "{lines:?}");
    assert_eq!(stat(&lines, "worker:0:curr_connections"), 1);
    assert_eq!(stat(&lines, "curr_connections"), 1);
}

#[test]
fn stats_of_a_backends_inside_are_refused_clearly() {
    let server = Server::memcached();
    let proxy = Proxy::start(&server.address.to_string(), &[]);
    let mut client = proxy.client();
    for inside in ["items", "slabs", "sizes", "conns", "cachedump 1 1", "detail on"] {
        let answer = client.ask(format!("stats {inside}\r\n"));
        let word = inside.split(' ').next().expect("a word");
        assert!(answer.starts_with("CLIENT_ERROR ") && answer.contains(word), "{answer:?}");
        client.exchange("mn\r\n", "MN\r\n");
    }
    client.exchange("stats nosuch\r\nmn\r\n", "ERROR\r\nMN\r\n");
}

#[test]
fn stats_reset_begins_anew_and_keeps_the_connections() {
    let server = Server::memcached();
    let proxy = Proxy::start(&server.address.to_string(), &["--threads", "2"]);
    let mut clients = [proxy.client(), proxy.client()];
    for client in &mut clients {
        client.exchange("set key 0 0 1\r\nx\r\nget key\r\n", "STORED\r\nVALUE key 0 1\r\nx\r\nEND\r\n");
    }
    clients[0].exchange("stats reset\r\n", "RESET\r\n");
    let lines = eventually("all workers have begun anew", || {
        let lines = stats(&mut clients[1]);
        (stat(&lines, "cmd_set") == 0).then_some(lines)
    });
    assert_eq!((stat(&lines, "cmd_get"), stat(&lines, "curr_connections")), (0, 2));
}

#[test]
fn binary_stat_answers_the_same_lines_and_ends_with_an_empty_one() {
    let server = Server::memcached();
    let proxy = Proxy::start(&server.address.to_string(), &["--threads", "2"]);
    let mut client = proxy.client();
    assert_eq!(client.ask_frame(&Frame::request(GET, 1).key(b"key")).status, 1);
    client.send(Frame::request(STAT, 0xabcd_ef01).bytes());
    let mut lines = HashMap::new();
    loop {
        let reply = client.frame();
        assert_eq!((reply.opcode, reply.status, reply.opaque), (STAT, 0, 0xabcd_ef01), "{reply}");
        if reply.key.is_empty() {
            assert_eq!(reply, Frame::reply(STAT, 0, 0xabcd_ef01));
            break;
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        lines.insert(text(&reply.key), text(&reply.value));
    }
    assert_eq!((stat(&lines, "cmd_get"), stat(&lines, "get_misses")), (1, 1));
    assert_eq!(lines.len(), stats(&mut proxy.client()).len());
    let refused = client.ask_frame(&Frame::request(STAT, 2).key(b"items"));
    assert_ne!(refused.status, 0, "{refused}");
}

#[test]
fn verbosity_is_answered_with_ok_as_memcached_does() {
    let server = Server::memcached();
    let proxy = Proxy::start(&server.address.to_string(), &[]);
    let mut clients = [Talk::tcp(server.address), proxy.client()];
    for request in ["verbosity 1\r\n", "verbosity 0 noreply\r\n", "verbosity\r\n", "verbosity 1 2 3\r\n"] {
        let [expected, got] = clients.each_mut().map(|client| {
            client.send(format!("{request}mn\r\n"));
            String::from_utf8(client.until(b"MN\r\n")).expect("text")
        });
        assert_eq!(got, expected, "{request:?}");
    }
    clients[1].exchange("verbosity 1\r\n", "OK\r\n");
}
