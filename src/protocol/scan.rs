//! Finding separators and line ends: sixteen bytes at a time, by SSE2 where there is SSE2, else in plain
//! integers.

/// A line end, and whether the line can be taken as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineEnd {
    /// Index of the LF.
    pub lf: usize,
    /// There is a NUL between `from` and the LF: memcached's command ends there.
    pub nul: bool,
}

/// The first LF of `input` at or after `from`. A call that goes on where an earlier one found nothing knows
/// nothing of a NUL before `from`.
#[inline]
pub fn line_end(input: &[u8], from: usize) -> Option<LineEnd> {
    let at = from + first_up_to::<b'\n'>(input.get(from..)?);
    match input.get(at)? {
        b'\n' => Some(LineEnd { lf: at, nul: false }),
        _ => line_end_behind(input, at),
    }
}

/// The same from `from` on. Every byte below the LF stops the search, so that one comparison finds NULs too.
#[cold]
#[inline(never)]
fn line_end_behind(input: &[u8], from: usize) -> Option<LineEnd> {
    let (mut at, mut nul) = (from, false);
    loop {
        match input.get(at)? {
            b'\n' => return Some(LineEnd { lf: at, nul }),
            &byte => nul |= byte == 0,
        }
        at += 1;
        at += first_up_to::<b'\n'>(&input[at..]);
    }
}

/// Index of the first byte of `input` at or after `from` that is not above the space (0x20): a separator, a
/// line end, or another control character. The length of `input` if there is none.
#[inline]
pub fn word_end(input: &[u8], from: usize) -> usize {
    match input.get(from..) {
        Some(unread) => from + first_up_to::<b' '>(unread),
        None => input.len(),
    }
}

/// [`word_end`] of the first word of `text`, sooner if it has the length of a key.
#[inline]
pub fn key_end(text: &[u8]) -> usize {
    match text.first_chunk().and_then(short_word_end) {
        Some(end) => end,
        None => word_end(text, 0),
    }
}

/// As [`word_end`], if it is among the first 32 bytes. Both blocks are looked at at once.
#[inline]
pub fn short_word_end(text: &[u8; 2 * BLOCK]) -> Option<usize> {
    let (first, second) = (text.first_chunk()?, text.last_chunk()?);
    match blocks::up_to::<b' '>(first) | blocks::up_to::<b' '>(second) << BLOCK {
        0 => None,
        marks => Some(marks.trailing_zeros() as usize),
    }
}

/// Index of the first space of `text`; its length if there is none.
#[inline]
pub fn space(text: &[u8]) -> usize {
    let at = key_end(text);
    match text.get(at) {
        None | Some(b' ') => at,
        Some(_) => space_behind(text, at + 1),
    }
}

/// The same from `from` on. Bytes below the space are rare in words, and belong to them.
#[cold]
#[inline(never)]
fn space_behind(text: &[u8], from: usize) -> usize {
    let mut at = from;
    loop {
        at += first_up_to::<b' '>(&text[at..]);
        match text.get(at) {
            None | Some(b' ') => return at,
            Some(_) => at += 1,
        }
    }
}

/// Index of the first byte of `text` that is at most a CR: where a line of ordinary bytes ends. Its length if
/// there is none.
#[inline]
pub fn line_text(text: &[u8]) -> usize {
    first_up_to::<b'\r'>(text)
}

/// The two, of the same length, are the same bytes. `None` for lengths that are left to a loop: fewer than 8
/// bytes and more than 32.
#[inline]
pub fn same_short(one: &[u8], other: &[u8]) -> Option<bool> {
    if one.len() != other.len() {
        return Some(false);
    }
    // In two halves that overlap, so that every byte is in one of them.
    if (BLOCK..=2 * BLOCK).contains(&one.len()) {
        let second = one.len() - BLOCK;
        let (a, b) = (one.first_chunk()?, other.first_chunk()?);
        let (c, d) = (one[second..].first_chunk()?, other[second..].first_chunk()?);
        return Some(blocks::same(a, b, c, d));
    }
    if (8..BLOCK).contains(&one.len()) {
        let second = one.len() - 8;
        let (a, b) = (one.first_chunk::<8>()?, other.first_chunk::<8>()?);
        let (c, d) = (one[second..].first_chunk::<8>()?, other[second..].first_chunk::<8>()?);
        return Some(a == b && c == d);
    }
    None
}

