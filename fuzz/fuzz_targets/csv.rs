#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    hamflow_stages::fuzzing::csv(bytes);
});
