//! What the corpus of the whole proxy reaches: inputs that no longer get anywhere are found here.

use std::collections::BTreeMap;

use super::corpus;
use crate::oracles::proxy;

#[test]
fn the_corpus_reaches_what_matters() {
    let mut sums = BTreeMap::new();
    for input in corpus("proxy") {
        for (name, count) in proxy::counters(&input) {
            *sums.entry(name).or_default() += count;
        }
    }
    assert_eq!(proxy::unmoved(&BTreeMap::new()).len(), 14, "of nothing, all must be missed");
    let unmoved = proxy::unmoved(&sums);
    assert!(unmoved.is_empty(), "never counted: {unmoved:?}\n{sums:#?}");
}
