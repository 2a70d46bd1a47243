//! Programs that end, hang and leave others behind.

use std::path::Path;

use super::*;

/// Runs a shell line with a marker of its own; returns how it ended and its output.
fn shell(folder: &Path, line: &str, timeout: Option<Duration>) -> (Ended, String) {
    let value = folder.display().to_string();
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(folder).env("TMPDIR", &value);
    let mut output = Vec::new();
    let ended = run(command, ("TMPDIR", &value), timeout, |piece| output.extend_from_slice(piece)).unwrap();
    (ended, String::from_utf8(output).unwrap())
}

#[test]
fn both_streams_arrive_in_order_and_standard_input_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    let line = "for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; done; cat; exit 3";
    let (ended, output) = shell(folder.path(), line, None);
    let expected: String = (1..=5).map(|i| format!("out {i}\nerr {i}\n")).collect();
    assert_eq!((output, ended.status.code()), (expected, Some(3)));
    assert!(!ended.timed_out && ended.left_behind.is_empty() && !ended.is_output_open);
}

#[test]
fn all_output_of_a_program_that_writes_much_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let (_, output) = shell(folder.path(), "i=0; while [ $i -lt 200000 ]; do echo $i; i=$((i+1)); done", None);
    assert_eq!(output.lines().count(), 200_000);
}

#[cfg(all(target_os = "linux", not(hamflow_portable)))]
#[test]
fn what_a_program_leaves_behind_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    // One in the background, one in a session of its own, and one that does not want to end.
    let line = "sleep 60 & setsid sleep 61 & (trap '' TERM; sleep 62; sleep 63) & sleep 0.3; echo done";
    let (ended, output) = shell(folder.path(), line, None);
    assert_eq!((&output[..], ended.status.code(), ended.is_output_open), ("done\n", Some(0), false));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let mut left = ended.left_behind;
    left.sort();
    left.dedup();
    assert_eq!(left, ["sh", "sleep"]);
    let own = folder.path().display().to_string();
    let remaining = Command::new("sh").args(["-c", &format!("grep -slz 'TMPDIR={own}' /proc/[0-9]*/environ")]).output();
    assert_eq!(String::from_utf8_lossy(&remaining.unwrap().stdout), "");
}

#[test]
fn a_program_whose_time_is_over_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let (ended, output) = shell(folder.path(), "echo begun; sleep 60; echo over", Some(Duration::from_millis(300)));
    assert!(ended.timed_out && !ended.status.success() && output == "begun\n", "{ended:?} {output}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn a_program_that_does_not_exist_is_an_error() {
    let error = run(Command::new("no-such-program"), ("A", "b"), None, |_| {}).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}
