//! The lanes together: connects, preloads, warms up, measures.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::arguments::Plan;
use crate::items::Items;
use crate::lane::{Done, Lane, Phase};
use crate::pace::{Pace, SECOND, Schedule, part};
use crate::process::{Usage, Watched};
use crate::progress::{Goal, Progress};
use crate::report::{self, Outcome, Used};
use crate::requests::Source;
use crate::tally::Tally;
use crate::trouble::Trouble;

/// Descriptors beside those of the clients.
const OWN_DESCRIPTORS: u64 = 64;

/// Requests in flight per client while preloading, of values that are not large.
const PRELOAD_DEPTH: u64 = 16;

/// Bytes of values in flight per client while preloading, beside the first value.
const PRELOAD_BYTES: u64 = 64 << 10;

/// Between the schedule's making and its first operation, so that all lanes are ready.
const HEAD_START: u64 = SECOND / 1000;

/// Runs a plan to its end; gives what to print.
pub(crate) fn run(plan: &Plan) -> Result<String, Trouble> {
    let load = Load::connect(plan, plan.clients, plan.threads)?;
    if plan.preload {
        load.preload()?;
    }
    if let Some(warmup) = plan.warmup {
        load.phase("warming up", &Bound { duration: Some(warmup), requests: None }, 1)?;
    }
    let watched: Vec<Watched> = plan.watched.iter().cloned().chain([Watched::this()]).collect();
    let before = usages(&watched)?;
    let bound = Bound { duration: plan.duration(), requests: plan.requests };
    let (tally, started) = load.phase("measuring", &bound, 2)?;
    let after = usages(&watched)?;
    let seconds = tally.ended.saturating_sub(started) as f64 / SECOND as f64;
    let used = watched.into_iter().zip(after.iter().zip(&before));
    let used = used.map(|(watched, (after, before))| Used { name: watched.name, usage: after.since(before) });
    Ok(report::print(&Outcome { plan, tally, seconds, used: used.collect() }))
}

/// Raises the descriptor limit to fit `clients`; if it can't be raised so far, connecting says so.
pub(crate) fn fit_descriptors(clients: u64) {
    let _ = rlimit::increase_nofile_limit(clients + OWN_DESCRIPTORS);
}

/// Connected lanes, each in its thread.
pub(crate) struct Load<'a> {
    plan: &'a Plan,
    epoch: Instant,
    lanes: Vec<Running>,
    results: Receiver<Result<Tally, Trouble>>,
}

/// What ends a phase, whichever comes first; at least one is set.
struct Bound {
    duration: Option<Duration>,
    requests: Option<u64>,
}

struct Running {
    phases: Sender<Phase>,
    thread: JoinHandle<()>,
    done: Arc<Done>,
}

impl<'a> Load<'a> {
    /// Connects `clients` to the plan's target.
    pub(crate) fn connect(plan: &'a Plan, clients: u64, threads: u64) -> Result<Self, Trouble> {
        fit_descriptors(clients);
        let epoch = Instant::now();
        let items = Arc::new(Items::new(plan.keys, plan.key_bytes as usize, plan.value_bytes as usize));
        let (result, results) = unbounded();
        let mut lanes = Vec::new();
        let mut first = 0;
        for lane in 0..threads {
            let numbers = first..first + part(clients, lane, threads) as u32;
            first = numbers.end;
            let done = Arc::new(Done::default());
            let lane = Lane::connect(plan, items.clone(), numbers, epoch, done.clone())?;
            let (phases, next) = unbounded();
            let result = result.clone();
            let body = move || serve(lane, &next, &result);
            let thread = thread::Builder::new()
                .name("lane".to_string())
                .spawn(body)
                .map_err(Trouble::system("thread"))?;
            lanes.push(Running { phases, thread, done });
        }
        Ok(Load { plan, epoch, lanes, results })
    }

    /// Sets every key.
    pub(crate) fn preload(&self) -> Result<(), Trouble> {
        let lanes = self.lanes.len() as u64;
        let depth = (PRELOAD_BYTES / self.plan.value_bytes).clamp(1, PRELOAD_DEPTH).max(self.plan.pipeline);
        let mut next = 0;
        self.together("preloading", Goal::Operations(self.plan.keys), |lane| {
            let left = part(self.plan.keys, lane, lanes);
            let source = Source::Fill { next, end: next + left };
            next += left;
            Phase { source, pace: Pace::Closed { until: u64::MAX, left }, depth: depth as usize }
        })?;
        Ok(())
    }

