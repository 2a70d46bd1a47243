//! Untrusted bundles, remotes and cache files can do no harm.

use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::Path;

use hamflow::digest::Digest;
use hamflow::store::remote::SigningKey;
use serde_json::{Value, json};

use crate::harness::sharing::{Shared, keygen, run, warnings};
use crate::harness::{CHAIN, Project, chain, folder_with};

/// Forges the outputs of a result, from an honest output and the digest of a tree with a malicious path.
type Forge = fn(&Value, &str) -> Vec<Value>;

/// Attacks: writing outside of the stage's outputs, or writing outputs that the stage does not declare.
const FORGERIES: [(&str, Forge); 6] = [
    ("an empty path beside", |honest, tree| {
        let evil = json!({"name": "evil", "type": "folder", "path": "", "digest": tree, "folder": true});
        vec![honest.clone(), evil]
    }),
    ("an empty path instead", |honest, tree| vec![with(honest, json!({"path": "", "digest": tree, "folder": true}))]),
    ("a part instead", |_, tree| {
        vec![json!({"name": "part", "type": "folder", "path": "", "digest": tree, "folder": true})]
    }),
    ("a path upwards", |honest, _| vec![with(honest, json!({"path": "../../../outside/pwned"}))]),
    ("a path in the project", |honest, _| vec![with(honest, json!({"path": "more.txt"}))]),
    ("an output that is not declared", |honest, tree| {
        let more = json!({"name": "more", "type": "folder", "path": "more", "digest": tree, "folder": true});
        vec![honest.clone(), more]
    }),
];

fn with(value: &Value, changes: Value) -> Value {
    let mut changed = value.as_object().unwrap().clone();
    changed.extend(changes.as_object().unwrap().clone());
    Value::Object(changed)
}

/// A file and a malicious tree that contains it. The path is absolute without its leading slash, as an empty directory in front adds one.
fn evil_tree(target: &Path) -> [(Digest, Vec<u8>); 2] {
    let payload = b"written by whoever made the bundle\n".to_vec();
    let path = target.to_str().unwrap().trim_start_matches('/');
    let tree = format!("hamflow-tree 1\n{}\t{path}\n", Digest::of(&payload)).into_bytes();
    [(Digest::of(&payload), payload), (Digest::of(&tree), tree)]
}

/// A project with the lock and a forged export of another one, in which every result has forged outputs.
fn forged_bundle(forge: Forge, target: &Path) -> (Project, Vec<u8>) {
    let honest = chain();
    assert_eq!(honest.hamflow(&["cache", "export", "bundle.tar"]).code, 0);
    let blobs = evil_tree(target);
    let mut bundle = tar::Builder::new(Vec::new());
    let mut append = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        bundle.append_data(&mut header, name, bytes).unwrap();
    };
    let mut archive = tar::Archive::new(std::fs::File::open(honest.path("bundle.tar")).unwrap());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        if name.starts_with("ac/") {
            for (digest, bytes) in &blobs {
                append(&format!("cas/00/{}", digest.hex()), bytes);
            }
            let body = std::str::from_utf8(&bytes).unwrap().split_once('\n').unwrap().1;
            let mut result: Value = serde_json::from_str(body).unwrap();
            result["outputs"] = json!(forge(&result["outputs"][0], &blobs[1].0.to_string()));
            bytes = format!("{}\n{result}\n", Digest::of(result.to_string().as_bytes())).into_bytes();
        }
        append(&name, &bytes);
    }
    let victim = Project::new(CHAIN);
    victim.write("text.txt", "abc");
    victim.write("pipeline.lock", honest.read("pipeline.lock"));
    (victim, bundle.into_inner().unwrap())
}

