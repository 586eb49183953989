//! Replies in their usual form, which what is expected stands at its place in: no search, one pass. The
//! functions of [`super::reply`] say the same of them, more slowly, and of all others.

use super::plain::{behind_line_end, usual, usual_if};
use super::reply::{Frame, ReplyLimits, value_frame};
use super::{number, scan};

/// The bytes of a whole `VALUE` of `key` at the start of `input`, from its line to the CR LF behind its data,
/// if it has its usual form. `None` leaves it to [`values`]. One pass without searching: what is expected
/// stands at its place.
#[inline]
pub fn value_hit(input: &[u8], key: &[u8], with_cas: bool) -> Option<usize> {
    match short_hit(input, key, with_cas) {
        Ok(found) => found,
        Err(Longer::Key) => long_hit(input, key, with_cas),
        Err(Longer::Numbers(numbers)) => long_end(input, numbers, with_cas),
    }
}

/// What is longer, or shorter, than the short way is made for.
enum Longer<'a> {
    Key,
    /// One of the numbers behind the key, with which these bytes begin.
    Numbers(&'a [u8]),
}

/// [`value_hit`] for keys of 8 to 32 bytes, flags of one digit and lengths of one to three. It calls nothing,
/// so that nothing has to be kept over a call.
#[inline(always)]
fn short_hit<'a>(input: &'a [u8], key: &[u8], with_cas: bool) -> Result<Option<usize>, Longer<'a>> {
    let Some((named, numbers)) = behind_verb(input).and_then(|rest| usual(rest.split_at_checked(key.len())))
    else {
        return Ok(None);
    };
    match scan::same_short(named, key) {
        Some(true) => {}
        Some(false) => return Ok(None),
        None => return Err(Longer::Key),
    }
    let Some((length, at)) = short_numbers(numbers) else { return Err(Longer::Numbers(numbers)) };
    let line = if with_cas { spaced_digits(numbers, at) } else { Some(at) };
    Ok(line.and_then(|line| data_end(input, numbers, line, length)))
}

/// [`value_hit`] for keys and numbers of any length.
#[inline(never)]
fn long_hit(input: &[u8], key: &[u8], with_cas: bool) -> Option<usize> {
    long_end(input, behind_verb(input)?.strip_prefix(key)?, with_cas)
}

/// The end of the value whose key has `numbers` behind it.
#[inline(never)]
fn long_end(input: &[u8], numbers: &[u8], with_cas: bool) -> Option<usize> {
    let (length, at) = long_numbers(numbers)?;
    let line = if with_cas { spaced_digits(numbers, at)? } else { at };
    data_end(input, numbers, line, length)
}

/// The bytes of `input` up to where the data ends. What follows the key is `numbers`, and `line` is where the
/// text of the line ends in there.
#[inline(always)]
fn data_end(input: &[u8], numbers: &[u8], line: usize, length: usize) -> Option<usize> {
    let behind = behind_line_end(usual(numbers.get(line..))?)?;
    let behind = behind_line_end(usual(behind.get(length..))?)?;
    Some(input.len() - behind.len())
}

/// The next value of an answer to a get, if its line has its usual form.
#[inline]
pub(super) fn plain_value(input: &[u8], limits: ReplyLimits) -> Option<Frame> {
    let rest = behind_verb(input)?;
    let (_key, numbers) = usual(rest.split_at_checked(scan::key_end(rest)))?;
    let (length, at) = flags_and_length(numbers)?;
    let with_cas = usual(numbers.get(at))? == &b' ';
    let line = if with_cas { spaced_digits(numbers, at)? } else { at };
    let behind = behind_line_end(usual(numbers.get(line..))?)?;
    let line = input.len() - behind.len();
    usual_if(line <= limits.line_max)?;
    Some(value_frame(input, line, length, with_cas, limits))
}

/// The bytes of a line that is the usual answer to a storage command.
#[inline]
pub(super) fn plain_line(input: &[u8]) -> Option<usize> {
    const STORED: &[u8; 8] = b"STORED\r\n";
    (input.first_chunk() == Some(STORED)).then_some(STORED.len())
}

/// The answer to a meta command if it is a code alone, or a value with a short length.
#[inline]
pub(super) fn plain_meta(input: &[u8], limits: ReplyLimits) -> Option<Frame> {
    let start = u32::from_le_bytes(*usual(input.first_chunk())?);
    if start == u32::from_le_bytes(*b"HD\r\n") || start == u32::from_le_bytes(*b"EN\r\n") {
        return Some(Frame::Line { total: 4 });
    }
    if start << 8 != u32::from_le_bytes(*b"\0VA ") {
        return None;
    }
    let (length, digits) = number::up_to_three(*input[3..].first_chunk()?)?;
    let at = 3 + digits;
    if !matches!(usual(input.get(at))?, b' ' | b'\r') {
        return None;
    }
    let flags = &input[at..];
    let behind = behind_line_end(usual(flags.get(scan::line_text(flags)..))?)?;
    let line = input.len() - behind.len();
    usual_if(line <= limits.line_max)?;
    Some(value_frame(input, line, length as usize, false, limits))
}