/// Index of the first byte of `text` that is at most `MOST`; its length if there is none.
#[inline]
fn first_up_to<const MOST: u8>(text: &[u8]) -> usize {
    let mut rest = text;
    while let Some((block, behind)) = rest.split_first_chunk() {
        let marks = blocks::up_to::<MOST>(block);
        if marks != 0 {
            return text.len() - rest.len() + marks.trailing_zeros() as usize;
        }
        rest = behind;
    }
    match text.last_chunk::<BLOCK>() {
        // Its bytes before the rest have been looked at: they bear no mark.
        Some(last) => match blocks::up_to::<MOST>(last) {
            0 => text.len(),
            marks => text.len() - BLOCK + marks.trailing_zeros() as usize,
        },
        None => first_in_short::<MOST>(text),
    }
}

/// The same for fewer bytes than a block has.
#[inline]
fn first_in_short<const MOST: u8>(text: &[u8]) -> usize {
    let mut at = 0;
    if let Some(half) = text.first_chunk::<8>() {
        let marks = portable::marks_up_to::<MOST>(u64::from_le_bytes(*half));
        if marks != 0 {
            return (marks.trailing_zeros() / 8) as usize;
        }
        at = 8;
    }
    while at < text.len() && text[at] > MOST {
        at += 1;
    }
    at
}

/// Bytes looked at in one step.
const BLOCK: usize = 16;

#[cfg(not(target_arch = "x86_64"))]
use portable as blocks;
#[cfg(target_arch = "x86_64")]
use sse2 as blocks;

