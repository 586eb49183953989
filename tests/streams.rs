//! What goes in and out on both sides of the proxy, over real sockets: the client sends, the backend sees, the
//! backend sends, the client sees. After each case a request of which there is only one proves that no byte
//! is left anywhere.

mod support;

#[path = "streams/binary.rs"]
mod binary;
#[path = "streams/fanout.rs"]
mod fanout;
#[path = "streams/faults.rs"]
mod faults;
#[path = "streams/rig.rs"]
mod rig;
#[path = "streams/sharing.rs"]
mod sharing;
#[path = "streams/text.rs"]
mod text;

use std::cell::Cell;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::thread;

use rig::{Rig, settle};
use support::mock::Mock;
use support::process::{Server, free_address};
use support::relay::{Relay, one_byte_altered};
use support::report::{grouped, say};
use text::Case;

#[test]
fn text_reads() {
    text_table("reads", text::READS);
}

#[test]
fn text_writes() {
    text_table("writes", text::WRITES);
}

#[test]
fn text_others() {
    text_table("others", text::OTHERS);
}

#[test]
fn meta() {
    text_table("meta", text::META);
}

#[test]
fn pipelined() {
    text_table("pipelined", text::PIPELINED);
}

#[test]
fn binary_every_opcode() {
    binary_table("binary opcodes", &binary::every_opcode());
}

#[test]
fn binary_others() {
    binary_table("binary others", &binary::others());
}

fn text_table(name: &str, cases: &[Case]) {
    let rig = Rig::start(1);
    let outcome = text::run_all(&rig, cases).map(|exchanges| report(name, cases.len(), exchanges));
    settle(&rig, name, outcome);
}

fn binary_table(name: &str, cases: &[binary::Case]) {
    let rig = Rig::start(1);
    let outcome = binary::run_all(&rig, cases).map(|exchanges| report(name, cases.len(), exchanges));
    settle(&rig, name, outcome);
}

fn report(name: &str, cases: usize, exchanges: usize) {
    let exchanges = grouped(exchanges);
    say(&format!("streams: {name}: {cases} cases, {exchanges} exchanges, cut at every byte"));
}

/// Every case whose request is composed anew must fail for a proxy that passes on what it gets.
#[test]
fn canary_passing_on_is_found() {
    let mut tried = 0;
    for case in [text::WRITES, text::META, text::READS, text::OTHERS].concat() {
        // A shorter request would only be waited for.
        let composed = case.client_sends != case.backend_sees && !case.backend_sees.is_empty();
        if !composed || case.client_sends.len() < case.backend_sees.len() {
            continue;
        }
        let mock = Mock::start();
        let relay = Relay::greeting(mock.address, Box::new(|_| {}));
        let rig = Rig::without_proxy(mock, relay.address);
        let outcome = text::run(&rig, &rig.client(), &case, 0);
        assert!(outcome.is_err(), "case {:?} takes what the client sent, as it was", case.name);
        tried += 1;
    }
    assert!(tried > 20, "only {tried} cases look at how requests are composed");
}

/// The tables must fail when one byte of an answer is wrong.
#[test]
fn canary_an_altered_byte_is_found() {
    let mock = Mock::start();
    let relay = Relay::greeting(mock.address, one_byte_altered(5));
    let rig = Rig::without_proxy(mock, relay.address);
    text::run_all(&rig, text::READS).expect_err("the altered byte was not found");
}

/// The tables must fail when a byte too much is under way, though the case itself went well.
#[test]
fn canary_a_byte_left_over_is_found() {
    let mock = Mock::start();
    let mut pieces = 0;
    let relay = Relay::greeting(
        mock.address,
        Box::new(move |piece| {
            pieces += 1;
            if pieces == 1 {
                piece.push(b'!');
            }
        }),
    );
    let rig = Rig::without_proxy(mock, relay.address);
    let problem = text::run_all(&rig, &text::READS[..1]).expect_err("the surplus byte was not found");
    assert!(problem.contains("after the case"), "found, but not by the look for what is left: {problem}");
}

/// A server that is starting is not given up because somebody else has listened at its address before.
#[test]
fn a_listener_that_goes_is_not_taken_for_the_server() {
    let address = free_address();
    let listener = TcpListener::bind(address).expect("the port is free");
    let other = thread::spawn(move || drop(listener.accept()));
    let starts = Cell::new(0);
    let late = |address: SocketAddr| {
        starts.set(starts.get() + 1);
        let mut command = Command::new("sh");
        let memcached = "sleep 0.3; exec memcached -u nobody -l 127.0.0.1 -U 0 -t 1 -p";
        command.args(["-c", &format!("{memcached} {}", address.port())]);
        command
    };
    let _server = Server::start("memcached", || address, late);
    other.join().expect("somebody connected");
    assert_eq!(starts.get(), 1);
}
