//! The classic text protocol and meta: tables of what goes in and out on both sides of the proxy.

use crate::rig::Rig;
use crate::support::client::Client;
use crate::support::report::escape;

/// Four streams around the proxy.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) client_sends: &'static [u8],
    pub(crate) backend_sees: &'static [u8],
    pub(crate) backend_sends: &'static [u8],
    pub(crate) client_sees: &'static [u8],
}

/// A case whose two sides differ.
const fn case(
    name: &'static str,
    client_sends: &'static [u8],
    backend_sees: &'static [u8],
    backend_sends: &'static [u8],
    client_sees: &'static [u8],
) -> Case {
    Case { name, client_sends, backend_sees, backend_sends, client_sees }
}

/// A case in which requests and replies look the same on both sides.
const fn same(name: &'static str, request: &'static [u8], reply: &'static [u8]) -> Case {
    case(name, request, request, reply, reply)
}

/// A case that the proxy answers by itself.
const fn own(name: &'static str, client_sends: &'static [u8], client_sees: &'static [u8]) -> Case {
    case(name, client_sends, b"", b"", client_sees)
}

/// Reads.
pub(crate) const READS: &[Case] = &[
    same("get hit", b"get a\r\n", b"VALUE a 5 3\r\nabc\r\nEND\r\n"),
    same("get miss", b"get a\r\n", b"END\r\n"),
    same("get of nothing", b"get a\r\n", b"VALUE a 0 0\r\n\r\nEND\r\n"),
    same("get of protocol", b"get a\r\n", b"VALUE a 0 16\r\nEND\r\nVALUE b 0 0\r\nEND\r\n"),
    same("get flags", b"get a\r\n", b"VALUE a 4294967295 1\r\nx\r\nEND\r\n"),
    same("gets token", b"gets a\r\n", b"VALUE a 0 1 18446744073709551615\r\nx\r\nEND\r\n"),
    same("gets miss", b"gets a\r\n", b"END\r\n"),
    same("get many", b"get a b c\r\n", b"VALUE a 0 1\r\n1\r\nVALUE c 0 1\r\n3\r\nEND\r\n"),
    same("gets many", b"gets a b\r\n", b"VALUE a 0 1 7\r\n1\r\nVALUE b 0 1 8\r\n3\r\nEND\r\n"),
    same("get many misses", b"get a b c\r\n", b"END\r\n"),
    case(
        "get twice",
        b"get a a\r\n",
        b"get a\r\n",
        b"VALUE a 0 1\r\n1\r\nEND\r\n",
        b"VALUE a 0 1\r\n1\r\nVALUE a 0 1\r\n1\r\nEND\r\n",
    ),
    same("gat twice", b"gat 9 a a\r\n", b"VALUE a 0 1\r\n1\r\nVALUE a 0 1\r\n1\r\nEND\r\n"),
    same("gat", b"gat 10 a\r\n", b"VALUE a 0 1\r\n1\r\nEND\r\n"),
    same("gat many", b"gat 10 a b\r\n", b"VALUE b 0 1\r\n1\r\nEND\r\n"),
    same("gats", b"gats -1 a\r\n", b"VALUE a 0 1 99\r\n1\r\nEND\r\n"),
    same("high bytes in a key", b"get \xc3\xa4\xff\r\n", b"VALUE \xc3\xa4\xff 0 1\r\n1\r\nEND\r\n"),
    same("tab in a key", b"get a\tb\r\n", b"VALUE a\tb 0 1\r\n1\r\nEND\r\n"),
    same("get fails there", b"get a\r\n", b"SERVER_ERROR out of memory writing get response\r\n"),
    same("get many fails there", b"get a b\r\n", b"SERVER_ERROR out of memory writing get response\r\n"),
    case("spaces", b"  get   a  \r\n", b"get a\r\n", b"END\r\n", b"END\r\n"),
    case("spaces between keys", b"get a    b \r\n", b"get a b\r\n", b"END\r\n", b"END\r\n"),
    case("LF only", b"get a\n", b"get a\r\n", b"END\r\n", b"END\r\n"),
    case("NUL ends the line", b"get a\0b c\r\n", b"get a\r\n", b"END\r\n", b"END\r\n"),
    case("noreply is a key", b"get a noreply\r\n", b"get a noreply\r\n", b"END\r\n", b"END\r\n"),
    case("gat number", b"gat 0010 a\r\n", b"gat 10 a\r\n", b"END\r\n", b"END\r\n"),
];

