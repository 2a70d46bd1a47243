//! Results that depend on the device that computed them.

use crate::harness::sharing::{keygen, run, warnings};
use crate::harness::{Project, Ran};

const ANY: &str = "[stages.on_device]\ntakes = \"any\"\n";

fn on(project: &Project, device: &str, arguments: &[&str]) -> Ran {
    let mut command = project.command(arguments);
    command.env("TOY_DEVICE", device);
    Project::finish(command)
}

fn run_on(project: &Project, device: &str, arguments: &[&str]) -> Ran {
    let ran = on(project, device, &[&["run", "--json"], arguments].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    ran
}

#[test]
fn a_locked_result_of_another_device_is_used() {
    let project = Project::new(ANY);
    assert_eq!(run_on(&project, "gpu", &[]).ran(), ["on_device"]);
    assert!(project.read("pipeline.lock").contains("on_device\tdevice\tgpu\n"));
    let lock = project.read("pipeline.lock");
    // It is in `out/` as well, so there is nothing to do.
    assert_eq!(run_on(&project, "cpu", &[]).count("fresh"), 1);
    assert!(on(&project, "cpu", &["status"]).stdout.contains("fresh"));
    std::fs::remove_dir_all(project.path("out")).unwrap();
    let ran = run_on(&project, "cpu", &["--locked"]);
    assert_eq!(ran.with_outcome("cached"), ["on_device"]);
    let printed = "its result was made on `gpu`, this machine has `cpu` (`--force` recomputes it here)";
    assert_eq!(warnings(&ran), [printed]);
    assert_eq!(project.read("out/on_device/text.txt"), "gpu");
    assert_eq!(project.read("pipeline.lock"), lock);
    // A lock of an earlier version, without the line.
    project.write("pipeline.lock", lock.replace("on_device\tdevice\tgpu\n", ""));
    assert_eq!(run_on(&project, "gpu", &["--locked"]).count("fresh"), 1);
    assert_eq!(run_on(&project, "gpu", &[]).count("fresh"), 1);
    assert_eq!(project.read("pipeline.lock"), lock, "the entry is restored");
    let refused = on(&project, "cpu", &["verify", "--rebuild", "on_device"]);
    assert!(refused.code != 0 && refused.stderr.contains("`on_device` was made on `gpu`, this machine has `cpu`"));

    // Other changes are computed on this device.
    project.write("pipeline.toml", format!("{ANY}text = \"other\"\n"));
    assert_eq!(run_on(&project, "cpu", &[]).ran(), ["on_device"]);
    assert_eq!(project.read("out/on_device/text.txt"), "cpu");
    // Results of the own device take precedence over those of others.
    assert_eq!(run_on(&project, "gpu", &["--force"]).ran(), ["on_device"]);
    let ran = run_on(&project, "cpu", &[]);
    assert_eq!((ran.with_outcome("cached"), warnings(&ran)), (vec!["on_device".to_owned()], Vec::new()));
    assert_eq!(project.read("out/on_device/text.txt"), "cpu");
}

#[test]
fn force_reruns_a_result_of_another_device() {
    let project = Project::new(ANY);
    run_on(&project, "gpu", &[]);
    assert_eq!(run_on(&project, "cpu", &["--force"]).ran(), ["on_device"]);
    assert_eq!(project.read("out/on_device/text.txt"), "cpu");
    assert!(project.read("pipeline.lock").contains("on_device\tdevice\tcpu\n"));
}

#[test]
fn a_kind_that_rejects_other_devices_reruns() {
    let project = Project::new("[stages.on_device]\n");
    run_on(&project, "gpu", &[]);
    assert_eq!(run_on(&project, "cpu", &[]).ran(), ["on_device"]);
    let why = on(&project, "tpu", &["why", "on_device"]);
    assert!(why.stdout.contains("device changed from cpu to tpu"), "{why:?}");
}

#[test]
fn results_of_a_device_are_usable_without_it() {
    let project = Project::new(ANY);
    let failed = on(&project, "none", &["run"]);
    assert!(failed.code == 2 && failed.stderr.contains("stage `on_device`: `takes`: there is no device"), "{failed:?}");
    assert!(failed.stderr.contains("hint: plug one in"), "{failed:?}");
    run_on(&project, "gpu", &[]);
    std::fs::remove_dir_all(project.path("out")).unwrap();
    let ran = run_on(&project, "none", &[]);
    assert_eq!(ran.with_outcome("cached"), ["on_device"]);
    assert!(warnings(&ran)[0].contains("was made on `gpu`, which this machine has not"), "{ran:?}");
    // Once its result is lost, it would have to be recomputed, which is impossible here.
    std::fs::remove_dir_all(project.path("cache/ac")).unwrap();
    let failed = on(&project, "none", &["run"]);
    assert!(failed.code == 2 && failed.stderr.contains("stage `on_device`: `takes`: there is no device"), "{failed:?}");
}

#[test]
fn a_teammate_without_the_device_downloads_its_results() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keygen(&Project::new(ANY));
    let url = folder.path().display();
    let machine = || {
        Project::new(&format!(
            "{ANY}[cache.remote]\nurl = \"{url}\"\n[cache.remote.keys]\n\"main\" = [\"{}\"]\n",
            keys[1]
        ))
    };
    let first = machine();
    let ran = run(&first, &[("TOY_DEVICE", "gpu"), ("HAMFLOW_SIGNING_KEY", &keys[0])]);
    assert_eq!((ran.count("ran"), ran.count("uploaded")), (1, 1), "{ran:?}");
    for device in ["cpu", "none"] {
        let second = machine();
        second.write("pipeline.lock", first.read("pipeline.lock"));
        let ran = run(&second, &[("TOY_DEVICE", device)]);
        assert_eq!((ran.count("ran"), ran.count("cached"), ran.count("fetched")), (0, 1, 1), "{ran:?}");
        assert_eq!(second.read("out/on_device/text.txt"), "gpu");
    }
    // The lock does not say which result of another device is meant.
    let third = machine();
    assert_eq!(run(&third, &[("TOY_DEVICE", "cpu")]).count("ran"), 1);
}
