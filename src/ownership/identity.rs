//! Which process answers at a backend's address. A memcached that was restarted issues the same CAS tokens
//! again, so a link must know whom it has reached before its first request.

/// A process behind a backend's address, as its `stats` tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `pid`. In a container it may be the same for every process.
    pub pid: u64,
    /// `time` less `uptime`: Unix time at the process's start, seconds. memcached makes both of one clock, so
    /// it stays the same to the second.
    pub started: u64,
}

/// What is gathered of the answer to `stats`.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    pid: Option<u64>,
    uptime: Option<u64>,
    time: Option<u64>,
    /// The words behind `version`.
    pub version: Option<Box<[u8]>>,
}

impl Stats {
    /// Takes a line, without its `STAT`.
    pub fn take(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"pid" => self.pid = number(value),
            b"uptime" => self.uptime = number(value),
            b"time" => self.time = number(value),
            b"version" => self.version = Some(value.into()),
            _ => {}
        }
    }

    /// Who it is; `None` where the server does not say.
    pub fn identity(&self) -> Option<Identity> {
        let started = self.time?.checked_sub(self.uptime?)?;
        Some(Identity { pid: self.pid?, started })
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_number_and_its_start() {
        let mut stats = Stats::default();
        for (name, value) in [("version", "1.6.18"), ("pid", "17"), ("uptime", "30"), ("time", "1030")] {
            assert_eq!(stats.identity(), None);
            stats.take(name.as_bytes(), value.as_bytes());
        }
        assert_eq!(stats.identity(), Some(Identity { pid: 17, started: 1000 }));
        assert_eq!(stats.version.as_deref(), Some(&b"1.6.18"[..]));
        stats.take(b"uptime", b"2000");
        assert_eq!(stats.identity(), None, "it started before time began");
        stats.take(b"uptime", b"soon");
        assert_eq!(stats.identity(), None);
    }
}
