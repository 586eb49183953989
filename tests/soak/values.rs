//! Values that say whose they are: of which key, by which writer, and which of its versions. Each bit of a value
//! follows from that and from its size, so one that was crossed, mixed or cut is known at once.

/// The least that a value needs, bytes: writer, key, version and what checks them.
pub(crate) const SIZE_MIN: usize = 10;

/// The largest that are stored, bytes.
pub(crate) const SIZE_MAX: usize = 900_000;

/// Which key: its writer, and its number among that one's keys.
pub(crate) type Key = (usize, usize);

/// A version of a key. Versions of a key are counted from 1.
pub(crate) fn compose((writer, number): Key, version: u64, size: usize) -> Vec<u8> {
    let mut value = Vec::with_capacity(size.max(SIZE_MIN) + 8);
    value.push(u8::try_from(writer).expect("few writers"));
    value.push(u8::try_from(number).expect("few keys"));
    value.extend_from_slice(&version.to_be_bytes()[2..]);
    let mixed = mixed((writer, number), version, size);
    value.extend_from_slice(&mixed.to_be_bytes()[6..]);
    let mut word = mixed;
    while value.len() < size {
        word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(mixed | 1);
        value.extend_from_slice(&word.to_le_bytes());
    }
    value.truncate(size.max(SIZE_MIN));
    value
}

/// The flags that are stored with it.
pub(crate) fn flags(key: Key, version: u64) -> u32 {
    (mixed(key, version, 0) >> 20) as u32
}

/// The version of `value`, if it is one of `key`, whole, with its own flags.
pub(crate) fn version_of(key: Key, value: &[u8], its_flags: u32) -> Result<u64, String> {
    let Some(&[writer, number, ref version @ .., _, _]) = value.first_chunk::<SIZE_MIN>() else {
        return Err(format!("a value of {} bytes, which nobody stores", value.len()));
    };
    let said = (usize::from(writer), usize::from(number));
    let version = version.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    if said != key {
        return Err(format!("a value of key {said:?}, its version {version}, of {} bytes", value.len()));
    }
    let right = compose(key, version, value.len());
    if let Some(at) = right.iter().zip(value).position(|(one, other)| one != other) {
        return Err(format!("version {version} of {} bytes, which is wrong from byte {at} on", value.len()));
    }
    match its_flags == flags(key, version) {
        true => Ok(version),
        false => Err(format!("version {version} with the flags {its_flags} of another")),
    }
}

/// SplitMix64's last steps (Steele, Lea and Flood 2014) over all that a value depends on.
fn mixed((writer, number): Key, version: u64, size: usize) -> u64 {
    let key = (writer as u64) << 8 | number as u64;
    let mut mixed = (version << 16 | key) ^ (size as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[test]
fn canary_another_keys_value_and_a_spoilt_one_are_found() {
    for size in [10, 11, 200, 5000, SIZE_MAX] {
        let value = compose((3, 7), 12, size);
        assert_eq!(value.len(), size);
        let check = |key, value: &[u8]| version_of(key, value, flags((3, 7), 12));
        assert_eq!(check((3, 7), &value), Ok(12));
        assert!(check((3, 6), &value).is_err_and(|error| error.contains("(3, 7)")));
        assert!(check((2, 7), &value).is_err_and(|error| error.contains("(3, 7)")));
        assert!(version_of((3, 7), &value, flags((3, 7), 11)).is_err_and(|error| error.contains("flags")));
        // Any byte that is wrong, one that is missing, one too many.
        for at in [0, 1, 7, 9, size / 2, size - 1] {
            let mut spoilt = value.clone();
            spoilt[at] ^= 1;
            assert!(check((3, 7), &spoilt).is_err(), "byte {at} of {size}");
        }
        assert!(check((3, 7), &value[..size - 1]).is_err(), "{size} cut");
        assert!(check((3, 7), &[&value[..], b"x"].concat()).is_err(), "{size} and one more");
        // The end of another version.
        let other = compose((3, 7), 13, size);
        let mixture = [&value[..size / 2], &other[size / 2..]].concat();
        assert!(check((3, 7), &mixture).is_err(), "two versions of {size} bytes");
    }
}
