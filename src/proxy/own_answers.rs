//! What the proxy answers about itself: its version (that of its backends) and its counters.

use crate::io::ConnId;
use crate::ownership::change::Health;
use crate::protocol::binary::{Request, status};
use crate::stats::Counters;
use crate::time::Time;

use super::Proxy;
use super::backend::lower_version;
use super::binary_requests::response;
use super::link::LinkState;
use super::message::{BackendReport, Message, Report};
use super::replies::Answer;

/// What `version` says before any backend has said its own: the oldest memcached that mcproxy supports.
const OLDEST_VERSION: &[u8] = b"1.6.0";

/// How long the workers have to report their counters.
const REPORT_PATIENCE: std::time::Duration = std::time::Duration::from_millis(250);

/// Counters of a memcached's inside, which a proxy has not.
const INSIDES: [&[u8]; 8] =
    [b"items", b"slabs", b"sizes", b"conns", b"detail", b"cachedump", b"extstore", b"proxy"];

/// A client's question for counters, while the other workers are asked.
#[derive(Debug)]
pub(super) struct StatsQuestion {
    client: ConnId,
    slot: u32,
    form: Form,
    /// By worker; `None` where the report has not come.
    reports: Vec<Option<Report>>,
    deadline: Time,
}

/// How the answer looks.
#[derive(Clone, Copy, Debug)]
enum Form {
    Text,
    Binary { opcode: u8, opaque: [u8; 4] },
}

impl Proxy {
    pub(super) fn answer_version(&mut self, conn: ConnId) {
        let answer = [b"VERSION ", self.version(), b"\r\n"].concat();
        self.answer_now(conn, &answer);
    }

    pub(super) fn answer_binary_version(&mut self, conn: ConnId, request: &Request<'_>) {
        let answer = response(request.opcode, request.opaque, status::OK, self.version());
        self.answer_now(conn, &answer);
    }

    pub(super) fn answer_stats(&mut self, conn: ConnId, arguments: &[u8]) {
        let word = arguments.split(|&byte| byte == b' ').next().unwrap_or(b"");
        match word {
            b"" => self.ask_counters(conn, Form::Text),
            b"reset" => {
                self.reset_all_counters();
                self.answer_now(conn, b"RESET\r\n");
            }
            b"settings" => {
                let answer = listing(Form::Text, &self.settings_lines());
                self.answer_now(conn, &answer);
            }
            word if INSIDES.contains(&word) => {
                let words = [b"CLIENT_ERROR mcproxy has no stats ", word, b": ask the backend\r\n"].concat();
                self.answer_now(conn, &words);
            }
            _ => self.answer_now(conn, b"ERROR\r\n"),
        }
    }

    pub(super) fn answer_binary_stats(&mut self, conn: ConnId, request: &Request<'_>) {
        let form = Form::Binary { opcode: request.opcode, opaque: request.opaque };
        match request.key {
            b"" => self.ask_counters(conn, form),
            b"reset" => {
                self.reset_all_counters();
                self.answer_now(conn, &listing(form, &[]));
            }
            b"settings" => {
                let answer = listing(form, &self.settings_lines());
                self.answer_now(conn, &answer);
            }
            _ => {
                let answer = response(request.opcode, request.opaque, status::KEY_NOT_FOUND, b"Not found");
                self.answer_now(conn, &answer);
            }
        }
    }

    /// Commands about one server's inside have no meaning here.
    pub(super) fn refuse_administrative(&mut self, conn: ConnId, verb: &[u8]) {
        self.counters.refused_requests += 1;
        let words = [b"CLIENT_ERROR mcproxy does not pass on ", verb, b": ask the backend\r\n"].concat();
        self.answer_now(conn, &words);
    }

    /// This worker's report.
    pub(super) fn report(&self) -> Report {
        let backends = self.backends.iter().enumerate().map(|(index, backend)| {
            let links = [backend.text, backend.binary].into_iter().flatten();
            let links = links.filter_map(|conn| self.links.get(conn.index(), conn.generation()));
            let (mut up, mut waiting) = (false, 0);
            for link in links {
                up |= link.state == LinkState::Standing;
                waiting += link.queue.pipeline.len() as u64;
            }
            BackendReport {
                down: backend.health == Health::Down,
                away: self.ownership.away[index],
                up,
                requests: backend.requests,
                errors: backend.errors,
                waiting,
                retired: backend.retired.len() as u64,
            }
        });
        Report { counters: self.counters.clone(), backends: backends.collect() }
    }

    pub(super) fn take_report(&mut self, worker: usize, ticket: u64, report: Report) {
        let id = (ticket >> 32, ticket as u32);
        let Some(question) = self.questions.get_mut(id.0 as usize, id.1) else { return };
        question.reports[worker] = Some(report);
        if question.reports.iter().all(Option::is_some) {
            self.finish_question((id.0 as u32, id.1));
        }
    }

    pub(super) fn expire_questions(&mut self) {
        let ids: Vec<(u32, u32)> = self.questions.ids().collect();
        for (index, generation) in ids {
            let Some(question) = self.questions.get(index as usize, generation) else { continue };
            let deadline = question.deadline;
            if self.now >= deadline {
                self.finish_question((index, generation));
            } else {
                self.wake_at(deadline);
            }
        }
    }

    /// The lowest version that any backend has said it runs.
    fn version(&self) -> &[u8] {
        let known = self.backends.iter().filter_map(|backend| backend.version.as_deref());
        known.reduce(lower_version).unwrap_or(OLDEST_VERSION)
    }

