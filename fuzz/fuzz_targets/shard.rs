#![no_main]

libfuzzer_sys::fuzz_target!(
    // Panics of libraries are caught where they are called; those that are not still end the process.
    init: std::panic::set_hook(Box::new(|_| {})),
    |bytes: &[u8]| {
        hamflow_stages::fuzzing::shard(bytes);
    }
);
