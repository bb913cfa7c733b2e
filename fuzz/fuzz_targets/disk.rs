//! Hands libFuzzer's bytes to the body of the same name.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::target(stringify!(disk))(bytes));
