//! flush_all goes to all backends, keeps its place, and is OK only when all have said OK.

use super::rig::{Frozen, Nobody, Proxy, Talk, eventually, key_of, list_of, stat, stats, three_memcacheds};
use super::support::binary::Frame;
use super::support::binary::opcode::{FLUSH, FLUSHQ, GET, NOOP, SET};
use super::support::binary::status::TEMPORARY_FAILURE;
use super::support::process::{Server, named_backends};

fn keys() -> [String; 3] {
    [0, 1, 2].map(|owner| key_of(owner, 3, "key"))
}

#[track_caller]
fn fill(client: &mut Talk) {
    for key in keys() {
        client.exchange(format!("set {key} 0 0 1\r\nx\r\n"), "STORED\r\n");
    }
}

#[test]
fn flush_all_goes_to_all_three_backends() {
    let servers = three_memcacheds();
    let proxy = Proxy::start(&list_of(&servers), &[]);
    let (mut client, mut binary) = (proxy.client(), proxy.client());
    let flushes: [&mut dyn FnMut(&mut Talk); 4] = [
        &mut |client| client.exchange("flush_all\r\n", "OK\r\n"),
        &mut |client| client.exchange("flush_all 0\r\n", "OK\r\n"),
        &mut |_| assert_eq!(binary.ask_frame(&Frame::request(FLUSH, 7)), Frame::reply(FLUSH, 0, 7)),
        &mut |client| client.exchange("flush_all noreply\r\nmn\r\n", "MN\r\n"),
    ];
    for (done, flush) in (1u64..).zip(flushes) {
        fill(&mut client);
        flush(&mut client);
        for (server, key) in servers.iter().zip(keys()) {
            let mut direct = Talk::tcp(server.address);
            direct.exchange(format!("get {key}\r\n"), "END\r\n");
            assert_eq!(stat(&stats(&mut direct), "cmd_flush"), done);
        }
    }
    // One that is put off drops nothing now.
    fill(&mut client);
    client.exchange("flush_all 3600\r\n", "OK\r\n");
    let delay = 3600_u32.to_be_bytes();
    assert_eq!(proxy.client().ask_frame(&Frame::request(FLUSH, 1).extras(&delay)).status, 0);
    let answer: String = keys().iter().map(|key| format!("VALUE {key} 0 1\r\nx\r\n")).collect();
    client.exchange(format!("get {}\r\n", keys().join(" ")), answer + "END\r\n");
}

#[test]
fn flush_all_says_ok_only_when_all_have_said_ok() {
    let servers = three_memcacheds();
    let proxy = Proxy::start(&list_of(&servers), &["--timeout", "1h", "--threads", "1"]);
    let (mut text, mut binary) = (proxy.client(), proxy.client());
    fill(&mut text);
    let frozen = Frozen::freeze(servers[2].id());
    text.send("flush_all\r\nmn\r\n");
    binary.send([Frame::request(FLUSH, 1).bytes(), Frame::request(NOOP, 2).bytes()].concat());
    for server in &servers[..2] {
        let mut direct = Talk::tcp(server.address);
        eventually("both flushes arrive", || (stat(&stats(&mut direct), "cmd_flush") == 2).then_some(()));
    }
    // What is answered behind them on the same links shows that the others' OK has come.
    let (mut other, mut other_binary) = (proxy.client(), proxy.client());
    for key in &keys()[..2] {
        other.exchange(format!("get {key}\r\n"), "END\r\n");
        assert_eq!(other_binary.ask_frame(&Frame::request(GET, 1).key(key.as_bytes())).status, 1);
    }
    assert!(text.is_silent() && binary.is_silent(), "answered before all have said OK");
    frozen.thaw();
    text.expect("OK\r\nMN\r\n");
    assert_eq!([binary.frame().opaque, binary.frame().opaque], [1, 2]);
}

#[test]
fn flush_all_names_who_did_not_say_ok() {
    let (servers, nobody) = ([Server::memcached(), Server::memcached()], Nobody::there());
    let list = named_backends(&[servers[0].address, nobody.address, servers[1].address]);
    let proxy = Proxy::start(&list, &["--threads", "1"]);
    let (mut text, mut binary) = (proxy.client(), proxy.client());
    let (first, last) = (key_of(0, 3, "key"), key_of(2, 3, "key"));
    for _ in 0..4 {
        text.exchange(format!("set {first} 0 0 1\r\nx\r\nset {last} 0 0 1\r\nx\r\n"), "STORED\r\nSTORED\r\n");
        let error = text.ask("flush_all\r\n");
        assert!(error.starts_with("SERVER_ERROR backend s1 "), "{error:?}");
        // The others have carried it out.
        text.exchange(format!("get {first} {last}\r\n"), "END\r\n");
    }
    for opcode in [FLUSH, FLUSHQ] {
        let reply = binary.ask_frame(&Frame::request(opcode, 9));
        assert_eq!((reply.opcode, reply.status, reply.opaque), (opcode, TEMPORARY_FAILURE, 9), "{reply}");
        assert!(reply.value.starts_with(b"SERVER_ERROR backend s1 "), "{reply}");
    }
    text.exchange("flush_all noreply\r\nmn\r\n", "MN\r\n");
}

