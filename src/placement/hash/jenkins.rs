//! Bob Jenkins' lookup3 (`hashlittle`, May 2006, public domain).

/// What libmemcached and twemproxy start it with.
const START: u32 = 13;

/// lookup3 as libmemcached and twemproxy start it.
pub(super) fn jenkins(key: &[u8]) -> u32 {
    hashlittle(key, START)
}

fn hashlittle(key: &[u8], start: u32) -> u32 {
    let first = 0xdead_beef_u32.wrapping_add(key.len() as u32).wrapping_add(start);
    let mut state = [first; 3];
    if key.is_empty() {
        return first;
    }
    // The last block is mixed in another way, even when it is whole.
    let (blocks, last) = key.split_at((key.len() - 1) / 12 * 12);
    for block in blocks.as_chunks::<12>().0 {
        add(&mut state, block);
        mix(&mut state);
    }
    let mut block = [0; 12];
    block[..last.len()].copy_from_slice(last);
    add(&mut state, &block);
    finish(state)
}

fn add(state: &mut [u32; 3], block: &[u8; 12]) {
    for (word, bytes) in state.iter_mut().zip(block.as_chunks().0) {
        *word = word.wrapping_add(u32::from_le_bytes(*bytes));
    }
}

fn mix([a, b, c]: &mut [u32; 3]) {
    let step = |x: &mut u32, y: &mut u32, z: &mut u32, turn| {
        *x = x.wrapping_sub(*z) ^ z.rotate_left(turn);
        *z = z.wrapping_add(*y);
    };
    step(a, b, c, 4);
    step(b, c, a, 6);
    step(c, a, b, 8);
    step(a, b, c, 16);
    step(b, c, a, 19);
    step(c, a, b, 4);
}

fn finish([mut a, mut b, mut c]: [u32; 3]) -> u32 {
    let step = |x: &mut u32, y: u32, turn| *x = (*x ^ y).wrapping_sub(y.rotate_left(turn));
    step(&mut c, b, 14);
    step(&mut a, c, 11);
    step(&mut b, a, 25);
    step(&mut c, b, 16);
    step(&mut a, c, 4);
    step(&mut b, a, 14);
    step(&mut c, b, 24);
    c
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the driver in Jenkins' lookup3.c.
    #[test]
    fn hashes_are_those_of_its_author() {
        assert_eq!(hashlittle(b"", 0), 0xdead_beef);
        assert_eq!(hashlittle(b"", 0xdead_beef), 0xbd5b_7dde);
        assert_eq!(hashlittle(b"Four score and seven years ago", 0), 0x1777_0551);
        assert_eq!(hashlittle(b"Four score and seven years ago", 1), 0xcd62_8161);
    }
}
