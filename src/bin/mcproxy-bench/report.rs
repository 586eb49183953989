//! The result of a run: for people, as a line of JSON, as a line of CSV.

use std::fmt::Write as _;

use crate::arguments::{Plan, Workload};
use crate::process::Usage;
use crate::tally::{Tally, percentile};

/// What a run found.
pub(crate) struct Outcome<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) tally: Tally,
    /// From the start of measuring to the last answer.
    pub(crate) seconds: f64,
    /// The watched processes in the order of the flags, and this one last.
    pub(crate) used: Vec<Used>,
}

/// What one process used while measuring.
pub(crate) struct Used {
    pub(crate) name: String,
    pub(crate) usage: Usage,
}

/// Percentiles of the line for people and of CSV, by their names there.
const PERCENTILES: [(&str, f64); 5] =
    [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9), ("max", 100.0)];

/// Percentiles of JSON: enough to draw the distribution.
const DISTRIBUTION: [f64; 19] = [
    0.0, 1.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 75.0, 80.0, 90.0, 95.0, 98.0, 99.0, 99.9, 99.99,
    100.0,
];

/// A value that has one name in JSON and as a column.
enum Field {
    Text(String),
    Count(u64),
    Number(f64),
}

/// In the form that the plan asks for.
pub(crate) fn print(outcome: &Outcome) -> String {
    let plan = outcome.plan;
    if plan.json {
        json(outcome)
    } else if plan.csv {
        csv(outcome)
    } else {
        summary(outcome)
    }
}

/// 12345 as `12,345`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A string of JSON.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

impl Outcome<'_> {
    fn per_second(&self) -> f64 {
        self.tally.operations() as f64 / self.seconds.max(1e-9)
    }

    /// Of a time in seconds: microseconds per operation.
    fn per_operation(&self, seconds: f64) -> f64 {
        seconds * 1e6 / (self.tally.operations() as f64).max(1.0)
    }

    /// What was asked for and what came of it.
    fn fields(&self) -> Vec<(String, Field)> {
        let (plan, tally) = (self.plan, &self.tally);
        let workload =
            if plan.gets { format!("{}-gets", plan.workload.name()) } else { plan.workload.name().into() };
        let mut fields = vec![
            ("target", Field::Text(plan.target.to_string())),
            ("protocol", Field::Text(plan.protocol.name().into())),
            ("workload", Field::Text(workload)),
            ("clients", Field::Count(plan.clients)),
            ("pipeline", Field::Count(plan.pipeline)),
            ("threads", Field::Count(plan.threads)),
            ("rate", Field::Count(plan.rate.unwrap_or(0))),
            ("keys", Field::Count(plan.keys)),
            ("key_bytes", Field::Count(plan.key_bytes)),
            ("value_bytes", Field::Count(plan.value_bytes)),
            ("multiget", Field::Count(if plan.workload == Workload::Multiget { plan.multiget } else { 1 })),
            ("get_share", Field::Number(plan.get_share)),
            ("seed", Field::Count(plan.seed)),
            ("seconds", Field::Number(self.seconds)),
            ("operations", Field::Count(tally.operations())),
            ("operations_per_s", Field::Number(self.per_second())),
            ("gets", Field::Count(tally.gets)),
            ("sets", Field::Count(tally.sets)),
            ("hits", Field::Count(tally.hits)),
            ("misses", Field::Count(tally.misses)),
            ("errors", Field::Count(tally.errors)),
            ("unsent", Field::Count(tally.unsent)),
            ("bytes_sent", Field::Count(tally.sent)),
            ("bytes_received", Field::Count(tally.received)),
            ("mean_us", Field::Number(tally.latency.mean() / 1000.0)),
        ];
        fields.extend([
            ("p50_us", Field::Number(percentile(&tally.latency, 50.0))),
            ("p90_us", Field::Number(percentile(&tally.latency, 90.0))),
            ("p99_us", Field::Number(percentile(&tally.latency, 99.0))),
            ("p99_9_us", Field::Number(percentile(&tally.latency, 99.9))),
            ("max_us", Field::Number(percentile(&tally.latency, 100.0))),
            ("late_p50_us", Field::Number(percentile(&tally.lateness, 50.0))),
            ("late_p99_us", Field::Number(percentile(&tally.lateness, 99.0))),
        ]);
        fields.into_iter().map(|(name, field)| (name.to_string(), field)).collect()
    }

    fn fields_of(&self, used: &Used) -> [(&'static str, Field); 5] {
        let usage = &used.usage;
        [
            ("cpu_us_per_op", Field::Number(self.per_operation(usage.cpu()))),
            ("user_us_per_op", Field::Number(self.per_operation(usage.user()))),
            ("system_us_per_op", Field::Number(self.per_operation(usage.system()))),
            ("voluntary_switches", Field::Count(usage.voluntary)),
            ("involuntary_switches", Field::Count(usage.involuntary)),
        ]
    }
}

