#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::ota_state(input));
