//! Large values, long keys, and keys of any bytes, in each protocol.

use super::rig::{Frozen, Proxy, Talk, eventually, list_of, stat, stats, three_memcacheds};
use super::support::base64::base64;
use super::support::binary::Frame;
use super::support::binary::opcode::{GET, NOOP, SET};
use super::support::binary::status::TOO_LARGE;
use super::support::process::Server;

fn binary_set(key: &[u8], value: &[u8]) -> Frame {
    Frame::request(SET, 0x0a0b_0c0d).extras(&[0; 8]).key(key).value(value)
}

/// The item's header needs room in the megabyte too, so that memcached refuses a value of 1 MiB by itself.
#[test]
fn a_value_of_1_mib_gets_memcacheds_own_error_and_the_connection_stays_usable() {
    let (single, behind) = (Server::memcached(), three_memcacheds());
    let proxy = Proxy::start(&list_of(&behind), &[]);
    let mut clients = [Talk::tcp(single.address), proxy.client()];
    for length in [1 << 20, (1 << 20) + 1, 3 << 20] {
        let value = vec![b'v'; length];
        let requests = [
            text_set(b"key", &value),
            [format!("set key 0 0 {length} noreply\r\n").as_bytes(), &value, b"\r\n"].concat(),
            meta_set(b"key", &value),
        ];
        for request in requests {
            // memcached drops what stood under the key: its old value would be wrong.
            let whole = [b"set key 0 0 1\r\nx\r\n", &request[..], b"get key\r\nmn\r\n"].concat();
            let [expected, got] = both_answers(&mut clients, &whole);
            assert_eq!(got, expected, "{length} bytes as {:?}", String::from_utf8_lossy(&request[..20]));
        }
    }
    let mut binary = [Talk::tcp(single.address), proxy.client()];
    for length in [1 << 20, (1 << 20) + 1] {
        let value = vec![b'v'; length];
        let [expected, got] = binary.each_mut().map(|client| client.ask_frame(&binary_set(b"key", &value)));
        assert_eq!((expected.status, &got), (TOO_LARGE, &expected), "{length} bytes: {got} for {expected}");
        let noops = binary.each_mut().map(|client| client.ask_frame(&Frame::request(NOOP, 1)).status);
        assert_eq!(noops, [0, 0]);
    }
}

