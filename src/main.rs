//! The program: arguments, allocator, run.

fn main() {}