#[test]
fn a_bundle_writes_only_declared_outputs() {
    for (name, forge) in FORGERIES {
        let outside = tempfile::tempdir().unwrap();
        let (precious, new) = (outside.path().join("precious"), outside.path().join("pwned"));
        std::fs::write(&precious, "mine").unwrap();
        for target in [&precious, &new] {
            let (victim, bundle) = forged_bundle(forge, target);
            victim.write("bundle.tar", bundle);
            let imported = victim.hamflow(&["cache", "import", "bundle.tar"]);
            assert_eq!(imported.code, 0, "{name}: {imported:?}");
            // A path that no output can have is noticed at once, undeclared outputs when they are looked up. The bundle was read whole.
            let rejected = ["an empty path beside", "an empty path instead", "a path upwards"].contains(&name);
            let start = format!("imported {} results and 12 blobs", if rejected { 0 } else { 4 });
            assert!(imported.stdout.starts_with(&start), "{name}: {imported:?}");
            let ran = victim.run();
            // Nothing of it is used, and all stages run.
            assert_eq!(ran.count("ran"), 4, "{name}: {ran:?}");
            assert_eq!(victim.files("out"), chain().files("out"), "{name}");
            assert_eq!(victim.hamflow(&["cache", "verify"]).code, 0, "{name}");
        }
        assert_eq!(std::fs::read(&precious).unwrap(), b"mine", "{name}");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1, "{name}");
    }
}

#[test]
fn a_result_with_undeclared_outputs_is_a_miss_with_a_warning() {
    let (_, forge) = FORGERIES[5];
    let (victim, bundle) = forged_bundle(forge, Path::new("/more.txt"));
    victim.write("bundle.tar", bundle);
    victim.hamflow(&["cache", "import", "bundle.tar"]);
    let ran = victim.run();
    let printed = warnings(&ran);
    assert!(printed.iter().all(|message| message.contains("other outputs than the stage declares")), "{printed:?}");
    assert_eq!(printed.len(), 4, "once for each stage: {printed:?}");
    assert!(!victim.path("out/first/more").exists());
    let again = victim.run();
    assert_eq!((again.count("fresh"), warnings(&again)), (4, Vec::new()), "it was replaced by the new result");
}

#[test]
fn a_signed_result_writes_only_declared_outputs() {
    for (name, forge) in FORGERIES {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let target = outside.path().join("pwned");
        let keys = keygen(&Project::new(CHAIN));
        let key = SigningKey::parse(&keys[0]).unwrap();
        let shared = Shared::new(folder.path().to_str().unwrap(), "main", &keys[1]);
        run(&shared.machine(), &[("HAMFLOW_SIGNING_KEY", &keys[0])]);
        let blobs = evil_tree(&target);
        for (digest, bytes) in &blobs {
            let path = folder.path().join(format!("cas/{}/{}", &digest.hex()[..2], digest.hex()));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        let mut forged = 0;
        for scope in std::fs::read_dir(folder.path().join("ac/main")).unwrap().flatten() {
            for entry in std::fs::read_dir(scope.path()).unwrap().flatten() {
                let text = std::fs::read_to_string(entry.path()).unwrap();
                let mut body: Value = serde_json::from_str(text.lines().nth(2).unwrap()).unwrap();
                let honest = body["result"]["outputs"][0].clone();
                body["result"]["outputs"] = json!(forge(&honest, &blobs[1].0.to_string()));
                let body = body.to_string();
                let signed = format!("hamflow-result 1\n{}\n{body}\n", key.sign(body.as_bytes()));
                std::fs::write(entry.path(), signed).unwrap();
                forged += 1;
            }
        }
        assert_eq!(forged, 4);
        let victim = shared.machine();
        let ran = run(&victim, &[]);
        assert_eq!((ran.code, ran.count("ran"), ran.count("fetched")), (0, 4, 0), "{name}: {ran:?}");
        assert!(!warnings(&ran).is_empty(), "{name}: forged results with a trusted signature are reported");
        assert!(!target.exists(), "{name}");
        assert_eq!(victim.files("out"), chain().files("out"), "{name}");
    }
}

#[test]
fn symlinks_and_fifos_in_the_cache_are_never_opened() {
    let names = ["run.lock", "version", "index", "seal", "laid", "tidied", "pipeline.lock", "record", "memo"];
    for name in names {
        for fifo in [true, false] {
            let project = folder_with("");
            project.until_sealed(|| assert_eq!(project.run().code, 0));
            let outside = tempfile::tempdir().unwrap();
            let target = outside.path().join("precious");
            let path = match name {
                "pipeline.lock" => project.path(name),
                "record" => project.path("cache/runs").join(first_in(&project.path("cache/runs"))).join("record.json"),
                // What `rows` reads of its input is remembered, and asked for again by every plan.
                "memo" => project.path(&project.files("cache/memo")[0].0),
                name => project.path("cache").join(name),
            };
            let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
            std::fs::write(&target, &bytes).unwrap();
            std::fs::remove_file(&path).unwrap();
            match fifo {
                true => make_fifo(&path),
                false => symlink(&target, &path).unwrap(),
            }
            project.write("data/a1", "another text");
            // No command may hang. Only the locks are needed: a damaged cache entry is a miss.
            for arguments in [&["status"][..], &["run"], &["log"], &["cache", "verify"], &["cache", "gc"], &["run"]] {
                let mut command = project.command(arguments);
                command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
                let mut child = command.spawn().unwrap();
                let code = wait(&mut child).unwrap_or_else(|| panic!("`{name}`: {arguments:?} hangs"));
                let reads_it = match name {
                    "run.lock" => arguments[0] != "status" && arguments[0] != "log",
                    "pipeline.lock" => fifo && arguments[0] != "log",
                    _ => false,
                };
                assert_eq!(code, if reads_it { 3 } else { 0 }, "`{name}`: {arguments:?}");
            }
            assert_eq!(std::fs::read(&target).unwrap(), bytes, "`{name}`: its target is not modified");
        }
    }
}

/// Makes a FIFO; rustix has no function for that on macOS.
fn make_fifo(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// The name of an entry of a directory.
fn first_in(folder: &Path) -> std::ffi::OsString {
    std::fs::read_dir(folder).unwrap().flatten().next().unwrap().file_name()
}

/// The exit code of a process, or `None` if it does not exit within a minute.
fn wait(child: &mut std::process::Child) -> Option<i32> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while std::time::Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.code().unwrap_or(-1));
        }
        std::thread::yield_now();
    }
    let _ = child.kill();
    None
}

