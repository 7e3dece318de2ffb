//! The search: libFuzzer over the target that FREEHOLD_TARGET names. Started by `scripts/fuzz`, which also says the flags
//! that rustc needs for coverage.
#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("FREEHOLD_TARGET").unwrap_or_default();
    freehold_fuzz::target(&name).unwrap_or_else(|| panic!("FREEHOLD_TARGET is {name:?}; see scripts/fuzz"))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET(bytes));
