//! The connections of an engine by their identities, in pieces that stay where they are when the table grows.

use super::ConnId;

/// Places in one piece.
const CHUNK: usize = 64;

/// What stands in the table.
pub(super) trait Identified {
    /// Whose place it has.
    fn id(&self) -> ConnId;
}

/// All connections of a worker.
pub(super) struct Conns<T> {
    clients: Places<T>,
    links: Places<T>,
}

struct Places<T> {
    chunks: Vec<Vec<Option<T>>>,
}

impl<T: Identified> Conns<T> {
    /// None yet.
    pub(super) fn new() -> Self {
        Conns { clients: Places { chunks: Vec::new() }, links: Places { chunks: Vec::new() } }
    }

    /// The connection, if it is still that one.
    #[inline]
    pub(super) fn find(&mut self, id: ConnId) -> Option<&mut T> {
        self.places(id).get_mut(id.index())?.as_mut().filter(|conn| conn.id() == id)
    }

    /// Puts a connection at its place, which is free.
    pub(super) fn insert(&mut self, conn: T) {
        let (places, index) = (self.places(conn.id()), conn.id().index());
        while places.chunks.len() <= index / CHUNK {
            places.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunk = &mut places.chunks[index / CHUNK];
        while chunk.len() <= index % CHUNK {
            chunk.push(None);
        }
        let place = &mut chunk[index % CHUNK];
        debug_assert!(place.is_none(), "an index is used again only after its end was told");
        *place = Some(conn);
    }

    /// Takes the connection out, if it is still that one.
    pub(super) fn take(&mut self, id: ConnId) -> Option<T> {
        self.places(id).get_mut(id.index())?.take_if(|conn| conn.id() == id)
    }

    #[inline]
    fn places(&mut self, id: ConnId) -> &mut Places<T> {
        if id.is_link() { &mut self.links } else { &mut self.clients }
    }
}

impl<T> Places<T> {
    #[inline]
    fn get_mut(&mut self, index: usize) -> Option<&mut Option<T>> {
        self.chunks.get_mut(index / CHUNK)?.get_mut(index % CHUNK)
    }
}
