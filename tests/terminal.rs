//! Text from outside never reaches the terminal with control characters.

use std::process::Stdio;
use std::time::{Duration, Instant};

use hamflow_stage_api::escape_controls;

use crate::harness::{Project, Ran};

/// Sets the title of a terminal, clears it, colours it, and reorders what follows.
const HOSTILE: &str = "\u{1b}]0;pwned\u{7}\u{1b}[2J\u{1b}[31m\u{9b}2J\u{202e}";

/// Fails unless the command named the hostile text, and all that it printed is harmless.
fn assert_escaped(what: &str, ran: &Ran) {
    for text in [&ran.stdout, &ran.stderr] {
        assert!(text == &*escape_controls(text), "{what}: {text:?}");
    }
    let all = format!("{}{}", ran.stdout, ran.stderr);
    assert!(all.contains(r"\u001b") || all.contains(r"\u202e"), "{what} does not show the text: {all}");
}

/// A text as a TOML string.
fn quoted(text: &str) -> String {
    let escape = |c: char| if c.is_control() { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    format!("\"{}\"", text.chars().map(escape).collect::<String>())
}

const TABLE: &str = "lesion_id,image_id,dx,dx_type,age,sex,localization\n";

#[test]
fn names_and_values_in_the_pipeline_are_escaped() {
    for pipeline in [
        format!("[stages.x]\nkind = \"com{HOSTILE}mand\"\n"),
        format!("[stages.x]\nkind = {}\n", quoted(HOSTILE)),
        format!("[stages.{}]\nkind = \"command\"\n", quoted(HOSTILE)),
        format!(
            "[inputs]\ncsv = {}\n[stages.metadata]\ncsv = \"inputs.csv\"\nimages = \"inputs.csv\"\n",
            quoted(HOSTILE)
        ),
        format!("[stages.command]\nrun = {}\noutputs = {{ y = {{ type = \"file\" }} }}\n", quoted(HOSTILE)),
    ] {
        let ran = Project::builtin(&pipeline).hamflow(&["run"]);
        assert_ne!(ran.code, 0, "{ran:?}");
        assert_escaped(&pipeline, &ran);
    }
}

#[test]
fn arguments_are_escaped() {
    let project = Project::builtin("[stages.synthetic]\n");
    for arguments in [
        ["run", HOSTILE],
        ["status", &format!("--{HOSTILE}")],
        ["log", HOSTILE],
        ["run", &format!("--set={HOSTILE}=1")],
    ] {
        let ran = project.hamflow(&arguments);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert_escaped(arguments[0], &ran);
    }
}

#[test]
fn values_of_a_table_and_names_of_files_are_escaped() {
    let pipeline = "[inputs]\ncsv = \"t.csv\"\nimages = \"images\"\n\
                    [stages.metadata]\ncsv = \"inputs.csv\"\nimages = \"inputs.images\"\n";
    let project = Project::builtin(pipeline);
    project.write(&format!("images/x{HOSTILE}.jpg"), "");
    project
        .write("t.csv", format!("{TABLE}l,x{HOSTILE},nv,histo,40,male,back\nm,x,weird{HOSTILE},histo,40,male,back\n"));
    assert_escaped("a class", &project.hamflow(&["run"]));
    project.write("t.csv", format!("{TABLE}l,y{HOSTILE},nv,histo,40,male,back\n"));
    assert_escaped("an image", &project.hamflow(&["run"]));
    project.write("t.csv", format!("{TABLE}l,x{HOSTILE},nv,histo,40,male,back\n"));
    assert_eq!(project.hamflow(&["run"]).code, 0);
    project.write(&format!("images/y{HOSTILE}.jpg"), "");
    assert_escaped("a new file", &project.hamflow(&["why", "metadata"]));
    assert_escaped("a new file", &project.hamflow(&["why", "metadata", "--json"]));
}

#[test]
fn the_output_of_programs_is_kept_as_it_is_and_shown_escaped() {
    let pipeline = "[inputs]\nsay = \"say.txt\"\n[stages.x]\nkind = \"command\"\ninputs = { say = \"inputs.say\" }\n\
                    outputs = { y = { type = \"file\" } }\nrun = \"cat {inputs.say} >&2; exit 3\"\n";
    let project = Project::builtin(pipeline);
    project.write("say.txt", format!("{HOSTILE}\n"));
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 1);
    assert_escaped("a failure", &ran);
    assert_escaped("a log", &project.hamflow(&["log", "last", "x"]));
    assert_escaped("a record", &project.hamflow(&["log", "last"]));
    let events = project.hamflow(&["run", "--json"]);
    assert_escaped("events", &events);
    let told = events.events().iter().any(|event| event.to_string().contains("pwned"));
    assert!(told, "events stay valid JSON: {events:?}");
    let logs = project.files("cache/runs");
    assert!(logs.iter().any(|(_, bytes)| bytes.windows(HOSTILE.len()).any(|part| part == HOSTILE.as_bytes())));
}

