//! `benches/gate` must be able to fail: here it judges figures from a program that only pretends to be cargo.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Baselines: one within its budget, one that exceeds it, one without.
const TABLE: &str = "\
# A head.
# Measured with an abacus
proxy::get    340.0   350
proxy::set   2000.0   350
parser::get     6.0     -
";

/// The same figures again.
const SAME: [(&str, f64); 3] = [("proxy::get", 340.0), ("proxy::set", 2000.0), ("parser::get", 6.0)];

#[test]
fn the_same_figures_pass() {
    let (output, passed) = judged("same", &SAME, 0);
    assert!(passed, "{output}");
    assert_eq!(verdicts(&output), ["ok", "budget not reached", "ok"], "{output}");
}

#[test]
fn what_the_tolerance_allows_passes() {
    let (output, passed) = judged("tolerance", &with("proxy::set", 2059.0), 0);
    assert!(passed, "{output}");
    let (output, passed) = judged("smallest", &with("parser::get", 6.9), 0);
    assert!(passed, "{output}");
}

#[test]
fn a_worse_figure_fails() {
    for (name, figure, place) in
        [("proxy::set", 2061.0, 1), ("parser::get", 7.1, 2), ("proxy::get", 800.0, 0)]
    {
        let (output, passed) = judged("worse", &with(name, figure), 0);
        assert!(!passed, "{output}");
        assert_eq!(verdicts(&output)[place], "WORSE", "{output}");
        assert!(output.contains("make bench-baseline"), "{output}");
        assert!(output.contains("an abacus"), "{output}");
    }
}

#[test]
fn a_budget_that_was_kept_must_be_kept() {
    let (output, passed) = judged("budget", &with("proxy::get", 350.1), 0);
    assert!(!passed, "{output}");
    assert_eq!(verdicts(&output)[0], "OVER BUDGET", "{output}");
}

#[test]
fn a_better_figure_passes_and_is_told() {
    let (output, passed) = judged("better", &with("proxy::set", 1900.0), 0);
    assert!(passed, "{output}");
    assert_eq!(verdicts(&output)[1], "better", "{output}");
    assert!(output.contains("1 figures are better than their baselines: `make bench-baseline`"), "{output}");
}

#[test]
fn a_benchmark_without_baseline_fails_and_so_does_a_baseline_without_benchmark() {
    let (output, passed) = judged("new", &[&SAME[..], &[("proxy::new", 1.0)]].concat(), 0);
    assert!(!passed && output.contains("NO BASELINE"), "{output}");
    let (output, passed) = judged("lost", &SAME[..2], 0);
    assert!(!passed && output.contains("NOT RUN"), "{output}");
}

#[test]
fn a_benchmark_in_which_nothing_was_counted_fails() {
    let (output, passed) = judged("zero", &with("proxy::set", 0.0), 0);
    assert!(!passed && output.contains("NOTHING COUNTED"), "{output}");
}

#[test]
fn benches_that_fail_or_do_not_run_fail() {
    let (output, passed) = judged("died", &SAME, 101);
    assert!(!passed, "{output}");
    let (output, passed) = judged("nothing", &[], 0);
    assert!(!passed, "{output}");
}

#[test]
fn new_baselines_keep_budgets_and_head() {
    let table = table("rewrite");
    let (output, passed) = gate(&table, &["--rewrite"], &with("proxy::set", 345.678), 0);
    assert!(passed, "{output}");
    let written = fs::read_to_string(&table).unwrap();
    let rows: Vec<Vec<&str>> = written.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["#", "A", "head."], "{written}");
    assert!(written.contains("# Measured with rustc "), "{written}");
    assert_eq!(
        rows[2..],
        [
            vec!["proxy::get", "340.0", "350"],
            vec!["proxy::set", "345.7", "350"],
            vec!["parser::get", "6.0", "-"]
        ]
    );
    let (output, passed) = gate(&table, &[], &with("proxy::set", 351.0), 0);
    assert!(!passed && output.contains("OVER BUDGET"), "a budget once reached is kept: {output}");
}

#[test]
fn figures_that_mean_nothing_do_not_become_baselines() {
    for (figures, status) in [(vec![], 0), (with("proxy::set", 0.0), 0), (SAME.to_vec(), 101)] {
        let table = table("refused");
        let (output, passed) = gate(&table, &["--rewrite"], &figures, status);
        assert!(!passed, "{output}");
        assert_eq!(fs::read_to_string(&table).unwrap(), TABLE);
    }
}

/// The gate divides by what the benches do.
#[test]
fn both_sides_know_how_many_operations_a_benchmark_does() {
    let number = |path: &str, start: &str| {
        let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        let line = source.lines().find_map(|line| line.strip_prefix(start));
        line.unwrap_or_else(|| panic!("{path} has no {start}")).trim_end_matches(';').to_string()
    };
    let benches = number("benches/support/mod.rs", "pub(crate) const OPERATIONS: usize = ");
    assert_eq!(benches, number("benches/gate", "OPERATIONS = "));
    assert_eq!(benches, "4_000", "summary_of() below needs it too");
}

/// [`SAME`] with another figure for one benchmark.
fn with(name: &str, figure: f64) -> Vec<(&str, f64)> {
    SAME.iter().map(|&(other, same)| (other, if other == name { figure } else { same })).collect()
}

/// The words that the gate has for each benchmark, in the order of the table.
fn verdicts(output: &str) -> Vec<String> {
    let rows = output.lines().skip_while(|line| !line.starts_with("instructions for each operation"));
    let words = |row: &str| row.split_whitespace().skip(5).collect::<Vec<_>>().join(" ");
    rows.skip(1).take_while(|row| !row.is_empty()).map(words).collect()
}

/// A fresh copy of [`TABLE`].
fn table(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bench_gate-{name}.txt"));
    fs::write(&path, TABLE).unwrap();
    path
}

/// What the gate says to these figures, and whether it lets them pass.
fn judged(name: &str, figures: &[(&str, f64)], status: i32) -> (String, bool) {
    gate(&table(name), &[], figures, status)
}

fn gate(table: &Path, arguments: &[&str], figures: &[(&str, f64)], status: i32) -> (String, bool) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output: String = figures.iter().map(|&(name, figure)| summary_of(name, figure)).collect();
    let done = Command::new(root.join("benches/gate"))
        .args(arguments)
        .env("CARGO", root.join("tests/data/pretend-cargo"))
        .env("INSTRUCTIONS", table)
        .env("OUTPUT", output)
        .env("STATUS", status.to_string())
        .output()
        .expect("benches/gate starts");
    let text = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (text.concat(), done.status.success())
}

/// A line as iai-callgrind 0.16 writes it, but for what the gate does not look at.
fn summary_of(name: &str, figure: f64) -> String {
    let (function, id) = name.split_once("::").unwrap();
    let count = (figure * 4000.0).round();
    let summary =
        format!(r#"{{"Callgrind":{{"Ir":{{"metrics":{{"Both":[{{"Int":{count}}},{{"Int":1}}]}}}}}}}}"#);
    format!(
        "{{\"function_name\":\"{function}\",\"id\":\"{id}\",\"profiles\":[{{\"summaries\":{{\"total\":\
         {{\"summary\":{summary}}}}}}}]}}\n"
    )
}
