//! Log lines: to stderr, one per event, with a timestamp. Where a process serves several pools, what a pool's
//! thread logs begins with the pool's name, so that the core need not know that there are others.

use std::cell::RefCell;
use std::io::Write;

thread_local! {
    /// What the lines of this thread begin with.
    static PREFIX: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Sets the process's logger up. Call it once.
pub fn init(level: log::LevelFilter) {
    let mut logger = env_logger::Builder::new();
    logger.filter_level(level).format(|out, record| {
        let time = out.timestamp();
        PREFIX.with_borrow(|prefix| writeln!(out, "[{time} {:<5}] {prefix}{}", record.level(), record.args()))
    });
    logger.init();
}

/// From now on the lines of this thread are those of a pool: they begin with this.
pub fn begin_lines_with(prefix: &str) {
    PREFIX.with_borrow_mut(|own| prefix.clone_into(own));
}
