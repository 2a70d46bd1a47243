//! Tests of `command` with programs that every Unix has.

use hamflow_stage_api::{AnyKind, ErrorCategory, Input, JobEvent};
use serde_json::json;

use super::*;
use crate::test_support::{Ran, file, file_input, files_input, resolve, run_kind, run_kind_with};

fn refused(params: Value) -> ParamError {
    resolve(&Command, &params).unwrap_err()
}

fn run(params: &Value, inputs: &[(&str, Input)]) -> Result<Ran, StageError> {
    run_kind(&Command, params, inputs)
}

fn one_file(run: Value) -> Value {
    json!({ "run": run, "outputs": { "y": { "type": "file", "path": "deep/y.txt" } } })
}

#[test]
fn a_list_of_arguments_is_run_without_a_shell() {
    let folder = tempfile::tempdir().unwrap();
    let input = file_input(folder.path(), "a b'c.txt", b"hello\n", None);
    let params = one_file(json!(["cp", "{inputs.x}", "{outputs.y}"]));
    assert_eq!(run(&params, &[("x", input)]).unwrap().bytes("deep/y.txt"), b"hello\n");
}

#[test]
fn a_line_is_run_by_the_shell_with_quoted_values() {
    let folder = tempfile::tempdir().unwrap();
    let input = |name: &str| file_input(folder.path(), name, name.as_bytes(), None);
    let mut params =
        one_file(json!("cat {inputs.x} | tr a-z A-Z > {outputs.y}; echo {params.word} ${{#}} >> {outputs.y}"));
    params["params"] = json!({ "word": "it's  $HOME" });
    let ran = run(&params, &[("x", input("first file ")), ("x", input("second's "))]).unwrap();
    assert_eq!(ran.bytes("deep/y.txt"), b"FIRST FILE SECOND'S it's  $HOME 0\n");
}

#[test]
fn several_inputs_become_several_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let input = |name: &str| ("x", file_input(folder.path(), name, name.as_bytes(), None));
    let params = one_file(json!(["sh", "-c", "out=$1; shift; cat \"$@\" > $out", "-", "{outputs.y}", "{inputs.x}"]));
    assert_eq!(run(&params, &[input("a"), input("b")]).unwrap().bytes("deep/y.txt"), b"ab");
    let params = one_file(json!(["echo", "x={inputs.x}"]));
    assert!(run(&params, &[input("a"), input("b")]).err().unwrap().message.contains("needs a single path"));
}

#[test]
fn the_environment_contains_only_declared_variables() {
    let params = one_file(json!("env | sed 's/=.*//' | sort > {outputs.y}; pwd -P >> {outputs.y}"));
    let mut project = String::new();
    let ran = run_kind_with(&Command, &params, &[], |job| {
        job.env.insert("SPECIAL".to_owned(), "1".to_owned());
        project = job.project_dir.canonicalize().unwrap().display().to_string();
    });
    let text = String::from_utf8(ran.unwrap().bytes("deep/y.txt")).unwrap();
    let mut seen: Vec<&str> = text.lines().collect();
    assert_eq!(seen.pop(), Some(project.as_str()));
    // The shell itself sets these two.
    seen.retain(|name| !["PWD", "SHLVL", "_", "OLDPWD"].contains(name));
    assert_eq!(seen, ["HOME", "PATH", "SPECIAL", "TMPDIR"]);
}

#[test]
fn both_streams_are_logged() {
    let ran = run(&one_file(json!("echo out; echo err >&2; touch {outputs.y}")), &[]).unwrap();
    let logged =
        |wanted: &str| ran.events.iter().any(|event| matches!(event, JobEvent::Log { line } if line == wanted));
    assert!(logged("out") && logged("err"));
}

#[test]
fn the_error_of_a_failed_program_quotes_its_stderr() {
    let error = run(&one_file(json!("echo reason >&2; exit 3")), &[]).err().unwrap();
    assert_eq!(error.category, ErrorCategory::Failed);
    assert_eq!(error.message, "`sh` ended with exit status 3\n  | reason");
    let error = run(&one_file(json!("kill -9 $$")), &[]).err().unwrap();
    assert_eq!(error.message, "`sh` was terminated by signal 9");
}

