//! libFuzzer's way into the loader.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| software_gpu::fuzzing::loader(bytes));
