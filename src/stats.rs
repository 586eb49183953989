//! Counters, under memcached's names where they mean the same.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One worker's counters. Plain numbers: a worker shares nothing, and reports them when asked.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Calls `visit` with each counter's name and value.
            pub fn each(&self, mut visit: impl FnMut(&'static str, u64)) {
                $(visit(stringify!($name), self.$name);)*
            }

            /// Adds another worker's counters to these.
            pub fn add(&mut self, other: &Counters) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counters! {
    /// Clients connected now.
    curr_connections,
    /// Clients that ever came.
    total_connections,
    /// Keys asked for by get, gets, gat, gats, mg and binary gets.
    cmd_get,
    /// Storage commands.
    cmd_set,
    /// Commands that drop everything.
    cmd_flush,
    /// Keys touched by touch, gat, gats and their binary kin.
    cmd_touch,
    /// Meta commands.
    cmd_meta,
    /// Keys that were there.
    get_hits,
    /// Keys that were not.
    get_misses,
    /// delete of a key that was not there.
    delete_misses,
    /// delete of a key that was there.
    delete_hits,
    /// incr of a key that was not there.
    incr_misses,
    /// incr of a key that was there.
    incr_hits,
    /// decr of a key that was not there.
    decr_misses,
    /// decr of a key that was there.
    decr_hits,
    /// cas of a key that was not there.
    cas_misses,
    /// cas that stored.
    cas_hits,
    /// cas with a token that is not the present one.
    cas_badval,
    /// touch of a key that was there.
    touch_hits,
    /// touch of a key that was not there.
    touch_misses,
    /// Bytes read from clients.
    bytes_read,
    /// Bytes written to clients.
    bytes_written,
    /// Requests written to backends.
    backend_requests,
    /// Writes to backends; together with backend_requests, how many leave at once.
    backend_writes,
    /// get and gets requests among these, each of one or more keys.
    backend_gets,
    /// Keys in them.
    backend_get_keys,
    /// Keys that went out in one request together with others, of the same or of other clients.
    joined_gets,
    /// Keys that were already asked for in the same tick, and not asked again.
    shared_keys,
    /// Bytes read from backends.
    backend_bytes_read,
    /// Bytes written to backends.
    backend_bytes_written,
    /// Requests answered with an error because a backend did not answer them.
    backend_errors,
    /// Quiet requests whose backend failed: nobody was told.
    backend_errors_unheard,
    /// Reads answered as misses because a backend did not answer them.
    backend_errors_as_misses,
    /// Requests not answered in time.
    timeouts,
    /// Answers that came after their time and were thrown away.
    late_replies,
    /// Links closed because what came on them could not be the answer.
    desyncs,
    /// Links whose sending side was shut down because nothing came on them.
    retired_links,
    /// Requests that had never been written and went out on a fresh link.
    requeued,
    /// Times a CAS fence was raised.
    cas_fences,
    /// cas requests answered as if somebody else had been faster, because of a fence.
    cas_fenced,
    /// Backends that were ejected.
    ejections,
    /// Ejected backends that got their keys back.
    returns,
    /// Backends that were found to be another process than before.
    backend_restarts,
    /// Returning backends that were flushed.
    rejoin_flushes,
    /// Keys deleted on returning backends.
    rejoin_deletes,
    /// Keys that one which stood in for a returning backend could not be made to forget.
    rejoin_unforgotten,
    /// Requests answered here, with memcached's words for what is wrong with them.
    refused_requests,
    /// Clients that were closed because memory was short and they stood still.
    evicted_clients,
    /// Times a client was not read from because it had too much outstanding.
    paused_reads,
    /// Ticks of the loop.
    ticks,
    /// System calls: waits for events.
    driver_polls,
    /// System calls: reads from clients and backends.
    driver_reads,
    /// System calls: writes to clients and backends.
    driver_writes,
}
