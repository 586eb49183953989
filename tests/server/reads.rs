//! Reads of which a part has no backend: one error line, or misses where that was asked for.

use super::rig::{Nobody, Proxy, Talk, key_of};
use super::support::base64::base64;
use super::support::binary::Frame;
use super::support::binary::opcode::{GATQ, GET, GETQ, NOOP};
use super::support::binary::status::TEMPORARY_FAILURE;
use super::support::process::{Server, named_backends};

/// Three backends with a key each. s1 is not there; the keys of the others hold `here`.
struct TwoOfThree {
    _servers: [Server; 2],
    _nobody: Nobody,
    proxy: Proxy,
    keys: [String; 3],
}

impl TwoOfThree {
    fn start(arguments: &[&str]) -> Self {
        let (servers, nobody) = ([Server::memcached(), Server::memcached()], Nobody::there());
        let list = named_backends(&[servers[0].address, nobody.address, servers[1].address]);
        let proxy = Proxy::start(&list, arguments);
        let keys = [0, 1, 2].map(|owner| key_of(owner, 3, "key"));
        let mut client = proxy.client();
        for key in [&keys[0], &keys[2]] {
            client.exchange(format!("set {key} 0 0 4\r\nhere\r\n"), "STORED\r\n");
        }
        TwoOfThree { _servers: servers, _nobody: nobody, proxy, keys }
    }

    /// `request` with $A, $B and $C standing for the keys of s0, s1 and s2.
    fn fill(&self, request: &str) -> String {
        request.replace("$A", &self.keys[0]).replace("$B", &self.keys[1]).replace("$C", &self.keys[2])
    }

    /// The answer is one error line that names s1, and nothing else.
    #[track_caller]
    fn expect_error(&self, client: &mut Talk, request: &str) {
        let error = client.ask(self.fill(request));
        assert!(error.starts_with("SERVER_ERROR backend s1 "), "{request:?} gets {error:?}");
        client.exchange("mn\r\n", "MN\r\n");
    }

    /// The answer is this and nothing else.
    #[track_caller]
    fn expect(&self, client: &mut Talk, request: &str, answer: &str) {
        let answer = self.fill(&answer.replace("MISS", "END\r\n"));
        client.exchange(self.fill(request) + "mn\r\n", answer + "MN\r\n");
    }

    /// What carries a token answers the values of A and C under unknown tokens, or one error.
    #[track_caller]
    fn expect_tokens(&self, client: &mut Talk, request: &str) {
        client.send(self.fill(request));
        for key in [&self.keys[0], &self.keys[2]] {
            let line = client.line();
            assert!(line.starts_with(&format!("VALUE {key} 0 4 ")), "{request:?} gets {line:?}");
            client.expect("here\r\n");
        }
        client.expect("END\r\n");
    }
}

const WRITES: [&str; 5] =
    ["set $B 0 0 1\r\nx\r\n", "delete $B\r\n", "incr $B 1\r\n", "touch $B 0\r\n", "ms $B 1\r\nx\r\n"];

#[test]
fn a_multi_key_get_of_which_one_part_fails_is_one_error_line_in_place_of_the_answer() {
    let rig = TwoOfThree::start(&[]);
    let mut client = rig.proxy.client();
    for verb in ["get", "gets", "gat 0", "gats 0"] {
        for keys in ["$A $B $C", "$B $A", "$C $B", "$B", "$A $C $A $C $B", "$B $B"] {
            rig.expect_error(&mut client, &format!("{verb} {keys}\r\n"));
        }
    }
    // Without the part that fails, the same client is answered as ever.
    let both = "VALUE $A 0 4\r\nhere\r\nVALUE $C 0 4\r\nhere\r\nEND\r\n";
    rig.expect(&mut client, "get $A $C\r\n", both);
    rig.expect_error(&mut client, "mg $B v\r\n");
}

