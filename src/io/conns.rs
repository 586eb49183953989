//! The connections of an engine by their identities.

use super::ConnId;

/// What stands in the table.
pub(super) trait Identified {
    /// Whose place it has.
    fn id(&self) -> ConnId;
}

/// All connections of a worker.
pub(super) struct Conns<T> {
    clients: Places<T>,
    links: Places<T>,
    /// Clients that are there.
    count: usize,
}

type Places<T> = Vec<Option<Box<T>>>;

impl<T: Identified> Conns<T> {
    /// None yet.
    pub(super) fn new() -> Self {
        Conns { clients: Vec::new(), links: Vec::new(), count: 0 }
    }

    /// The connection, if it is still that one.
    #[inline]
    pub(super) fn find(&mut self, id: ConnId) -> Option<&mut T> {
        let conn = self.places(id).get_mut(id.index())?.as_deref_mut()?;
        if conn.id() == id { Some(conn) } else { None }
    }

    /// Puts a connection at its place, which is free.
    pub(super) fn insert(&mut self, conn: T) {
        self.count += usize::from(!conn.id().is_link());
        let (places, index) = (self.places(conn.id()), conn.id().index());
        while places.len() <= index {
            places.push(None);
        }
        debug_assert!(places[index].is_none(), "an index is used again only after its end was told");
        places[index] = Some(Box::new(conn));
    }

    /// Takes the connection out, if it is still that one.
    pub(super) fn take(&mut self, id: ConnId) -> Option<Box<T>> {
        let taken = self.places(id).get_mut(id.index())?.take_if(|conn| conn.id() == id)?;
        self.count -= usize::from(!id.is_link());
        Some(taken)
    }

    /// Clients in it.
    #[inline]
    pub(super) fn clients(&self) -> usize {
        self.count
    }

    #[inline]
    fn places(&mut self, id: ConnId) -> &mut Places<T> {
        if id.is_link() { &mut self.links } else { &mut self.clients }
    }
}
