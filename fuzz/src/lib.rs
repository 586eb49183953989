//! The oracles of the fuzz targets. Each target hands its bytes to one `check` here, which panics where the
//! proxy's code and its slow twin differ. `fuzz/README.md` says what is compared with what.

#![forbid(unsafe_code)]

pub mod binary;
mod embedded;
pub mod meta;
pub mod proxy;
pub mod replies;
pub mod scanning;
pub mod splits;
mod tape;
pub mod text;

use std::sync::{Once, OnceLock};

/// Runs one target on one input. A panic shows the input and then ends the process, with what the target has
/// to tell in between.
pub fn run(check: fn(&[u8]), input: &[u8]) {
    static HOOK: Once = Once::new();
    // libfuzzer's own hook aborts before anything is dropped, and a target tells its story when it is.
    HOOK.call_once(|| std::panic::set_hook(Box::new(|panic| eprintln!("{panic}"))));
    let _shown = Shown(input);
    check(input);
}

/// The oracles are to be wrong in one place each: a run with this on must find something. It is on where the
/// environment has `FUZZ_CANARY`.
pub fn canary() -> bool {
    static CANARY: OnceLock<bool> = OnceLock::new();
    *CANARY.get_or_init(|| std::env::var_os("FUZZ_CANARY").is_some())
}

struct Shown<'a>(&'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
            eprintln!("input, hex:     {hex}\ninput, escaped: \"{}\"", self.0.escape_ascii());
        }
    }
}
