//! The scanner against its slow twin, wherever a text may begin.

use mcproxy::protocol::naive::scan as slow;
use mcproxy::protocol::scan::{self, LineEnd};

use super::canary;
use super::tape::Tape;

/// `input` is a place to begin at, a byte to be changed, and a text.
pub fn check(input: &[u8]) {
    let mut tape = Tape(input);
    let (from, changed) = (usize::from(tape.byte()), usize::from(tape.byte()));
    let text = tape.rest();
    for start in 0..text.len().min(17) {
        check_text(&text[start..], from);
    }
    check_text(text, from);
    let mut other = text.to_vec();
    assert_eq!(scan::same_short(text, &other), slow::same_short(text, &other), "the same");
    if let Some(byte) = other.get_mut(changed) {
        *byte ^= 1 << (from % 8);
        assert_eq!(scan::same_short(text, &other), slow::same_short(text, &other), "not the same");
    }
}

fn check_text(text: &[u8], from: usize) {
    assert_eq!(scan::line_end(text, from), line_end(text, from), "line_end from {from}");
    assert_eq!(scan::word_end(text, from), slow::word_end(text, from), "word_end from {from}");
    assert_eq!(scan::key_end(text), slow::word_end(text, 0), "key_end");
    assert_eq!(scan::space(text), slow::space(text), "space");
    assert_eq!(scan::line_text(text), slow::line_text(text), "line_text");
    if let Some(block) = text.first_chunk() {
        assert_eq!(scan::short_word_end(block), slow::short_word_end(block), "short_word_end");
    }
}

fn line_end(text: &[u8], from: usize) -> Option<LineEnd> {
    slow::line_end(text, from).map(|end| LineEnd { nul: end.nul && !canary(), ..end })
}
