//! What it does is in `src/binary.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mcproxy_fuzz::run(mcproxy_fuzz::binary::check, input));
