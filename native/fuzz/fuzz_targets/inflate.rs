#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| dev_websocket_fuzz::inflate::check(input));
