//! How long hamflow takes to find out that there is nothing to do: whole processes, interleaved rounds, medians.
//!
//! `cargo bench --bench engine` prints a table; `find` and, where it is installed, `ninja` do comparable work in the same rounds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use hamflow::plan::PartFingerprint;
use hamflow_stage_api::{
    AnyKind, Digest, EventSink, Input, InputFile, Inputs, Job, JobEvent, JobPart, Params, Plan, Planning, Redactor,
    perform,
};

const ROUNDS: usize = 21;

struct Case {
    name: String,
    goal_ms: Option<f64>,
    command: Box<dyn Fn() -> Command>,
}

fn hamflow(project: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hamflow"));
    command.current_dir(project).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn must_run(project: &Path, arguments: &[&str]) {
    let status = hamflow(project, arguments).stderr(Stdio::inherit()).status().expect("hamflow starts");
    assert!(status.success(), "hamflow {arguments:?} failed in {}", project.display());
}

fn case(name: &str, goal_ms: Option<f64>, project: PathBuf, arguments: &'static [&'static str]) -> Case {
    Case { name: name.to_owned(), goal_ms, command: Box::new(move || hamflow(&project, arguments)) }
}

/// A project of `count` stages that run programs, all done.
fn many_stages(root: &Path, count: usize) -> PathBuf {
    let project = root.join("stages");
    std::fs::create_dir_all(&project).expect("the folder can be made");
    let mut pipeline = String::from("[inputs]\ntext = \"text.txt\"\n");
    for number in 0..count {
        let from = if number % 100 == 0 { "inputs.text".to_owned() } else { format!("s{}", number - 1) };
        pipeline.push_str(&format!(
            "[stages.s{number}]\nkind = \"command\"\ninputs = {{ from = \"{from}\" }}\noutputs = {{ to = {{ type = \"file\", path = \"to\" }} }}\nparams = {{ n = {number} }}\nrun = [\"cp\", \"{{inputs.from}}\", \"{{outputs.to}}\"]\n"
        ));
    }
    std::fs::write(project.join("pipeline.toml"), pipeline).expect("the pipeline can be written");
    std::fs::write(project.join("text.txt"), "text").expect("the input can be written");
    eprintln!("building {count} stages …");
    must_run(&project, &["run"]);
    project
}

/// A project of one stage that reads a folder of `count` files.
fn many_files(root: &Path, count: usize) -> PathBuf {
    let project = root.join("files");
    for number in 0..count {
        let folder = project.join(format!("data/{:03}", number / 1000));
        if number % 1000 == 0 {
            std::fs::create_dir_all(&folder).expect("the folder can be made");
        }
        std::fs::write(folder.join(format!("{number:06}.txt")), number.to_string()).expect("the file can be written");
    }
    let pipeline = "[inputs]\ndata = \"data\"\n[stages.count]\nkind = \"command\"\ninputs = { data = \"inputs.data\" }\noutputs = { n = { type = \"file\", path = \"n\" } }\nrun = \"find {inputs.data} -type f | wc -l > {outputs.n}\"\n";
    std::fs::write(project.join("pipeline.toml"), pipeline).expect("the pipeline can be written");
    eprintln!("hashing {count} files …");
    must_run(&project, &["run"]);
    project
}

/// The shipped pipeline up to the shards, on the real data.
fn real(root: &Path, data: &Path) -> PathBuf {
    let project = root.join("real");
    std::fs::create_dir_all(&project).expect("the folder can be made");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::copy(manifest.join("pipeline.toml"), project.join("pipeline.toml")).expect("the pipeline can be copied");
    std::os::unix::fs::symlink(data.join("ham10000"), project.join("data")).expect("the link can be made");
    eprintln!("preprocessing the real data …");
    must_run(&project, &["run", "split", "preprocess"]);
    project
}

/// Nobody listens.
struct Silent;

impl EventSink for Silent {
    fn emit(&self, _event: JobEvent) {}
}

/// The built-in kind with this name.
fn kind(name: &str) -> &'static dyn AnyKind {
    let kinds = hamflow_stages::registry::KINDS;
    *kinds.iter().find(|kind| kind.spec().name == name).expect("the kind is built in")
}

fn input(name: &str, files: Vec<InputFile>, folder: bool) -> Input {
    let (digest, path) = (Digest::of(name.as_bytes()), files.first().map(|file| file.source.clone()));
    Input { name: name.to_owned(), is_artifact: false, labels: Vec::new(), digest: digest.into(), files, folder, path }
}

fn file_input(name: &str, path: PathBuf) -> Input {
    let digest = Digest::of(&std::fs::read(&path).expect("the file is there"));
    input(name, vec![InputFile { root: 0, path: "file".to_owned(), digest: digest.into(), source: path }], false)
}

/// Writes a metadata CSV of `count` images to `folder`, and lists the images without creating them.
fn list_images(folder: &Path, count: usize) -> (Input, Input) {
    let mut csv = String::from("lesion_id,image_id,dx,dx_type,age,sex,localization\n");
    let mut files = Vec::with_capacity(count);
    for number in 0..count {
        csv.push_str(&format!("HAM_{number:07},ISIC_{number:07},nv,histo,40,male,back\n"));
        let path = format!("ISIC_{number:07}.jpg");
        files.push(InputFile { root: 0, digest: Digest::of(path.as_bytes()).into(), source: folder.join(&path), path });
    }
    std::fs::write(folder.join("metadata.csv"), csv).expect("the CSV can be written");
    (file_input("inputs.metadata", folder.join("metadata.csv")), input("inputs.images", files, true))
}

