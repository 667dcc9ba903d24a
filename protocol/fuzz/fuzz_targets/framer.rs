#![no_main]

#[path = "../../tests/support/properties.rs"]
#[allow(dead_code, reason = "each target runs one of them")]
mod properties;

libfuzzer_sys::fuzz_target!(|input: &[u8]| properties::framer(input));
