//! Base64 as memcached 1.6.18 reads and writes it in keys (its base64.c): padded, and what is no letter of the
//! alphabet is passed over.

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends `bytes` in base64.
pub(super) fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    for group in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for letter in 0..4 {
            let index = (bits >> (18 - 6 * letter)) & 63;
            out.push(if letter > group.len() { b'=' } else { LETTERS[index as usize] });
        }
    }
}

/// Decodes `text` into `room`. `None` where memcached refuses it, and where nothing comes out or it does not fit.
pub(super) fn decode<'a>(text: &[u8], room: &'a mut [u8]) -> Option<&'a [u8]> {
    let known = text.iter().filter(|&&byte| value(byte).is_some()).count();
    if known == 0 || known % 4 != 0 {
        return None;
    }
    let mut len = 0;
    let mut group = [0; 4];
    let (mut filled, mut padding) = (0, 0);
    for &byte in text {
        let Some(value) = value(byte) else { continue };
        padding += usize::from(byte == b'=');
        group[filled] = value;
        filled += 1;
        if filled < 4 {
            continue;
        }
        filled = 0;
        let bits = group.iter().fold(0u32, |bits, &value| bits << 6 | u32::from(value));
        room.get_mut(len..len + 3)?.copy_from_slice(&bits.to_be_bytes()[1..]);
        len += 3;
        if padding > 2 {
            return None;
        }
        if padding > 0 {
            // What follows the padding is not looked at.
            len -= padding;
            break;
        }
    }
    (len > 0).then_some(&room[..len])
}

/// Padding counts as a letter that stands for zero.
fn value(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        b'=' => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4648, section 10.
    const VECTORS: &[(&str, &str)] = &[
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ];

    #[test]
    fn agrees_with_the_vectors_of_rfc_4648() {
        for (plain, encoded) in VECTORS {
            let mut out = Vec::new();
            encode(plain.as_bytes(), &mut out);
            assert_eq!(out, encoded.as_bytes());
            assert_eq!(decode(encoded.as_bytes(), &mut [0; 256]), Some(plain.as_bytes()));
        }
    }

    #[test]
    fn refuses_what_memcached_refuses() {
        let refused: [&[u8]; 6] = [b"", b"***", b"a", b"abc", b"a===", b"===="];
        for text in refused {
            assert_eq!(decode(text, &mut [0; 256]), None, "{}", text.escape_ascii());
        }
        assert_eq!(decode(b"Y*Q=-=", &mut [0; 256]), Some(&b"a"[..]));
        assert_eq!(decode(b"Zm9v", &mut [0; 2]), None);
    }
}