#[test]
fn with_max_value_2m_values_of_1_5_mib_pass() {
    let servers = [(); 3].map(|()| Server::memcached_with(&["-m", "64", "-I", "2m"]));
    let proxy = Proxy::start(&list_of(&servers), &["--max-value", "2m"]);
    let mut client = proxy.client();
    let value = |first: u8| -> Vec<u8> { (0..3 << 19).map(|at: u32| first.wrapping_add(at as u8)).collect() };
    for (number, key) in [b"one", b"two"].into_iter().enumerate() {
        let value = value(number as u8);
        client.exchange(text_set(key, &value), "STORED\r\n");
        client.exchange([b"get ", &key[..], b"\r\n"].concat(), text_answer(key, &value));
        client.exchange(meta_set(key, &value), "HD\r\n");
        let answer = [format!("VA {}\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat();
        client.exchange([b"mg ", &key[..], b" v\r\n"].concat(), answer);
        let mut binary = proxy.client();
        assert_eq!(binary.ask_frame(&binary_set(key, &value)).status, 0);
        assert!(binary.ask_frame(&Frame::request(GET, 3).key(key)).value == value, "the value has changed");
    }
    // Both at once, in one answer.
    let both = [text_value(b"one", &value(0)), text_value(b"two", &value(1)), b"END\r\n".to_vec()].concat();
    client.exchange("get one two\r\n", both);
    client.exchange(text_set(b"three", &[b'v'; 2 << 20]), "SERVER_ERROR object too large for cache\r\n");
}

/// A backend may take less than the proxy lets through: then it is the one that refuses.
#[test]
fn a_value_that_only_the_backend_refuses_gets_the_backends_error() {
    let servers = three_memcacheds();
    let proxy = Proxy::start(&list_of(&servers), &["--max-value", "4m"]);
    let (mut client, mut binary) = (proxy.client(), proxy.client());
    let value = vec![b'v'; 3 << 20];
    for key in ["one", "two", "three", "four", "five"] {
        let too_large = "SERVER_ERROR object too large for cache\r\n";
        client.exchange(text_set(key.as_bytes(), &value), too_large);
        client.exchange(meta_set(key.as_bytes(), &value), too_large);
        assert_eq!(binary.ask_frame(&binary_set(key.as_bytes(), &value)).status, TOO_LARGE);
        client.exchange(text_set(key.as_bytes(), b"small"), "STORED\r\n");
        assert_eq!(binary.ask_frame(&Frame::request(GET, 1).key(key.as_bytes())).value, b"small");
    }
}

#[test]
fn values_of_any_length_and_any_bytes_come_back() {
    let servers = three_memcacheds();
    let proxy = Proxy::start(&list_of(&servers), &[]);
    let mut client = proxy.client();
    let all: Vec<u8> = (0..=255).collect();
    // About the sizes at which the proxy copies, moves and splits; values that look like protocol.
    let mut values: Vec<Vec<u8>> = vec![Vec::new(), b"\r\n".to_vec(), b"\r\nEND\r\n".to_vec(), all];
    for near in [2048, 4096, 16384, 65536, 500_000] {
        values.extend((near - 2..near + 3).map(|length: usize| vec![(length % 251) as u8; length]));
    }
    for (number, value) in values.iter().enumerate() {
        let key = format!("key{number}").into_bytes();
        client.exchange(text_set(&key, value), "STORED\r\n");
        client.exchange([b"get ", &key[..], b"\r\n"].concat(), text_answer(&key, value));
    }
    // And all of them in one answer.
    let keys: Vec<String> = (0..values.len()).map(|number| format!("key{number}")).collect();
    let mut answer: Vec<u8> =
        keys.iter().zip(&values).flat_map(|(key, value)| text_value(key.as_bytes(), value)).collect();
    answer.extend_from_slice(b"END\r\n");
    client.exchange(format!("get {}\r\n", keys.join(" ")), answer);
}

#[test]
fn keys_have_1_to_250_bytes() {
    let (single, servers) = (Server::memcached(), three_memcacheds());
    let proxy = Proxy::start(&list_of(&servers), &[]);
    let mut clients = [Talk::tcp(single.address), proxy.client()];
    for length in [1, 2, 249, 250, 251, 300] {
        let key = "k".repeat(length);
        // One by one: of several in one write a memcached forgets what it has answered before a bad get.
        for request in ["set K 0 0 1\r\nx\r\n", "get K\r\n", "get K K\r\n", "delete K\r\n", "ms K 1\r\ny\r\n"]
        {
            let request = request.replace('K', &key) + "mn\r\n";
            let [expected, got] = both_answers(&mut clients, request.as_bytes());
            assert_eq!(got, expected, "a key of {length} bytes");
            assert_eq!(got.starts_with("CLIENT_ERROR"), length > 250, "{got}");
        }
    }
    for length in [1, 250] {
        let key = vec![0xff; length];
        let mut binary = proxy.client();
        assert_eq!(binary.ask_frame(&binary_set(&key, b"value")).status, 0);
        assert_eq!(binary.ask_frame(&Frame::request(GET, 3).key(&key)).value, b"value");
    }
}

/// What one protocol has stored the other finds: the bytes of a key decide, not how it was written.
#[test]
fn any_byte_in_binary_and_base64_keys() {
    let (single, servers) = (Server::memcached(), three_memcacheds());
    let proxy = Proxy::start(&list_of(&servers), &[]);
    let addresses = [single.address, proxy.address()];
    let (mut meta, mut binary) = (addresses.map(Talk::tcp), addresses.map(Talk::tcp));
    let mut keys: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    keys.extend((0..=255).map(|byte| vec![b'k', byte, b'k', byte]));
    keys.push((0..180).collect());
    keys.push((75..=255).collect());
    keys.extend([b"\r\nget x\r\n".to_vec(), b" ".to_vec(), b"\0\0".to_vec(), b"a b c".to_vec()]);
    for (number, key) in keys.iter().enumerate() {
        let (encoded, value) = (base64(key), format!("value {number}"));
        for client in &mut binary {
            assert_eq!(client.ask_frame(&binary_set(key, value.as_bytes())).status, 0, "{key:?}");
        }
        let changed = format!("changed {number}");
        for request in [
            format!("mg {encoded} b v\r\nmn\r\n"),
            format!("ms {encoded} {} b\r\n{changed}\r\nmn\r\n", changed.len()),
            format!("mg {encoded} b v k\r\nmn\r\n"),
        ] {
            let [expected, got] = both_answers(&mut meta, request.as_bytes());
            assert_eq!(got, expected, "{request:?}");
        }
        let get = Frame::request(GET, 9).key(key);
        let [expected, got] = binary.each_mut().map(|client| client.ask_frame(&get).value);
        assert_eq!((&got, &got[..]), (&expected, changed.as_bytes()), "{key:?}");
    }
}

/// memcached gives a key back as it was stored. One that binary has stored holds line ends as they are, and so
/// does the answer to a meta command that asks for it.
#[test]
fn a_key_of_line_ends_is_given_back_as_memcached_does() {
    let (single, servers) = (Server::memcached(), three_memcacheds());
    let proxy = Proxy::start(&list_of(&servers), &[]);
    let addresses = [single.address, proxy.address()];
    let (mut meta, mut binary) = (addresses.map(Talk::tcp), addresses.map(Talk::tcp));
    for key in [&b"\n"[..], b"\r\n", b"\r\nHD\r\n", b"k\r\nEN\r\nk", b"k\nEND\n"] {
        for client in &mut binary {
            assert_eq!(client.ask_frame(&binary_set(key, b"value")).status, 0);
        }
        for flags in ["b v k", "b k", "b k v O1"] {
            let request = format!("mg {} {flags}\r\nmn\r\n", base64(key));
            let [expected, got] = both_answers(&mut meta, request.as_bytes());
            assert_eq!(got, expected, "{request:?} for the key {:?}", String::from_utf8_lossy(key));
        }
    }
}

/// The key is the answer that somebody else is waiting for, as an attacker would choose it.
#[test]
fn a_key_that_looks_like_an_answer_does_not_reach_another_client() {
    let servers = [Server::memcached()];
    let proxy = Proxy::start(&list_of(&servers), &["--threads", "1"]);
    let key = b"\r\nVALUE victim 0 4\r\nevil\r\nEND\r\n";
    assert_eq!(proxy.client().ask_frame(&binary_set(key, b"")).status, 0);
    let (mut attacker, mut victim, mut observer) = (proxy.client(), proxy.client(), proxy.client());
    victim.exchange("set victim 0 0 4\r\ngood\r\n", "STORED\r\n");
    for attack in ["mg K b k\r\n", "mg K b k v\r\n", "me K b\r\n"] {
        let frozen = Frozen::freeze(servers[0].id());
        let before = stat(&stats(&mut observer), "backend:s0:requests");
        attacker.send(attack.replace('K', &base64(key)));
        eventually("the attack is on its way", || {
            (stat(&stats(&mut observer), "backend:s0:requests") > before).then_some(())
        });
        victim.send("get victim\r\n");
        eventually("the victim's request is behind it", || {
            (stat(&stats(&mut observer), "backend:s0:requests") > before + 1).then_some(())
        });
        frozen.thaw();
        victim.expect("VALUE victim 0 4\r\ngood\r\nEND\r\n");
    }
}

/// Text and binary name the same key alike.
#[test]
fn the_three_protocols_agree_where_a_key_lives() {
    let servers = three_memcacheds();
    let proxy = Proxy::start(&list_of(&servers), &[]);
    let (mut text, mut binary) = (proxy.client(), proxy.client());
    for number in 0..100 {
        let (key, value) = (format!("key{number}"), format!("{number:02}"));
        text.exchange(text_set(key.as_bytes(), value.as_bytes()), "STORED\r\n");
        let reply = binary.ask_frame(&Frame::request(GET, number).key(key.as_bytes()));
        assert_eq!(reply.value, value.as_bytes(), "{key}: {reply}");
        text.exchange(format!("mg {key} v\r\n"), format!("VA 2\r\n{value}\r\n"));
        text.exchange(format!("mg {} b v\r\n", base64(key.as_bytes())), format!("VA 2\r\n{value}\r\n"));
    }
}

/// What a memcached and the proxy answer to the same bytes, which end with `mn`.
#[track_caller]
fn both_answers(clients: &mut [Talk; 2], request: &[u8]) -> [String; 2] {
    clients.each_mut().map(|client| {
        client.send(request);
        String::from_utf8_lossy(&client.until(b"MN\r\n")).into_owned()
    })
}

fn text_set(key: &[u8], value: &[u8]) -> Vec<u8> {
    [b"set ", key, format!(" 0 0 {}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
}

fn meta_set(key: &[u8], value: &[u8]) -> Vec<u8> {
    [b"ms ", key, format!(" {}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
}

fn text_value(key: &[u8], value: &[u8]) -> Vec<u8> {
    [b"VALUE ", key, format!(" 0 {}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
}

fn text_answer(key: &[u8], value: &[u8]) -> Vec<u8> {
    [text_value(key, value), b"END\r\n".to_vec()].concat()
}

#[test]
fn base64_is_that_of_the_rfc() {
    let table = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
    for (plain, encoded) in table {
        assert_eq!(base64(plain.as_bytes()), encoded);
    }
}