/// It is there and answers, but not OK.
#[test]
fn flush_all_names_a_backend_that_refuses_it() {
    let servers = [Server::memcached(), Server::memcached_with(&["-F"]), Server::memcached()];
    let proxy = Proxy::start(&list_of(&servers), &[]);
    let mut text = proxy.client();
    let error = text.ask("flush_all\r\n");
    assert!(error.contains("ERROR") && error.contains("s1"), "{error:?}");
    text.exchange("flush_all noreply\r\nmn\r\n", "MN\r\n");
    let reply = proxy.client().ask_frame(&Frame::request(FLUSH, 3));
    assert_ne!(reply.status, 0, "{reply}");
    assert!(String::from_utf8_lossy(&reply.value).contains("s1"), "{reply}");
}

/// Two that did not are both named.
#[test]
fn flush_all_names_all_who_did_not_say_ok() {
    let (server, nobodies) = (Server::memcached(), [Nobody::there(), Nobody::there()]);
    let list = named_backends(&[server.address, nobodies[0].address, nobodies[1].address]);
    let proxy = Proxy::start(&list, &[]);
    let error = proxy.client().ask("flush_all\r\n");
    assert!(error.starts_with("SERVER_ERROR backend s"), "{error:?}");
    assert!(error.contains("s1") && error.contains("s2"), "s1 and s2 are not there: {error:?}");
}

#[test]
fn flush_all_noreply_keeps_its_place_in_one_write() {
    let servers = three_memcacheds();
    let proxy = Proxy::start(&list_of(&servers), &[]);
    for end in [" noreply\r\n", "\r\n"] {
        let said = if end == "\r\n" { "OK\r\n" } else { "" };
        let (mut request, mut answer) = (String::new(), String::new());
        for round in 0..50 {
            for key in keys() {
                request += &format!("set {key} 0 0 2\r\n{round:02}\r\n");
                answer += "STORED\r\n";
            }
            request += &format!("flush_all{end}get {}\r\n", keys().join(" "));
            answer += &format!("{said}END\r\n");
            for key in keys() {
                request += &format!("set {key} 0 0 2 noreply\r\n{round:02}\r\nget {key}\r\n");
                answer += &format!("VALUE {key} 0 2\r\n{round:02}\r\nEND\r\n");
            }
        }
        proxy.client().exchange(request, answer);
    }
}

#[test]
fn binary_flushq_keeps_its_place_in_one_write() {
    let servers = three_memcacheds();
    let proxy = Proxy::start(&list_of(&servers), &[]);
    let mut client = proxy.client();
    let mut request = Vec::new();
    for key in keys() {
        request.extend(Frame::request(SET, 1).extras(&[0; 8]).key(key.as_bytes()).value(b"x").bytes());
    }
    request.extend(Frame::request(FLUSHQ, 2).bytes());
    for key in keys() {
        request.extend(Frame::request(GET, 3).key(key.as_bytes()).bytes());
    }
    request.extend(Frame::request(NOOP, 4).bytes());
    client.send(request);
    let seen: Vec<(u32, u16)> = (0..7)
        .map(|_| {
            let reply = client.frame();
            (reply.opaque, reply.status)
        })
        .collect();
    assert_eq!(seen, [(1, 0), (1, 0), (1, 0), (3, 1), (3, 1), (3, 1), (4, 0)]);
}

#[test]
fn with_disable_flush_all_it_is_refused_with_memcacheds_words() {
    let real = Server::memcached_with(&["-F"]);
    let servers = three_memcacheds();
    for flag in ["-F", "--disable-flush-all"] {
        let proxy = Proxy::start(&list_of(&servers), &[flag]);
        let mut clients = [Talk::tcp(real.address), proxy.client()];
        fill(&mut clients[1]);
        for request in
            ["flush_all\r\n", "flush_all 10\r\n", "flush_all noreply\r\n", "flush_all 10 noreply\r\n"]
        {
            let [expected, got] = clients.each_mut().map(|client| {
                client.send(format!("{request}mn\r\n"));
                String::from_utf8(client.until(b"MN\r\n")).expect("text")
            });
            assert_eq!(got, expected, "{request:?}");
        }
        let mut clients = [Talk::tcp(real.address), proxy.client()];
        for request in
            [Frame::request(FLUSH, 5), Frame::request(FLUSHQ, 6), Frame::request(FLUSH, 7).extras(&[0; 4])]
        {
            let [expected, got] = clients.each_mut().map(|client| client.ask_frame(&request));
            assert_eq!(got, expected, "{got} for {expected}");
        }
        for (server, key) in servers.iter().zip(keys()) {
            let mut direct = Talk::tcp(server.address);
            direct.exchange(format!("get {key}\r\n"), format!("VALUE {key} 0 1\r\nx\r\nEND\r\n"));
        }
    }
}
