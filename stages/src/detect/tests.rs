//! Tests of the detection of datasets.

use std::fs;

use tempfile::TempDir;

use super::*;

/// A folder with these files; images need no content.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = folder.path().join("data").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

fn detected(files: &[(&str, &str)]) -> Option<DetectedProject> {
    detect(&folder(files).path().join("data")).unwrap()
}

const IMAGES: [(&str, &str); 4] = [("p/i1.jpg", ""), ("p/i2.jpg", ""), ("q/i3.jpg", ""), ("q/i4.jpg", "")];

fn with_images(tables: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    IMAGES.into_iter().chain(tables.iter().copied()).collect()
}

#[test]
fn a_pipeline_says_what_was_found() {
    let ham = "lesion_id,image_id,dx,dx_type,age,sex,localization\nL1,i1,nv,histo,50,male,back\nL1,i2,nv,histo,50,male,back\nL2,i3,mel,histo,,male,back\n";
    let masks = [("m/i1_segmentation.png", ""), ("notes.txt", "remember the milk\n"), ("other.csv", "a,b\n1,2\n")];
    let files: Vec<_> = with_images(&[("HAM10000_metadata.csv", ham)]).into_iter().chain(masks).collect();
    insta::assert_snapshot!("ham10000", detected(&files).unwrap().pipeline);

    let pad = "patient_id,img_id,diagnostic,gender\nP1,i1.png,NEV,MALE\nP2,i2.png,ACK,FEMALE\nP3,i9.png,ACK,FEMALE\n";
    insta::assert_snapshot!("table", detected(&with_images(&[("meta/metadata.csv", pad)])).unwrap().pipeline);
}

#[test]
fn tables_that_belong_together_are_joined() {
    let truth = "image,NV,MEL,UNK\ni1,1.0,0.0,0.0\ni2,0,1,0\ni3,1,0,0\n";
    let about = "image,age_approx,lesion_id,sex\ni1,50,L1,male\ni2,,L2,\ni3,,L1,\n";
    let found = detected(&with_images(&[("truth.csv", truth), ("about.csv", about)])).unwrap();
    assert!(found.pipeline.contains("csv = [\"inputs.table_1\", \"inputs.table_2\"]"), "{}", found.pipeline);
    assert_eq!(
        found.found,
        ["`about.csv` and `truth.csv`; layout `isic-one-hot`", "3 images in `p` and `q`", "2 classes: nv 2, mel 1"]
    );
    let alone = detected(&with_images(&[("truth.csv", truth)])).unwrap();
    assert!(
        alone.found.contains(
            &"3 images have no lesion: nothing proves that their lesion is on one side of the split".to_owned()
        )
    );
    assert!(!alone.pipeline.contains("[stages.clean]"), "there are no ages to fill in");
}

#[test]
fn other_classes_and_rows_without_a_diagnosis_are_no_obstacle() {
    let table = "image_id,dx\ni1,benign\ni2,malignant\ni3,\n";
    let found = detected(&with_images(&[("t.csv", table)])).unwrap();
    assert!(found.pipeline.contains("layout = \"table\"\nexclude_classes = [\"\"]"), "{}", found.pipeline);
    assert_eq!(found.found[2], "2 classes: benign 1, malignant 1");
}

#[test]
fn folders_are_classes_unless_they_are_parts() {
    let found = detected(&[("a/nevus/i1.jpg", ""), ("a/melanoma/i2.jpg", "")]).unwrap();
    assert_eq!(found.found[0], "no table; layout `folders`");
    assert!(found.pipeline.contains("images = \"a\"\n"), "{}", found.pipeline);
    assert_eq!(detected(&[("part_1/i1.jpg", ""), ("part_2/i2.jpg", "")]), None);
    assert_eq!(detected(&[("t.csv", "image_id,dx\ni1,nv\n")]), None);
    assert_eq!(detected(&IMAGES[..1]), None);
}

#[test]
fn quotes_in_names_are_escaped() {
    let found = detected(&[("a \"b\"/nevus/i1.jpg", ""), ("a \"b\"/melanoma/i2.jpg", "")]).unwrap();
    assert!(found.pipeline.contains("\"a \\\"b\\\"\""), "{}", found.pipeline);
}
