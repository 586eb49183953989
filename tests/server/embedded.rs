//! `--backends embedded:3`: the first command of the README, without any memcached.

use super::rig::{Proxy, Talk, stat, stats};
use super::support::binary::Frame;
use super::support::binary::opcode::{GET, SET};
use super::support::binary::status::EXISTS;

#[test]
fn it_prints_how_to_talk_to_it_and_that_it_is_not_for_production() {
    let mut proxy = Proxy::start("embedded:3", &[]);
    proxy.log_line(&["not for production"]);
    proxy.signal("TERM");
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.stderr());
    let stdout = proxy.stdout();
    assert!(stdout.contains(&proxy.ports[0].to_string()), "{stdout}");
    // What it prints is what works: the words of the example are those of an exchange.
    assert!(stdout.contains("set ") && stdout.contains("get "), "{stdout}");
}

/// The printed command, run by a shell as a stranger would, is answered.
#[test]
fn the_example_it_prints_is_a_conversation() {
    let proxy = Proxy::start("embedded:3", &[]);
    let stdout = super::rig::eventually("the example", || {
        Some(proxy.stdout()).filter(|stdout| stdout.contains("| nc "))
    });
    let line = stdout.lines().find(|line| line.contains("| nc ")).expect("the example");
    // What goes into nc, without needing nc: the test's client takes its place.
    let (print, address) = line.split_once("| nc ").expect("a pipe");
    let printed = std::process::Command::new("sh").args(["-c", print]).output().expect("sh");
    assert!(printed.status.success(), "{line}");
    assert_eq!(address.trim(), format!("127.0.0.1 {}", proxy.ports[0]));
    let mut client = proxy.client();
    client.send(&printed.stdout);
    let answer = String::from_utf8(client.rest()).expect("text");
    assert!(answer.starts_with("STORED\r\nVALUE ") && answer.ends_with("\r\nEND\r\n"), "{answer:?}");
}

#[test]
fn it_works_in_text_compare_and_swap_included() {
    let proxy = Proxy::start("embedded:3", &[]);
    let (mut client, mut rival) = (proxy.client(), proxy.client());
    for number in 0..50 {
        let key = format!("key{number}");
        client.exchange(format!("set {key} 5 0 3\r\nold\r\n"), "STORED\r\n");
        let token = token_of(&mut client, &key);
        assert_eq!(token_of(&mut rival, &key), token);
        client.exchange(format!("cas {key} 5 0 3 {token}\r\nnew\r\n"), "STORED\r\n");
        rival.exchange(format!("cas {key} 5 0 3 {token}\r\nbad\r\n"), "EXISTS\r\n");
        rival.exchange(format!("get {key}\r\n"), format!("VALUE {key} 5 3\r\nnew\r\nEND\r\n"));
        client.exchange(format!("delete {key}\r\n"), "DELETED\r\n");
        client.exchange(format!("cas {key} 5 0 3 {token}\r\nbad\r\n"), "NOT_FOUND\r\n");
    }
    let keys: Vec<String> = (0..50).map(|number| format!("key{number}")).collect();
    let fill: String = keys.iter().map(|key| format!("set {key} 0 0 1\r\n7\r\n")).collect();
    client.exchange(fill, "STORED\r\n".repeat(50));
    let answer: String = keys.iter().map(|key| format!("VALUE {key} 0 1\r\n7\r\n")).collect();
    client.exchange(format!("get {}\r\n", keys.join(" ")), answer + "END\r\n");
    client.exchange("incr key1 5\r\ndecr key1 2\r\ntouch key1 100\r\n", "12\r\n10\r\nTOUCHED\r\n");
    client.exchange(format!("flush_all\r\nget {}\r\n", keys.join(" ")), "OK\r\nEND\r\n");
}

fn token_of(client: &mut Talk, key: &str) -> String {
    client.send(format!("gets {key}\r\n"));
    let line = client.line();
    client.until(b"END\r\n");
    line.rsplit(' ').next().expect("a token").to_owned()
}

#[test]
fn it_works_in_meta_compare_and_swap_included() {
    let proxy = Proxy::start("embedded:3", &[]);
    let mut client = proxy.client();
    for number in 0..50 {
        let key = format!("key{number}");
        client.exchange(format!("ms {key} 3 F5 T0\r\nold\r\n"), "HD\r\n");
        let line = client.ask(format!("mg {key} c\r\n"));
        let token = line.strip_prefix("HD c").unwrap_or_else(|| panic!("{line:?}")).to_owned();
        client.exchange(format!("ms {key} 3 C{token} F5\r\nnew\r\n"), "HD\r\n");
        client.exchange(format!("ms {key} 3 C{token} F5\r\nbad\r\n"), "EX\r\n");
        client.exchange(format!("mg {key} v f k O77\r\n"), format!("VA 3 f5 k{key} O77\r\nnew\r\n"));
        client.exchange(format!("ma {key}x\r\nmd {key} q\r\nmg {key} v\r\nmn\r\n"), "NF\r\nEN\r\nMN\r\n");
    }
    client.exchange("ms AP8N 3 b\r\nbin\r\nmg AP8N b v k\r\n", "HD\r\nVA 3 kAP8N b\r\nbin\r\n");
}

#[test]
fn it_works_in_binary_compare_and_swap_included() {
    let proxy = Proxy::start("embedded:3", &[]);
    let mut client = proxy.client();
    for number in 0..50 {
        let key = format!("\0key {number}\r\n").into_bytes();
        let set =
            |value: &[u8], cas| Frame::request(SET, number).extras(&[0; 8]).key(&key).value(value).cas(cas);
        assert_eq!(client.ask_frame(&set(b"old", 0)).status, 0);
        let old = client.ask_frame(&Frame::request(GET, number).key(&key));
        assert_eq!((&old.value[..], old.opaque, old.status), (&b"old"[..], number, 0));
        let stored = client.ask_frame(&set(b"new", old.cas));
        assert!(stored.status == 0 && stored.cas != old.cas && stored.cas != 0, "{stored}");
        assert_eq!(client.ask_frame(&set(b"bad", old.cas)).status, EXISTS);
        let new = client.ask_frame(&Frame::request(GET, number).key(&key));
        assert_eq!((&new.value[..], new.cas), (&b"new"[..], stored.cas));
    }
}

#[test]
fn all_three_backends_take_part() {
    let proxy = Proxy::start("embedded:3", &["--threads", "1"]);
    let mut client = proxy.client();
    for number in 0..300 {
        client.exchange(format!("set key{number} 0 0 1\r\nx\r\n"), "STORED\r\n");
    }
    let lines = stats(&mut client);
    for backend in 1..=3 {
        assert!(stat(&lines, &format!("backend:embedded-{backend}:requests")) > 50, "{lines:?}");
        assert_eq!(lines[&format!("backend:embedded-{backend}:state")], "up");
    }
}
