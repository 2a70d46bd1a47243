//! Full and read-only disks, mounted in a namespace of the test.

use crate::harness::{CHAIN, Project, chain, in_namespace};

#[test]
#[ignore = "needs mount namespaces"]
fn a_full_disk_is_reported_and_loses_only_what_did_not_fit() {
    let project = Project::new(CHAIN);
    project.write("text.txt", "abc".repeat(100_000));
    let whole = "mkdir -p cache && mount -t tmpfs -o size=400k tmpfs cache && $HAMFLOW run; code=$?; \
        mount -o remount,size=40m cache && $HAMFLOW cache verify && $HAMFLOW run && $HAMFLOW cache verify; echo code $code";
    let ran = in_namespace(&project, whole);
    assert!(ran.stdout.ends_with("code 3\n"), "{ran:?}");
    assert!(ran.stderr.contains("No space left on device"), "{ran:?}");
    assert!(ran.stderr.contains("hint: free disk space and run again"), "{ran:?}");
    assert_eq!(ran.stdout.matches("no damage found").count(), 2, "{ran:?}");
    assert_eq!(project.read("out/second/text.txt"), "ABC".repeat(100_000) + "!");
}

#[test]
#[ignore = "needs mount namespaces"]
fn a_read_only_cache_suffices_if_there_is_nothing_to_do() {
    let project = chain();
    project.until_sealed(|| {
        project.run();
    });
    let read_only = "mount --bind cache cache && mount -o remount,bind,ro cache && $HAMFLOW status >&2 && $HAMFLOW run";
    let ran = in_namespace(&project, read_only);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("nothing to do: 4 stages are fresh"), "{ran:?}");
    let before = project.files("out");
    project.write("text.txt", "xyz");
    let ran = in_namespace(&project, read_only);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains("Read-only file system"), "{ran:?}");
    assert!(ran.stderr.contains("hint: make it writable"), "{ran:?}");
    assert_eq!(project.files("out"), before);
}
