//! What threads share: each worker's mailbox, the count of clients, and the doors of the resolvers.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::io::socket::Socket;
use crate::ownership::change::Notice;
use crate::proxy::message::Message;
use crate::time::Time;

/// What a worker's engine is sent by other threads.
pub enum Mail {
    /// A new client's socket, options set.
    Client(Socket),
    /// What a backend's name stands for; empty if for nothing.
    Resolved {
        /// Which backend, by its place in the configuration.
        backend: usize,
        /// In the order to try them.
        addresses: Vec<SocketAddr>,
    },
    /// For the worker's logic.
    Message(Message),
}

/// The door of every worker, shared by all threads.
pub struct Control {
    epoch: Instant,
    doors: Vec<Door>,
    /// By backend: who looks its name up. Each is told which worker asks.
    resolvers: Vec<Option<Sender<usize>>>,
    /// What workers have to say to the control plane, and who says it.
    notices: Sender<(usize, Notice)>,
}

/// How a thread that waits in its engine is woken.
#[derive(Debug)]
pub(crate) enum Waker {
    /// Of a selector of mio.
    Mio(mio::Waker),
    /// An eventfd that an io_uring waits for.
    #[cfg(all(target_os = "linux", feature = "io-uring"))]
    Event(Arc<std::os::fd::OwnedFd>),
}

struct Door {
    mail: Sender<Mail>,
    waker: OnceLock<Waker>,
    clients: AtomicUsize,
}

/// One worker's own view of the [`Control`].
pub struct WorkerHandle {
    control: Arc<Control>,
    worker: usize,
    mail: Receiver<Mail>,
}

impl Control {
    /// Doors for so many workers, and their handles. `resolvers` has one for each backend known by name;
    /// `notices` is the control plane's mailbox.
    pub fn new(
        workers: usize,
        resolvers: Vec<Option<Sender<usize>>>,
        notices: Sender<(usize, Notice)>,
    ) -> (Arc<Control>, Vec<WorkerHandle>) {
        let (mut doors, mut mailboxes) = (Vec::new(), Vec::new());
        for _ in 0..workers {
            let (mail, mailbox) = unbounded();
            doors.push(Door { mail, waker: OnceLock::new(), clients: AtomicUsize::new(0) });
            mailboxes.push(mailbox);
        }
        let control = Arc::new(Control { epoch: Instant::now(), doors, resolvers, notices });
        let handle = |(worker, mail)| WorkerHandle { control: control.clone(), worker, mail };
        let handles = mailboxes.into_iter().enumerate().map(handle).collect();
        (control, handles)
    }

    /// Puts something into a worker's mailbox and wakes it.
    pub fn send(&self, worker: usize, mail: Mail) {
        let door = &self.doors[worker];
        // A worker that has ended reads no mail, and needs none.
        if door.mail.send(mail).is_ok()
            && let Some(waker) = door.waker.get()
        {
            waker.wake();
        }
    }

    /// Sends the same message to every worker.
    pub fn send_all(&self, message: impl Fn() -> Message) {
        for worker in 0..self.doors.len() {
            self.send(worker, Mail::Message(message()));
        }
    }

    /// The process's clock, the same for all threads: microseconds.
    pub fn clock(&self) -> Time {
        Time(u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Clients connected now, over all workers.
    pub fn clients(&self) -> usize {
        self.doors.iter().map(|door| door.clients.load(Ordering::Relaxed)).sum()
    }

    /// Gives a client to the worker that has the fewest.
    pub fn place_client(&self, socket: Socket) {
        let load = |worker: &usize| self.doors[*worker].clients.load(Ordering::Relaxed);
        let worker = (0..self.doors.len()).min_by_key(load).expect("there is a worker");
        self.doors[worker].clients.fetch_add(1, Ordering::Relaxed);
        self.send(worker, Mail::Client(socket));
    }
}

impl Waker {
    /// Ends the wait, or the next one if there is none.
    pub(crate) fn wake(&self) {
        // A thread that has ended need not be woken.
        match self {
            Waker::Mio(waker) => _ = waker.wake(),
            #[cfg(all(target_os = "linux", feature = "io-uring"))]
            Waker::Event(event) => _ = rustix::io::write(event, &1_u64.to_ne_bytes()),
        }
    }
}

impl WorkerHandle {
    /// From now on mail wakes this worker.
    pub(crate) fn wake_by(&self, waker: Waker) {
        // Mail that came before had nobody to wake: the worker is to look at once.
        waker.wake();
        let _ = self.control.doors[self.worker].waker.set(waker);
    }

    /// The next piece of mail, if there is any.
    pub(crate) fn receive(&self) -> Option<Mail> {
        self.mail.try_recv().ok()
    }

    /// A client of this worker is gone.
    pub(crate) fn client_closed(&self) {
        self.control.doors[self.worker].clients.fetch_sub(1, Ordering::Relaxed);
    }

    /// Asks for a backend's addresses; they come by mail.
    pub(crate) fn resolve(&self, backend: usize) {
        // Without a resolver the connect attempt ends by its deadline.
        if let Some(resolver) = &self.control.resolvers[backend] {
            let _ = resolver.send(self.worker);
        }
    }

    /// Tells another worker.
    pub(crate) fn tell(&self, worker: usize, message: Message) {
        self.control.send(worker, Mail::Message(message));
    }

    /// Tells the control plane.
    pub(crate) fn notify(&self, notice: Notice) {
        // It ends with the process, and needs no notice then.
        let _ = self.control.notices.send((self.worker, notice));
    }

    /// The process's clock.
    pub(crate) fn clock(&self) -> Time {
        self.control.clock()
    }
}