/// By SSE2, which every x86-64 has. Blocks are read as integers and no pointer is used: all that is unsafe
/// here is to say that the instructions exist. It halves the instructions of reading a get.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod sse2 {
    use std::arch::x86_64::{
        __m128i, _mm_and_si128, _mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8,
        _mm_setzero_si128, _mm_subs_epu8,
    };

    use super::BLOCK;

    /// Bit i: byte i is at most `MOST`.
    #[inline]
    pub(super) fn up_to<const MOST: u8>(bytes: &[u8; BLOCK]) -> u32 {
        // SAFETY: this is compiled for x86-64 only, all of which have SSE2.
        unsafe { up_to_by_sse2::<MOST>(bytes) }
    }

    /// `a` is `b`, and `c` is `d`.
    #[inline]
    pub(super) fn same(a: &[u8; BLOCK], b: &[u8; BLOCK], c: &[u8; BLOCK], d: &[u8; BLOCK]) -> bool {
        // SAFETY: this is compiled for x86-64 only, all of which have SSE2.
        unsafe { same_by_sse2(a, b, c, d) }
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn load(bytes: &[u8; BLOCK]) -> __m128i {
        let [a, b, c, d, e, f, g, h, high @ ..] = *bytes;
        _mm_set_epi64x(i64::from_le_bytes(high), i64::from_le_bytes([a, b, c, d, e, f, g, h]))
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn up_to_by_sse2<const MOST: u8>(bytes: &[u8; BLOCK]) -> u32 {
        let above = _mm_subs_epu8(load(bytes), _mm_set1_epi8(MOST as i8));
        _mm_movemask_epi8(_mm_cmpeq_epi8(above, _mm_setzero_si128())) as u32
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn same_by_sse2(a: &[u8; BLOCK], b: &[u8; BLOCK], c: &[u8; BLOCK], d: &[u8; BLOCK]) -> bool {
        let one = _mm_cmpeq_epi8(load(a), load(b));
        let other = _mm_cmpeq_epi8(load(c), load(d));
        _mm_movemask_epi8(_mm_and_si128(one, other)) == 0xffff
    }
}

/// The same in plain integers: the twin of the above, and in its place elsewhere.
mod portable {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH_BITS: u64 = 0x80 * ONES;

    /// The top bit of each byte of `word` that is at most `MOST`. The lowest mark is always right.
    #[inline]
    pub(super) fn marks_up_to<const MOST: u8>(word: u64) -> u64 {
        // A byte that is not above borrows into its top bit, and may borrow from the byte above it.
        word.wrapping_sub((u64::from(MOST) + 1) * ONES) & !word & HIGH_BITS
    }

    /// Bit i: byte i is at most `MOST`, for the lowest such byte.
    #[cfg(any(test, not(target_arch = "x86_64")))]
    #[inline]
    pub(super) fn up_to<const MOST: u8>(bytes: &[u8; super::BLOCK]) -> u32 {
        let marks = |word: &[u8; 8]| match marks_up_to::<MOST>(u64::from_le_bytes(*word)) {
            0 => 0,
            marks => 1 << (marks.trailing_zeros() / 8),
        };
        let (words, _) = bytes.as_chunks::<8>();
        marks(&words[0]) | marks(&words[1]) << 8
    }

    /// `a` is `b`, and `c` is `d`.
    #[cfg(any(test, not(target_arch = "x86_64")))]
    #[inline]
    pub(super) fn same(
        a: &[u8; super::BLOCK],
        b: &[u8; super::BLOCK],
        c: &[u8; super::BLOCK],
        d: &[u8; super::BLOCK],
    ) -> bool {
        let word = |bytes: &[u8; super::BLOCK]| u128::from_le_bytes(*bytes);
        (word(a) ^ word(b)) | (word(c) ^ word(d)) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::naive::scan as slow;
    use super::*;

    /// All short inputs over the bytes that could be confused with LF, NUL and space.
    #[test]
    fn every_place_of_every_special_byte() {
        const SPECIAL: [u8; 12] = [0, 1, b'\n', 0x0b, 0x09, 0x1f, b' ', b'!', 0x80, 0x8a, 0xff, b'\r'];
        // Miri, which follows each step, takes seconds for what takes milliseconds otherwise.
        let lengths = if cfg!(miri) { vec![1, 17, 33] } else { (0..20).chain([33, 40]).collect() };
        for length in lengths {
            for first in (0..length).step_by(if cfg!(miri) { 5 } else { 1 }) {
                for second in (first..length).step_by(if cfg!(miri) { 13 } else { 1 }) {
                    for one in SPECIAL {
                        for two in if cfg!(miri) { &SPECIAL[2..4] } else { &SPECIAL[..] } {
                            let mut input = vec![b'a'; length];
                            input[first] = one;
                            input[second] = *two;
                            assert_eq!(space(&input), slow::space(&input), "{input:?}");
                            assert_eq!(line_text(&input), slow::line_text(&input), "{input:?}");
                            for from in [0, first, second, length] {
                                assert_eq!(
                                    line_end(&input, from),
                                    slow::line_end(&input, from),
                                    "{input:?} {from}"
                                );
                                assert_eq!(key_end(&input[from..]), slow::word_end(&input[from..], 0));
                                if let Some(block) = input[from..].first_chunk() {
                                    let short = Some(slow::word_end(block, 0)).filter(|&end| end < 32);
                                    assert_eq!(short_word_end(block), short, "{input:?} {from}");
                                }
                                assert_eq!(
                                    word_end(&input, from),
                                    slow::word_end(&input, from),
                                    "{input:?} {from}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    /// The two ways to look at a block say the same.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn sse2_and_its_twin_agree() {
        let first = |marks: u32| marks.trailing_zeros();
        let mut random = super::super::generate::Random::new(1);
        for _ in 0..if cfg!(miri) { 300 } else { 200_000 } {
            let mut block = [0; BLOCK];
            block.fill_with(|| [0, 9, 10, 11, 31, 32, 33, 0x7f, 0x80, 0xff][random.below(10)]);
            let plain = random.below(BLOCK + 1);
            block[..plain].fill_with(|| b'a' + random.below(26) as u8);
            let (line, word) = (sse2::up_to::<b'\n'>(&block), sse2::up_to::<b' '>(&block));
            assert_eq!(first(line), first(portable::up_to::<b'\n'>(&block)), "{block:?}");
            assert_eq!(first(word), first(portable::up_to::<b' '>(&block)), "{block:?}");
            let mut other = block;
            assert!(sse2::same(&block, &other, &block, &other));
            other[random.below(BLOCK)] ^= 1 << random.below(8);
            assert!(
                !sse2::same(&block, &other, &block, &block) && !sse2::same(&block, &block, &block, &other)
            );
            assert!(portable::same(&block, &block, &block, &block));
            assert!(
                !portable::same(&block, &other, &block, &block)
                    && !portable::same(&block, &block, &block, &other)
            );
        }
    }

    #[test]
    fn the_same_is_the_same() {
        for length in 0..70 {
            let one: Vec<u8> = (0..length).collect();
            let in_reach = (8..=32).contains(&length);
            assert_eq!(same_short(&one, &one.clone()), in_reach.then_some(true));
            assert_eq!(same_short(&one, &[&one[..], b"x"].concat()), Some(false));
            for at in 0..one.len() {
                let mut other = one.clone();
                other[at] ^= 0x80;
                assert_eq!(same_short(&one, &other), in_reach.then_some(false), "byte {at} of {length}");
            }
        }
    }

    #[test]
    fn beyond_the_end_is_nothing() {
        assert_eq!(line_end(b"\n", 2), None);
        assert_eq!(word_end(b" ", 1), 1);
    }
}
