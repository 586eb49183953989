//! Numbers as memcached 1.6.18 reads them, and as we write them.
//!
//! It reads with C's strtoul and its kin (util.c: safe_strtoul, safe_strtol, safe_strtoull), so white space
//! and a sign may lead, and white space that is no separator of tokens (a TAB) ends the number: what follows
//! it is not looked at. Its `unsigned long` and `long` have 64 bits.

use std::hint::cold_path;

/// Reads an unsigned number and keeps its low 32 bits, as memcached does with client flags (2^32 reads as 0).
pub fn low_u32(token: &[u8]) -> Option<u32> {
    u64(token).map(|number| number as u32)
}

/// Reads a number with sign and keeps its low 32 bits: expiry times and lengths. What does not fit a `long`
/// is refused; what does not fit an `int` wraps.
#[inline]
pub fn low_i32(token: &[u8]) -> Option<i32> {
    if let Some(number) = few_digits(token) {
        return i64::try_from(number).ok().map(|number| number as i32);
    }
    let number = Number::read(token)?;
    let magnitude = i128::from(number.magnitude);
    i64::try_from(if number.negative { -magnitude } else { magnitude }).ok().map(|number| number as i32)
}

/// Reads an unsigned number of 64 bits: CAS tokens and deltas. One with a minus wraps round as in C and is
/// refused only if what comes out has its top bit set.
#[inline]
pub fn u64(token: &[u8]) -> Option<u64> {
    if let Some(number) = few_digits(token) {
        return Some(number);
    }
    let number = Number::read(token)?;
    if !number.negative {
        return Some(number.magnitude);
    }
    let wrapped = number.magnitude.wrapping_neg();
    (wrapped >> 63 == 0).then_some(wrapped)
}

/// Reads 1 to 20 digits and nothing else: the numbers in a reply. `None` above 2^64 - 1.
#[inline]
pub fn digits(token: &[u8]) -> Option<u64> {
    if let Some(number) = few_digits(token) {
        return Some(number);
    }
    if token.is_empty() || token.len() > DECIMAL_MAX || !token.iter().all(u8::is_ascii_digit) {
        return None;
    }
    token.iter().try_fold(0u64, |number, &digit| with_digit(number, digit))
}

/// The number of one to three digits that `text` begins with, and how many they are. `None` where it begins
/// with four or with none.
#[inline]
pub fn up_to_three(text: [u8; 4]) -> Option<(u32, usize)> {
    let digits = u32::from_le_bytes(text) ^ u32::from_le_bytes(*b"0000");
    // A byte above 9 sets its top bit here: by the sum, or by itself. The lowest such mark is right.
    let others = (digits.wrapping_add(0x7676_7676) | digits) & 0x8080_8080;
    if others == 0 || others & 0x80 != 0 {
        cold_path();
        return None;
    }
    // The last digit goes to byte 6, with zeros before the first; then they are added up in pairs.
    let top = others.trailing_zeros();
    let digits = u64::from(digits).wrapping_shl(!top);
    let pairs = (digits.wrapping_mul(1 + (10 << 8)) >> 32) as u32 & 0x00ff_00ff;
    let number = pairs.wrapping_mul(1 + (100 << 16)) >> 16;
    Some((number, (top / 8) as usize))
}

/// The same for one to seven digits.
#[inline]
pub fn up_to_seven(text: [u8; 8]) -> Option<(u32, usize)> {
    let digits = u64::from_le_bytes(text) ^ u64::from_le_bytes(*b"00000000");
    let others = digits_end(digits);
    if others == 0 || others & 0x80 != 0 {
        cold_path();
        return None;
    }
    // The last digit goes to the top byte; then pairs, pairs of pairs, and the two halves are added up.
    let top = others.trailing_zeros();
    let digits = digits << (71 - top);
    let pairs = (digits.wrapping_mul(1 + (10 << 8)) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(1 + (100 << 16)) >> 16) & 0x0000_ffff_0000_ffff;
    let number = fours.wrapping_mul(1 + (10_000 << 32)) >> 32;
    Some((number as u32, (top / 8) as usize))
}