impl Field {
    fn json(&self) -> String {
        match self {
            Field::Text(text) => quoted(text),
            Field::Count(count) => count.to_string(),
            Field::Number(number) => format!("{number:.3}"),
        }
    }

    fn csv(&self) -> String {
        match self {
            Field::Text(text) if text.contains([',', '"', '\n']) => {
                format!("\"{}\"", text.replace('"', "\"\""))
            }
            Field::Text(text) => text.clone(),
            other => other.json(),
        }
    }
}

fn json(outcome: &Outcome) -> String {
    let members = |fields: &[(String, Field)]| {
        fields
            .iter()
            .map(|(name, field)| format!("{}:{}", quoted(name), field.json()))
            .collect::<Vec<_>>()
            .join(",")
    };
    let points =
        DISTRIBUTION.map(|percent| format!("[{percent},{:.3}]", percentile(&outcome.tally.latency, percent)));
    let processes = outcome.used.iter().map(|used| {
        let fields = outcome.fields_of(used).map(|(name, field)| (name.to_string(), field));
        format!("{}:{{{}}}", quoted(&used.name), members(&fields))
    });
    format!(
        "{{{},\"distribution_us\":[{}],\"processes\":{{{}}}}}",
        members(&outcome.fields()),
        points.join(","),
        processes.collect::<Vec<_>>().join(",")
    )
}

fn csv(outcome: &Outcome) -> String {
    let mut columns = outcome.fields();
    for used in &outcome.used {
        columns.extend(outcome.fields_of(used).map(|(name, field)| (format!("{}:{name}", used.name), field)));
    }
    let row = columns.iter().map(|(_, field)| field.csv()).collect::<Vec<_>>().join(",");
    if !outcome.plan.csv_header {
        return row;
    }
    let names = columns.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(",");
    format!("{names}\n{row}")
}

fn summary(outcome: &Outcome) -> String {
    let (plan, tally) = (outcome.plan, &outcome.tally);
    let pace =
        plan.rate.map_or_else(|| "closed loop".to_string(), |rate| format!("open loop, {}/s", grouped(rate)));
    let mut text = format!(
        "{} {} to {}: {} clients, {} in flight each, {pace}\n",
        plan.protocol.name(),
        kind(plan),
        plan.target,
        grouped(plan.clients),
        plan.pipeline,
    );
    let mut line = |name: &str, rest: String| {
        let _ = writeln!(text, "  {name:<14} {rest}");
    };
    line(
        "operations",
        format!(
            "{} in {:.2} s: {} ops/s ({} reads, {} sets)",
            grouped(tally.operations()),
            outcome.seconds,
            grouped(outcome.per_second() as u64),
            grouped(tally.gets),
            grouped(tally.sets)
        ),
    );
    let latencies =
        PERCENTILES.map(|(name, percent)| format!("{name} {:.1}", percentile(&tally.latency, percent)));
    line("latency, us", latencies.join("  "));
    if plan.rate.is_some() {
        let [p50, p99] = [50.0, 99.0].map(|percent| percentile(&tally.lateness, percent));
        line("sent late, us", format!("p50 {p50:.1}  p99 {p99:.1} (part of the latency)"));
    }
    line(
        "values",
        format!(
            "{} hits, {} misses, {} errors; all replies checked",
            grouped(tally.hits),
            grouped(tally.misses),
            grouped(tally.errors)
        ),
    );
    line("bytes", format!("{} sent, {} received", grouped(tally.sent), grouped(tally.received)));
    if tally.unsent > 0 {
        let unsent = grouped(tally.unsent);
        line("unsent", format!("{unsent} operations of the schedule: the target can't keep this rate"));
    }
    for used in &outcome.used {
        line("CPU, us/op", cpu(outcome, used));
    }
    if let Some(own) = outcome.used.last()
        && own.usage.cpu() > 0.9 * outcome.seconds * plan.threads as f64
        && outcome.seconds > 0.5
    {
        line(
            "note",
            "mcproxy-bench was busy all the time: it may be the limit; try more --threads".to_string(),
        );
    }
    text
}

fn kind(plan: &Plan) -> String {
    let reads = if plan.gets { "gets" } else { "get" };
    match plan.workload {
        Workload::Get => reads.to_string(),
        Workload::Set => "set".to_string(),
        Workload::Mixed => format!("{:.0} % {reads}, rest set", plan.get_share * 100.0),
        Workload::Multiget => format!("{reads} of {} keys", plan.multiget),
    }
}

fn cpu(outcome: &Outcome, used: &Used) -> String {
    let usage = &used.usage;
    let switches =
        (usage.voluntary + usage.involuntary) as f64 / (outcome.tally.operations() as f64).max(1.0);
    format!(
        "{:.2} {} ({:.2} user, {:.2} system; {switches:.3} context switches/op)",
        outcome.per_operation(usage.cpu()),
        used.name,
        outcome.per_operation(usage.user()),
        outcome.per_operation(usage.system()),
    )
}
