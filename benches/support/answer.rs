//! What a request must be answered with, so that nothing is measured that is not right.

/// A whole answer, as a sequence of parts.
#[derive(Debug, Default)]
pub(crate) struct Answer(Vec<Part>);

#[derive(Debug)]
enum Part {
    Bytes(Vec<u8>),
    Digits,
    Any(usize),
    OneOf(&'static [&'static str]),
}

impl Answer {
    /// These bytes come next.
    pub(crate) fn bytes(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.push(Part::Bytes(bytes.as_ref().to_vec()));
        self
    }

    /// A number comes next: a CAS token, a counter.
    pub(crate) fn digits(mut self) -> Self {
        self.0.push(Part::Digits);
        self
    }

    /// So many bytes come next.
    pub(crate) fn any(mut self, count: usize) -> Self {
        self.0.push(Part::Any(count));
        self
    }

    /// One of these comes next; none begins with another one.
    pub(crate) fn one_of(mut self, choices: &'static [&'static str]) -> Self {
        self.0.push(Part::OneOf(choices));
        self
    }

    /// What follows this answer in `bytes`; `None` if they do not begin with all of it.
    pub(crate) fn strip<'a>(&self, mut bytes: &'a [u8]) -> Option<&'a [u8]> {
        for part in &self.0 {
            bytes = match part {
                Part::Bytes(expected) => bytes.strip_prefix(&expected[..])?,
                Part::Digits => {
                    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
                    if digits == 0 {
                        return None;
                    }
                    &bytes[digits..]
                }
                Part::Any(count) => bytes.get(*count..)?,
                Part::OneOf(choices) => {
                    choices.iter().find_map(|choice| bytes.strip_prefix(choice.as_bytes()))?
                }
            };
        }
        Some(bytes)
    }
}