/// How many digits `text` begins with.
#[inline]
pub fn leading_digits(text: &[u8]) -> usize {
    let mut rest = text;
    while let Some((bytes, behind)) = rest.split_first_chunk() {
        let others = digits_end(u64::from_le_bytes(*bytes) ^ u64::from_le_bytes(*b"00000000"));
        if others != 0 {
            return text.len() - rest.len() + (others.trailing_zeros() / 8) as usize;
        }
        rest = behind;
    }
    text.len() - rest.len() + rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Marks the bytes of `digits` that are above 9 in their top bits: by a sum, or as they are. The lowest mark
/// is right.
#[inline]
fn digits_end(digits: u64) -> u64 {
    (digits.wrapping_add(0x7676_7676_7676_7676) | digits) & 0x8080_8080_8080_8080
}

/// Most bytes that [`Decimal`] writes.
pub const DECIMAL_MAX: usize = 20;

/// A number written in decimal digits, without an allocation.
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    bytes: [u8; DECIMAL_MAX],
    start: usize,
}

impl Decimal {
    /// Writes `number`.
    pub fn new(mut number: u64) -> Self {
        let mut bytes = [b'0'; DECIMAL_MAX];
        let mut start = DECIMAL_MAX;
        loop {
            start -= 1;
            bytes[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return Decimal { bytes, start };
            }
        }
    }

    /// Writes `number`, with a minus if it has one.
    pub fn signed(number: i32) -> Self {
        let mut decimal = Decimal::new(u64::from(number.unsigned_abs()));
        if number < 0 {
            decimal.start -= 1;
            decimal.bytes[decimal.start] = b'-';
        }
        decimal
    }

