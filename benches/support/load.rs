//! Who sends what, and how much of it at once.

use super::answer::Answer;
use super::random::Random;
use super::recording::READ_BYTES;
use super::request::Kind;

/// What a client sends in one tick, and what it is answered. It sends its next batch when all of this one is
/// answered.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) answers: Vec<Answer>,
}

/// Clients, each with the same number of requests in flight.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Clients whose requests are of these kinds, in turn. A client speaks text or binary.
    pub(crate) text: (usize, Vec<Kind>),
    pub(crate) binary: (usize, Vec<Kind>),
    /// Requests that a client sends at once.
    pub(crate) pipeline: usize,
    /// Bytes that arrive at once, at most.
    pub(crate) piece: usize,
    /// Backends answer at different speeds, which change, so that answers come out of their clients' order.
    pub(crate) out_of_turn: bool,
}

impl Load {
    /// `clients` clients that send nothing but requests of one kind, `pipeline` at once.
    pub(crate) fn of(kind: Kind, clients: usize, pipeline: usize) -> Self {
        let (some, nobody) = ((clients, vec![kind]), (0, Vec::new()));
        let (text, binary) = if Kind::BINARY.contains(&kind) { (nobody, some) } else { (some, nobody) };
        Load { text, binary, pipeline, piece: READ_BYTES, out_of_turn: false }
    }

    /// Text clients of which each sends nine gets for one set.
    pub(crate) fn nine_gets_a_set(clients: usize, pipeline: usize) -> Self {
        let mut load = Load::of(Kind::Get, clients, pipeline);
        load.text.1 = [vec![Kind::Get; 9], vec![Kind::Set]].concat();
        load
    }

    /// Small requests of all kinds, from clients of both sorts.
    pub(crate) fn mixed(text: usize, binary: usize, pipeline: usize) -> Self {
        let load = Load::of(Kind::Get, text, pipeline);
        Load { text: (text, Kind::TEXT.to_vec()), binary: (binary, Kind::BINARY.to_vec()), ..load }
    }

    /// Operations in which there are about so many requests.
    pub(crate) fn operations(&self, requests: usize) -> usize {
        let of = |(clients, kinds): &(usize, Vec<Kind>)| {
            let sum: usize = kinds.iter().map(|kind| kind.operations()).sum();
            clients * sum / kinds.len().max(1)
        };
        requests * (of(&self.text) + of(&self.binary)) / self.clients()
    }

    /// The same with twice as many requests at once.
    pub(crate) fn doubled(&self) -> Self {
        Load { pipeline: self.pipeline * 2, ..self.clone() }
    }

    /// The same with answers out of turn.
    pub(crate) fn out_of_turn(self) -> Self {
        Load { out_of_turn: true, ..self }
    }

    /// The same when requests arrive byte by byte.
    pub(crate) fn bytewise(self) -> Self {
        Load { piece: 1, ..self }
    }

    pub(crate) fn clients(&self) -> usize {
        self.text.0 + self.binary.0
    }

    /// Batches of `client` for at least its share of `operations` in all.
    pub(crate) fn batches(&self, client: usize, operations: usize, random: &mut Random) -> Vec<Batch> {
        let kinds = if client < self.text.0 { &self.text.1 } else { &self.binary.1 };
        // Clients start at different places, so that the requests of a tick are mixed too.
        let mut kinds = kinds.iter().cycle().skip(client % kinds.len());
        let mut left = operations.div_ceil(self.clients());
        let mut batches = Vec::new();
        while left > 0 {
            let mut batch = Batch { bytes: Vec::new(), answers: Vec::new() };
            for _ in 0..self.pipeline {
                let kind = kinds.next().expect("they go round");
                left = left.saturating_sub(kind.operations());
                batch.answers.push(kind.write(random, &mut batch.bytes));
            }
            batches.push(batch);
        }
        batches
    }
}