/// Storage commands.
pub(crate) const WRITES: &[Case] = &[
    same("set", b"set a 1 2 3\r\nabc\r\n", b"STORED\r\n"),
    same("set nothing", b"set a 0 0 0\r\n\r\n", b"STORED\r\n"),
    same("set not stored", b"set a 0 0 1\r\nx\r\n", b"NOT_STORED\r\n"),
    same("set expired", b"set a 0 -1 1\r\nx\r\n", b"STORED\r\n"),
    same("set a value with line ends", b"set a 0 0 8\r\n\r\nget b\n\r\n", b"STORED\r\n"),
    same("set a value that is a command", b"set a 0 0 11\r\nflush_all\r\n\r\n", b"STORED\r\n"),
    same("set a value with NULs", b"set a 0 0 4\r\n\0\xff\0\n\r\n", b"STORED\r\n"),
    same("add", b"add a 0 0 1\r\nx\r\n", b"STORED\r\n"),
    same("add not stored", b"add a 0 0 1\r\nx\r\n", b"NOT_STORED\r\n"),
    same("replace", b"replace a 0 0 1\r\nx\r\n", b"NOT_STORED\r\n"),
    same("append", b"append a 0 0 1\r\nx\r\n", b"STORED\r\n"),
    same("prepend", b"prepend a 0 0 1\r\nx\r\n", b"STORED\r\n"),
    same("cas stored", b"cas a 0 0 1 18446744073709551615\r\nx\r\n", b"STORED\r\n"),
    same("cas exists", b"cas a 0 0 1 7\r\nx\r\n", b"EXISTS\r\n"),
    same("cas not found", b"cas a 0 0 1 7\r\nx\r\n", b"NOT_FOUND\r\n"),
    same("set fails there", b"set a 0 0 1\r\nx\r\n", b"SERVER_ERROR out of memory storing object\r\n"),
    case(
        "set flags",
        b"set a 4294967296 0 1\r\nx\r\n",
        b"set a 0 0 1\r\nx\r\n",
        b"STORED\r\n",
        b"STORED\r\n",
    ),
    case("set numbers", b"set a 007 00 01\r\nx\r\n", b"set a 7 0 1\r\nx\r\n", b"STORED\r\n", b"STORED\r\n"),
    case("set spaces", b" set  a 1  2 1  \r\nx\r\n", b"set a 1 2 1\r\nx\r\n", b"STORED\r\n", b"STORED\r\n"),
    case("set LF", b"set a 1 2 1\nx\r\n", b"set a 1 2 1\r\nx\r\n", b"STORED\r\n", b"STORED\r\n"),
    case("set noreply", b"set a 1 2 1 noreply\r\nx\r\n", b"set a 1 2 1\r\nx\r\n", b"STORED\r\n", b""),
    case(
        "set noreply fails there",
        b"set a 1 2 1 noreply\r\nx\r\n",
        b"set a 1 2 1\r\nx\r\n",
        b"SERVER_ERROR out of memory storing object\r\n",
        b"",
    ),
    case("add noreply", b"add a 0 0 1 noreply\r\nx\r\n", b"add a 0 0 1\r\nx\r\n", b"NOT_STORED\r\n", b""),
    case(
        "replace noreply",
        b"replace a 0 0 1 noreply\r\nx\r\n",
        b"replace a 0 0 1\r\nx\r\n",
        b"STORED\r\n",
        b"",
    ),
    case(
        "append noreply",
        b"append a 0 0 1 noreply\r\nx\r\n",
        b"append a 0 0 1\r\nx\r\n",
        b"STORED\r\n",
        b"",
    ),
    case(
        "prepend noreply",
        b"prepend a 0 0 1 noreply\r\nx\r\n",
        b"prepend a 0 0 1\r\nx\r\n",
        b"STORED\r\n",
        b"",
    ),
    case("cas noreply", b"cas a 0 0 1 7 noreply\r\nx\r\n", b"cas a 0 0 1 7\r\nx\r\n", b"EXISTS\r\n", b""),
];

