//! What each operation does to items, tokens, times and the count of bytes.

use super::*;

const START: Clock = Clock(1_700_000_000);
const ROOM: usize = 1 << 20;

fn after(seconds: u64) -> Clock {
    Clock(START.0 + seconds)
}

fn store() -> Store {
    Store::new(ROOM, START)
}

fn plain<'a>(mode: Mode, key: &'a [u8], value: &'a [u8]) -> Put<'a> {
    Put { mode, key, value, flags: 0, exptime: 0, cas: 0, base64: false, stale: false }
}

fn set(store: &mut Store, key: &[u8], value: &[u8], clock: Clock) -> u64 {
    match store.put(&plain(Mode::Set, key, value), clock) {
        Ok(Outcome::Stored(cas)) => cas,
        other => panic!("{other:?}"),
    }
}

fn value(store: &mut Store, key: &[u8], clock: Clock) -> Option<Vec<u8>> {
    store.get(key, clock).map(|item| item.value.to_vec())
}

#[test]
fn tokens_count_from_one_and_move_with_each_write() {
    let mut store = store();
    assert_eq!(set(&mut store, b"a", b"1", START), 1);
    assert_eq!(set(&mut store, b"b", b"1", START), 2);
    assert!(matches!(store.arithmetic(b"a", false, 1, 0, START), Delta::Done { value: 2, cas: 3, .. }));
    assert!(store.touch(b"a", 100, START));
    assert_eq!(store.put(&plain(Mode::Add, b"a", b"1"), START), Ok(Outcome::NotStored));
    assert_eq!(store.get(b"a", START).unwrap().cas, 3);
    assert_eq!(store.mark_stale(b"a", None, None, START), Deleted::Done);
    assert_eq!(store.get(b"a", START).unwrap().cas, 4);
}

#[test]
fn a_token_is_good_once() {
    let mut store = store();
    let cas = set(&mut store, b"a", b"1", START);
    let put = Put { cas, ..plain(Mode::Cas, b"a", b"2") };
    assert_eq!(store.put(&put, START), Ok(Outcome::Stored(2)));
    assert_eq!(store.put(&put, START), Ok(Outcome::Exists));
    assert_eq!(store.put(&Put { key: b"b", ..put }, START), Ok(Outcome::NotFound));
    assert_eq!(store.put(&Put { cas: 0, ..put }, START), Ok(Outcome::Exists));
    assert_eq!(store.put(&Put { mode: Mode::Append, ..put }, START), Ok(Outcome::Exists));
    assert_eq!(store.delete(b"a", Some(cas), START), Deleted::Exists);
    assert_eq!(store.arithmetic(b"a", false, 1, cas, START), Delta::Exists);
    assert_eq!(value(&mut store, b"a", START).as_deref(), Some(&b"2"[..]));
}

#[test]
fn numbers_keep_their_length_when_they_shrink() {
    let mut store = store();
    set(&mut store, b"n", b"100", START);
    assert!(matches!(
        store.arithmetic(b"n", true, 1, 0, START),
        Delta::Done { value: 99, in_place: true, .. }
    ));
    assert_eq!(value(&mut store, b"n", START).as_deref(), Some(&b"99 "[..]));
    assert!(matches!(store.arithmetic(b"n", true, 1000, 0, START), Delta::Done { value: 0, .. }));
    assert_eq!(value(&mut store, b"n", START).as_deref(), Some(&b"0  "[..]));
    assert!(matches!(store.arithmetic(b"n", true, 1, 0, START), Delta::Done { value: 0, .. }));
    let grown = store.arithmetic(b"n", false, 1000, 0, START);
    assert!(matches!(grown, Delta::Done { value: 1000, in_place: false, .. }));
    assert_eq!(value(&mut store, b"n", START).as_deref(), Some(&b"1000"[..]));
    set(&mut store, b"n", b"18446744073709551615", START);
    assert!(matches!(store.arithmetic(b"n", false, 2, 0, START), Delta::Done { value: 1, .. }));
}

