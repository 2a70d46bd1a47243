//! Imports respect the layers.

use std::path::{Path, PathBuf};

/// Each module imports only modules to its left.
const LAYERS: [&str; 11] = ["digest", "threads", "fs", "store", "config", "graph", "lock", "plan", "exec", "ui", "cli"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn imports_respect_the_layers() {
    let folder = root().join("src");
    let mut files = Vec::new();
    sources(&folder, &mut files);
    assert!(files.len() > 20, "the sources exist");
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&folder).unwrap().to_string_lossy().into_owned();
        let module = relative.split(['/', '.']).next().unwrap().to_owned();
        let Some(own) = LAYERS.iter().position(|layer| *layer == module) else {
            assert!(["fuzzing", "lib", "main"].contains(&&module[..]), "`{module}` is missing in the list of layers");
            continue;
        };
        let text = std::fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            for (above, layer) in LAYERS.iter().enumerate().skip(own + 1) {
                let code = line.split("//").next().unwrap();
                if code.contains(&format!("crate::{layer}::")) || code.contains(&format!("crate::{layer};")) {
                    wrong.push(format!("{relative}:{}: `{module}` imports `{layer}` ({above} > {own})", number + 1));
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn files_are_opened_with_the_safe_functions_only() {
    let mut files = Vec::new();
    for folder in ["src", "stages"] {
        sources(&root().join(folder), &mut files);
    }
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        let of_tests = relative.contains("test") || relative.contains("/check/");
        if of_tests || relative.starts_with("src/fs/") || relative == "stages/api/src/open.rs" {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for (number, line) in code.lines().enumerate().filter(|(_, line)| !line.contains("\"/proc/")) {
            if ["File::open(", "fs::read(", "fs::read_to_string("].iter().any(|word| line.contains(word)) {
                wrong.push(format!("{relative}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new(), "`open_regular` and `read_regular` do this safely");
}

#[test]
fn no_file_exceeds_800_lines() {
    let mut files = Vec::new();
    for folder in ["src", "stages", "tests"] {
        sources(&root().join(folder), &mut files);
    }
    for file in files {
        let lines = std::fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 800, "{}: {lines} lines; split it by noun", file.display());
    }
}

#[test]
fn every_remote_kind_is_registered() {
    let folder = root().join("src/store/remote");
    let table = std::fs::read_to_string(folder.join("mod.rs")).unwrap();
    let mut kinds = 0;
    for entry in std::fs::read_dir(folder).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        let path = entry.path();
        if std::fs::read_to_string(&path).unwrap().contains("pub const KIND: RemoteKind") {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            assert!(table.contains(&format!("    {name}::KIND,")), "`{name}` is missing in `REMOTES`");
            kinds += 1;
        }
    }
    assert_eq!(kinds, 5);
}

#[test]
fn only_ui_writes_to_the_terminal() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    sources(&root().join("stages"), &mut files);
    for file in files {
        // Tests may print that they were skipped.
        let of_tests = file.file_stem().is_some_and(|stem| stem.to_string_lossy().contains("test"));
        let relative = file.strip_prefix(root()).unwrap();
        if of_tests || relative.components().any(|part| ["ui", "tests"].iter().any(|name| part.as_os_str() == *name)) {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for word in ["println!(", "print!(", "eprintln!(", "eprint!("] {
            assert!(!code.contains(word), "{} writes with `{word}`", file.display());
        }
    }
}