/// What follows `VALUE `.
#[inline]
fn behind_verb(input: &[u8]) -> Option<&[u8]> {
    let (start, rest) = usual(input.split_first_chunk::<6>())?;
    let [v, a, l, u, end @ ..] = *start;
    // Two comparisons, not one of six bytes put together.
    usual_if(u32::from_le_bytes([v, a, l, u]) == u32::from_le_bytes(*b"VALU"))?;
    usual_if(end == *b"E ")?;
    Some(rest)
}

/// The length in ` <flags> <length>`, and where it ends.
#[inline]
fn flags_and_length(text: &[u8]) -> Option<(usize, usize)> {
    match short_numbers(text) {
        Some(short) => Some(short),
        None => long_numbers(text),
    }
}

/// The same if the flags have one digit and the length has one to three.
#[inline]
fn short_numbers(text: &[u8]) -> Option<(usize, usize)> {
    // Two spaces, and a byte out of "0123456789:;<=>?" between them: as flags all of these are taken, as in
    // `values`.
    const SHAPE: u32 = u32::from_le_bytes([0xff, 0xf0, 0xff, 0]);
    const EXPECTED: u32 = u32::from_le_bytes([b' ', b'0', b' ', 0]);
    let text: &[u8; 8] = usual(text.first_chunk())?;
    usual_if(u32::from_le_bytes(*text.first_chunk()?) & SHAPE == EXPECTED)?;
    let (number, digits) = number::up_to_three(*text[3..].first_chunk()?)?;
    Some((number as usize, 3 + digits))
}

/// The same for fewer than 20 digits each.
#[inline]
fn long_numbers(text: &[u8]) -> Option<(usize, usize)> {
    let rest = text.get(spaced_digits(text, 0)?..)?;
    let (space, digits) = usual(rest.split_first())?;
    usual_if(*space == b' ')?;
    match digits.first_chunk().and_then(|digits| number::up_to_seven(*digits)) {
        Some((number, length)) => Some((number as usize, text.len() - digits.len() + length)),
        None => {
            let (number, behind) = leading_number(digits)?;
            Some((number, text.len() - behind.len()))
        }
    }
}

/// Where the number of fewer than 20 digits ends before which a space stands at `at`.
#[inline]
fn spaced_digits(text: &[u8], at: usize) -> Option<usize> {
    let (space, behind) = usual(usual(text.get(at..))?.split_first())?;
    usual_if(*space == b' ')?;
    let digits = number::leading_digits(behind);
    usual_if((1..20).contains(&digits))?;
    Some(at + 1 + digits)
}

/// The digits at the start of `text`, fewer than 20, and what follows them.
#[cold]
#[inline(never)]
fn leading_number(text: &[u8]) -> Option<(usize, &[u8])> {
    let (mut number, mut digits) = (0usize, 0);
    for &byte in text.iter().take(20) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        number = number.wrapping_mul(10).wrapping_add(usize::from(digit));
        digits += 1;
    }
    (1..20).contains(&digits).then(|| (number, &text[digits..]))
}

#[cfg(test)]
mod tests {
    use super::super::generate::{Random, mutate};
    use super::super::naive::reply as naive;
    use super::super::reply::{any_meta, any_values, line, line_end, meta, value_key, values};
    use super::*;

    const ROOMY: ReplyLimits = ReplyLimits { line_max: 16 << 10, value_max: 1 << 20 };

    /// A `VALUE` as memcached writes it.
    fn value(key: &[u8], numbers: &str, cas: &str, data: &[u8]) -> Vec<u8> {
        let line = format!(" {numbers} {}{cas}\r\n", data.len());
        [b"VALUE ", key, line.as_bytes(), data, b"\r\n"].concat()
    }

    /// Where [`value_hit`] finds something, the slow way finds the same.
    fn check_against_values(input: &[u8], key: &[u8], with_cas: bool) {
        let shown = input.escape_ascii();
        let Some(found) = value_hit(input, key, with_cas) else { return };
        assert_eq!(value_key(input), key, "{shown}");
        match any_values(input, ROOMY) {
            Frame::Value { total, with_cas: cas, .. } => {
                assert_eq!((total, cas), (found, with_cas), "{shown}");
            }
            other => panic!("{shown}: {other:?}"),
        }
    }

    #[test]
    fn usual_values_are_hits() {
        let cases = ["", " 1", " 1234567", " 12345678", " 123456789012345678", " 9999999999999999999"];
        for length in [1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 64, 249, 250] {
            let key: Vec<u8> = (0..length).map(|at| b'!' + (at % 90) as u8).collect();
            for (cas, flags) in cases.iter().flat_map(|cas| ["0", "9", "16", "4294967295"].map(|f| (cas, f)))
            {
                let with_cas = !cas.is_empty();
                for size in [0, 1, 9, 10, 99, 100, 101, 999, 1000, 1023, 9999, 10_000, 123_456] {
                    let mut answer = value(&key, flags, cas, &vec![b'x'; size]);
                    let total = answer.len();
                    assert_eq!(
                        value_hit(&answer, &key, with_cas),
                        Some(total),
                        "{length} {cas} {flags} {size}"
                    );
                    assert_eq!(value_hit(&answer, &key, !with_cas), None);
                    assert_eq!(value_hit(&answer, &key[1..], with_cas), None);
                    assert_eq!(value_hit(&answer[..total - 1], &key, with_cas), None);
                    answer.extend_from_slice(b"END\r\n");
                    check_against_values(&answer, &key, with_cas);
                }
            }
        }
    }

