//! What of a key is hashed.

/// Which part of a key is hashed. By default the whole key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HashedPart {
    /// Left out if the key begins with it: a client's prefix that the client does not hash.
    pub prefix: Vec<u8>,
    /// If there, only what stands between these two bytes is hashed, by twemproxy's rule: from the first of
    /// the opening ones to the next closing one, with at least one byte between; else all.
    pub tag: Option<[u8; 2]>,
}

impl HashedPart {
    /// Whether every key is hashed whole.
    pub fn is_whole(&self) -> bool {
        self.prefix.is_empty() && self.tag.is_none()
    }

    /// The hashed part of `key`.
    pub fn of<'a>(&self, key: &'a [u8]) -> &'a [u8] {
        let key = key.strip_prefix(&self.prefix[..]).unwrap_or(key);
        self.tag.and_then(|tag| tagged(key, tag)).unwrap_or(key)
    }
}

fn tagged(key: &[u8], [open, close]: [u8; 2]) -> Option<&[u8]> {
    let start = key.iter().position(|&byte| byte == open)? + 1;
    let bytes = key[start..].iter().position(|&byte| byte == close)?;
    (bytes > 0).then(|| &key[start..start + bytes])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_found_as_twemproxy_finds_them() {
        let table: [(&str, &str); 10] = [
            ("user:{42}:name", "42"),
            ("{a}{b}", "a"),
            ("}{a}", "a"),
            ("{{a}}", "{a"),
            ("a{}b", "a{}b"),
            ("a{}{b}", "a{}{b}"),
            ("a{b", "a{b"),
            ("a}b", "a}b"),
            ("{", "{"),
            ("", ""),
        ];
        let part = HashedPart { prefix: Vec::new(), tag: Some(*b"{}") };
        for (key, expected) in table {
            assert_eq!(part.of(key.as_bytes()), expected.as_bytes(), "{key}");
        }
        // One character may be both.
        let part = HashedPart { prefix: Vec::new(), tag: Some(*b"::") };
        assert_eq!(part.of(b"a:b:c"), b"b");
        assert_eq!(part.of(b"a::c"), b"a::c");
    }

    #[test]
    fn a_prefix_is_left_out_once_and_before_the_tag() {
        let part = HashedPart { prefix: b"app{1}:".to_vec(), tag: Some(*b"{}") };
        assert_eq!(part.of(b"app{1}:x{2}"), b"2");
        assert_eq!(part.of(b"app{1}:x"), b"x");
        assert_eq!(part.of(b"app{1}:"), b"");
        assert_eq!(part.of(b"app{1}"), b"1");
        let part = HashedPart { prefix: b"p:".to_vec(), tag: None };
        assert_eq!(part.of(b"p:p:key"), b"p:key");
        assert_eq!(part.of(b"key"), b"key");
        assert!(!part.is_whole() && HashedPart::default().is_whole());
    }
}