    fn reset_all_counters(&mut self) {
        self.reset_counters();
        for worker in self.others() {
            self.tell(worker, Message::ResetCounters);
        }
    }

    /// Begins counting anew; what is connected stays connected.
    pub(super) fn reset_counters(&mut self) {
        let (current, total) = (self.counters.curr_connections, self.counters.total_connections);
        self.counters =
            Counters { curr_connections: current, total_connections: total, ..Counters::default() };
    }

    fn ask_counters(&mut self, conn: ConnId, form: Form) {
        let slot = self.reserve_slot(conn);
        let workers = self.settings.workers;
        let mut reports = vec![None; workers];
        reports[self.worker] = Some(self.report());
        let deadline = self.now + REPORT_PATIENCE;
        let (index, generation) =
            self.questions.insert(StatsQuestion { client: conn, slot, form, reports, deadline });
        let ticket = u64::from(index) << 32 | u64::from(generation);
        for worker in self.others() {
            let message = Message::CountersWanted { worker: self.worker, ticket };
            self.tell(worker, message);
        }
        if workers == 1 {
            self.finish_question((index, generation));
        } else {
            self.wake_at(deadline);
        }
    }

    fn finish_question(&mut self, id: (u32, u32)) {
        let Some(question) = self.questions.remove(id.0 as usize, id.1) else { return };
        let lines = self.stats_lines(&question.reports);
        self.answer(question.client, question.slot, Answer::copied(&listing(question.form, &lines)));
    }

    fn stats_lines(&self, reports: &[Option<Report>]) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        let mut line = |name: &str, value: String| lines.push((name.to_string(), value));
        let process = &self.settings.process;
        let uptime = self.now.0 / 1_000_000;
        line("pid", process.id.to_string());
        line("uptime", uptime.to_string());
        line("time", (process.started + uptime).to_string());
        line("version", String::from_utf8_lossy(self.version()).into_owned());
        line("mcproxy_version", env!("CARGO_PKG_VERSION").to_string());
        line("io", process.io.to_string());
        line("pointer_size", usize::BITS.to_string());
        line("max_connections", self.settings.max_conns.to_string());
        line("threads", self.settings.workers.to_string());
        line("limit_maxbytes", self.settings.memory.usable().to_string());
        line("bytes", self.settings.memory.taken().to_string());
        line("cas_fences_standing", self.ownership.fences.len().to_string());
        let mut total = Counters::default();
        for report in reports.iter().flatten() {
            total.add(&report.counters);
        }
        total.each(|name, value| line(name, value.to_string()));
        for (worker, report) in reports.iter().enumerate() {
            match report {
                Some(report) => {
                    report
                        .counters
                        .each(|name, value| line(&format!("worker:{worker}:{name}"), value.to_string()));
                }
                None => line(&format!("worker:{worker}:state"), "did not report in time".to_string()),
            }
        }
        for (index, backend) in self.settings.backends.iter().enumerate() {
            let views: Vec<&BackendReport> =
                reports.iter().flatten().filter_map(|report| report.backends.get(index)).collect();
            self.backend_lines(index, &views, |name, value| {
                line(&format!("backend:{}:{name}", backend.name), value)
            });
        }
        lines
    }

    fn backend_lines(&self, index: usize, views: &[&BackendReport], mut line: impl FnMut(&str, String)) {
        let sum =
            |field: fn(&BackendReport) -> u64| views.iter().map(|view| field(view)).sum::<u64>().to_string();
        let state = if views.iter().any(|view| view.away) {
            "ejected"
        } else if views.iter().any(|view| view.down) {
            "down"
        } else if views.iter().any(|view| view.up) {
            "up"
        } else {
            "unknown"
        };
        line("state", state.to_string());
        if let Some(version) = &self.backends[index].version {
            line("version", String::from_utf8_lossy(version).into_owned());
        }
        line("requests", sum(|view| view.requests));
        line("errors", sum(|view| view.errors));
        line("waiting", sum(|view| view.waiting));
        line("retired_links", sum(|view| view.retired));
    }

    fn settings_lines(&self) -> Vec<(String, String)> {
        let settings = &self.settings;
        let flush = if settings.flush_all_enabled { "yes" } else { "no" };
        [
            ("maxconns", settings.max_conns.to_string()),
            ("num_threads", settings.workers.to_string()),
            ("item_size_max", settings.limits.value_max.to_string()),
            ("flush_enabled", flush.to_string()),
            ("binding_protocol", "auto-negotiate".to_string()),
            ("timeout_us", settings.timeout.as_micros().to_string()),
            ("connect_timeout_us", settings.connect_timeout.as_micros().to_string()),
        ]
        .map(|(name, value)| (name.to_string(), value))
        .to_vec()
    }
}

/// Names and values as the answer to `stats`.
fn listing(form: Form, lines: &[(String, String)]) -> Vec<u8> {
    let mut out = Vec::new();
    match form {
        Form::Text => {
            for (name, value) in lines {
                out.extend_from_slice(format!("STAT {name} {value}\r\n").as_bytes());
            }
            out.extend_from_slice(b"END\r\n");
        }
        Form::Binary { opcode, opaque } => {
            for (name, value) in lines {
                let mut packet = response(opcode, opaque, status::OK, format!("{name}{value}").as_bytes());
                packet[2..4].copy_from_slice(&(name.len() as u16).to_be_bytes());
                out.extend_from_slice(&packet);
            }
            out.extend_from_slice(&response(opcode, opaque, status::OK, b""));
        }
    }
    out
}