    /// The digits.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// What C's isspace says in the C locale, that memcached runs in.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// The usual token: 1 to 19 digits, too few to overflow.
#[inline]
fn few_digits(token: &[u8]) -> Option<u64> {
    if token.is_empty() || token.len() >= DECIMAL_MAX {
        return None;
    }
    let mut number = 0u64;
    for &byte in token {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + u64::from(digit);
    }
    Some(number)
}

fn with_digit(number: u64, digit: u8) -> Option<u64> {
    number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
}

/// What strtoul and strtol read before they look at the sign.
struct Number {
    negative: bool,
    magnitude: u64,
}

impl Number {
    /// `None` where there is no digit, where they would set ERANGE, and where neither the token's end nor
    /// white space follows.
    #[cold]
    fn read(token: &[u8]) -> Option<Number> {
        let start = token.iter().position(|&byte| !is_space(byte))?;
        let (negative, unsigned) = match token[start] {
            b'-' => (true, &token[start + 1..]),
            b'+' => (false, &token[start + 1..]),
            _ => (false, &token[start..]),
        };
        let count = unsigned.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(unsigned.len());
        if count == 0 || unsigned.get(count).is_some_and(|&byte| !is_space(byte)) {
            return None;
        }
        let magnitude =
            unsigned[..count].iter().try_fold(0u64, |number, &digit| with_digit(number, digit))?;
        Some(Number { negative, magnitude })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Token, and what safe_strtoul, safe_strtol and safe_strtoull make of it.
    type Row = (&'static str, Option<u32>, Option<i32>, Option<u64>);

    const TABLE: &[Row] = &[
        ("", None, None, None),
        ("0", Some(0), Some(0), Some(0)),
        ("7", Some(7), Some(7), Some(7)),
        ("007", Some(7), Some(7), Some(7)),
        ("+7", Some(7), Some(7), Some(7)),
        ("-7", None, Some(-7), None),
        ("-0", Some(0), Some(0), Some(0)),
        ("+-7", None, None, None),
        ("--7", None, None, None),
        ("-", None, None, None),
        ("+", None, None, None),
        ("\t7", Some(7), Some(7), Some(7)),
        ("\x0b\x0c\r\t-7", None, Some(-7), None),
        ("7\t", Some(7), Some(7), Some(7)),
        ("7\tjunk", Some(7), Some(7), Some(7)),
        ("7\rx", Some(7), Some(7), Some(7)),
        ("7x", None, None, None),
        ("x7", None, None, None),
        ("7.5", None, None, None),
        ("0x10", None, None, None),
        ("\t", None, None, None),
        ("- 7", None, None, None),
        ("2147483647", Some(2147483647), Some(i32::MAX), Some(2147483647)),
        ("2147483648", Some(2147483648), Some(i32::MIN), Some(2147483648)),
        ("-2147483648", None, Some(i32::MIN), None),
        ("-2147483649", None, Some(i32::MAX), None),
        ("4294967295", Some(u32::MAX), Some(-1), Some(4294967295)),
        ("4294967296", Some(0), Some(0), Some(4294967296)),
        ("4294967301", Some(5), Some(5), Some(4294967301)),
        ("-4294967291", None, Some(5), None),
        ("9223372036854775807", Some(u32::MAX), Some(-1), Some(9223372036854775807)),
        ("9223372036854775808", Some(0), None, Some(9223372036854775808)),
        ("18446744073709551615", Some(u32::MAX), None, Some(u64::MAX)),
        ("18446744073709551616", None, None, None),
        ("-18446744073709551615", Some(1), None, Some(1)),
        ("-18446744073709551616", None, None, None),
        ("-9223372036854775808", None, Some(0), None),
        ("-9223372036854775809", Some(2147483647 + (1 << 31)), None, Some(9223372036854775807)),
        ("00000000000000000000000000000000000000000001", Some(1), Some(1), Some(1)),
        ("99999999999999999999999999999999999999999999", None, None, None),
    ];

    #[test]
    fn reads_what_memcached_reads() {
        for &(token, unsigned, signed, long) in TABLE {
            let bytes = token.as_bytes();
            assert_eq!(low_u32(bytes), unsigned, "safe_strtoul({token:?})");
            assert_eq!(low_i32(bytes), signed, "safe_strtol({token:?})");
            assert_eq!(u64(bytes), long, "safe_strtoull({token:?})");
        }
    }

    #[test]
    fn digits_are_only_digits() {
        for (token, expected) in [
            ("0", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("000000000000000000000", None),
            ("", None),
            ("+1", None),
            (" 1", None),
            ("1 ", None),
            ("1\t", None),
            ("-1", None),
        ] {
            assert_eq!(digits(token.as_bytes()), expected, "{token:?}");
        }
    }

    /// All that four bytes can be, out of those around the digits; and the same behind other digits.
    #[test]
    fn one_to_three_digits_and_one_to_seven() {
        const BYTES: [u8; 15] = *b"0159/: \r\x00\x7f\x80\x90\xb0\xb9\xff";
        for index in 0..BYTES.len().pow(4) {
            let text = [1, 15, 225, 3375].map(|place| BYTES[index / place % BYTES.len()]);
            let read = |text: &[u8], most: usize| {
                let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
                (1..=most).contains(&count).then(|| (digits(&text[..count]).unwrap() as u32, count))
            };
            assert_eq!(up_to_three(text), read(&text, 3), "{}", text.escape_ascii());
            for other in [*b"    ", *b"9876", *b"\xff\xff\xff\xff"] {
                for both in [[text, other], [other, text]] {
                    let both: [u8; 8] = *both.concat().first_chunk().unwrap();
                    let expected = read(&both, 7);
                    assert_eq!(up_to_seven(both), expected, "{}", both.escape_ascii());
                    for behind in [&b""[..], b"1", b"1234567x", b"12345678x"] {
                        let text = [&both[..], behind].concat();
                        let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
                        assert_eq!(leading_digits(&text), count, "{}", text.escape_ascii());
                    }
                }
            }
        }
        for number in (0..1000).chain([9_999, 10_000, 99_999, 123_456, 9_999_999]) {
            for text in [format!("{number}        "), format!("{number:03} {number}    ")] {
                let length = text.find(' ').unwrap();
                let start = *text.as_bytes().first_chunk().unwrap();
                assert_eq!(up_to_three(start), (length < 4).then_some((number, length)));
                assert_eq!(up_to_seven(*text.as_bytes().first_chunk().unwrap()), Some((number, length)));
            }
        }
    }

    #[test]
    fn writes_what_format_writes() {
        for number in [0, 1, 9, 10, 99, 1 << 31, 1 << 32, u64::MAX - 1, u64::MAX] {
            assert_eq!(Decimal::new(number).as_bytes(), number.to_string().as_bytes());
        }
        for number in [0, 1, -1, i32::MAX, i32::MIN] {
            assert_eq!(Decimal::signed(number).as_bytes(), number.to_string().as_bytes());
        }
    }
}
