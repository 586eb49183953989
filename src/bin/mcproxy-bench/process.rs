//! What /proc says of the processes that are watched: CPU time, context switches, private memory (proc(5)).
//!
//! /proc/PID/stat counts CPU time in ticks of 10 ms, which is several percent of a process that was busy
//! for a fifth of a second. The scheduler's own account, /proc/PID/task/TID/schedstat, is in nanoseconds,
//! so the sum comes from there where the kernel has it, and the ticks only say how it divides into user and
//! system time.

use std::fs;

use crate::trouble::Trouble;

/// Ticks of a second in /proc (USER_HZ), a constant of Linux on every architecture that matters here.
const TICKS: f64 = 100.0;

/// A process whose use of the machine is reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watched {
    /// What the report calls it.
    pub(crate) name: String,
    /// Its number.
    pub(crate) pid: u32,
}

/// What a process has used since it started; subtract two of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// CPU time of the threads that live, by the scheduler's account, nanoseconds; 0 if this kernel keeps
    /// none.
    scheduled: u64,
    /// CPU time in the program, ticks.
    user: u64,
    /// CPU time in the kernel, ticks.
    system: u64,
    /// Times that it waited for something.
    pub(crate) voluntary: u64,
    /// Times that it was made to wait.
    pub(crate) involuntary: u64,
}