    /// The plan's load within a bound; gives what happened and when it began (nanoseconds of the run).
    /// `stream` tells the random numbers of one phase from those of another.
    fn phase(&self, label: &'static str, bound: &Bound, stream: u64) -> Result<(Tally, u64), Trouble> {
        let (plan, lanes) = (self.plan, self.lanes.len() as u64);
        let now = self.epoch.elapsed().as_nanos() as u64;
        let start = if plan.rate.is_some() { now + HEAD_START } else { now };
        let goal = match (bound.duration, bound.requests) {
            (Some(duration), _) => Goal::Time(duration),
            (None, requests) => Goal::Operations(requests.unwrap_or(0)),
        };
        let tally = self.together(label, goal, |lane| Phase {
            source: Source::of_plan(plan, stream << 32 | lane),
            pace: match plan.rate {
                None => closed(bound, start, part(bound.requests.unwrap_or(u64::MAX), lane, lanes)),
                Some(rate) => open(plan, bound, start, rate, lane, lanes),
            },
            depth: plan.pipeline as usize,
        })?;
        Ok((tally, start))
    }

    /// Gives every lane a phase, and waits until all have ended theirs.
    fn together(
        &self,
        label: &'static str,
        goal: Goal,
        mut phase: impl FnMut(u64) -> Phase,
    ) -> Result<Tally, Trouble> {
        let mut progress = Progress::start(label, goal);
        for (number, lane) in self.lanes.iter().enumerate() {
            // One that has died is found below.
            let _ = lane.phases.send(phase(number as u64));
        }
        let mut sum = Tally::new();
        let mut ended = 0;
        while ended < self.lanes.len() {
            match self.results.recv_timeout(progress.interval()) {
                Ok(tally) => {
                    sum.add(&tally?);
                    ended += 1;
                }
                // Nothing can come any more, or nothing has for a while.
                Err(_) => {
                    if self.results.is_empty() && self.lanes.iter().any(|lane| lane.thread.is_finished()) {
                        let error = std::io::Error::other("a thread has died");
                        return Err(Trouble::System { what: label.to_string(), error });
                    }
                    progress.show(self.lanes.iter().map(|lane| lane.done.get()).sum());
                }
            }
        }
        Ok(sum)
    }

    /// Ends the connections, and waits until they have ended.
    pub(crate) fn close(self) {
        for lane in self.lanes {
            drop(lane.phases);
            let _ = lane.thread.join();
        }
    }
}

/// A lane's thread.
fn serve(mut lane: Lane, phases: &Receiver<Phase>, results: &Sender<Result<Tally, Trouble>>) {
    for phase in phases {
        let result = lane.run(phase);
        let failed = result.is_err();
        if results.send(result).is_err() || failed {
            return;
        }
    }
}

fn closed(bound: &Bound, start: u64, left: u64) -> Pace {
    let until = bound.duration.map_or(u64::MAX, |duration| start.saturating_add(nanoseconds(duration)));
    Pace::Closed { until, left }
}

/// A target that can't keep the rate is given as long again, and its timeout, to catch up.
fn open(plan: &Plan, bound: &Bound, start: u64, rate: u64, lane: u64, lanes: u64) -> Pace {
    let timed = bound.duration.map(|duration| (duration.as_secs_f64() * rate as f64) as u64);
    let total = timed.unwrap_or(u64::MAX).min(bound.requests.unwrap_or(u64::MAX)).max(1);
    let length = (u128::from(total) * u128::from(SECOND) / u128::from(rate)).min(u128::from(u64::MAX)) as u64;
    let give_up =
        start.saturating_add(length).saturating_add(length).saturating_add(nanoseconds(plan.timeout));
    Pace::Open(Schedule { start, rate, next: lane, step: lanes, total, give_up })
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn usages(watched: &[Watched]) -> Result<Vec<Usage>, Trouble> {
    watched.iter().map(Watched::usage).collect()
}
