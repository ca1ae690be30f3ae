//! The fuzzer, for the target that the variable `FUZZ_TARGET` names. run.py compiles and starts it.

#![no_main]

use std::sync::LazyLock;

use dl_fuzz::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let known = TARGETS.map(|target| target.name).join(", ");
    let target = TARGETS.iter().find(|target| target.name == name);
    target.unwrap_or_else(|| panic!("FUZZ_TARGET={name:?} is none of {known}"))
});

fuzz_target!(|data: &[u8]| (TARGET.run)(data));
