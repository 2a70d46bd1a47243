//! How long `metadata` takes for large datasets of each layout, and how much memory.
//!
//! `cargo bench --bench metadata [-- ROWS]` prints the median of some runs, each in a process of its own, and the largest of their
//! peaks of memory. The rows and the names of the images are made up; no image is read.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use hamflow_stage_api::{
    Digest, EventSink, FileDigest, Input, InputFile, Inputs, Job, JobEvent, JobPart, Redactor, perform,
};
use hamflow_stages::registry::KINDS;

const ROUNDS: usize = 5;

/// The layouts: a name, the text of each table by the number of rows, and the parameters.
type Layout = (&'static str, fn(usize) -> Vec<(&'static str, String)>, &'static str);

const LAYOUTS: [Layout; 4] = [
    ("ham10000", ham10000, "{}"),
    ("isic-one-hot", isic_one_hot, "{}"),
    ("folders", |_| Vec::new(), "{}"),
    (
        "table",
        table,
        r#"{"columns": {"image_id": "img_id", "dx": "diagnostic", "sex": "gender"}, "labels": {"NEV": "nv"}}"#,
    ),
];

const CLASSES: [&str; 7] = ["nv", "mel", "bkl", "bcc", "akiec", "vasc", "df"];

fn lines(header: &str, rows: usize, line: impl Fn(usize, &mut String)) -> String {
    let mut text = format!("{header}\n");
    for row in 0..rows {
        line(row, &mut text);
        text.push('\n');
    }
    text
}

fn ham10000(rows: usize) -> Vec<(&'static str, String)> {
    let text = lines("lesion_id,image_id,dx,dx_type,age,sex,localization", rows, |row, text| {
        let (class, age) = (CLASSES[row % 7], row % 18 * 5);
        let _ = write!(text, "HAM_{:07},ISIC_{row:07},{class},histo,{age}.0,male,lower extremity", row / 4 * 3);
    });
    vec![("metadata.csv", text)]
}

fn isic_one_hot(rows: usize) -> Vec<(&'static str, String)> {
    let truth = lines("image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK", rows, |row, text| {
        let _ = write!(text, "ISIC_{row:07}");
        (0..9).for_each(|class| text.push_str(if class == row % 8 { ",1.0" } else { ",0.0" }));
    });
    let about = lines("image,age_approx,anatom_site_general,lesion_id,sex", rows, |row, text| {
        let _ = write!(text, "ISIC_{row:07},{},anterior torso,HAM_{:07},female", row % 18 * 5, row / 4 * 3);
    });
    vec![("truth.csv", truth), ("metadata.csv", about)]
}

fn table(rows: usize) -> Vec<(&'static str, String)> {
    let text = lines("patient_id;img_id;diagnostic;age;gender;region;smoke", rows, |row, text| {
        let class = ["NEV", "MEL", "BCC", "ACK"][row % 4];
        let _ = write!(text, "PAT_{row};\"ISIC_{row:07}.png\";{class};{};MALE;FACE;False", row % 90);
    });
    vec![("table.csv", text)]
}

fn input(name: &str, files: Vec<InputFile>, folder: bool) -> Input {
    let digest = Digest::of(name.as_bytes()).into();
    Input { name: name.to_owned(), is_artifact: false, labels: Vec::new(), digest, files, folder, path: None }
}

fn inputs(layout: &Layout, rows: usize, folder: &Path) -> Inputs {
    let tables = (layout.1)(rows).into_iter().map(|(name, text)| {
        let source = folder.join(name);
        std::fs::write(&source, &text).expect("the folder is writable");
        let digest = Digest::of(text.as_bytes()).into();
        input(name, vec![InputFile { root: 0, path: name.to_owned(), digest, source }], false)
    });
    let tables: Vec<Input> = tables.collect();
    let images = (0..rows).map(|row| InputFile {
        root: 0,
        path: if layout.0 == "folders" {
            format!("{}/ISIC_{row:07}.jpg", CLASSES[row % 7])
        } else {
            format!("ISIC_{row:07}.jpg")
        },
        digest: FileDigest::Unread { size: 1 },
        source: "image.jpg".into(),
    });
    let mut images: Vec<InputFile> = images.collect();
    images.sort_by(|a, b| a.path.cmp(&b.path));
    Inputs([("csv".to_owned(), tables), ("images".to_owned(), vec![input("images", images, true)])].into())
}

struct Silent;

impl EventSink for Silent {
    fn emit(&self, _event: JobEvent) {}
}

/// Runs `metadata` once; prints the seconds and the peak of memory in MiB before and after.
fn once(layout: &Layout, rows: usize) {
    let folder = std::env::temp_dir().join(format!("hamflow-metadata-{}", std::process::id()));
    for name in ["out", "scratch", "side"] {
        std::fs::create_dir_all(folder.join(name)).expect("the folder is writable");
    }
    let kind = KINDS.iter().find(|kind| kind.spec().name == "metadata").expect("it is built in");
    let params =
        kind.resolve(&serde_json::from_str(layout.2).expect("the parameters are JSON")).expect("they are valid");
    let inputs = inputs(layout, rows, &folder);
    let job = Job {
        id: 1,
        stage: "metadata".to_owned(),
        kind: "metadata".to_owned(),
        seed: None,
        part: JobPart::Whole,
        lineage: None,
        inputs,
        params: params.json().clone(),
        output_dir: folder.join("out"),
        scratch_dir: folder.join("scratch"),
        side_dir: folder.join("side"),
        checkpoint_dir: None,
        threads: 2,
        pool_threads: 2,
        own_paths: Vec::new(),
        params_file: None,
        project_dir: folder.clone(),
        env: std::collections::BTreeMap::new(),
        redactor: Redactor::default(),
    };
    let before = peak();
    let started = Instant::now();
    perform(*kind, &job, &Silent).expect("the dataset is valid");
    println!("{} {before} {}", started.elapsed().as_secs_f64(), peak());
    let _ = std::fs::remove_dir_all(folder);
}

/// The peak of the memory of this process in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel says it");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [flag, name, rows] = &arguments[..]
        && flag == "--once"
    {
        let layout = LAYOUTS.iter().find(|layout| layout.0 == *name).expect("a layout");
        return once(layout, rows.parse().expect("a number of rows"));
    }
    let rows = arguments.first().map_or("1000000", String::as_str);
    println!(
        "{rows} rows; median of {ROUNDS} runs\n\n| layout | seconds | MiB before | MiB at most |\n| --- | --- | --- | --- |"
    );
    let program = std::env::current_exe().expect("this program has a path");
    for (name, ..) in LAYOUTS {
        let run = || {
            let output = Command::new(&program).args(["--once", name, rows]).output().expect("this program starts");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            text.split_whitespace().map(|word| word.parse().expect("a number")).collect::<Vec<f64>>()
        };
        let mut runs: Vec<Vec<f64>> = (0..ROUNDS).map(|_| run()).collect();
        runs.sort_by(|a, b| a[0].total_cmp(&b[0]));
        let most = |index: usize| runs.iter().map(|run| run[index]).fold(0.0, f64::max);
        println!("| {name} | {:.2} | {} | {} |", runs[ROUNDS / 2][0], most(1), most(2));
    }
}