#[test]
fn a_missing_program_is_an_input_error() {
    for program in ["no-such-program", "./no-such-program"] {
        let error = run(&one_file(json!([program])), &[]).err().unwrap();
        assert_eq!(error.category, ErrorCategory::Input);
        assert!(error.message.contains(&format!("`{program}`")) && error.hint.is_some(), "{error}");
    }
}

#[test]
fn missing_outputs_and_wrong_types_are_errors() {
    for (kind, script, problem) in [
        ("file", "true", "did not create the output `y`"),
        ("file", "mkdir {outputs.y}", "it is a folder"),
        ("file", "ln -s /etc/hostname {outputs.y}", "it is a symlink"),
        ("folder", "touch {outputs.y}", "it is a file"),
        ("folder", "mkdir {outputs.y}", "it is empty"),
        ("folder", "mkdir {outputs.y} && ln -s / {outputs.y}/x", "is a symlink"),
        ("table", "echo > {outputs.y}", "cannot be read as Parquet"),
        ("metrics", "echo oops > {outputs.y}", "not JSON"),
        ("csv", "true > {outputs.y}", "no header"),
        ("csv", "printf '\\377\\n' > {outputs.y}", "not UTF-8"),
        ("page", "true > {outputs.y}", "it is empty"),
        ("shards", "mkdir {outputs.y} && touch {outputs.y}/a.txt", "no `.arrow`"),
        ("shards", "mkdir {outputs.y} && touch {outputs.y}/a.arrow", "`a.arrow`"),
        ("model", "mkdir {outputs.y} && touch {outputs.y}/card.json", "`model.safetensors`"),
        ("figures", "mkdir {outputs.y} && touch {outputs.y}/a.png", "no `.svg`"),
    ] {
        let params = json!({ "run": script, "outputs": { "y": { "type": kind } } });
        let error = run(&params, &[]).err().unwrap_or_else(|| panic!("{kind}: {script}"));
        assert_eq!(error.category, ErrorCategory::Failed);
        assert!(error.message.contains(problem) && error.message.contains("`y`"), "{kind}: {error}");
    }
}

#[test]
fn outputs_of_the_right_type_pass() {
    for (kind, script) in [
        ("metrics", "echo '{{\"a\": 1}}' > {outputs.y}"),
        ("csv", "echo a,b > {outputs.y}"),
        ("images", "mkdir -p {outputs.y}/a && touch {outputs.y}/a/b.jpg"),
    ] {
        let params = json!({ "run": script, "outputs": { "y": { "type": kind } } });
        run(&params, &[]).map(|_| ()).unwrap();
    }
}

#[test]
fn a_command_that_changes_its_input_is_detected() {
    for script in ["echo more >> {inputs.x}", "rm {inputs.x}", "printf HELLO > {inputs.x}"] {
        let folder = tempfile::tempdir().unwrap();
        let input = file_input(folder.path(), "x.txt", b"hello", None);
        let params = one_file(json!(format!("touch {{outputs.y}}; {script}")));
        let error = run(&params, &[("x", input)]).err().unwrap();
        assert_eq!(error.category, ErrorCategory::InputChanged, "{script}");
    }
}

#[test]
fn a_change_of_an_old_input_is_detected_by_its_timestamps() {
    let folder = tempfile::tempdir().unwrap();
    let input = file_input(folder.path(), "x.txt", b"hello", None);
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    std::fs::File::options().write(true).open(folder.path().join("x.txt")).unwrap().set_modified(old).unwrap();
    let reads = one_file(json!("cat {inputs.x} > {outputs.y}"));
    run(&reads, &[("x", input.clone())]).map(|_| ()).unwrap();
    let writes = one_file(json!("touch {outputs.y}; printf HELLO > {inputs.x}; touch -d '1 hour ago' {inputs.x}"));
    assert_eq!(run(&writes, &[("x", input)]).err().unwrap().category, ErrorCategory::InputChanged);
}

#[test]
fn an_undeclared_input_is_reported_with_the_closest_name() {
    let folder = tempfile::tempdir().unwrap();
    let input = file_input(folder.path(), "x.txt", b"", None);
    let error = run(&one_file(json!("cat {inputs.tabel}")), &[("table", input)]).err().unwrap();
    assert_eq!(error.hint.as_deref(), Some("did you mean `table`?"));
}

