//! The fuzz targets' oracles over their corpus, without a fuzzer.

// Theirs is a package of its own, in which all this is public.
#[allow(dead_code, unreachable_pub)]
#[path = "../fuzz/src/lib.rs"]
mod oracles;

mod fuzz_corpus {
    mod guard_page;
    mod reach;

    use std::path::Path;

    /// The inputs of a target.
    fn corpus(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let files = std::fs::read_dir(folder).expect("a corpus");
        files.map(|file| std::fs::read(file.expect("a file").path()).expect("an input")).collect()
    }
}