#[test]
fn what_others_left_in_the_cache_is_escaped() {
    let project = Project::builtin("[stages.synthetic]\n");
    project.write("cache/run.lock", format!("process 1 on h: {HOSTILE}"));
    let lock = std::fs::File::open(project.path("cache/run.lock")).unwrap();
    lock.lock().unwrap();
    assert_escaped("the holder of the lock", &project.hamflow(&["run", "--no-wait"]));
    drop(lock);

    let mut bundle = tar::Builder::new(Vec::new());
    for name in ["hamflow-cache".to_owned(), format!("evil{HOSTILE}")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        bundle.append_data(&mut header, name, &b"1\n"[..]).unwrap();
    }
    project.write("bundle.tar", bundle.into_inner().unwrap());
    assert_escaped("a bundle", &project.hamflow(&["cache", "import", "bundle.tar"]));
}

#[test]
fn labels_of_a_model_are_escaped() {
    let project = Project::builtin(crate::builtin::SMALL);
    project.run_with(&["train"]);
    let image = project.files("out/synthetic/images")[0].0.clone();
    for (name, bytes) in project.files("out/train/model") {
        project.write(&name.replace("out/train/model", "m"), bytes);
    }
    let change = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut card: serde_json::Value = serde_json::from_str(&project.read("out/train/model/card.json")).unwrap();
        change(&mut card);
        project.write("m/card.json", card.to_string());
        project.hamflow(&["predict", "m", &image])
    };
    // A right-to-left override is no control character, so it may be in a label.
    let ran = change(&|card| {
        card["classes"].as_array_mut().unwrap().iter_mut().for_each(|class| {
            class["label"] = format!("\u{202e}{}", class["label"].as_str().unwrap()).into();
        })
    });
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains(r"\u202e") && !ran.stdout.contains('\u{202e}'), "{ran:?}");
    let ran = change(&|card| card["classes"][0]["label"] = HOSTILE.into());
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("is not valid in a file name") && !ran.stderr.contains('\u{1b}'), "{ran:?}");
}

// `script` of other systems has other options.
#[cfg(target_os = "linux")]
#[test]
fn a_terminal_gets_only_the_colours_of_hamflow() {
    let pipeline = "[stages.x]\nkind = \"command\"\noutputs = { y = { type = \"file\" } }\nparams = { v = \"a\" }\n\
                    run = \"printf '\\\\033[31m\\\\ufdd1red\\\\ufdd0' >&2; exit 3\"\n";
    let project = Project::builtin(pipeline);
    // `script` gives the program a terminal.
    let command = format!("{} run", project.program().display());
    let mut script = std::process::Command::new("script");
    script
        .args(["-qec", &command, "/dev/null"])
        .current_dir(project.root())
        .env_remove("NO_COLOR")
        .env("TERM", "xterm");
    let ran = Project::finish(script);
    assert!(ran.stdout.contains("\u{1b}[31;1merror:\u{1b}[0m"), "{ran:?}");
    assert!(ran.stdout.contains(r"\u001b[31m") && !ran.stdout.contains("\u{1b}[31mred"), "{ran:?}");
}

/// The lines of running stages that a terminal got. Each begins with a frame of the spinner and fills the width, so that
/// the next one needs no line feed.
fn bars(output: &str) -> Vec<String> {
    let mut bars: Vec<String> = Vec::new();
    for line in output.split(['\r', '\n']) {
        let mut is_bar = false;
        let mut rest = line.chars().peekable();
        while let Some(character) = rest.next() {
            if character == '\u{1b}' && rest.next_if_eq(&'[').is_some() {
                while rest.next_if(|next| !next.is_ascii_alphabetic()).is_some() {}
                rest.next();
                continue;
            }
            if ('\u{2800}'..='\u{28ff}').contains(&character) {
                bars.push(String::new());
                is_bar = true;
            }
            if is_bar {
                bars.last_mut().unwrap().push(character);
            }
        }
    }
    bars
}

#[test]
fn the_table_of_parallel_stages_fits_60_columns() {
    let names = ["preprocess-of-the-large-images", "preprocess-of-the-small-images", "short"];
    let stages = names.map(|name| format!("[stages.{name}]\nkind = \"hold\"\nname = \"{name}\"\n"));
    let project = Project::new(&stages.concat());
    let command = format!("stty cols 60 rows 24; exec {} run --jobs 3", project.program().display());
    let mut script = std::process::Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).current_dir(project.root());
    script.env("TERM", "xterm").env_remove("NO_COLOR").stdin(Stdio::null()).stdout(Stdio::piped());
    let running = script.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while std::fs::read_to_string(project.path("order")).map_or(0, |order| order.lines().count()) < names.len() {
        assert!(Instant::now() < deadline, "the stages did not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Three ticks of the spinner.
    std::thread::sleep(Duration::from_millis(400));
    project.write("go-on", "");
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let bars = bars(&String::from_utf8(output.stdout).unwrap());
    for shown in ["prepr…rge-images", "prepr…all-images", "short           "] {
        let bar = bars.iter().find(|bar| bar.contains(&format!(" {shown}  50% 1/2 steps  ")));
        assert!(bar.is_some(), "`{shown}` in {bars:?}");
    }
    let widest = bars.iter().map(|bar| bar.chars().count()).max().unwrap();
    assert!(widest <= 60, "{widest}: {bars:?}");
}