#[test]
fn a_symlinked_run_lock_is_reported() {
    let project = chain();
    let target = project.path("precious");
    std::fs::write(&target, "precious").unwrap();
    std::fs::remove_file(project.path("cache/run.lock")).unwrap();
    symlink(&target, project.path("cache/run.lock")).unwrap();
    project.write("text.txt", "other");
    let ran = project.hamflow(&["run"]);
    assert!(ran.code == 3 && ran.stderr.contains("cache/run.lock`: it is a symlink"), "{ran:?}");
    assert_eq!(project.read("precious"), "precious");
}

#[test]
fn blobs_and_results_that_are_not_files_are_recreated() {
    let project = chain();
    let before = project.files("out");
    let mut count = 0;
    for folder in ["cache/cas", "cache/ac"] {
        for (path, _) in project.files(folder) {
            let path = project.path(&path);
            std::fs::remove_file(&path).unwrap();
            make_fifo(&path);
            count += 1;
        }
    }
    assert!(count >= 8, "{count}");
    std::fs::remove_dir_all(project.path("out")).unwrap();
    let damaged = project.hamflow(&["cache", "verify"]);
    assert!(damaged.code == 1 && damaged.stdout.contains("it is not a regular file"), "{damaged:?}");
    project.run();
    assert_eq!(project.files("out"), before);
}

#[test]
fn memos_of_another_question_are_ignored() {
    // Two stages that differ only in the lines that they read: mixing up their views would mix up their results.
    let pipeline = "[inputs]\na = \"a.txt\"\nb = \"b.txt\"\n[stages.a]\nkind = \"rows\"\nfrom = \"inputs.a\"\n\
        [stages.b]\nkind = \"rows\"\nfrom = \"inputs.b\"\n";
    let project = Project::new(pipeline);
    project.write("a.txt", "keep 1\n");
    project.write("b.txt", "keep 2\n");
    let ran = project.hamflow(&["run", "--json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let (before, memos) = (project.files("out"), project.files("cache/memo"));
    assert_eq!(memos.len(), 2, "one view per stage");
    for (index, (path, _)) in memos.iter().enumerate() {
        let (_, other) = &memos[(index + 1) % memos.len()];
        let mut file = std::fs::File::create(project.path(path)).unwrap();
        file.write_all(other).unwrap();
    }
    let _ = std::fs::remove_file(project.path("cache/seal"));
    let again = project.hamflow(&["run", "--json"]);
    assert_eq!((again.code, again.count("fresh")), (0, 2), "{again:?}");
    assert_eq!(project.files("out"), before);
}