#[test]
fn what_is_no_number_stays() {
    let mut store = store();
    for text in [&b""[..], b"x", b"7x", b"-1", b"18446744073709551616", b"\0"] {
        set(&mut store, b"n", text, START);
        assert_eq!(store.arithmetic(b"n", false, 1, 0, START), Delta::NonNumeric, "{text:?}");
        assert_eq!(value(&mut store, b"n", START).as_deref(), Some(text));
    }
    assert_eq!(store.arithmetic(b"missing", false, 1, 0, START), Delta::NotFound);
}

#[test]
fn append_keeps_flags_and_expiry() {
    let mut store = store();
    let put = Put { flags: 7, exptime: 50, ..plain(Mode::Set, b"a", b"b") };
    store.put(&put, START).unwrap();
    let put = Put { flags: 9, exptime: 500, ..plain(Mode::Append, b"a", b"c") };
    assert_eq!(store.put(&put, START), Ok(Outcome::Stored(2)));
    let put = Put { mode: Mode::Prepend, value: b"a", ..put };
    assert_eq!(store.put(&put, START), Ok(Outcome::Stored(3)));
    let item = store.get(b"a", START).unwrap();
    assert_eq!((&*item.value, item.flags), (&b"abc"[..], 7));
    assert!(store.get(b"a", after(49)).is_some());
    assert!(store.get(b"a", after(50)).is_none());
}

#[test]
fn expiry_times_are_relative_up_to_thirty_days_and_then_absolute() {
    let mut store = store();
    let thirty_days = 30 * 24 * 60 * 60;
    let soon = START.0 as i64 + 5;
    // Exptime, and the first second at which the item is gone.
    for (exptime, gone) in
        [(1, 1), (thirty_days, thirty_days as u64), (thirty_days + 1, 0), (soon, 5), (-1, 0)]
    {
        let put = Put { exptime, ..plain(Mode::Set, b"a", b"1") };
        assert!(matches!(store.put(&put, START), Ok(Outcome::Stored(_))));
        if gone > 0 {
            assert!(store.get(b"a", after(gone - 1)).is_some(), "{exptime}");
        }
        assert!(store.get(b"a", after(gone)).is_none(), "{exptime}");
        assert_eq!(store.items(), 0);
    }
    set(&mut store, b"a", b"1", START);
    assert!(store.get(b"a", after(100 * 365 * 24 * 60 * 60)).is_some());
}

#[test]
fn what_has_expired_is_not_there_for_any_command() {
    let mut store = store();
    let put = Put { exptime: 1, ..plain(Mode::Set, b"a", b"1") };
    let late = after(1);
    for mode in [Mode::Replace, Mode::Append, Mode::Prepend, Mode::Cas, Mode::Add] {
        store.put(&put, START).unwrap();
        let expected = match mode {
            Mode::Cas => Outcome::NotFound,
            Mode::Add => Outcome::Stored(6),
            _ => Outcome::NotStored,
        };
        assert_eq!(store.put(&Put { cas: 1, ..plain(mode, b"a", b"2") }, late), Ok(expected), "{mode:?}");
    }
    store.put(&put, START).unwrap();
    assert_eq!(store.arithmetic(b"a", false, 1, 0, late), Delta::NotFound);
    store.put(&put, START).unwrap();
    assert!(!store.touch(b"a", 10, late));
    store.put(&put, START).unwrap();
    assert_eq!(store.delete(b"a", None, late), Deleted::NotFound);
}

#[test]
fn a_flush_takes_what_is_there_and_nothing_that_comes_later() {
    let mut store = store();
    set(&mut store, b"a", b"1", START);
    store.flush_all(0, START);
    assert_eq!(value(&mut store, b"a", START), None);
    set(&mut store, b"a", b"2", START);
    assert!(store.get(b"a", after(10)).is_some());
    store.flush_all(-1, after(10));
    assert!(store.get(b"a", after(10)).is_none());
}

#[test]
fn a_delayed_flush_takes_what_was_stored_before_its_second() {
    let mut store = store();
    set(&mut store, b"early", b"1", START);
    store.flush_all(10, START);
    set(&mut store, b"later", b"1", after(8));
    assert!(store.get(b"early", after(8)).is_some());
    assert!(store.get(b"later", after(8)).is_some());
    assert!(store.get(b"early", after(9)).is_none());
    assert!(store.get(b"later", after(9)).is_none());
    set(&mut store, b"last", b"1", after(10));
    assert!(store.get(b"last", after(20)).is_some());
}