#[test]
fn a_list_of_folders_has_no_path() {
    let folder = tempfile::tempdir().unwrap();
    let input = files_input(vec![file(folder.path(), "a.jpg", b"")], None);
    assert!(run(&one_file(json!("ls {inputs.x}")), &[("x", input)]).err().unwrap().message.contains("list of folders"));
}

#[test]
fn placeholders_are_validated_before_anything_runs() {
    let params =
        |run: &str| json!({ "run": run, "outputs": { "table": { "type": "table" } }, "params": { "count": 1 } });
    assert_eq!(refused(params("x {outputs.tabel}")).hint.as_deref(), Some("did you mean `table`?"));
    assert_eq!(refused(params("x {params.cuont}")).hint.as_deref(), Some("did you mean `count`?"));
    assert!(refused(params("awk '{print}'")).hint.unwrap().contains("{{"));
    assert_eq!(refused(params(" ")).path, ["run"]);
    assert_eq!(refused(json!({ "outputs": { "y": { "type": "file" } } })).path, ["run"]);
    assert!(refused(json!({ "run": 3, "outputs": { "y": { "type": "file" } } })).message.contains("list of arguments"));
}

#[test]
fn output_paths_must_be_inside_the_folder_and_disjoint() {
    for path in ["", "/etc/passwd", "../x", "a/../b", "./a", "a/", "a//b", "a\\b", "."] {
        let error = refused(json!({ "run": "x", "outputs": { "y": { "type": "file", "path": path } } }));
        assert_eq!(error.path, ["outputs", "y"], "{path}");
    }
    let error = refused(json!({ "run": "x", "outputs": {
        "a": { "type": "folder", "path": "same" }, "b": { "type": "file", "path": "same/b" },
    } }));
    assert!(error.message.contains("overlap"), "{}", error.message);
    assert!(refused(json!({ "run": "x", "outputs": {} })).message.contains("at least one output"));
    assert!(refused(json!({ "run": "x", "outputs": { "a.b": { "type": "file" } } })).message.contains("`a.b`"));
    let error = refused(json!({ "run": "x", "outputs": { "a": { "type": "tabel" } } }));
    assert_eq!(error.hint.as_deref(), Some("did you mean `table`?"));
}

#[test]
fn an_output_without_a_path_gets_the_extension_of_its_type() {
    let params = json!({ "run": "x", "outputs": {
        "a": { "type": "table" }, "b": { "type": "metrics" }, "c": { "type": "figures" }, "d": { "type": "csv", "path": "e/f" },
    } });
    let resolved = resolve(&Command, &params).unwrap();
    let paths: Vec<String> = AnyKind::outputs(&Command, &resolved).into_iter().map(|output| output.path).collect();
    assert_eq!(paths, ["a.parquet", "b.json", "c", "e/f"]);
    assert_eq!(resolved.json()["outputs"]["a"]["path"], "a.parquet");
    assert_eq!(AnyKind::resolve(&Command, resolved.json()).unwrap().json(), resolved.json());
}

#[test]
fn only_files_that_are_named_as_such_are_implicit_inputs() {
    let candidates = |run: Value| {
        let params = json!({ "run": run, "outputs": { "y": { "type": "file" } } });
        Command.candidate_files(&resolve(&Command, &params).unwrap())
    };
    assert_eq!(candidates(json!(["python3", "{file:a b.py}", "other.py", "--x={file:c.yml}"])), ["a b.py", "c.yml"]);
    assert_eq!(candidates(json!("sh {file:d/e.sh} < f.txt > {outputs.y}")), ["d/e.sh"]);
}

/// Values that mean something to a shell.
const SHELL_SYNTAX: [&str; 29] = [
    "a b",
    "it's",
    "q\"q",
    "$(touch PWN)",
    "`touch PWN`",
    ";touch PWN;",
    "new\nline",
    "a\ntouch PWN\n#",
    "-n",
    "--help",
    "*",
    "~",
    "$HOME",
    "HOME",
    "PATH=/nowhere",
    "\\",
    "x\\';touch PWN;#",
    "&",
    "|",
    ">x",
    "#c",
    "",
    " ",
    "{{x}}",
    "\t",
    "'; touch PWN #",
    "é",
    "${x:-y}",
    "a[$(touch PWN)]",
];

