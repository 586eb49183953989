//! The parsers and the scanner on bytes that end where an inaccessible page begins: what reads beyond the end
//! of its input dies here. The bytes are the fuzz targets' corpus, each of them whole and cut at many places.

// Pages are mapped, protected and read by address.
#![allow(unsafe_code)]

use std::process::Command;
use std::ptr;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

use super::corpus;
use crate::oracles;

/// Bytes before the page that may not be touched.
const ROOM: usize = 1 << 16;

/// At least as large as any page.
const GUARD: usize = 1 << 16;

/// Memory that ends at an inaccessible page.
struct Guarded {
    start: *mut u8,
}

impl Guarded {
    fn new() -> Guarded {
        // SAFETY: a new private mapping at an address of the kernel's choice overlaps nothing.
        let start = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                ROOM + GUARD,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        };
        let start = start.expect("memory").cast::<u8>();
        // SAFETY: `start + ROOM`, which pages divide, begins the second half of the mapping just made, and
        // nothing has a reference into it.
        unsafe { mprotect(start.add(ROOM).cast(), GUARD, MprotectFlags::empty()) }.expect("a guard");
        Guarded { start }
    }

    /// `bytes`, ending at the guard.
    fn put(&mut self, bytes: &[u8]) -> &[u8] {
        assert!(bytes.len() <= ROOM);
        // SAFETY: the room before the guard is readable, writable and ours for the life of `self`; zeros from
        // the kernel are initialised bytes; `&mut self` says that no earlier slice is alive.
        let room = unsafe { std::slice::from_raw_parts_mut(self.start, ROOM) };
        let end = &mut room[ROOM - bytes.len()..];
        end.copy_from_slice(bytes);
        end
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and slices of it do not outlive `self`.
        let _ = unsafe { munmap(self.start.cast(), ROOM + GUARD) };
    }
}

/// Each input of a target's corpus, shorter and shorter.
fn check(target: &str, check: fn(&[u8])) {
    let mut guarded = Guarded::new();
    let mut checked = 0;
    for input in corpus(target) {
        for length in (0..=input.len()).rev().filter(|length| length % 7 == 0 || input.len() - length < 70) {
            check(guarded.put(&input[..length]));
            checked += 1;
        }
    }
    assert!(checked > 300, "only {checked} inputs of {target}");
}

#[test]
fn text_requests() {
    check("text", oracles::text::check);
}

#[test]
fn binary_requests() {
    check("binary", oracles::binary::check);
}

#[test]
fn replies() {
    check("replies", oracles::replies::check);
}

#[test]
fn scanning() {
    check("scanning", oracles::scanning::check);
}

/// Does what the guard is there for, in a process that is meant to die of it.
#[test]
fn canary_a_byte_behind_the_end_kills() {
    const CHILD: &str = "READ_BEHIND_THE_END";
    if std::env::var_os(CHILD).is_some() {
        let mut guarded = Guarded::new();
        let end = guarded.put(b"bytes").as_ptr_range().end;
        // SAFETY: none: the read is the fault that is provoked.
        println!("{}", unsafe { end.read_volatile() });
        return;
    }
    let this = std::env::current_exe().expect("this program");
    let name = "fuzz_corpus::guard_page::canary_a_byte_behind_the_end_kills";
    let child = Command::new(this).args(["--exact", name]).env(CHILD, "1").output().expect("a child");
    assert_eq!(child.status.code(), None, "a signal must have ended it: {child:?}");
}