#[test]
fn a_delay_of_one_second_is_none() {
    let mut store = store();
    set(&mut store, b"a", b"1", START);
    store.flush_all(1, START);
    assert!(store.get(b"a", START).is_none());
    // memcached's unit is the second: the rest of this one goes as well.
    set(&mut store, b"a", b"1", START);
    assert!(store.get(b"a", START).is_none());
    set(&mut store, b"a", b"1", after(1));
    assert!(store.get(b"a", after(1)).is_some());
}

#[test]
fn what_was_flushed_does_not_come_back() {
    let mut store = store();
    set(&mut store, b"a", b"1", START);
    store.flush_all(0, START);
    store.flush_all(1000, START);
    assert!(store.get(b"a", START).is_none());
}

#[test]
fn the_least_recently_used_goes_first() {
    let bytes_max = 10 * (OVERHEAD + 101);
    let mut store = Store::new(bytes_max, START);
    for key in b'a'..=b'j' {
        set(&mut store, &[key], &[0; 100], START);
    }
    assert_eq!((store.items(), store.bytes()), (10, bytes_max));
    assert!(store.get(b"a", after(1)).is_some());
    set(&mut store, b"k", &[0; 100], after(2));
    assert_eq!(store.counters.evictions, 1);
    assert!(store.get(b"b", after(2)).is_none());
    assert!(store.get(b"a", after(2)).is_some());
    assert!(store.get(b"k", after(2)).is_some());
    set(&mut store, b"k", &[0; 1000], after(3));
    assert!(store.bytes() <= bytes_max);
    assert!(store.get(b"k", after(3)).is_some());
}

#[test]
fn bytes_are_counted_through_all_changes() {
    let mut store = Store::new(20_000, START);
    let mut random = 1u64;
    for step in 0..20_000 {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let key = [b'a' + (random >> 60) as u8, b'a' + (random >> 56 & 7) as u8];
        let text = vec![b'7'; (random >> 40 & 1023) as usize];
        match random >> 32 & 7 {
            0 => drop(store.delete(&key, None, START)),
            1 => drop(store.arithmetic(&key, false, random, 0, START)),
            2 => drop(store.put(&plain(Mode::Append, &key, b"0"), START)),
            3 if step % 100 == 0 => store.flush_all(0, START),
            4 => drop(store.put(&plain(Mode::Set, &key, b"19"), START)),
            _ => drop(store.put(&plain(Mode::Set, &key, &text), START)),
        }
        assert!(store.bytes() <= 20_000, "step {step}");
    }
    assert!(store.counters.evictions > 0);
    for first in b'a'..=b'p' {
        for second in b'a'..=b'h' {
            store.unlink(&[first, second], START);
        }
    }
    assert_eq!((store.items(), store.bytes()), (0, 0));
}

#[test]
fn what_is_too_large_changes_nothing() {
    let mut store = Store::new(2000, START);
    set(&mut store, b"a", b"1", START);
    assert_eq!(store.put(&plain(Mode::Set, b"a", &[0; 2000]), START), Err(NoRoom::OutOfMemory));
    assert_eq!(store.put(&plain(Mode::Set, b"a", &vec![0; ITEM_MAX]), START), Err(NoRoom::TooLarge));
    assert_eq!(store.put(&plain(Mode::Append, b"a", &[0; 1839]), START), Ok(Outcome::NotStored));
    assert_eq!(value(&mut store, b"a", START).as_deref(), Some(&b"1"[..]));
}

#[test]
fn the_first_read_marks_an_item_and_later_ones_move_its_time() {
    let mut store = store();
    set(&mut store, b"a", b"1", START);
    assert_eq!(store.get(b"a", after(5)).map(|item| (item.fetched, item.used)), Some((true, 62)));
    assert_eq!(store.get(b"a", after(7)).map(|item| (item.fetched, item.used)), Some((true, 69)));
}
