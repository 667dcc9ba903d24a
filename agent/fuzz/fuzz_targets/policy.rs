#![no_main]

#[path = "../../tests/support/policy_properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|input: &[u8]| properties::decided(input));
