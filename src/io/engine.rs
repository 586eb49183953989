//! Which engine the program runs on.

use crate::config::Engine as Wanted;

/// What moves the bytes of all workers, and accepts clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Readiness, from epoll or kqueue.
    Mio,
    /// Completions, from io_uring.
    #[cfg(all(target_os = "linux", feature = "io-uring"))]
    Uring,
}

impl Engine {
    /// The one that is wanted, if it can run here.
    ///
    /// # Errors
    /// One line that says why it cannot.
    pub(crate) fn choose(wanted: Wanted) -> Result<Self, String> {
        match wanted {
            Wanted::Mio => Ok(Engine::Mio),
            Wanted::Uring => uring().map_err(|why| format!("--io uring: {why}")),
            Wanted::Auto => Ok(uring().unwrap_or_else(|why| {
                log::info!("--io auto: mio, because there is no io_uring: {why}");
                Engine::Mio
            })),
        }
    }

    /// Its name, as `--io` and `stats` have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Engine::Mio => "mio",
            #[cfg(all(target_os = "linux", feature = "io-uring"))]
            Engine::Uring => "uring",
        }
    }
}

#[cfg(all(target_os = "linux", feature = "io-uring"))]
fn uring() -> Result<Engine, String> {
    crate::io::uring::check().map(|()| Engine::Uring)
}

#[cfg(not(all(target_os = "linux", feature = "io-uring")))]
fn uring() -> Result<Engine, String> {
    Err("this mcproxy was built without io_uring, which takes Linux and the cargo feature io-uring"
        .to_string())
}
