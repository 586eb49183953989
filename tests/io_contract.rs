//! The contract at the head of `src/io/mod.rs`, clause by clause, over real loopback sockets. Every engine is
//! held to it by the same suite: an engine is added by a type that makes it, and a line at the end of this
//! file.

mod io_contract {
    pub(super) mod bench;
    pub(super) mod life;
    pub(super) mod receiving;
    pub(super) mod sending;
    pub(super) mod waiting;
}

use mcproxy::control::WorkerHandle;
use mcproxy::io::mio::MioIo;
use mcproxy::io::socket::BackendAddress;

use io_contract::bench::Engine;
use io_contract::{life, receiving, sending, waiting};

/// The engine over mio.
struct Mio;

impl Engine for Mio {
    type Io = MioIo;

    fn make(handle: WorkerHandle, addresses: Vec<BackendAddress>) -> MioIo {
        MioIo::new(handle, addresses).expect("the kernel gives a selector")
    }
}

/// The engines over io_uring: as it is, and with so little room that everything runs out of it.
#[cfg(all(target_os = "linux", feature = "io-uring"))]
mod over_uring {
    use mcproxy::control::WorkerHandle;
    use mcproxy::io::socket::BackendAddress;
    use mcproxy::io::uring::{Sizes, UringIo};

    use crate::io_contract::bench::Engine;

    fn make(handle: WorkerHandle, addresses: Vec<BackendAddress>, sizes: Sizes) -> UringIo {
        UringIo::with(handle, addresses, sizes).unwrap_or_else(|error| {
            panic!("the kernel gives no io_uring: {error}; to test without it: --no-default-features --features programs")
        })
    }

    /// As the proxy has it.
    pub(crate) struct Uring;

    impl Engine for Uring {
        type Io = UringIo;

        fn make(handle: WorkerHandle, addresses: Vec<BackendAddress>) -> UringIo {
            make(handle, addresses, Sizes::default())
        }
    }

    /// Buffers that the kernel fills once, as before Linux 6.12.
    pub(crate) struct Plain;

    impl Engine for Plain {
        type Io = UringIo;

        fn make(handle: WorkerHandle, addresses: Vec<BackendAddress>) -> UringIo {
            make(
                handle,
                addresses,
                Sizes { incremental: false, buffers: 256, buffer_bytes: 4 << 10, ..Sizes::default() },
            )
        }
    }

    /// Queues and buffers that are always too few.
    pub(crate) struct Tiny;

    impl Engine for Tiny {
        type Io = UringIo;
        /// One of sixty after the other.
        const TURNS: usize = 400;
        /// One buffer.
        const PIECE: usize = 1000;

        fn make(handle: WorkerHandle, addresses: Vec<BackendAddress>) -> UringIo {
            let sizes =
                Sizes { submissions: 2, completions: 4, buffers: 2, buffer_bytes: 1000, incremental: false };
            make(handle, addresses, sizes)
        }
    }
}

/// The suite for one engine.
macro_rules! suite {
    ($name:ident, $engine:ty, { $($file:ident: $($clause:ident)*;)* }) => {
        mod $name {
            $($(
                #[test]
                fn $clause() {
                    super::$file::$clause::<$engine>();
                }
            )*)*
        }
    };
}

/// Every clause, for an engine.
macro_rules! all_clauses {
    ($name:ident, $engine:ty) => {
        suite!($name, $engine, {
            sending:
                a_buffer_comes_back_with_the_count_of_its_bytes
                a_buffer_of_many_pieces_is_written_in_order
                a_short_write_stays_in_the_engine
                one_send_after_the_other_keeps_the_order
                a_send_to_a_connection_that_is_gone_comes_back_unwritten
                after_their_eof_we_can_still_send
                after_our_shutdown_we_can_still_receive
                a_shutdown_ends_a_send_in_flight_and_nothing_else;
            receiving:
                many_bytes_come_whole_and_in_order
                many_small_pieces_come_whole_and_in_order
                what_was_sent_at_once_comes_at_once
                eof_comes_once_and_after_all_bytes
                eof_comes_however_much_is_before_it
                a_paused_connection_is_not_read_without_end
                pausing_loses_nothing
                eof_that_came_during_a_pause_is_told_after_it
                a_flood_does_not_starve_the_others
                a_crowd_of_floods_does_not_starve_the_others
                bytes_come_after_a_long_pause
                many_connections_are_served;
            life:
                a_connect_succeeds
                a_refused_connect_is_told
                an_address_that_is_not_there_is_told
                a_reset_is_told_as_failed
                a_failed_write_is_told_as_failed_once
                a_buffer_comes_back_before_its_connection_fails
                a_connection_that_failed_says_nothing_more
                a_close_gives_the_buffer_back_and_is_told_last
                a_close_of_an_idle_connection_is_told_once
                a_close_during_the_connect_is_told_once
                an_index_is_used_again_for_another_connection
                an_engine_that_ends_lets_go_of_everything;
            waiting:
                events_begin_with_the_time
                a_poll_waits_no_longer_than_it_may
                mail_ends_a_poll_without_timeout
                mail_sent_before_the_first_poll_arrives
                a_message_reaches_the_other_worker
                a_resolve_without_a_resolver_is_nothing
                a_resolved_name_has_its_addresses
                actions_that_wait_end_a_poll
                one_event_ends_a_poll_after_a_crowd_has_left
                links_come_before_clients_in_a_tick;
        });
    };
}

all_clauses!(mio, crate::Mio);
#[cfg(all(target_os = "linux", feature = "io-uring"))]
all_clauses!(uring, crate::over_uring::Uring);
#[cfg(all(target_os = "linux", feature = "io-uring"))]
all_clauses!(uring_with_plain_buffers, crate::over_uring::Plain);
#[cfg(all(target_os = "linux", feature = "io-uring"))]
all_clauses!(uring_of_tiny_size, crate::over_uring::Tiny);
