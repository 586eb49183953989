//! What libraries said once, for runs of the tests where they are not installed.
//!
//! `tests/data/placement/keys.json` has the keys in hexadecimal, and a file for each library its version, the
//! lists, and for each case a string with a digit for each key that it takes: the index of the owner, 0 to z.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::ask::hex;
use crate::libraries::{Case, Library};
use crate::lists::{Host, List};

/// Digits of an index.
const RADIX: u32 = 36;

/// The recorded answers of a library.
#[derive(Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) version: String,
    pub(crate) cases: Vec<Case>,
    /// For each case, and in it for each key that it takes.
    pub(crate) owners: Vec<Vec<usize>>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/placement")
}

fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|error| {
        panic!("{}: {error}; `make placement-oracles RECORD=1` writes it", path.display())
    });
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The keys of all records.
pub(crate) fn read_keys() -> Vec<Vec<u8>> {
    let path = folder().join("keys.json");
    let keys = read(&path);
    let key = |key: &Value| key.as_str().and_then(unhex);
    let keys: Option<Vec<_>> = keys.as_array().and_then(|keys| keys.iter().map(key).collect());
    keys.unwrap_or_else(|| panic!("{} is no list of keys", path.display()))
}

/// Writes the keys of all records.
pub(crate) fn write_keys(keys: &[Vec<u8>]) {
    let keys: Vec<String> = keys.iter().map(|key| format!("\"{}\"", hex(key))).collect();
    write("keys.json", &format!("[\n{}\n]\n", keys.join(",\n")));
}

fn write(file: &str, text: &str) {
    fs::create_dir_all(folder()).and_then(|()| fs::write(folder().join(file), text)).expect("it is writable");
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    (0..digits.len()).step_by(2).map(byte).collect()
}

impl Record {
    /// What is recorded of `library`.
    ///
    /// # Panics
    /// If there is no such record.
    pub(crate) fn read(library: &Library) -> Self {
        let file = format!("{}.json", library.name);
        Record::from_json(&read(&folder().join(&file))).unwrap_or_else(|| panic!("{file} is no record"))
    }

    /// Writes it as the record of `library`.
    pub(crate) fn write(&self, library: &Library) {
        write(&format!("{}.json", library.name), &self.to_json());
    }

    fn from_json(record: &Value) -> Option<Self> {
        let list = |name: &str| {
            let hosts = record["lists"][name].as_array()?.iter().map(Host::from_question);
            Some(List::new(name, hosts.collect::<Option<_>>()?))
        };
        let mut read =
            Record { version: record["version"].as_str()?.to_owned(), cases: vec![], owners: vec![] };
        for case in record["cases"].as_array()? {
            let tag = match case["hash_tag"].as_str() {
                Some(tag) => Some(tag.as_bytes().try_into().ok()?),
                None => None,
            };
            let prefix = case["prefix"].as_str().map(str::to_owned);
            let placement = case["placement"].as_str()?.to_owned();
            read.cases.push(Case { placement, list: list(case["list"].as_str()?)?, tag, prefix });
            let digit = |digit: char| digit.to_digit(RADIX).map(|digit| digit as usize);
            read.owners.push(case["owners"].as_str()?.chars().map(digit).collect::<Option<_>>()?);
        }
        Some(read)
    }

    /// A line for each list and each case.
    fn to_json(&self) -> String {
        let mut lists: Vec<String> = Vec::new();
        let mut cases = Vec::new();
        for (case, owners) in self.cases.iter().zip(&self.owners) {
            let hosts: Vec<Value> = case.list.hosts.iter().map(Host::question).collect();
            let list = format!("{}: {}", json!(case.list.name), json!(hosts));
            if !lists.contains(&list) {
                lists.push(list);
            }
            let mut line = format!("{{\"placement\": {}, ", json!(case.placement));
            let _ = write!(line, "\"list\": {}, ", json!(case.list.name));
            if let Some(tag) = case.tag {
                let _ = write!(line, "\"hash_tag\": {}, ", json!(String::from_utf8_lossy(&tag)));
            }
            if let Some(prefix) = &case.prefix {
                let _ = write!(line, "\"prefix\": {}, ", json!(prefix));
            }
            let digit = |owner: &usize| char::from_digit(*owner as u32, RADIX).expect("a list of at most 36");
            let _ = write!(line, "\"owners\": \"{}\"}}", owners.iter().map(digit).collect::<String>());
            cases.push(line);
        }
        format!(
            "{{\"version\": {},\n\"lists\": {{\n{}\n}},\n\"cases\": [\n{}\n]}}\n",
            json!(self.version),
            lists.join(",\n"),
            cases.join(",\n")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::libraries::LIBRARIES;

    #[test]
    fn a_record_reads_as_it_was_written() {
        for library in LIBRARIES.iter() {
            let cases = library.cases(1, 2);
            let owners = cases.iter().map(|case| (0..case.list.hosts.len()).collect()).collect();
            let record = Record { version: "1 \"é\"".to_owned(), cases, owners };
            let read = Record::from_json(&serde_json::from_str(&record.to_json()).unwrap());
            assert_eq!(read.as_ref(), Some(&record), "{}", library.name);
        }
    }
}
