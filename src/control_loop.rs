//! The control plane's loop: what workers report goes to the [`Coordinator`], what it decides goes to them.

use std::sync::Arc;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::control::{Control, Mail};
use crate::ownership::Coordinator;
use crate::ownership::change::Notice;
use crate::proxy::message::Message;

/// Runs until nobody can report any more.
pub fn run(mut coordinator: Coordinator, notices: &Receiver<(usize, Notice)>, control: &Arc<Control>) {
    loop {
        let received = match coordinator.poll_timeout() {
            Some(at) => notices.recv_timeout(at.since(control.clock())),
            None => notices.recv().map_err(RecvTimeoutError::from),
        };
        let now = control.clock();
        match received {
            Ok((worker, notice)) => coordinator.handle_notice(now, worker, notice),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        coordinator.handle_timeout(now);
        while let Some((worker, order)) = coordinator.poll_order() {
            control.send(worker, Mail::Message(Message::Order(order)));
        }
    }
}
