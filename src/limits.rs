//! Every bound of the proxy, in one place. Passed in as a value, so that tests can shrink it.

/// Longest key in bytes; a base64 key counts in its encoded form (memcached's KEY_MAX_LENGTH).
pub const KEY_MAX: usize = 250;

/// Bytes without a line end after which memcached gives a client up, unless they begin a get or gets.
pub const LINE_PATIENCE: usize = 2048;

/// Longest line of any request but get and gets, line end included: memcached's read buffer. A line that
/// does not fit in it is one that memcached never sees the end of.
pub const LINE_MAX: usize = 16384;

/// Longest line, in bytes, that we write to a backend for anything but get and gets: memcached closes the
/// connection when a longer one arrives in pieces.
pub const BACKEND_LINE_MAX: usize = 2048;

/// Most tokens of a line that memcached 1.6.18 looks at, the end mark included (its MAX_TOKENS).
pub const TOKENS_MAX: usize = 24;

/// A later window of a multi-key get asks for at most so many times the keys of the first, however small the
/// values seen were.
pub const WINDOW_GROWTH_MAX: usize = 64;

/// Most keys that gets of several clients are joined to in one request.
pub const JOINED_KEYS_MAX: usize = 128;

/// Bytes by which a buffer grows at least, when it is known how long the frame in it will be: what a client
/// only announces takes no memory.
pub const GROWTH_BYTES: usize = 1 << 20;

/// Fences that stand apart from each other; more become one over all keys.
pub const CAS_FENCES_MAX: usize = 16;

/// Tokens remembered while fences stand, eight bytes each. What is forgotten costs a client one more read.
pub const CAS_TOKENS: usize = 1 << 17;

/// Bytes of the keys of an ejected backend of which is known that others have written them.
pub const WRITTEN_BYTES_MAX: usize = 1 << 20;

/// Bytes of the answer to the question that a link begins with.
pub const GREETING_BYTES_MAX: usize = 64 << 10;

/// Bytes of a configuration file of twemproxy: a pool of 1,024 servers takes some 60,000.
pub const NUTCRACKER_BYTES_MAX: usize = 1 << 20;

/// Keys that `mcproxy detect` asks for; further ones of its file are left out.
pub const DETECT_KEYS_MAX: usize = 100_000;

/// Pools in it: each has threads of its own.
pub const NUTCRACKER_POOLS_MAX: usize = 64;

/// Bounds that a configuration or a test may set.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest value of a request, bytes.
    pub value_max: usize,
    /// Longest line of a get or gets, bytes.
    pub get_line_max: usize,
    /// Keys in one get.
    pub keys_max: usize,
    /// Requests of one client that await their answers; more are not read from it. It has fewer when its
    /// answers are large.
    pub client_requests_max: usize,
    /// The same for a new client, of whose answers nothing is known: one more for each that was answered.
    pub client_requests_first: usize,
    /// Bytes of unread answers of one client after which it is not read from.
    pub client_unread_max: usize,
    /// Requests written to or waiting for one link.
    pub link_requests_max: usize,
    /// Bytes that wait to be written to one link.
    pub link_bytes_max: usize,
    /// Bytes of a multi-key answer held back until all its parts have come.
    pub held_answer_max: usize,
    /// Keys asked for at once by the first window of a multi-key get.
    pub window_keys_max: usize,
    /// Bytes of values that one joined get is expected to bring, by those that came before it. A larger value
    /// travels alone and delays nobody.
    pub joined_bytes_max: usize,
    /// Longest line of a reply that is not a value, bytes.
    pub reply_line_max: usize,
    /// Largest value that a backend may answer with, bytes.
    pub reply_value_max: usize,
    /// Values at least this large are moved between buffers, smaller ones are copied together, bytes.
    pub moved_min: usize,
    /// Links whose sending side is shut down and that wait for the backend's end, per backend.
    pub retired_links_max: usize,
    /// Keys of an ejected backend of which is known that others have written them; with more, it is flushed
    /// when it returns.
    pub written_keys_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            value_max: 1 << 20,
            get_line_max: 32 << 20,
            keys_max: 1_000_000,
            client_requests_max: 4096,
            client_requests_first: 16,
            client_unread_max: 4 << 20,
            link_requests_max: 1 << 17,
            link_bytes_max: 8 << 20,
            held_answer_max: 1 << 20,
            window_keys_max: 128,
            joined_bytes_max: 64 << 10,
            reply_line_max: 16 << 10,
            reply_value_max: 1 << 30,
            moved_min: 16 << 10,
            retired_links_max: 8,
            written_keys_max: 10_000,
        }
    }
}