#[test]
fn with_read_errors_miss_those_keys_are_misses() {
    let rig = TwoOfThree::start(&["--read-errors", "miss"]);
    let mut client = rig.proxy.client();
    let both = "VALUE $A 0 4\r\nhere\r\nVALUE $C 0 4\r\nhere\r\nEND\r\n";
    for verb in ["get", "gat 0"] {
        rig.expect(&mut client, &format!("{verb} $A $B $C\r\n"), both);
        rig.expect(&mut client, &format!("{verb} $B\r\n"), "MISS");
        rig.expect(&mut client, &format!("{verb} $B $B\r\n"), "MISS");
        rig.expect(&mut client, &format!("{verb} $C $B\r\n"), "VALUE $C 0 4\r\nhere\r\nEND\r\n");
    }
    for request in WRITES {
        rig.expect_error(&mut client, request);
    }
}

#[test]
fn with_read_errors_miss_what_carries_a_token_is_still_an_error() {
    let rig = TwoOfThree::start(&["--read-errors", "miss"]);
    let mut client = rig.proxy.client();
    for request in ["gets $B\r\n", "gets $A $B\r\n", "gats 0 $B\r\n", "gats 0 $A $B\r\n", "mg $B v c\r\n"] {
        rig.expect_error(&mut client, request);
    }
    binary_gets_stay_errors(&rig);
}

/// What a miss of `mg` looks like, a memcached without the key says.
#[test]
fn with_read_errors_miss_mg_is_a_miss_as_memcached_says_it() {
    let rig = TwoOfThree::start(&["--read-errors", "miss"]);
    let mut real = Talk::tcp(rig._servers[0].address);
    let mut client = rig.proxy.client();
    let flags = ["", "v", "v k", "v O123", "k O123 v", "s t f h l v", "v q", "k q", "O9 k q v", "T30 v"];
    for flags in flags {
        let request = rig.fill(&format!("mg $B {flags}\r\nmn\r\n"));
        real.send(&request);
        let answer = real.until(b"MN\r\n");
        client.exchange(&request, &answer);
    }
    let encoded = format!("mg {} b k O1 v\r\nmn\r\n", base64(rig.keys[1].as_bytes()));
    real.send(&encoded);
    client.exchange(&encoded, real.until(b"MN\r\n"));
}

#[test]
fn with_read_errors_miss_all_gets_and_gats_are_misses_too() {
    let rig = TwoOfThree::start(&["--read-errors", "miss-all"]);
    let mut client = rig.proxy.client();
    for verb in ["get", "gets", "gat 0", "gats 0"] {
        rig.expect(&mut client, &format!("{verb} $B\r\n"), "MISS");
    }
    rig.expect_tokens(&mut client, "gets $A $B $C\r\n");
    rig.expect_tokens(&mut client, "gats 0 $A $B $C\r\n");
    rig.expect(&mut client, "mg $B v\r\n", "EN\r\n");
    rig.expect_error(&mut client, "mg $B v c\r\n");
    for request in WRITES {
        rig.expect_error(&mut client, request);
    }
    binary_gets_stay_errors(&rig);
}

/// Binary gets always carry a token; quiet ones are silent about misses, not about errors.
#[track_caller]
fn binary_gets_stay_errors(rig: &TwoOfThree) {
    let mut client = rig.proxy.client();
    let get = Frame::request(GET, 1).key(rig.keys[1].as_bytes());
    let quiet = Frame::request(GETQ, 2).key(rig.keys[1].as_bytes());
    let touching = Frame::request(GATQ, 3).extras(&[0; 4]).key(rig.keys[1].as_bytes());
    for request in [get, quiet, touching] {
        let reply = client.ask_frame(&request);
        assert_eq!((reply.opcode, reply.status), (request.opcode, TEMPORARY_FAILURE), "{reply}");
        assert_eq!(reply.opaque, request.opaque);
        assert!(reply.value.starts_with(b"SERVER_ERROR backend s1 "), "{reply}");
    }
    assert_eq!(client.ask_frame(&Frame::request(NOOP, 4)).opaque, 4);
}