/// The other commands.
pub(crate) const OTHERS: &[Case] = &[
    same("incr", b"incr a 5\r\n", b"6\r\n"),
    same("incr to the end", b"incr a 18446744073709551615\r\n", b"18446744073709551614\r\n"),
    same("incr not found", b"incr a 5\r\n", b"NOT_FOUND\r\n"),
    same(
        "incr non-numeric",
        b"incr a 5\r\n",
        b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
    ),
    same("decr", b"decr a 5\r\n", b"0\r\n"),
    case("incr number", b"incr a  0005 \r\n", b"incr a 5\r\n", b"6\r\n", b"6\r\n"),
    case("incr noreply", b"incr a 5 noreply\r\n", b"incr a 5\r\n", b"6\r\n", b""),
    case("decr noreply", b"decr a 5 noreply\r\n", b"decr a 5\r\n", b"NOT_FOUND\r\n", b""),
    same("touch", b"touch a 100\r\n", b"TOUCHED\r\n"),
    same("touch not found", b"touch a 0\r\n", b"NOT_FOUND\r\n"),
    case("touch noreply", b"touch a 0 noreply\r\n", b"touch a 0\r\n", b"TOUCHED\r\n", b""),
    same("delete", b"delete a\r\n", b"DELETED\r\n"),
    same("delete not found", b"delete a\r\n", b"NOT_FOUND\r\n"),
    case("delete 0", b"delete a 0\r\n", b"delete a\r\n", b"DELETED\r\n", b"DELETED\r\n"),
    case("delete noreply", b"delete a noreply\r\n", b"delete a\r\n", b"DELETED\r\n", b""),
    case("delete 0 noreply", b"delete a 0 noreply\r\n", b"delete a\r\n", b"NOT_FOUND\r\n", b""),
    same("flush_all", b"flush_all\r\n", b"OK\r\n"),
    same("flush_all later", b"flush_all 10\r\n", b"OK\r\n"),
    case("flush_all noreply", b"flush_all noreply\r\n", b"flush_all\r\n", b"OK\r\n", b""),
    case("flush_all later noreply", b"flush_all 10 noreply\r\n", b"flush_all 10\r\n", b"OK\r\n", b""),
    own("version", b"version\r\n", b"VERSION 1.6.18\r\n"),
    own("verbosity", b"verbosity 1\r\n", b"OK\r\n"),
    own("verbosity noreply", b"verbosity 1 noreply\r\n", b""),
    own("unknown", b"foo\r\n", b"ERROR\r\n"),
    own("no key", b"get\r\n", b"ERROR\r\n"),
    own("exptime", b"touch a x\r\n", b"CLIENT_ERROR invalid exptime argument\r\n"),
    own("delta", b"incr a x\r\n", b"CLIENT_ERROR invalid numeric delta argument\r\n"),
    own("length that is none", b"set a 0 0 7x\r\n", b"CLIENT_ERROR bad command line format\r\n"),
    own(
        "cas id of 2^64",
        b"cas a 0 0 0 18446744073709551616\r\n",
        b"CLIENT_ERROR bad command line format\r\n",
    ),
    own("bad chunk", b"set a 0 0 1\r\nxy\r\n", b"CLIENT_ERROR bad data chunk\r\nERROR\r\n"),
];