/// Runs the kind `metadata` in `folder`.
fn metadata_table(folder: &Path, csv: Input, images: Input) -> Input {
    let metadata = kind("metadata");
    let params = metadata.resolve(&Params::new()).expect("the defaults are right");
    let job = Job {
        id: 0,
        stage: "metadata".to_owned(),
        kind: "metadata".to_owned(),
        params: params.json().clone(),
        seed: None,
        part: JobPart::Whole,
        lineage: None,
        inputs: Inputs(BTreeMap::from([("csv".into(), vec![csv]), ("images".into(), vec![images])])),
        output_dir: folder.to_owned(),
        scratch_dir: folder.to_owned(),
        side_dir: folder.to_owned(),
        checkpoint_dir: None,
        threads: 1,
        pool_threads: 1,
        own_paths: Vec::new(),
        params_file: None,
        project_dir: folder.to_owned(),
        env: BTreeMap::new(),
        redactor: Redactor::default(),
    };
    perform(metadata, &job, &Silent).expect("the table can be made");
    let outputs = metadata.outputs(&params);
    let table = outputs.iter().find(|output| output.name == "table").expect("`metadata` makes a table");
    file_input("metadata.table", folder.join(&table.path))
}

/// The seconds for planning `preprocess` over `count` images, from a table and a listing like those of a run: creating the view,
/// looking up the images, cutting the parts and computing their keys.
fn plan_images(root: &Path, count: usize) -> f64 {
    let folder = root.join("listed");
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    let (csv, images) = list_images(&folder, count);
    let table = metadata_table(&folder, csv, images.clone());

    let preprocess = kind("preprocess");
    let params = preprocess.resolve(&Params::new()).expect("the defaults are right");
    let inputs = Inputs(BTreeMap::from([("table".into(), vec![table]), ("images".into(), vec![images])]));
    let planning = Planning { inputs: &inputs, seed: None };
    let start = Instant::now();
    for view in preprocess.views(&params, planning).expect("the table has its columns") {
        std::hint::black_box(Digest::of(view.text.as_bytes()));
    }
    let Plan::Parts(parts) = preprocess.plan(&params, planning).expect("every image is listed") else {
        panic!("`preprocess` has parts")
    };
    let listed = &inputs.0["images"][0].files;
    for part in &parts {
        let digests = part.files["images"]
            .iter()
            .map(|index| listed[*index as usize].known_digest().expect("it was made up"))
            .collect();
        let fingerprint = PartFingerprint {
            kind: "preprocess".to_owned(),
            revision: preprocess.spec().revision,
            params: params.json().clone(),
            part: part.key.clone(),
            files: BTreeMap::from([("images".to_owned(), digests)]),
            seed: None,
            device: None,
        };
        std::hint::black_box(fingerprint.key());
    }
    start.elapsed().as_secs_f64()
}

fn find(folder: PathBuf) -> Case {
    let name = format!("find -printf over {}", folder.file_name().unwrap_or_default().to_string_lossy());
    let command = move || {
        let mut command = Command::new("find");
        command.args(["-L"]).arg(&folder).args(["-type", "f", "-printf", "%s %T@ %p\\n"]).stdout(Stdio::null());
        command
    };
    Case { name, goal_ms: None, command: Box::new(command) }
}

fn main() {
    let root = tempfile::tempdir().expect("a temporary folder can be made");
    let mut cases = Vec::new();
    let stages = many_stages(root.path(), 10_000);
    cases.push(case("10,000 command stages, nothing to do", Some(200.0), stages.clone(), &["run"]));
    cases.push(case("10,000 command stages, dag --no-status", None, stages, &["dag", "--no-status"]));
    let files = many_files(root.path(), 100_000);
    cases.push(case("100,000 input files, nothing changed", Some(250.0), files.clone(), &["run"]));
    cases.push(find(files.join("data")));
    let shared = std::env::var_os("HAMFLOW_DATA").map_or_else(|| PathBuf::from("../shared"), PathBuf::from);
    match shared.canonicalize() {
        Ok(data) => {
            let project = real(root.path(), &data);
            cases.push(case(
                "HAM10000 to shards, nothing to do",
                Some(20.0),
                project.clone(),
                &["run", "split", "preprocess"],
            ));
            cases.push(case("HAM10000, dag --no-status", Some(10.0), project.clone(), &["dag", "--no-status"]));
            cases.push(find(project.join("data")));
        }
        Err(_) => eprintln!("SKIPPED: the real data is not at {}", shared.display()),
    }
    // The first round hashes again what was written about when it was hashed.
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); cases.len()];
    for round in 0..=ROUNDS {
        for (case, times) in cases.iter().zip(&mut times) {
            let mut command = (case.command)();
            let start = Instant::now();
            let status = command.status().expect("the program starts");
            let elapsed = start.elapsed().as_secs_f64() * 1e3;
            assert!(status.success(), "{}", case.name);
            if round > 0 {
                times.push(elapsed);
            }
        }
    }
    println!("{:<44} {:>10} {:>10} {:>10}", "whole process, ms", "median", "least", "goal");
    for (case, times) in cases.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        let goal = case.goal_ms.map_or(String::new(), |goal| format!("{goal:.0}"));
        println!("{:<44} {:>10.1} {:>10.1} {:>10}", case.name, times[ROUNDS / 2], times[0], goal);
    }
    let mut plans: Vec<f64> = (0..3).map(|_| plan_images(root.path(), 1_000_000)).collect();
    plans.sort_by(f64::total_cmp);
    println!("planning 1,000,000 listed images: median {:.2} s, least {:.2} s, goal 3 s", plans[1], plans[0]);
}
