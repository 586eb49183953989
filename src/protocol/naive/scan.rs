//! Finding separators and line ends, byte by byte.

use super::super::scan::LineEnd;

/// As [`super::super::scan::line_end`].
pub fn line_end(input: &[u8], from: usize) -> Option<LineEnd> {
    let lf = (from..input.len()).find(|&index| input[index] == b'\n')?;
    Some(LineEnd { lf, nul: input[from..lf].contains(&0) })
}

/// As [`super::super::scan::word_end`]; and, with a `from` of zero, as [`super::super::scan::key_end`].
pub fn word_end(input: &[u8], from: usize) -> usize {
    (from..input.len()).find(|&index| input[index] <= b' ').unwrap_or(input.len())
}

/// As [`super::super::scan::short_word_end`].
pub fn short_word_end(text: &[u8; 32]) -> Option<usize> {
    text.iter().position(|&byte| byte <= b' ')
}

/// As [`super::super::scan::line_text`].
pub fn line_text(text: &[u8]) -> usize {
    text.iter().position(|&byte| byte <= b'\r').unwrap_or(text.len())
}

/// As [`super::super::scan::space`].
pub fn space(text: &[u8]) -> usize {
    text.iter().position(|&byte| byte == b' ').unwrap_or(text.len())
}

/// As [`super::super::scan::same_short`].
pub fn same_short(one: &[u8], other: &[u8]) -> Option<bool> {
    let in_reach = one.len() != other.len() || (8..=32).contains(&one.len());
    in_reach.then(|| one.iter().eq(other))
}
