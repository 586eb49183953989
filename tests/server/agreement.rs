//! Two proxies with the same list in another order agree on every key.

use super::rig::{Proxy, Talk, three_memcacheds};
use super::support::binary::Frame;
use super::support::binary::opcode::GET;
use super::support::process::Server;

const KEYS: usize = 300;

#[test]
fn two_proxies_with_the_same_list_in_another_order_agree_on_every_key() {
    agree(|address, _| address.to_owned());
}

#[test]
fn two_proxies_with_the_same_weighted_list_in_another_order_agree_on_every_key() {
    agree(|address, index| format!("{address}={}", [1, 10, 3][index]));
}

#[test]
fn two_proxies_with_the_same_named_list_in_another_order_agree_on_every_key() {
    agree(|address, index| format!("{address}@cache-{index}"));
}

/// Writes every key through one proxy, reads it through another, and looks for it on the backends.
fn agree(entry: impl Fn(&str, usize) -> String) {
    let servers = three_memcacheds();
    let entries = [0, 1, 2].map(|index| entry(&servers[index].address.to_string(), index));
    let list = |order: [usize; 3]| order.map(|index| entries[index].clone()).join(",");
    let one = Proxy::start(&list([0, 1, 2]), &[]);
    let others = [[2, 0, 1], [2, 1, 0], [1, 0, 2]].map(|order| Proxy::start(&list(order), &[]));
    let keys: Vec<String> = (0..KEYS).map(|number| format!("key{number}")).collect();
    write(&mut one.client(), &keys);
    for other in &others {
        read(&mut other.client(), &mut other.client(), &keys);
    }
    let before = owners(&servers, &keys).expect("each key lives on one backend");
    // Written anew through the others, every key stays where it was.
    for other in &others {
        write(&mut other.client(), &keys);
        assert_eq!(owners(&servers, &keys).expect("each key still lives on one backend"), before);
    }
    read(&mut one.client(), &mut one.client(), &keys);
    for backend in 0..servers.len() {
        assert!(before.contains(&backend), "backend {backend} owns none of {KEYS} keys");
    }
}

fn write(client: &mut Talk, keys: &[String]) {
    for key in keys {
        client.send(format!("set {key} 0 0 {}\r\n{key}\r\n", key.len()));
    }
    client.expect("STORED\r\n".repeat(keys.len()));
}

/// By each protocol.
fn read(text: &mut Talk, binary: &mut Talk, keys: &[String]) {
    let value = |key: &String| format!("VALUE {key} 0 {}\r\n{key}\r\n", key.len());
    let all: String = keys.iter().map(value).collect();
    text.exchange(format!("get {}\r\n", keys.join(" ")), all + "END\r\n");
    for key in keys {
        text.exchange(format!("mg {key} v\r\n"), format!("VA {}\r\n{key}\r\n", key.len()));
        assert_eq!(binary.ask_frame(&Frame::request(GET, 1).key(key.as_bytes())).value, key.as_bytes());
    }
}

/// For each key the one backend that has it.
fn owners(servers: &[Server], keys: &[String]) -> Result<Vec<usize>, String> {
    let mut direct: Vec<Talk> = servers.iter().map(|server| Talk::tcp(server.address)).collect();
    let owner = |key: &String| {
        let having = |(index, client): (usize, &mut Talk)| {
            (client.ask(format!("mg {key}\r\n")) == "HD").then_some(index)
        };
        let having: Vec<usize> = direct.iter_mut().enumerate().filter_map(having).collect();
        <[usize; 1]>::try_from(having)
            .map(|[one]| one)
            .map_err(|all| format!("{key} is on the backends {all:?}"))
    };
    keys.iter().map(owner).collect()
}

#[test]
fn canary_a_key_on_two_backends_or_on_none_is_found() {
    let servers = three_memcacheds();
    let keys = ["key".to_owned()];
    assert_eq!(owners(&servers, &keys), Err("key is on the backends []".to_owned()));
    write(&mut Talk::tcp(servers[1].address), &keys);
    assert_eq!(owners(&servers, &keys), Ok(vec![1]));
    write(&mut Talk::tcp(servers[2].address), &keys);
    assert_eq!(owners(&servers, &keys), Err("key is on the backends [1, 2]".to_owned()));
}
