//! Finding line ends. Eight bytes at a time, in plain integers.

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
    let unread = input.get(from..)?;
    let mut nul = false;
    let (words, tail) = unread.as_chunks::<8>();
    for (index, bytes) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*bytes);
        let lf = zero_bytes(word ^ LF_BYTES);
        let zero = zero_bytes(word);
        if lf != 0 {
            // The lowest mark is exact, and so is every mark below it: what lies above the LF is cut off.
            nul |= zero & (lf ^ (lf - 1)) != 0;
            return Some(LineEnd { lf: from + index * 8 + (lf.trailing_zeros() / 8) as usize, nul });
        }
        nul |= zero != 0;
    }
    let tail_start = input.len() - tail.len();
    let at = tail.iter().position(|&byte| byte == b'\n')?;
    nul |= tail[..at].contains(&0);
    Some(LineEnd { lf: tail_start + at, nul })
}

/// Index of the first byte of `input` at or after `from` that is not above the space (0x20): a separator, a
/// line end, or another control character. The length of `input` if there is none.
#[inline]
pub fn word_end(input: &[u8], from: usize) -> usize {
    let unread = input.get(from..).unwrap_or_default();
    let (words, tail) = unread.as_chunks::<8>();
    for (index, bytes) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*bytes);
        // A byte below 0x21 borrows into its top bit; the lowest mark is exact.
        let marks = word.wrapping_sub(0x21 * ONES) & !word & HIGH_BITS;
        if marks != 0 {
            return from + index * 8 + (marks.trailing_zeros() / 8) as usize;
        }
    }
    let tail_start = input.len() - tail.len();
    tail_start + tail.iter().position(|&byte| byte <= b' ').unwrap_or(tail.len())
}

/// Index of the first space of `text`; its length if there is none.
#[inline]
pub fn space(text: &[u8]) -> usize {
    let (words, tail) = text.as_chunks::<8>();
    for (index, bytes) in words.iter().enumerate() {
        let marks = zero_bytes(u64::from_le_bytes(*bytes) ^ SPACE_BYTES);
        if marks != 0 {
            return index * 8 + (marks.trailing_zeros() / 8) as usize;
        }
    }
    let tail_start = text.len() - tail.len();
    tail_start + tail.iter().position(|&byte| byte == b' ').unwrap_or(tail.len())
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x80 * ONES;
const LF_BYTES: u64 = b'\n' as u64 * ONES;
const SPACE_BYTES: u64 = b' ' as u64 * ONES;

/// Marks the bytes of `word` that are zero in their top bits. The lowest mark is always right; one above a
/// zero byte may be set for a byte of 1.
#[inline]
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGH_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow_line_end(input: &[u8], from: usize) -> Option<LineEnd> {
        let lf = (from..input.len()).find(|&index| input[index] == b'\n')?;
        Some(LineEnd { lf, nul: input[from..lf].contains(&0) })
    }

    fn slow_word_end(input: &[u8], from: usize) -> usize {
        (from..input.len()).find(|&index| input[index] <= b' ').unwrap_or(input.len())
    }

    fn slow_space(text: &[u8]) -> usize {
        (0..text.len()).find(|&index| text[index] == b' ').unwrap_or(text.len())
    }

    /// All short inputs over the bytes that could be confused with LF, NUL and space.
    #[test]
    fn every_place_of_every_special_byte() {
        const SPECIAL: [u8; 12] = [0, 1, b'\n', 0x0b, 0x09, 0x1f, b' ', b'!', 0x80, 0x8a, 0xff, b'\r'];
        for length in 0..20 {
            for first in 0..length {
                for second in first..length {
                    for one in SPECIAL {
                        for two in SPECIAL {
                            let mut input = vec![b'a'; length];
                            input[first] = one;
                            input[second] = two;
                            assert_eq!(space(&input), slow_space(&input), "{input:?}");
                            for from in [0, first, second, length] {
                                assert_eq!(
                                    line_end(&input, from),
                                    slow_line_end(&input, from),
                                    "{input:?} {from}"
                                );
                                assert_eq!(
                                    word_end(&input, from),
                                    slow_word_end(&input, from),
                                    "{input:?} {from}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn beyond_the_end_is_nothing() {
        assert_eq!(line_end(b"\n", 2), None);
        assert_eq!(word_end(b" ", 1), 1);
    }
}
