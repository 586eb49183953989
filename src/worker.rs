//! A worker's loop, whole: poll, time, act.

use std::io;

use crate::io::{Action, Io};
use crate::proxy::Proxy;

/// Runs `proxy` over `io` until it stops.
///
/// # Errors
/// The engine has failed.
pub fn run(mut proxy: Proxy, mut io: impl Io) -> io::Result<()> {
    loop {
        io.poll(proxy.poll_timeout(), &mut proxy)?;
        proxy.handle_timeout(io.now());
        proxy.count_calls(io.take_calls());
        while let Some(action) = proxy.poll_action() {
            if matches!(action, Action::Stop) {
                return Ok(());
            }
            io.submit(action);
        }
    }
}