    /// One key that differs in one byte is another one.
    #[test]
    fn every_byte_of_a_key_counts() {
        for length in (1..70).chain([250]) {
            let key = vec![b'k'; length];
            let answer = value(&key, "0", "", b"x");
            for at in 0..length {
                let mut other = key.clone();
                other[at] ^= 1;
                assert_eq!(value_hit(&answer, &other, false), None, "byte {at} of {length}");
            }
        }
    }

    /// A reply in its usual form, and often not quite.
    fn reply(random: &mut Random) -> Vec<u8> {
        let data = vec![b'v'; [0, 1, 9, 10, 99, 100, 999, 1000][random.below(8)]];
        let flags = random.pick(&[" 0", " 7", " 16", " 4294967295", " :"]);
        let cas = random.pick(&["", "", " 1", " 12345678", " 18446744073709551615"]);
        let words = random.pick(&["", " s100 t-1", " k0123456789 O1 f30 c77 W", " b"]);
        let line = match random.below(4) {
            0 => format!("VA {}{words}", data.len()),
            1 => random.pick(&["STORED", "NOT_STORED", "HD", "EN", "HD f30", "NS", "END"]).to_string(),
            _ => format!("VALUE {}{flags} {}{cas}", "k".repeat(random.below(40)), data.len()),
        };
        let mut reply = line.into_bytes();
        reply.extend_from_slice(b"\r\n");
        if reply.starts_with(b"V") {
            reply.extend_from_slice(&data);
            reply.extend_from_slice(b"\r\n");
        }
        if random.once_in(2) {
            mutate(random, &mut reply);
        }
        if random.once_in(3) {
            reply.truncate(random.below(reply.len() + 1));
        }
        reply
    }

    /// What the short ways say, the long ones say too.
    #[test]
    fn usual_replies_are_what_the_slow_way_says() {
        let mut usual = [0; 3];
        for seed in 0..200_000 {
            let mut random = Random::new(seed);
            let input = reply(&mut random);
            let limits = ReplyLimits { line_max: 8 + random.below(80), value_max: random.below(1500) };
            let shown = format!("seed {seed}: \"{}\" {limits:?}", input.escape_ascii());
            assert_eq!(values(&input, limits), naive::values(&input, limits), "{shown}");
            assert_eq!(meta(&input, &[], limits), naive::meta(&input, &[], limits), "{shown}");
            assert_eq!(line(&input, limits), naive::line(&input, limits), "{shown}");
            let found = [
                plain_value(&input, limits).map(|frame| (frame, any_values(&input, limits))),
                plain_meta(&input, limits).map(|frame| (frame, any_meta(&input, &[], limits))),
                plain_line(&input).map(|total| (Ok(total), line_end(&input, limits))).map(|(one, other)| {
                    let frame = |end: Result<usize, Frame>| {
                        end.map_or_else(|frame| frame, |total| Frame::Line { total })
                    };
                    (frame(one), frame(other))
                }),
            ];
            for (count, (short, long)) in
                usual.iter_mut().zip(found).filter_map(|(count, both)| Some((count, both?)))
            {
                *count += 1;
                assert_eq!(short, long, "{shown}");
            }
        }
        assert!(usual.iter().all(|&count| count > 3_000), "{usual:?} were usual");
    }

    #[test]
    fn a_hit_is_what_values_and_end_say() {
        for key in [&b"key"[..], b"a_key_of_some_31_bytes_and_no_sp"] {
            for (cas, with_cas) in
                [("", false), (" 1", true), (" 12345678", true), (" 9999999999999999999", true)]
            {
                for data in [&b""[..], b"x", b"12\r\n", b"\r\nEND\r\n", b"VALUE key 7 1\r\nx\r\nEND\r\n"] {
                    let mut answer = value(key, "7", cas, data);
                    answer.extend_from_slice(b"END\r\n");
                    for cut in 0..answer.len() {
                        check_against_values(&answer[..cut], key, with_cas);
                    }
                    alter_and_check(&answer, key, with_cas);
                }
            }
        }
    }

    /// Every byte in every place, and every pair of those that mean something in neighbouring places.
    fn alter_and_check(answer: &[u8], key: &[u8], with_cas: bool) {
        let mut altered = answer.to_vec();
        for at in 0..answer.len() {
            for byte in 0..=255 {
                altered[at] = byte;
                check_against_values(&altered, key, with_cas);
            }
            for one in *b"09: \r\n" {
                for other in *b"09: \r\n" {
                    altered[at] = one;
                    if let Some(next) = altered.get_mut(at + 1) {
                        *next = other;
                    }
                    check_against_values(&altered, key, with_cas);
                }
            }
            altered.copy_from_slice(answer);
        }
    }
}
