//! A worker's loop, whole: poll, time, act.

use std::io;

use crate::io::{Action, Io};
use crate::proxy::Proxy;

/// Runs `proxy` over `io` until it stops.
///
/// # Errors
/// The engine has failed.
pub fn run(mut proxy: Proxy, mut io: impl Io) -> io::Result<()> {
    while step(&mut proxy, &mut io)? {}
    Ok(())
}

/// One turn of the loop. False if it was the last: the proxy has stopped.
///
/// # Errors
/// The engine has failed.
#[inline]
pub fn step(proxy: &mut Proxy, io: &mut impl Io) -> io::Result<bool> {
    io.poll(proxy.poll_timeout(), proxy)?;
    proxy.handle_timeout(io.now());
    proxy.count_calls(io.take_calls());
    while let Some(action) = proxy.poll_action() {
        if matches!(action, Action::Stop) {
            return Ok(false);
        }
        io.submit(action);
    }
    Ok(true)
}