/// Meta commands.
pub(crate) const META: &[Case] = &[
    same("mg hit", b"mg a v\r\n", b"VA 3\r\nabc\r\n"),
    same("mg hit without a value", b"mg a\r\n", b"HD\r\n"),
    same("mg miss", b"mg a v\r\n", b"EN\r\n"),
    same("mg value of protocol", b"mg a v\r\n", b"VA 6\r\nEN\r\nHD\r\n"),
    same("mg empty value", b"mg a v f\r\n", b"VA 0 f7\r\n\r\n"),
    same("mg all", b"mg a s v t f h l k O9 c\r\n", b"VA 1 s1 t-1 f5 h0 l0 ka O9 c12\r\nx\r\n"),
    same("mg miss names the key", b"mg a v k O9\r\n", b"EN ka O9\r\n"),
    same("mg token", b"mg a c\r\n", b"HD c18446744073709551615\r\n"),
    same("mg vivify", b"mg a N30 v\r\n", b"VA 0 W\r\n\r\n"),
    same("mg recache", b"mg a R30 T60 v\r\n", b"VA 1 Z\r\nx\r\n"),
    same("mg base64", b"mg AAH/ b v k\r\n", b"VA 1 kAAH/ b\r\nx\r\n"),
    case("mg quiet hit", b"mg a v q\r\n", b"mg a v\r\n", b"VA 1\r\nx\r\n", b"VA 1\r\nx\r\n"),
    case("mg quiet hit, no value", b"mg a q k\r\n", b"mg a k\r\n", b"HD ka\r\n", b"HD ka\r\n"),
    case("mg quiet miss", b"mg a v q\r\n", b"mg a v\r\n", b"EN\r\n", b""),
    case("mg quiet miss, key", b"mg a v q k O1\r\n", b"mg a v k O1\r\n", b"EN ka O1\r\n", b""),
    case("mg quiet, error", b"mg a v q\r\n", b"mg a v\r\n", b"SERVER_ERROR no\r\n", b"SERVER_ERROR no\r\n"),
    case("mg spaces", b" mg  a   v \r\n", b"mg a v\r\n", b"EN\r\n", b"EN\r\n"),
    case("mg NUL", b"mg a v\0 k\r\n", b"mg a v\r\n", b"EN\r\n", b"EN\r\n"),
    same("ms", b"ms a 3\r\nabc\r\n", b"HD\r\n"),
    same("ms flags", b"ms a 3 T90 F5 k O1\r\nabc\r\n", b"HD ka O1\r\n"),
    same("ms mode", b"ms a 3 MA\r\nabc\r\n", b"NS\r\n"),
    same("ms compare", b"ms a 3 C7\r\nabc\r\n", b"EX\r\n"),
    same("ms compare, no item", b"ms a 3 C7\r\nabc\r\n", b"NF\r\n"),
    same("ms nothing", b"ms a 0\r\n\r\n", b"HD\r\n"),
    same("ms base64", b"ms AAH/ 1 b\r\nx\r\n", b"HD b\r\n"),
    same("ms value of protocol", b"ms a 11\r\nflush_all\r\n\r\n", b"HD\r\n"),
    case("ms number", b"ms a 003\r\nabc\r\n", b"ms a 3\r\nabc\r\n", b"HD\r\n", b"HD\r\n"),
    case("ms quiet", b"ms a 1 q\r\nx\r\n", b"ms a 1\r\nx\r\n", b"HD\r\n", b""),
    case("ms quiet, not stored", b"ms a 1 q ME\r\nx\r\n", b"ms a 1 ME\r\nx\r\n", b"NS\r\n", b"NS\r\n"),
    same("md", b"md a\r\n", b"HD\r\n"),
    same("md miss", b"md a k\r\n", b"NF ka\r\n"),
    same("md stale", b"md a I T30\r\n", b"HD\r\n"),
    same("md compare", b"md a C7\r\n", b"EX\r\n"),
    case("md quiet", b"md a q\r\n", b"md a\r\n", b"HD\r\n", b""),
    case("md quiet, miss", b"md a q\r\n", b"md a\r\n", b"NF\r\n", b"NF\r\n"),
    same("ma", b"ma a\r\n", b"HD\r\n"),
    same("ma value", b"ma a v D10 MD\r\n", b"VA 1\r\n5\r\n"),
    same("ma vivify", b"ma a N90 J7 v t\r\n", b"VA 1 t90\r\n7\r\n"),
    same("ma miss", b"ma a\r\n", b"NF\r\n"),
    same("ma error", b"ma a\r\n", b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"),
    case("ma quiet", b"ma a q\r\n", b"ma a\r\n", b"HD\r\n", b""),
    same("me", b"me a\r\n", b"ME a exp=-1 la=1 cas=2 fetch=no cls=1 size=64\r\n"),
    same("me miss", b"me a\r\n", b"EN\r\n"),
    own("mn", b"mn\r\n", b"MN\r\n"),
    own("mn and more", b"mn extra\r\n", b"MN\r\n"),
    own("bad base64", b"mg *** b v\r\n", b"CLIENT_ERROR error decoding key\r\n"),
    own("unknown flag", b"mg a !\r\n", b"CLIENT_ERROR invalid flag\r\n"),
    own("ms without a length", b"ms a S1\r\n", b"CLIENT_ERROR bad command line format\r\n"),
    same(
        "long opaque",
        b"mg a O111111111111111111111111111111111\r\n",
        b"CLIENT_ERROR opaque token too long\r\n",
    ),
];

/// Several requests in one write; the backend sees all of them before it answers any.
pub(crate) const PIPELINED: &[Case] = &[
    same(
        "a batch",
        b"set a 0 0 1\r\nx\r\nincr b 1\r\ntouch c 5\r\nmg d v\r\ndelete e\r\n",
        b"STORED\r\n7\r\nTOUCHED\r\nVA 2\r\nhi\r\nNOT_FOUND\r\n",
    ),
    case(
        "quiet ones between",
        b"set a 0 0 1 noreply\r\nx\r\nincr b 1\r\ndelete c noreply\r\nmg d v q\r\nmn\r\n",
        b"set a 0 0 1\r\nx\r\nincr b 1\r\ndelete c\r\nmg d v\r\n",
        b"STORED\r\n7\r\nDELETED\r\nEN\r\n",
        b"7\r\nMN\r\n",
    ),
    case(
        "own answers keep their place",
        b"incr a 1\r\nversion\r\nfoo\r\nincr a 1\r\nmn\r\n",
        b"incr a 1\r\nincr a 1\r\n",
        b"1\r\n2\r\n",
        b"1\r\nVERSION 1.6.18\r\nERROR\r\n2\r\nMN\r\n",
    ),
    case(
        "a refused one between",
        b"set a 0 0 1\r\nx\r\nset a 0 0 z\r\nset b 0 0 1\r\ny\r\n",
        b"set a 0 0 1\r\nx\r\nset b 0 0 1\r\ny\r\n",
        b"STORED\r\nNOT_STORED\r\n",
        b"STORED\r\nCLIENT_ERROR bad command line format\r\nNOT_STORED\r\n",
    ),
];

/// Runs one case and looks for bytes left over. Both sides' writes are cut at `cut`, if that is inside.
pub(crate) fn run(rig: &Rig, client: &Client, case: &Case, cut: usize) -> Result<(), String> {
    exchange(rig, client, case, cut).and_then(|()| rig.nothing_left(client, &["fence"])).map_err(|problem| {
        let sent = escape(case.client_sends);
        format!("case {:?}, client sends {sent}, writes cut at {cut}: {problem}", case.name)
    })
}

fn exchange(rig: &Rig, client: &Client, case: &Case, cut: usize) -> Result<(), String> {
    client.send_in_pieces(case.client_sends, &[cut]);
    if !case.backend_sees.is_empty() {
        let link = rig.mock().expect(case.backend_sees)?;
        link.send_in_pieces(case.backend_sends, &[cut]);
    }
    client.expect(case.client_sees)
}

/// Runs every case whole and cut at every byte, all on one connection; the number of exchanges.
pub(crate) fn run_all(rig: &Rig, cases: &[Case]) -> Result<usize, String> {
    let client = rig.client();
    let mut exchanges = 0;
    for case in cases {
        for cut in 0..case.client_sends.len().max(case.backend_sends.len()) {
            run(rig, &client, case, cut)?;
            exchanges += 1;
        }
    }
    Ok(exchanges)
}
