//! libFuzzer's way into the parser.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| software_gpu::fuzzing::parser(bytes));