impl Watched {
    /// What `--pid` takes.
    ///
    /// # Errors
    /// What is wrong with it, without naming it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "must be NAME=PID, the name of letters, digits, '-', '_' and '.'";
        let (name, pid) = text.rsplit_once('=').ok_or(FORM)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let digits = !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
        if name.is_empty() || !name.bytes().all(plain) || !digits {
            return Err(FORM.to_string());
        }
        let watched = Watched { name: name.to_string(), pid: pid.parse().map_err(|_| FORM)? };
        watched.usage().map_err(|_| "there is no such process".to_string())?;
        Ok(watched)
    }

    /// This process.
    pub(crate) fn this() -> Self {
        Watched { name: "mcproxy-bench".to_string(), pid: std::process::id() }
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// It has ended, or /proc can't be read.
    pub(crate) fn usage(&self) -> Result<Usage, Trouble> {
        let text = self.read("stat")?;
        let (user, system) = cpu_ticks(&text).ok_or_else(|| self.unreadable("stat"))?;
        let mut usage = Usage { user, system, ..Usage::default() };
        let tasks = format!("/proc/{}/task", self.pid);
        for task in fs::read_dir(&tasks).map_err(Trouble::system(tasks))?.flatten() {
            // A thread may end while we look; what it has used is in the sums of the process.
            let Ok(status) = fs::read_to_string(task.path().join("status")) else { continue };
            let scheduled = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            usage.scheduled += number_behind(&scheduled, "").unwrap_or(0);
            usage.voluntary += number_behind(&status, "voluntary_ctxt_switches:").unwrap_or(0);
            usage.involuntary += number_behind(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
        }
        Ok(usage)
    }

    /// Memory that it shares with nobody, bytes.
    ///
    /// # Errors
    /// It has ended, or /proc can't be read.
    pub(crate) fn private_bytes(&self) -> Result<u64, Trouble> {
        let text = self.read("smaps_rollup")?;
        let kibibytes = |name| number_behind(&text, name).ok_or_else(|| self.unreadable("smaps_rollup"));
        Ok((kibibytes("Private_Clean:")? + kibibytes("Private_Dirty:")?) << 10)
    }

    fn read(&self, file: &str) -> Result<String, Trouble> {
        let path = format!("/proc/{}/{file}", self.pid);
        fs::read_to_string(&path).map_err(Trouble::system(format!("{}: {path}", self.name)))
    }

    fn unreadable(&self, file: &str) -> Trouble {
        let what = format!("{}: /proc/{}/{file}", self.name, self.pid);
        Trouble::System { what, error: std::io::ErrorKind::InvalidData.into() }
    }
}

impl Usage {
    /// What was used since `earlier`.
    pub(crate) fn since(&self, earlier: &Usage) -> Usage {
        Usage {
            scheduled: self.scheduled.saturating_sub(earlier.scheduled),
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
            voluntary: self.voluntary.saturating_sub(earlier.voluntary),
            involuntary: self.involuntary.saturating_sub(earlier.involuntary),
        }
    }

    /// CPU time, seconds. Of a thread that ended in between, the scheduler's account is gone and the ticks
    /// are not: the ticks count when they say clearly more.
    pub(crate) fn cpu(&self) -> f64 {
        let ticks = (self.user + self.system) as f64 / TICKS;
        let scheduled = self.scheduled as f64 / 1e9;
        if ticks > scheduled + 2.0 / TICKS { ticks } else { scheduled }
    }

    /// The part of [`Usage::cpu`] spent in the program, seconds.
    pub(crate) fn user(&self) -> f64 {
        match self.user + self.system {
            0 => 0.0,
            ticks => self.cpu() * self.user as f64 / ticks as f64,
        }
    }

    /// The rest of [`Usage::cpu`], spent in the kernel, seconds.
    pub(crate) fn system(&self) -> f64 {
        self.cpu() - self.user()
    }
}

/// utime and stime of a line of /proc/PID/stat. The name before them may have spaces and brackets in it.
fn cpu_ticks(stat: &str) -> Option<(u64, u64)> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_ascii_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn number_behind(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_stand_behind_any_name() {
        let stat = "42 (a ) b (c) S 1 2 3 4 5 6 7 8 9 10 777 888 0 0 20 0 4 0";
        assert_eq!(cpu_ticks(stat), Some((777, 888)));
        assert_eq!(cpu_ticks("42 (a) S 1 2"), None);
        assert_eq!(cpu_ticks(""), None);
    }

    #[test]
    fn numbers_stand_behind_their_names() {
        let text = "Private_Clean:         12 kB\nPrivate_Dirty:      3400 kB\n";
        assert_eq!(number_behind(text, "Private_Dirty:"), Some(3400));
        assert_eq!(number_behind(text, "Shared_Dirty:"), None);
        let text = "nonvoluntary_ctxt_switches:\t3\nvoluntary_ctxt_switches:\t9\n";
        assert_eq!(number_behind(text, "voluntary_ctxt_switches:"), Some(9));
        assert_eq!(number_behind("73367 12 1\n", ""), Some(73_367), "schedstat");
    }

    #[test]
    fn cpu_time_is_the_schedulers_and_divides_as_the_ticks_do() {
        let usage = |scheduled, user, system| Usage { scheduled, user, system, ..Usage::default() };
        let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
        let fine = usage(1_234_567_890, 100, 23);
        assert!(close(fine.cpu(), 1.234_567_89), "{}", fine.cpu());
        assert!(close(fine.user(), 1.234_567_89 * 100.0 / 123.0), "{}", fine.user());
        assert!(close(fine.user() + fine.system(), fine.cpu()), "{}", fine.system());
        for (kind, usage, cpu) in [
            ("too short for a tick", usage(4_000_000, 0, 0), 0.004),
            ("a kernel without schedstat", usage(0, 30, 20), 0.5),
            ("a thread that has ended", usage(100_000_000, 30, 20), 0.5),
        ] {
            assert!(close(usage.cpu(), cpu), "{kind}: {}", usage.cpu());
        }
        let since = usage(500, 5, 6).since(&usage(200, 1, 1));
        assert_eq!((since.scheduled, since.user, since.system), (300, 4, 5));
    }

    #[test]
    fn this_process_can_be_read() {
        let this = Watched::this();
        assert!(this.private_bytes().expect("smaps_rollup") > 0);
        this.usage().expect("stat");
    }

    #[test]
    fn names_and_numbers() {
        let own = std::process::id();
        let watched = Watched { name: "a-b_c.1".to_string(), pid: own };
        assert_eq!(Watched::parse(&format!("a-b_c.1={own}")), Ok(watched));
        for bad in ["", "a", "=1", "a=", "a=x", "a b=1", "a=-1", "a=99999999999"] {
            assert!(Watched::parse(bad).is_err(), "{bad:?} was taken");
        }
    }
}
