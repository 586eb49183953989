//! Real client libraries of several languages and protocols, end to end: each program under
//! `tests/clients` first runs against one memcached, by which it is shown to be right, and then against
//! mcproxy with three memcacheds behind it.
//!
//! What the programs need is installed by `tests/install`; where it is missing these tests fail.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use support::process::{Server, named_backends};
use support::programs::{self, Program, go, python};
use support::relay::{Harm, Relay};
use support::report::say;

/// A program that runs longer hangs, and is killed.
const RUN_DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn pymemcache() {
    works_everywhere(&python("pymemcache_client.py"));
}

#[test]
fn python_binary_memcached() {
    works_everywhere(&python("binary_client.py"));
}

#[test]
fn meta_memcache() {
    works_everywhere(&python("meta_client.py"));
}

#[test]
fn gomemcache() {
    works_everywhere(&go("gomemcache"));
}

#[test]
fn go_key_value_driver() {
    works_everywhere(&go("kvdriver"));
}

/// Each program must notice a server that says a lost compare-and-swap was won.
#[test]
fn canary_every_program_notices_a_lie() {
    let python = ["pymemcache_client.py", "binary_client.py", "meta_client.py"].map(python);
    let go = ["gomemcache", "kvdriver"].map(go);
    for program in python.iter().chain(&go) {
        let server = Server::memcached();
        let relay = Relay::start(server.address, lost_is_won());
        let output = run(program, relay.address).expect_err("the server lies");
        assert!(output.contains("FAILED in"), "{program:?} failed in another way:\n{output}");
    }
}

#[test]
fn canary_a_program_that_hangs_is_killed() {
    let program = Program { path: "/bin/sh".into(), arguments: vec!["-c".into(), "exec sleep 60".into()] };
    let output = programs::run(&mut program.command(), Duration::from_millis(100)).expect_err("it hangs");
    assert!(output.contains("killed after"), "{output}");
}

/// Turns each answer that a compare-and-swap was lost, in any protocol, into one that it was won.
fn lost_is_won() -> Harm {
    Box::new(|answer| match answer.as_slice() {
        b"EXISTS\r\n" => *answer = b"STORED\r\n".to_vec(),
        b"EX\r\n" => *answer = b"HD\r\n".to_vec(),
        // A binary reply with status 2, key exists.
        [0x81, _, _, _, _, _, 0, 2, ..] => answer[7] = 0,
        _ => {}
    })
}

fn works_everywhere(program: &Program) {
    let alone = Server::memcached();
    let against_memcached = checks(program, "memcached itself", run(program, alone.address));
    let backends = [Server::memcached(), Server::memcached(), Server::memcached()];
    let list = named_backends(&backends.each_ref().map(|backend| backend.address));
    let proxy = Server::mcproxy(&list, &["--threads", "2"]);
    let through_mcproxy = checks(program, "mcproxy", run(program, proxy.address));
    assert_eq!(against_memcached, through_mcproxy, "the last lines of {program:?} differ");
    say(&through_mcproxy);
}

/// The last line of a program that went well, its name and its count of checks.
fn checks(program: &Program, server: &str, outcome: Result<String, String>) -> String {
    let output = outcome.unwrap_or_else(|output| panic!("{program:?} against {server}:\n{output}"));
    let last = output.lines().last().unwrap_or_default();
    assert!(last.ends_with(" checks"), "{program:?} against {server} did not count its checks:\n{output}");
    last.to_owned()
}

/// Runs a client program, which takes the address of a server as its last argument.
fn run(program: &Program, server: SocketAddr) -> Result<String, String> {
    programs::run(program.command().arg(server.to_string()), RUN_DEADLINE)
}
