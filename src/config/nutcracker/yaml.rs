//! The shape of the file: pools by name, in each of them keys with a text or with a list of texts.
//!
//! twemproxy reads the events of libyaml itself, and takes no anchors, aliases, tags and no second document.
//! The same here: it makes of the file what is written in it, and nothing that is larger.

use saphyr_parser::{Event, Parser, StrInput};

use super::super::shown;
use super::Complaint;

/// A pool, with the line that its name stands in.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) entries: Vec<Entry>,
}

/// A key and what it is set to.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) value: Value,
}

/// What a key may be set to.
#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    /// Each with its line.
    List(Vec<(String, usize)>),
}

/// The pools in the order of the file; none if it is empty.
pub(super) fn pools(text: &str) -> Result<Vec<Pool>, Complaint> {
    let mut events = Events { parser: Parser::new_from_str(text), line: 1 };
    events.skip(|event| matches!(event, Event::StreamStart))?;
    let mut pools = Vec::new();
    match events.next()? {
        Event::StreamEnd => return Ok(pools),
        Event::DocumentStart(_) => {}
        _ => return Err(events.complaint("not a YAML document")),
    }
    match events.next()? {
        Event::MappingStart(..) => {}
        Event::Scalar(text, ..) if text.is_empty() => return Ok(pools),
        _ => return Err(events.complaint("pools are expected, each its name, a colon and its keys below it")),
    }
    while let Some((name, line)) = events.key("the name of a pool")? {
        let entries = events.entries(&name).map_err(|complaint| complaint.of_pool(&name))?;
        pools.push(Pool { name, line, entries });
    }
    events.skip(|event| matches!(event, Event::DocumentEnd))?;
    match events.next()? {
        Event::StreamEnd => Ok(pools),
        _ => Err(events.complaint("a second document; twemproxy takes one")),
    }
}

struct Events<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// Of the event that came last, from 1 on.
    line: usize,
}

impl<'a> Events<'a> {
    fn next(&mut self) -> Result<Event<'a>, Complaint> {
        let (event, span) = match self.parser.next_event() {
            Some(Ok(event)) => event,
            Some(Err(error)) => {
                let what = format!("not YAML: {}", shown(error.info()));
                return Err(Complaint::at(error.marker().line(), what));
            }
            None => return Err(self.complaint("the file ends too early")),
        };
        self.line = span.start.line();
        let marked = match &event {
            Event::Alias(_) => true,
            Event::Scalar(_, _, anchor, tag) => *anchor != 0 || tag.is_some(),
            Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag) => {
                *anchor != 0 || tag.is_some()
            }
            _ => false,
        };
        match marked {
            true => {
                Err(self.complaint("anchors (&), aliases (*) and tags (!) are not taken, as in twemproxy"))
            }
            false => Ok(event),
        }
    }

    /// The next one must be such an event.
    fn skip(&mut self, wanted: impl Fn(&Event) -> bool) -> Result<(), Complaint> {
        match wanted(&self.next()?) {
            true => Ok(()),
            false => Err(self.complaint("not a YAML document")),
        }
    }

    /// The next key of a mapping with its line; `None` at the mapping's end.
    fn key(&mut self, what: &str) -> Result<Option<(String, usize)>, Complaint> {
        match self.next()? {
            Event::MappingEnd => Ok(None),
            Event::Scalar(text, ..) if text.is_empty() => Err(self.complaint(&format!("{what} is empty"))),
            Event::Scalar(text, ..) => Ok(Some((text.into_owned(), self.line))),
            _ => Err(self.complaint(&format!("{what} must be plain text"))),
        }
    }

    /// What stands below a pool's name.
    fn entries(&mut self, pool: &str) -> Result<Vec<Entry>, Complaint> {
        if !matches!(self.next()?, Event::MappingStart(..)) {
            let what = format!("keys such as listen and servers are expected below {}:", shown(pool));
            return Err(self.complaint(&what));
        }
        let mut entries = Vec::new();
        while let Some((key, line)) = self.key("a key")? {
            let value = self.value(&key)?;
            entries.push(Entry { key, line, value });
        }
        Ok(entries)
    }

    fn value(&mut self, key: &str) -> Result<Value, Complaint> {
        match self.next()? {
            Event::Scalar(text, ..) => Ok(Value::Text(text.into_owned())),
            Event::SequenceStart(..) => Ok(Value::List(self.list(key)?)),
            _ => {
                let key = shown(key);
                Err(self.complaint(&format!("{key}: text is expected; what begins with {{ needs quotes")))
            }
        }
    }

    fn list(&mut self, key: &str) -> Result<Vec<(String, usize)>, Complaint> {
        let mut texts = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(texts),
                Event::Scalar(text, ..) => texts.push((text.into_owned(), self.line)),
                _ => {
                    let key = shown(key);
                    return Err(self.complaint(&format!("{key}: a list of plain texts is expected")));
                }
            }
        }
    }

    fn complaint(&self, what: &str) -> Complaint {
        Complaint::at(self.line, what.to_string())
    }
}
