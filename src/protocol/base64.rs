//! Base64 keys, decoded as memcached decodes them: the key that decides the backend must be the one that the
//! backend stores. Its decoder is lenient, so this one is lenient in the same places.

/// Decodes `text` into `out` and gives the bytes written: never none. `None` where memcached cannot decode,
/// and where `out` is too short for `text`.
///
/// After memcached's base64.c: bytes outside the alphabet are skipped, the others must come in fours; the
/// first four with a `=` in it end the text, whatever follows; `=` counts as zero bits wherever it stands,
/// and its number in the four (1 or 2) is the number of bytes that the four have less.
pub fn decode<'s>(text: &[u8], out: &'s mut [u8]) -> Option<&'s [u8]> {
    let count = text.iter().filter(|&&byte| SEXTETS[usize::from(byte)] != SKIPPED).count();
    if count == 0 || !count.is_multiple_of(4) || count / 4 * 3 > out.len() {
        return None;
    }
    let (mut bits, mut symbols, mut padding, mut written) = (0u32, 0, 0, 0);
    for &byte in text {
        let sextet = SEXTETS[usize::from(byte)];
        if sextet == SKIPPED {
            continue;
        }
        padding += usize::from(byte == b'=');
        bits = bits << 6 | u32::from(sextet);
        symbols += 1;
        if symbols % 4 == 0 {
            let [_, decoded @ ..] = bits.to_be_bytes();
            out[written..written + 3].copy_from_slice(&decoded);
            written += 3;
            match padding {
                0 => {}
                1 | 2 => return Some(&out[..written - padding]),
                _ => return None,
            }
        }
    }
    Some(&out[..written])
}

/// Stands for a byte outside the alphabet.
const SKIPPED: u8 = 0x80;

/// The six bits of each byte.
const SEXTETS: [u8; 256] = {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut sextets = [SKIPPED; 256];
    let mut index = 0;
    while index < alphabet.len() {
        sextets[alphabet[index] as usize] = index as u8;
        index += 1;
    }
    sextets[b'=' as usize] = 0;
    sextets
};

#[cfg(test)]
mod tests {
    use super::*;

    /// What memcached 1.6.18 said to `ms KEY 1 b` and then to `mg KEY b k`, its answer decoded by hand.
    #[test]
    fn decodes_what_memcached_decodes() {
        let table: &[(&[u8], Option<&[u8]>)] = &[
            (b"YWJj", Some(b"abc")),
            (b"YWI=", Some(b"ab")),
            (b"YQ==", Some(b"a")),
            (b"YWJ", None),
            (b"YWI", None),
            (b"YQ=", None),
            (b"A", None),
            (b"", None),
            (b"*", None),
            (b"Y===", None),
            (b"====", None),
            (b"YWJj====", None),
            (b"YWJj=", None),
            (b"YWJjY===", None),
            (b"=A==", None),
            (b"YW*Jj", Some(b"abc")),
            (b"*Y*W*J*j*", Some(b"abc")),
            (b"YWJj-_", Some(b"abc")),
            (b"\xff\xfeYWJj", Some(b"abc")),
            (b"YWI=YWJj", Some(b"ab")),
            (b"YWJjYQ==junk", Some(b"abca")),
            (b"YR==", Some(b"a")),
            (b"Y=Jj", Some(b"\x60\x02")),
            (b"Y=J=", Some(b"\x60")),
            (b"=YWJ", Some(b"\x01\x85")),
            (b"==YW", Some(b"\x00")),
            (b"A=A=", Some(b"\x00")),
        ];
        for &(text, expected) in table {
            assert_eq!(decode(text, &mut [0; 256]), expected, "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn the_longest_key_fits_and_a_longer_text_is_no_panic() {
        assert_eq!(decode(&[b'A'; 248], &mut [1; 256]), Some(&[0u8; 186][..]));
        assert_eq!(decode(&[b'A'; 400], &mut [1; 256]), None);
    }
}
