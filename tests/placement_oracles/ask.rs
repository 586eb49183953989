//! Asking a library: one process, one question of many keys and cases, one answer.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::libraries::{Case, Library};

/// A program that runs longer hangs, and is killed.
const DEADLINE: Duration = Duration::from_secs(1200);

/// What a library said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Said {
    pub(crate) version: String,
    /// For each case, and in it for each key, the index of the owner.
    pub(crate) owners: Vec<Vec<usize>>,
}

/// Asks where `keys` are in each of `cases`.
///
/// # Errors
/// What went wrong, and the command that installs what may be missing.
pub(crate) fn ask(library: &Library, cases: &[Case], keys: &[&[u8]]) -> Result<Said, String> {
    let program = (library.program)();
    let question = json!({
        "keys": keys.iter().map(|key| hex(key)).collect::<Vec<_>>(),
        "cases": cases.iter().map(question).collect::<Vec<_>>(),
    });
    let install = if library.always { "tests/install" } else { "tests/oracles/install" };
    let failed = |why: String| {
        format!(
            "the oracle of {} ({program:?}) failed; {install} installs what it needs:\n{why}",
            library.name
        )
    };
    let answer = run(&mut program.command(), &question.to_string()).map_err(failed)?;
    let said = said(&answer).ok_or_else(|| failed(format!("it answered {answer}")))?;
    let fits = |owners: &Vec<usize>, case: &Case| {
        owners.len() == keys.len() && owners.iter().all(|owner| *owner < case.list.hosts.len())
    };
    if said.owners.len() == cases.len()
        && said.owners.iter().zip(cases).all(|(owners, case)| fits(owners, case))
    {
        return Ok(said);
    }
    Err(failed("it answered something else than it was asked for".to_owned()))
}

/// Two digits for each byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn question(case: &Case) -> Value {
    let servers: Vec<Value> = case.list.hosts.iter().map(|host| host.question()).collect();
    let mut question = json!({"rule": case.placement, "servers": servers});
    if let Some(tag) = case.tag {
        question["hash_tag"] = json!(String::from_utf8_lossy(&tag));
    }
    if let Some(prefix) = &case.prefix {
        question["prefix"] = json!(prefix);
    }
    question
}

fn said(answer: &str) -> Option<Said> {
    let answer: Value = serde_json::from_str(answer).ok()?;
    let version = answer["version"].as_str()?.to_owned();
    let index = |owner: &Value| owner.as_u64().map(|owner| owner as usize);
    let of_case = |owners: &Value| owners.as_array()?.iter().map(index).collect();
    let owners = answer["owners"].as_array()?.iter().map(of_case).collect::<Option<_>>()?;
    Some(Said { version, owners })
}

/// Runs a program with `input`, all of its streams being files: it can neither block on a full pipe nor lose
/// what it wrote when it is killed.
fn run(command: &mut Command, input: &str) -> Result<String, String> {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let name = format!("oracle-{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
    let file = |what: &str| Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.{what}"));
    let paths = [file("question"), file("answer"), file("errors")];
    fs::write(&paths[0], input).expect("the folder for temporary files is writable");
    let ended = run_between(command, &paths);
    let [answer, errors] = [&paths[1], &paths[2]]
        .map(|path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned());
    for path in &paths {
        let _ = fs::remove_file(path);
    }
    match ended {
        Ok(Some(status)) if status.success() => Ok(answer),
        Ok(Some(status)) => Err(format!("{errors}{answer}\nit ended with {status}")),
        Ok(None) => Err(format!("{errors}{answer}\nit hung and was killed after {DEADLINE:?}")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(format!("{} is missing", command.get_program().display()))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Waits for the end of a command; `None` when it had to be killed.
fn run_between(command: &mut Command, paths: &[PathBuf; 3]) -> io::Result<Option<ExitStatus>> {
    let [input, output, errors] = paths;
    command.stdin(File::open(input)?).stdout(File::create(output)?).stderr(File::create(errors)?);
    let mut child = command.spawn()?;
    let give_up = Instant::now() + DEADLINE;
    while Instant::now() < give_up {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}