#[test]
fn values_never_become_shell_syntax() {
    let script = "f() {{ printf '%s\n' {params.v} > {outputs.y}; }}; set -- x y; f z # {params.v}\n\
                  printf '%s\n' \"$(case x in x) printf %s {params.v};; esac)\" >> {outputs.y} # {params.v}\ntrue";
    let piped = format!("true | true; {script}");
    for value in SHELL_SYNTAX {
        let list = |shell: &str| json!([shell, "-c", script]);
        for run_as in
            [json!(script), json!(piped), list("sh"), list("bash"), json!(["bash", "-euo", "pipefail", "-c", piped])]
        {
            let mut params = one_file(run_as.clone());
            params["params"] = json!({ "v": value });
            let mut project = std::path::PathBuf::new();
            let ran = run_kind_with(&Command, &params, &[], |job| project.clone_from(&job.project_dir)).unwrap();
            let written = String::from_utf8(ran.bytes("deep/y.txt")).unwrap();
            assert_eq!(written, format!("{value}\n{value}\n"), "{run_as}");
            assert!(!project.join("PWN").exists() && !project.join("x").exists(), "{value:?} was executed: {run_as}");
        }
    }
}

#[test]
fn a_number_is_a_word_of_its_own() {
    for (line, expected) in [
        ("echo {params.n}>{outputs.y}", "2\n"),
        ("echo {threads}>{outputs.y}", "2\n"),
        ("echo \"a {params.n} b\" $(( {params.n} + 1 )) > {outputs.y}", "a 2 b 3\n"),
    ] {
        for run_as in [json!(line), json!(["sh", "-c", line])] {
            let mut params = one_file(run_as.clone());
            params["params"] = json!({ "n": 2 });
            let ran = run(&params, &[]).unwrap();
            assert_eq!(String::from_utf8(ran.bytes("deep/y.txt")).unwrap(), expected, "{run_as}");
        }
    }
}

#[test]
fn a_placeholder_of_several_inputs_is_several_words() {
    let folder = tempfile::tempdir().unwrap();
    let input = |name: &str| ("x", file_input(folder.path(), name, name.as_bytes(), None));
    let ran = run(&one_file(json!("cat {inputs.x} > {outputs.y}")), &[input("a b"), input("c")]).unwrap();
    assert_eq!(ran.bytes("deep/y.txt"), b"a bc");
    for line in ["F={inputs.x}; touch {outputs.y}", "cat a{inputs.x} > {outputs.y}", "cat {inputs.x}.b > {outputs.y}"] {
        let error = run(&one_file(json!(line)), &[input("a b"), input("c")]).err().unwrap();
        assert!(error.message.contains("is part of a word in `run`"), "{line}: {error}");
    }
}

#[test]
fn a_placeholder_where_its_value_would_be_code_is_refused() {
    for (line, place) in [
        (json!("echo '{params.v}' > {outputs.y}"), "within quotes (')"),
        (json!("echo \"{params.v}\" > {outputs.y}"), "within quotes (\")"),
        (json!("bash -c \"cat {inputs.x}\" > {outputs.y}"), "within quotes (\")"),
        (json!("echo `cat {inputs.x}` > {outputs.y}"), "within backticks"),
        (json!("echo $(({params.v} + 1)) > {outputs.y}"), "within arithmetic"),
        (json!("python3 <<E > {outputs.y}\nprint({params.v})\nE"), "within a here-document"),
        (json!(["bash", "-euc", "echo '{params.v}' > {outputs.y}"]), "within quotes (')"),
        (json!(["bash", "-c", "[[ {params.v} -gt 1 ]]", "{outputs.y}"]), "within `[[ … ]]`"),
        (json!(["python3", "-c", "open('{outputs.y}', 'w')"]), "part of a program text"),
        (json!(["python3", "-Ic", "{params.v}", "{outputs.y}"]), "part of a program text"),
        (json!(["perl", "-e", "1;", "-le", "{params.v}", "{outputs.y}"]), "part of a program text"),
        (json!(["awk", "{{ print \"{params.v}\" }}", "{outputs.y}"]), "part of a program text"),
        (json!(["Rscript", "-e", "x <- '{inputs.x}'", "{outputs.y}"]), "part of a program text"),
    ] {
        let mut params = one_file(line.clone());
        params["params"] = json!({ "v": "text" });
        let error = refused(params);
        assert!(error.path == ["run"] && error.message.contains(place) && error.hint.is_some(), "{line}: {error:?}");
    }
    // Numbers, truth values and the number of threads are no code; neither are options of a user's program.
    for line in [
        json!("echo \"{params.n} {params.b} {threads}\" > {outputs.y}"),
        json!(["python3", "-c", "{params.n}"]),
        json!(["python3", "train.py", "-c", "{params.v}", "{outputs.y}"]),
        json!(["bash", "run.sh", "-config", "{params.v}", "{outputs.y}"]),
        json!(["awk", "-v", "v={params.v}", "{{ print v }}", "{outputs.y}"]),
    ] {
        let mut params = one_file(line);
        params["params"] = json!({ "n": 1.5, "b": true, "v": "text" });
        resolve(&Command, &params).unwrap();
    }
}

