//! memcached's numbers (util.c).

/// C's strtol and strtoul, in a type that holds any sum of both: the number, if white space or the token's
/// end follows it.
fn number(token: &[u8]) -> Option<(bool, u128)> {
    let is_space = |byte: u8| b" \t\n\x0b\x0c\r".contains(&byte);
    let mut rest = token.to_vec();
    while !rest.is_empty() && is_space(rest[0]) {
        rest.remove(0);
    }
    let negative = rest.first() == Some(&b'-');
    if negative || rest.first() == Some(&b'+') {
        rest.remove(0);
    }
    let mut digits = String::new();
    while !rest.is_empty() && rest[0].is_ascii_digit() {
        digits.push(rest.remove(0) as char);
    }
    if digits.is_empty() || !(rest.is_empty() || is_space(rest[0])) {
        return None;
    }
    let digits = digits.trim_start_matches('0');
    if digits.len() > 30 {
        return None;
    }
    Some((negative, if digits.is_empty() { 0 } else { digits.parse().unwrap() }))
}

pub(super) fn safe_strtoull(token: &[u8]) -> Option<u64> {
    let (negative, magnitude) = number(token)?;
    if magnitude > u64::MAX as u128 {
        return None;
    }
    if !negative {
        return Some(magnitude as u64);
    }
    let wrapped = if magnitude == 0 { 0 } else { (1u128 << 64) - magnitude };
    if wrapped >= 1u128 << 63 { None } else { Some(wrapped as u64) }
}

pub(super) fn safe_strtoul(token: &[u8]) -> Option<u32> {
    safe_strtoull(token).map(|number| (number % (1 << 32)) as u32)
}

pub(super) fn safe_strtol(token: &[u8]) -> Option<i32> {
    let (negative, magnitude) = number(token)?;
    let signed = if negative { -(magnitude as i128) } else { magnitude as i128 };
    if signed < i64::MIN as i128 || signed > i64::MAX as i128 {
        return None;
    }
    // What an int keeps of a long.
    let low = signed.rem_euclid(1 << 32);
    Some(if low < 1 << 31 { low as i32 } else { (low - (1 << 32)) as i32 })
}
