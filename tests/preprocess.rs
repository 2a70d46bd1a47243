//! Incremental preprocessing of ten thousand images, measured in parts and decoded images.

use std::path::{Path, PathBuf};

use crate::harness::{Project, Ran};

const PIPELINE: &str = r#"
[inputs]
metadata = "metadata.csv"
images = ["one", "two"]

[stages.metadata]
csv = "inputs.metadata"
images = "inputs.images"

[stages.preprocess]
table = "metadata"
images = "inputs.images"
"#;

/// A copy of the real dataset, since the tests modify it.
fn dataset() -> Project {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let shared = std::env::var_os("HAMFLOW_DATA").map_or(beside, PathBuf::from).join("ham10000");
    assert!(shared.exists(), "the real data is not at {}", shared.display());
    let project = Project::builtin(PIPELINE);
    for (name, folder) in [("HAM10000_images_part_1", "one"), ("HAM10000_images_part_2", "two")] {
        std::fs::create_dir(project.path(folder)).unwrap();
        for entry in std::fs::read_dir(shared.join(name)).unwrap() {
            let path = entry.unwrap().path();
            let target = project.path(folder).join(path.file_name().unwrap());
            std::fs::write(target, std::fs::read(&path).unwrap()).unwrap();
        }
    }
    project.write("metadata.csv", std::fs::read(shared.join("HAM10000_metadata.csv")).unwrap());
    project
}

/// The number of parts and images that a run processed.
fn redone(ran: &Ran) -> (u64, u64) {
    (ran.count("parts_ran"), ran.count("part_files_ran"))
}

fn add(project: &Project, id: &str, like: &str) {
    let metadata = project.read("metadata.csv");
    let line = metadata.lines().find(|line| line.contains(like)).unwrap().replace(like, id);
    project.write("metadata.csv", format!("{metadata}{line}\n"));
    let image = std::fs::read(project.path(&format!("one/{like}.jpg"))).unwrap();
    project.write(&format!("one/{id}.jpg"), image);
}

#[test]
#[ignore = "needs the real data"]
fn a_changed_image_among_ten_thousand_reruns_only_its_part() {
    let project = dataset();
    let first = project.run();
    let (parts, images) = redone(&first);
    assert_eq!(images, 10_015);
    assert!((120..=240).contains(&parts), "{parts} parts of about 64 images");

    let path = "one/ISIC_0024400.jpg";
    let mut bytes = std::fs::read(project.path(path)).unwrap();
    bytes.extend(b"a comment behind the end");
    project.write(path, bytes);
    let (parts, images) = redone(&project.run());
    assert_eq!(parts, 1, "one image's bytes");
    assert!(images <= 256, "{images} images");

    add(&project, "ISIC_0025000a", "ISIC_0024400");
    let (parts, images) = redone(&project.run());
    assert!((1..=2).contains(&parts) && images <= 257, "one added: {parts} parts, {images} images");

    let metadata = project.read("metadata.csv");
    let without: Vec<&str> = metadata.lines().filter(|line| !line.contains("ISIC_0024500")).collect();
    project.write("metadata.csv", without.join("\n") + "\n");
    std::fs::remove_file(project.path("one/ISIC_0024500.jpg")).unwrap();
    let (parts, images) = redone(&project.run());
    assert!((1..=2).contains(&parts) && images <= 512, "one removed: {parts} parts, {images} images");

    let metadata = project.read("metadata.csv");
    project.write("metadata.csv", metadata.replace("ISIC_0024600", "ISIC_0029000b"));
    std::fs::rename(project.path("one/ISIC_0024600.jpg"), project.path("one/ISIC_0029000b.jpg")).unwrap();
    let (parts, images) = redone(&project.run());
    assert!((1..=4).contains(&parts) && images <= 768, "one renamed: {parts} parts, {images} images");

    for number in 0..100 {
        add(&project, &format!("ISIC_01{number:05}"), "ISIC_0024400");
    }
    let (parts, images) = redone(&project.run());
    assert!((100..=10_015 / 20).contains(&images), "a hundred appended: {parts} parts, {images} images");

    let shards = project.files("out/preprocess");
    std::fs::remove_dir_all(project.path("out")).unwrap();
    let ran = project.run();
    assert_eq!(redone(&ran), (0, 0), "everything comes from the cache");
    assert_eq!(ran.with_outcome("cached"), ["metadata", "preprocess"]);
    assert!(project.files("out/preprocess") == shards, "identical results");

    std::fs::remove_dir_all(project.path("cache")).unwrap();
    std::fs::remove_dir_all(project.path("out")).unwrap();
    assert_eq!(project.run().count("part_files_ran"), 10_115, "everything is rerun");
    assert!(project.files("out/preprocess") == shards, "cached parts and new parts are identical");
}

#[test]
fn a_preview_shows_pairs_and_reports_missing_dependencies() {
    let pipeline = "[stages.synthetic]\nimages = 120\n[stages.metadata]\ncsv = \"synthetic.metadata\"\nimages = \"synthetic.images\"\n[stages.preprocess]\ntable = \"metadata\"\nimages = \"synthetic.images\"\nfit = \"pad\"\nwidth = 60\nheight = 60\n";
    let project = Project::builtin(pipeline);
    let early = project.hamflow(&["preview", "preprocess"]);
    assert_eq!(early.code, 2, "{early:?}");
    assert!(early.stderr.contains("hint: run `hamflow run synthetic metadata` first"), "{early:?}");
    project.run_with(&["metadata"]);
    let shown = project.hamflow(&["preview", "preprocess", "--sample", "3"]);
    assert_eq!((shown.code, &shown.stdout[..]), (0, "preprocess-preview.png\n"), "{shown:?}");
    let png = std::fs::read(project.path("preprocess-preview.png")).unwrap();
    let side = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    assert!(png.starts_with(b"\x89PNG"));
    assert_eq!(side(20), 12 + 2 * (225 + 12), "two rows of pairs");
    assert_eq!(side(16), 12 + 2 * (300 + 6 + 225 + 24), "two pairs in a row: before and after");
    project.hamflow(&["preview", "preprocess", "--sample", "3", "--set", "stages.preprocess.fit=center-crop"]);
    assert!(std::fs::read(project.path("preprocess-preview.png")).unwrap() != png, "the parameter has an effect");
    let nowhere = project.hamflow(&["preview", "preprocess", "--out", "pipeline.toml/x.png"]);
    assert_eq!(nowhere.code, 2, "{nowhere:?}");
    assert!(nowhere.stderr.contains("hint: choose another file with `--out`"), "{nowhere:?}");
    assert!(!project.path("out/preprocess").exists(), "nothing ran");
    let other = project.hamflow(&["preview", "metadata"]);
    assert_eq!(other.code, 2);
    assert!(other.stderr.contains("the kind `metadata` has no preview"), "{other:?}");
}
