//! Imports respect the layers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The layers as `src/lib.rs` lists them: each module imports only what stands left of it.
fn layers() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let line = text.lines().find(|line| line.starts_with("//! `sys` → ")).expect("the layers in one line");
    line.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Modules that know nothing of each other, wherever they stand among the layers.
const INDEPENDENT: [(&str, &str); 1] = [("store", "config")];

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

/// A source file without the items under `#[cfg(test)]`, as rustfmt lays them out.
fn without_tests(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(indent) = line.strip_suffix("#[cfg(test)]").filter(|indent| indent.trim().is_empty()) else {
            code.push_str(line);
            code.push('\n');
            continue;
        };
        // The item ends with its first line, or with the brace that has its indent.
        let mut first = true;
        for line in lines.by_ref() {
            let is_attribute = line.trim_start().starts_with(['#', '/']);
            let ends_here = first && !is_attribute && line.ends_with([';', '}', ',']);
            if ends_here || line.strip_prefix(indent) == Some("}") {
                break;
            }
            first &= is_attribute;
        }
    }
    code
}

#[test]
fn items_of_tests_are_left_out_and_nothing_else() {
    let text = "a\n#[cfg(test)]\nmod tests;\nb\n#[cfg(test)]\nmod more {\n    fn f() {\n    }\n}\nc\n";
    assert_eq!(without_tests(text), "a\nb\nc\n");
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
    let layers = layers();
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&folder).unwrap().to_string_lossy().into_owned();
        let module = relative.split(['/', '.']).next().unwrap().to_owned();
        let Some(own) = layers.iter().position(|layer| *layer == module) else {
            assert!(["fuzzing", "lib", "main"].contains(&&module[..]), "`{module}` is missing in the list of layers");
            continue;
        };
        let text = std::fs::read_to_string(&file).unwrap();
        let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap()).collect();
        let code = code.join("\n");
        let used = code.split("crate::").skip(1).flat_map(paths);
        for name in used.map(|path| path.split("::").next().unwrap().to_owned()).collect::<BTreeSet<_>>() {
            let at = layers.iter().position(|layer| *layer == name);
            if at.is_some_and(|at| at > own) || INDEPENDENT.contains(&(&module, &name)) {
                wrong.push(format!("{relative}: `{module}` imports `{name}`"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn only_sys_names_the_interfaces_of_an_operating_system() {
    let mut files = Vec::new();
    for folder in ["src", "stages/src", "stages/api/src", "stages/kernels/src", "stages/ml/src", "stages/process/src"] {
        sources(&root().join(folder), &mut files);
    }
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        let of_tests = file.file_stem().is_some_and(|stem| stem == "tests");
        let of_system = ["src/sys/", "stages/process/src/linux/", "stages/api/src/sys.rs"];
        if of_tests || of_system.iter().any(|folder| relative.starts_with(folder)) {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let code = without_tests(&text);
        for (number, line) in code.lines().enumerate() {
            let is_word = |word: &str| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word);
            let is_path = ["std::os::", "os::unix", "os::fd", "/proc/"].iter().any(|path| line.contains(path));
            if is_word("rustix") || is_word("libc") || is_path {
                wrong.push(format!("{relative}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new(), "this belongs in `src/sys/` or `stages/api/src/sys.rs`");
}

#[test]
fn files_are_opened_by_functions_that_neither_block_nor_follow_a_symlink_of_the_cache() {
    let mut files = Vec::new();
    for folder in ["src", "stages"] {
        sources(&root().join(folder), &mut files);
    }
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        let of_tests = relative.contains("test") || relative.contains("/check/");
        // Files of the kernel are neither pipes nor symlinks of a user.
        let may_open = ["src/fs/", "src/sys/", "stages/process/src/linux/"];
        if of_tests || may_open.iter().any(|folder| relative.starts_with(folder)) {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let code = without_tests(&text);
        for (number, line) in code.lines().enumerate() {
            if ["File::open(", "fs::read(", "fs::read_to_string("].iter().any(|word| line.contains(word)) {
                wrong.push(format!("{relative}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new(), "`open_regular` and `read_regular` do this safely");
}

#[test]
fn every_rename_and_sync_has_failpoints() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let (mut wrong, mut right) = (Vec::new(), 0);
    for file in files {
        let relative = file.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        if relative.starts_with("src/sys/") || relative.contains("test") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let code = without_tests(&text);
        // `crate::fs::rename` has failpoints; a module that imports the crate's `fs` calls that of the standard library by its full name.
        let own = if relative == "src/fs/mod.rs" { "fs::rename(" } else { "std::fs::rename(" };
        let calls = [
            own,
            "std_fs::rename(",
            "handle.rename",
            "handle.link(",
            ".sync_all()",
            ".sync_data()",
            "sync_file_system(",
        ];
        for (number, line) in code.lines().enumerate().filter(|(_, line)| calls.iter().any(|call| line.contains(call)))
        {
            if line.contains("around(Step::") {
                right += 1;
            } else {
                wrong.push(format!("{relative}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new(), "wrap it in `failpoint::around`");
    assert!(right >= hamflow::fs::failpoint::POINTS.len() - 1, "{right}");
}

#[test]
fn planning_reads_the_world_through_its_trace_alone() {
    let mut files = Vec::new();
    sources(&root().join("src/plan"), &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        // `inputs.rs` is called by `world.rs` alone; a seal compares what was traced, with `look.rs`.
        if ["world.rs", "inputs.rs", "look.rs", "seal.rs"].contains(&&name[..]) {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let code = without_tests(&text);
        for (number, line) in code.lines().enumerate() {
            let words =
                ["std::env", "std::fs", "crate::fs", "store.content", "store.memo", "inputs::scan", "StatIndex::"];
            if words.iter().any(|word| line.contains(word)) {
                wrong.push(format!("src/plan/{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new(), "read it in `World`, which keeps the trace");
}

/// The paths that a text begins with: one, or those of a group in braces.
fn paths(text: &str) -> Vec<String> {
    let path = |text: &str| -> String {
        let path: String = text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':').collect();
        path.trim_end_matches(':').to_owned()
    };
    let Some(group) = text.strip_prefix('{') else { return vec![path(text)] };
    let (mut depth, mut items) = (0, vec![String::new()]);
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => items.push(String::new()),
            _ => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                items.last_mut().unwrap().push(c);
            }
        }
    }
    items.iter().map(|item| path(item)).filter(|item| !item.is_empty() && item != "self").collect()
}

/// The files of a package as modules, each with the modules that its `use` lines and paths name: `a::b` for `src/a/b.rs`.
fn imports(source: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut files = Vec::new();
    sources(source, &mut files);
    let module = |file: &Path| {
        let relative = file.strip_prefix(source).unwrap().with_extension("");
        let steps: Vec<String> = relative.iter().map(|step| step.to_string_lossy().into_owned()).collect();
        let steps = if steps.last().is_some_and(|last| last == "mod") { &steps[..steps.len() - 1] } else { &steps[..] };
        steps.join("::")
    };
    let texts: BTreeMap<String, String> = files
        .iter()
        .filter(|file| !file.strip_prefix(source).unwrap().to_string_lossy().contains("test"))
        .map(|file| (module(file), std::fs::read_to_string(file).unwrap()))
        .collect();
    let names: BTreeSet<String> = texts.keys().cloned().collect();
    // The longest module that a path begins with.
    let resolve = |path: &str| {
        let steps: Vec<&str> = path.split("::").collect();
        (1..=steps.len()).rev().map(|count| steps[..count].join("::")).find(|name| names.contains(name))
    };
    let mut found = BTreeMap::new();
    for (name, text) in &texts {
        let code: String =
            without_tests(text).lines().map(|line| format!("{}\n", line.split("//").next().unwrap())).collect();
        let own: Vec<&str> = if name.is_empty() { Vec::new() } else { name.split("::").collect() };
        let mut imported = BTreeSet::new();
        for (prefix, base) in
            [("crate::", 0), ("super::super::", own.len().saturating_sub(2)), ("super::", own.len().saturating_sub(1))]
        {
            for rest in code.split(prefix).skip(1) {
                // A parent that hands on what it imported itself is looked through by the child's own paths; what the child takes of the
                // parent's own items is how Rust's modules are meant.
                if prefix == "super::"
                    && (rest.starts_with("super::")
                        || !rest.starts_with(|first: char| first.is_lowercase() || first == '{'))
                {
                    continue;
                }
                for path in paths(rest) {
                    let mut full = own[..base.min(own.len())].join("::");
                    if !full.is_empty() {
                        full.push_str("::");
                    }
                    full.push_str(&path);
                    imported.extend(resolve(&full).filter(|other| other != name));
                }
            }
        }
        // A parent declares its children, and a child may use its parent: together they form one unit, split across several files.
        imported.retain(|other| !name.starts_with(&format!("{other}::")) && !other.starts_with(&format!("{name}::")));
        found.insert(name.clone(), imported);
    }
    found
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    let mut circles = BTreeSet::new();
    for package in ["src", "stages/src", "stages/api/src", "stages/kernels/src", "stages/ml/src", "stages/process/src"]
    {
        let imports = imports(&root().join(package));
        assert!(imports.len() > 10, "{package}");
        for start in imports.keys() {
            // Breadth first: the shortest way back.
            let mut before: BTreeMap<&str, &str> = BTreeMap::new();
            let mut todo = std::collections::VecDeque::from([&start[..]]);
            while let Some(module) = todo.pop_front() {
                for next in &imports[module] {
                    if next == start {
                        let mut circle = vec![start.clone(), module.to_owned()];
                        let mut at = module;
                        while let Some(earlier) = before.get(at) {
                            circle.push((*earlier).to_owned());
                            at = earlier;
                        }
                        circle.sort();
                        circle.dedup();
                        circles.insert(circle.join(", "));
                        todo.clear();
                        break;
                    }
                    if !before.contains_key(&next[..]) {
                        before.insert(next, module);
                        todo.push_back(next);
                    }
                }
            }
        }
    }
    assert_eq!(circles, BTreeSet::new());
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
fn functions_have_at_most_70_lines_and_types_of_the_executor_15_fields() {
    let mut files = Vec::new();
    for folder in ["src", "stages", "tests"] {
        sources(&root().join(folder), &mut files);
    }
    let (mut functions, mut types) = (0, 0);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let of_the_executor = file.starts_with(root().join("src/exec"));
        for (start, line) in lines.iter().enumerate() {
            let declared = line.trim_start();
            let indent = &line[..line.len() - declared.len()];
            let is_function = !declared.starts_with("//")
                && declared.split_once("fn ").is_some_and(|(before, _)| {
                    before.split_whitespace().all(|word| {
                        word.starts_with("pub") || ["const", "unsafe", "async", "extern", "\"C\""].contains(&word)
                    })
                });
            let is_type = indent.is_empty() && line.ends_with('{') && line.contains("struct ");
            if !(is_function || is_type && of_the_executor) {
                continue;
            }
            // As rustfmt lays out: the closing brace has the indent of the beginning.
            let Some(length) = lines[start..].iter().position(|line| line.strip_prefix(indent) == Some("}")) else {
                continue;
            };
            let place = format!("{}:{}", file.display(), start + 1);
            if is_function {
                functions += 1;
                let is_one_line = line.ends_with('}') || line.ends_with(';');
                assert!(is_one_line || length < 70, "{place}: a function of {} lines", length + 1);
            } else {
                types += 1;
                let is_field =
                    |line: &&&str| line.starts_with("    ") && !line.trim_start().starts_with(['/', '#', '}']);
                let fields = lines[start + 1..start + length].iter().filter(is_field).count();
                assert!(fields <= 15, "{place}: a type with {fields} fields");
            }
        }
    }
    assert!(functions > 1000 && types > 20, "{functions} functions and {types} types were found");
}

#[test]
fn every_remote_kind_is_registered() {
    let folder = root().join("src/store/remote");
    let table = std::fs::read_to_string(folder.join("mod.rs")).unwrap();
    let mut kinds = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        let path = entry.path();
        if std::fs::read_to_string(&path).unwrap().contains("pub const KIND: RemoteKind") {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            kinds.insert(name);
        }
    }
    let rows = table.lines().filter_map(|line| line.trim().strip_suffix("::KIND,"));
    assert_eq!(rows.map(str::to_owned).collect::<BTreeSet<_>>(), kinds, "`REMOTES` lists the kinds of all files");
}

#[test]
fn every_need_of_an_ignored_test_is_probed_and_documented() {
    let mut files = Vec::new();
    for folder in ["src", "stages", "tests"] {
        sources(&root().join(folder), &mut files);
    }
    // Not written as one word, so that this file does not contain them.
    let (attribute, skipped) = (["#[", "ignore"].concat(), ["SKIP", "PED"].concat());
    let mut needs = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains(&skipped), "{}: a test that cannot run is ignored, it does not pass", file.display());
        for rest in text.split(&attribute).skip(1) {
            let need = rest.strip_prefix(" = \"needs ").and_then(|rest| rest.split_once("\"]"));
            needs.insert(
                need.unwrap_or_else(|| panic!("{}: an ignored test says what it needs", file.display())).0.to_owned(),
            );
        }
    }
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let (check, contributing) = (read("tests/check.sh"), read("CONTRIBUTING.md"));
    let (_, probes) = check.split_once("\nis_there() {").unwrap();
    for need in needs {
        let is_probed =
            [format!("    {need}) "), format!("    \"{need}\") ")].iter().any(|probe| probes.contains(probe));
        assert!(is_probed, "`is_there` in tests/check.sh does not know `{need}`");
        assert!(contributing.contains(&need), "CONTRIBUTING.md does not mention `{need}`");
    }
}

/// Lines of the engine that may name the domain: the description of the crate, and that of a template of `init`.
const DOMAIN_LINES: [&str; 2] = [
    "//! hamflow runs dataflow pipelines incrementally, from a dataset to a trained, evaluated and explained classifier.",
    "/// Train and evaluate a classifier on HAM10000",
];

#[test]
fn the_engine_and_the_contract_know_neither_classification_nor_the_commands_of_stages() {
    let mut files = Vec::new();
    for folder in ["src", "stages/src", "stages/api/src", "stages/kernels/src", "stages/ml/src", "stages/process/src"] {
        sources(&root().join(folder), &mut files);
    }
    // The place of the run's details in a page is part of the contract, so it is spelled there and nowhere else.
    let marker = "<!--hamflow:run-->";
    let (mut wrong, mut markers) = (Vec::new(), Vec::new());
    for file in files {
        let relative = file.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        let is_kind =
            ["stages/src/", "stages/kernels/", "stages/ml/"].iter().any(|folder| relative.starts_with(folder));
        if relative.contains("test") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        markers.extend(text.matches(marker).map(|_| relative.clone()));
        for (number, line) in text.lines().enumerate().filter(|_| !is_kind) {
            let line = line.trim();
            let names_domain = ["classif", "predict"].iter().any(|word| line.to_lowercase().contains(word));
            if names_domain && !DOMAIN_LINES.contains(&line) {
                wrong.push(format!("{relative}:{}: {line}", number + 1));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new(), "this belongs in `stages/src/`");
    assert_eq!(markers, ["stages/api/src/artifact.rs"], "use `RUN_DETAILS`");
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
        let code = without_tests(&text);
        for word in ["println!(", "print!(", "eprintln!(", "eprint!(", "dbg!(", "stdout().lock", "stderr().lock"] {
            assert!(!code.contains(word), "{} writes with `{word}`", file.display());
        }
    }
}
