//! Which mistake is switched on, if any: `CANARY=name`. Only canary builds have this module.

use std::sync::OnceLock;

/// The mistake of this name is to be made.
pub fn on(name: &str) -> bool {
    static CANARY: OnceLock<String> = OnceLock::new();
    CANARY.get_or_init(|| std::env::var("CANARY").unwrap_or_default()) == name
}