#[test]
fn a_line_fails_if_any_of_its_commands_fails() {
    let failing =
        ["(echo a; exit 7) | sort > {outputs.y}", "no-such-program | sort > {outputs.y}", "false; touch {outputs.y}"];
    for line in failing {
        let error = run(&one_file(json!(line)), &[]).err().unwrap_or_else(|| panic!("{line}"));
        assert_eq!(error.category, ErrorCategory::Failed, "{line}");
        let mut lenient = one_file(json!(line));
        lenient["strict"] = json!(false);
        run(&lenient, &[]).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    let error = run(&one_file(json!("yes | head -1 > {outputs.y}")), &[]).err().unwrap();
    assert!(error.hint.unwrap().contains("strict = false"));
    for (line, expected) in
        [("echo 'a\\tb' | cat", "a\tb\n"), ("echo -n abc | cat", "abc"), ("echo {{a,b}} | cat", "{a,b}\n")]
    {
        let ran = run(&one_file(json!(format!("{line} > {{outputs.y}}"))), &[]).unwrap();
        let written = String::from_utf8(ran.bytes("deep/y.txt")).unwrap();
        assert_eq!(written, expected, "{line}: whichever shell runs the line, it is read as by dash");
    }
}

#[test]
fn only_lines_of_several_commands_have_strictness_in_their_key() {
    let strict = |run: Value, given: Value| {
        let params = json!({ "run": run, "strict": given, "outputs": { "y": { "type": "file" } } });
        resolve(&Command, &params).unwrap().json().get("strict").cloned().unwrap_or_default()
    };
    assert_eq!(strict(json!("a | b"), Value::Null), true);
    assert_eq!(strict(json!("a; b"), json!(false)), false);
    for run in [json!("a && b"), json!("a > b"), json!(["sh", "-c", "a | b"])] {
        assert_eq!(strict(run.clone(), Value::Null), Value::Null);
        assert_eq!(strict(run, json!(false)), Value::Null);
    }
}

#[test]
fn numbers_that_json_does_not_have_are_named_with_a_way_out() {
    let metrics = |text: &str| {
        let params = json!({ "run": "printf '%s' {params.text} > {outputs.m}", "outputs": { "m": { "type": "metrics" } },
            "params": { "text": text } });
        run_kind(&Command, &params, &[])
    };
    for (text, expected) in [
        ("{\"auc\": NaN, \"loss\": 1}", "output `m` has no metrics that can be read: `NaN` in line 1 is not JSON"),
        ("{\n\"a\": 1,\n\"b\": [-Infinity]}", "`-Infinity` in line 3 is not JSON"),
        ("{\"a\":Infinity}", "`Infinity` in line 1"),
        ("{\"NaN\": tru}", "`m.json`: not JSON: expected ident at line 1"),
        ("\u{feff}{}", "`m.json`: it begins with a byte order mark"),
    ] {
        let error = metrics(text).err().unwrap();
        assert!(error.message.contains(expected), "{text}: {}", error.message);
    }
    assert!(metrics("{\"a\": null}").is_ok());
}

#[test]
fn empty_folders_that_the_cache_does_not_keep_are_named() {
    let params = json!({ "run": "mkdir -p {outputs.t}/mel {outputs.t}/nv/x; echo 1 > {outputs.t}/nv/a",
        "outputs": { "t": { "type": "folder" } } });
    let ran = run_kind(&Command, &params, &[]).unwrap();
    let expected = "output `t` has 2 empty folders, such as `mel`, and the cache keeps only files";
    assert!(format!("{:?}", ran.events).contains(expected), "{:?}", ran.events);
}
