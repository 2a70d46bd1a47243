//! Tests of the layouts of datasets, on small files and on those of public datasets over the real images.

use std::fmt::Write;

use hamflow_stage_api::{Digest, Input, InputFile, JobEvent, StageError};
use serde_json::{Value, json};

use super::Metadata;
use super::real::real_inputs;
use crate::table::{floats, integers, required_strings, strings};
use crate::test_support::{Ran, existing_file_input, file_input, files_input, run_kind, shared};

/// Image files by path, each with its content.
fn images(files: &[(&str, &str)]) -> Input {
    let file = |&(path, content): &(&str, &str)| InputFile {
        root: 0,
        path: path.to_owned(),
        digest: Digest::of(content.as_bytes()).into(),
        source: "/nonexistent".into(),
    };
    files_input(files.iter().map(file).collect(), None)
}

/// The images `i1` to `i4`.
fn four() -> Input {
    images(&[("i1.jpg", "1"), ("i2.jpg", "2"), ("i3.jpg", "3"), ("i4.jpg", "4")])
}

fn run(tables: &[(&str, &[u8])], images: Input, params: Value) -> Result<Ran, StageError> {
    let folder = tempfile::tempdir().unwrap();
    let mut inputs: Vec<(&str, Input)> =
        tables.iter().map(|(name, bytes)| ("csv", file_input(folder.path(), name, bytes, None))).collect();
    inputs.push(("images", images));
    let run = run_kind(&Metadata, &params, &inputs);
    // Snapshots must not name the temporary folder.
    run.map_err(|mut error| {
        if let Some(place) = &mut error.place {
            place.path = place.path.rsplit('/').next().unwrap().to_owned();
        }
        error
    })
}

fn notes(ran: &Ran) -> Vec<&str> {
    ran.events
        .iter()
        .filter_map(|event| match event {
            JobEvent::Warning { message } | JobEvent::Note { message } => Some(&message[..]),
            JobEvent::Log { line } => Some(&line[..]),
            _ => None,
        })
        .collect()
}

/// The table's rows as `image class lesion`.
fn rows(ran: &Ran) -> Vec<String> {
    let table = ran.table("table.parquet");
    let [images, classes, lesions] =
        ["image_id", "label", "lesion_id"].map(|name| required_strings(&table, name).unwrap());
    images
        .into_iter()
        .zip(classes)
        .zip(lesions)
        .map(|((image, class), lesion)| format!("{image} {class} {lesion}"))
        .collect()
}

const TRUTH: &str = "image,NV,MEL,UNK\ni1,1.0,0.0,0.0\ni2,0,1,0\ni3.jpg,1,0,0\n";

#[test]
fn one_hot_tables_are_joined_on_the_image() {
    let about =
        "image,age_approx,anatom_site_general,lesion_id,sex\ni3,50,anterior torso,L1,male\nx9,1,,,\ni1,,,L1,female\n";
    for tables in [[("truth.csv", TRUTH), ("about.csv", about)], [("about.csv", about), ("truth.csv", TRUTH)]] {
        let ran = run(&tables.map(|(name, text)| (name, text.as_bytes())), four(), json!({})).unwrap();
        assert_eq!(rows(&ran), ["i1 nv L1", "i2 mel lesion of i2", "i3 nv L1"]);
        let table = ran.table("table.parquet");
        assert_eq!(floats(&table, "age").unwrap(), [None, None, Some(50.0)]);
        assert_eq!(strings(&table, "sex").unwrap(), [Some("female".to_owned()), None, Some("male".to_owned())]);
        assert_eq!(strings(&table, "localization").unwrap()[2].as_deref(), Some("anterior torso"));
        let summary = ran.json("summary.json");
        assert_eq!((&summary["layout"], &summary["absent"]), (&json!("isic-one-hot"), &json!(["dx_type"])));
        assert_eq!(summary["classes"].as_array().unwrap().len(), 2, "no image is of `UNK`");
        let notes = notes(&ran);
        assert!(notes.iter().any(|note| note.starts_with("read as layout `isic-one-hot`")), "{notes:?}");
        assert!(notes.contains(&"skipped 1 row of `about.csv` whose images are not in `truth.csv`"), "{notes:?}");
        assert!(notes.contains(&"1 row has no `lesion_id`: each counts as a group of its own"), "{notes:?}");
    }
}

#[test]
fn any_table_is_read_by_the_names_of_its_columns() {
    let csv = b"patient;img_id;diagnostic;gender;junk\nP1;i1.png;NEV;MALE;x\nP1;i2.png;ACK;;x\nNONE;i3;nev;F;x\n";
    let params = json!({
        "columns": {"image_id": "img_id", "dx": "diagnostic", "sex": "gender", "patient_id": "patient"},
        "labels": {"NEV": "nv"}, "unknown": ["x"],
    });
    let ran = run(&[("pad.csv", csv)], four(), params.clone()).unwrap();
    assert_eq!(rows(&ran), ["i1 nv P1", "i2 ack P1", "i3 nv lesion of i3"]);
    let table = ran.table("table.parquet");
    assert_eq!(strings(&table, "patient_id").unwrap(), [Some("P1".to_owned()), Some("P1".to_owned()), None]);
    assert_eq!(required_strings(&table, "cell_type").unwrap(), ["Melanocytic nevi", "ACK", "Melanocytic nevi"]);
    assert_eq!(integers(&table, "cell_type_idx").unwrap(), [Some(1), Some(0), Some(1)]);
    let summary = ran.json("summary.json");
    assert_eq!((&summary["layout"], &summary["groups"]), (&json!("table"), &json!("patients")));
    assert_eq!(summary["absent"], json!(["dx_type", "age", "localization"]));

    // The same table as Parquet.
    let frame = polars::prelude::df!(
        "patient" => ["P1", "P1", "NONE"], "img_id" => ["i1.png", "i2.png", "i3"],
        "diagnostic" => ["NEV", "ACK", "nev"], "gender" => [Some("MALE"), None, Some("F")]
    );
    let parquet = crate::table::write(&frame.unwrap()).unwrap();
    let same = run(&[("pad.parquet", &parquet)], four(), params).unwrap();
    assert_eq!(same.bytes("table.parquet"), ran.bytes("table.parquet"));
}

#[test]
fn numbers_and_truth_values_of_parquet_are_texts() {
    let frame = polars::prelude::df!(
        "image_id" => ["i1", "i2"], "dx" => [true, false], "age" => [Some(50.5), None], "lesion_id" => [7i64, 8]
    );
    let parquet = crate::table::write(&frame.unwrap()).unwrap();
    let ran = run(&[("t.parquet", &parquet)], four(), json!({"layout": "table"})).unwrap();
    assert_eq!(rows(&ran), ["i1 true 7", "i2 false 8"]);
    assert_eq!(floats(&ran.table("table.parquet"), "age").unwrap(), [Some(50.5), None]);
}

#[test]
fn folders_are_classes_below_common_folders_and_splits() {
    for prefix in ["", "data/", "data/images/"] {
        let files = [format!("{prefix}Nevus/i1.jpg"), format!("{prefix}mel/sub/i2.jpg"), format!("{prefix}mel/i3.png")];
        let files: Vec<(&str, &str)> = files.iter().map(|path| (&path[..], &path[..])).collect();
        let ran = run(&[], images(&files), json!({})).unwrap();
        assert_eq!(rows(&ran), ["i1 nevus lesion of i1", "i3 mel lesion of i3", "i2 mel lesion of i2"], "{prefix}");
        let summary = ran.json("summary.json");
        assert_eq!(summary["absent"], json!(["dx_type", "age", "sex", "localization"]));
        assert_eq!(
            summary["classes"][0],
            json!({"index": 0, "label": "mel", "name": "Melanoma", "rows": 2, "lesions": 2})
        );
        assert_eq!(summary["age"], Value::Null);
    }
    let files = [("train/a/i1.jpg", "1"), ("train/b/i2.jpg", "2"), ("Test/a/i3.jpg", "3"), ("notes.txt", "")];
    let ran = run(&[], images(&files), json!({})).unwrap();
    assert_eq!(rows(&ran), ["i3 a lesion of i3", "i1 a lesion of i1", "i2 b lesion of i2"]);
    assert!(notes(&ran).iter().any(|note| note.contains("are divided again by the stage `split`")));
}

#[test]
fn files_of_one_id_must_have_the_same_bytes() {
    let twice = [("part_1/i1.jpg", "1"), ("Part_1/i1.jpg", "1"), ("i2.jpg", "2")];
    let csv = b"image_id,dx\ni1,nv\ni2,mel\n";
    let ran = run(&[("t.csv", csv)], images(&twice), json!({})).unwrap();
    assert_eq!(required_strings(&ran.table("table.parquet"), "path").unwrap(), ["Part_1/i1.jpg", "i2.jpg"]);
    assert!(notes(&ran).contains(&"1 image has several files of its name; the first is used"));
}

#[test]
fn smaller_copies_are_grouped_with_their_originals_and_rows_can_be_left_out() {
    let csv = b"image_id,dx,lesion_id\ni1,nv,L1\ni1_downsampled,nv,\ni3,mel,\ni4,unknown,L4\n";
    let files = [("i1.jpg", "1"), ("i1_downsampled.jpg", "2"), ("i3.jpg", "3"), ("i4.jpg", "4")];
    let params = json!({"exclude_classes": ["unknown"]});
    let ran = run(&[("t.csv", csv)], images(&files), params).unwrap();
    assert_eq!(rows(&ran), ["i1 nv L1", "i1_downsampled nv L1", "i3 mel lesion of i3"]);
    assert!(notes(&ran).contains(&"dropped 1 row that is excluded"), "{:?}", notes(&ran));
    let params = json!({"exclude_classes": ["unknown"], "exclude_images": ["i1.jpg"]});
    let ran = run(&[("t.csv", csv)], images(&files), params).unwrap();
    assert_eq!(rows(&ran), ["i1_downsampled nv lesion of i1_downsampled", "i3 mel lesion of i3"]);
    assert_eq!(ran.json("summary.json")["rows_excluded"], 2);
}

#[test]
fn classes_may_be_in_the_order_of_the_declaration() {
    let classes = json!([{"label": "nv"}, {"label": "mel", "name": "A melanoma"}, {"label": "scc"}]);
    let table: [(&str, &[u8]); 1] = [("t.csv", b"image_id,dx\ni1,nv\ni2,MEL\n")];
    let labels = |order: &str| {
        let ran = run(&table, four(), json!({"classes": classes, "class_order": order})).unwrap();
        let classes = ran.json("summary.json")["classes"].clone();
        classes.as_array().unwrap().iter().map(|class| class["label"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(labels("declared"), ["nv", "mel", "scc"]);
    assert_eq!(labels("name"), ["mel", "nv", "scc"]);
}

#[test]
fn a_column_that_is_almost_named_is_not_absent_in_silence() {
    let ran = run(&[("t.csv", b"image_id,dx,agee\ni1,nv,5\ni2,mel,6\n")], four(), json!({})).unwrap();
    let notes = notes(&ran);
    assert!(notes.contains(&"`t.csv` has no column `age`; did you mean `agee`?"), "{notes:?}");
    assert!(notes.contains(&"column `agee` of `t.csv` is not used"), "{notes:?}");
}

/// What is refused, the tables and the parameters.
type Refusal<'t> = (&'t str, &'t [(&'t str, &'t str)], Value);

/// Every refusal, as people read it.
#[test]
fn refusals_name_the_place_and_the_way_out() {
    let plain = "image_id,dx\ni1,nv\ni2,mel\n";
    let pad = "img_id,diagnostic,gender\ni1,NEV,MALE\n";
    let cases: &[Refusal<'_>] = &[
        ("columns with known other names", &[("t.csv", pad)], json!({})),
        ("a table of pixels", &[("hmnist_28_28_L.csv", "pixel0000,pixel0001,pixel0002,label\n1,2,3,4\n")], json!({})),
        ("an archive of arrays", &[("dermamnist.npz", "PK\u{3}\u{4}")], json!({})),
        ("columns with unknown names", &[("t.csv", "picture,verdict\na,b\n")], json!({})),
        (
            "a column that does not exist",
            &[("t.csv", pad)],
            json!({"columns": {"image_id": "img", "dx": "diagnostic"}}),
        ),
        ("an optional column that does not exist", &[("t.csv", plain)], json!({"columns": {"age": "years"}})),
        ("no class", &[("t.csv", "image,NV,MEL\ni1,1,0\ni2,0,0\n")], json!({})),
        ("two classes", &[("t.csv", "image,NV,MEL\ni1,1,0\ni2,1,1\n")], json!({})),
        ("not one-hot", &[("t.csv", "image,NV,MEL\ni1,1,0\ni2,0.5,1\n")], json!({"layout": "isic-one-hot"})),
        ("one-hot without classes", &[("t.csv", "image,MEL\ni1,1\n")], json!({"layout": "isic-one-hot"})),
        ("an image twice in a joined table", &[("a.csv", TRUTH), ("b.csv", "image,sex\ni1,m\ni1.jpg,f\n")], json!({})),
        ("a joined table without images", &[("a.csv", TRUTH), ("b.csv", "picture,sex\ni1,m\n")], json!({})),
        ("a class that is not known", &[("t.csv", "image_id,dx\ni1,benign\n")], json!({})),
        ("a class that is not declared", &[("t.csv", plain)], json!({"classes": [{"label": "nv"}, {"label": "bcc"}]})),
        (
            "an unknown word for a class",
            &[("t.csv", "image_id,dx\ni1,nv\ni2,N.N.\n")],
            json!({"layout": "table", "unknown": ["n.n."]}),
        ),
        ("only one class", &[("t.csv", "image_id,dx\ni1,a\ni2,A\n")], json!({"layout": "table"})),
        ("everything left out", &[("t.csv", plain)], json!({"exclude_classes": ["nv", "mel"]})),
        ("an excluded image that is not there", &[("t.csv", plain)], json!({"exclude_images": ["i3"]})),
        ("a table for folders", &[("t.csv", plain)], json!({"layout": "folders"})),
        ("no table", &[], json!({"layout": "table"})),
        ("images outside of folders", &[], json!({})),
    ];
    let mut text = String::new();
    for (what, tables, params) in cases {
        let tables: Vec<(&str, &[u8])> = tables.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
        let outside = images(&[("nv/i1.jpg", "1"), ("mel/i3.jpg", "3"), ("i2.jpg", "2")]);
        let error =
            run(&tables, if tables.is_empty() { outside } else { four() }, params.clone()).map(|_| ()).unwrap_err();
        let hint = error.hint.clone().unwrap_or_else(|| "(none)".to_owned());
        writeln!(text, "{what}\n  {}\n  hint: {hint}\n", error.to_string().replace('\n', "\n  ")).unwrap();
    }
    for (what, files) in [
        ("files of one id with different bytes", [("a/i1.jpg", "1"), ("b/i1.jpg", "2"), ("i2.jpg", "3")]),
        ("a file in two folders of classes", [("nv/i1.jpg", "1"), ("mel/i1.jpg", "1"), ("mel/i2.jpg", "2")]),
    ] {
        let tables: &[(&str, &[u8])] = if files[2].0.contains('/') { &[] } else { &[("t.csv", plain.as_bytes())] };
        let error = run(tables, images(&files), json!({})).map(|_| ()).unwrap_err();
        writeln!(text, "{what}\n  {error}\n  hint: {}\n", error.hint.clone().unwrap()).unwrap();
    }
    insta::assert_snapshot!(text);
}

fn real(files: &[&str], params: Value) -> Ran {
    let mut inputs: Vec<(&str, Input)> =
        files.iter().map(|file| ("csv", existing_file_input(&shared("datasets").join(file), None))).collect();
    inputs.push(("images", real_inputs().1));
    run_kind(&Metadata, &params, &inputs).unwrap()
}

// pd.read_csv("ISIC2018_Task3_Training_GroundTruth.csv").set_index("image").idxmax(axis=1).value_counts()
#[test]
#[ignore = "needs the real data"]
fn the_ground_truth_of_isic_2018_matches_pandas() {
    let summary = real(&["ISIC2018_Task3_Training_GroundTruth.csv"], json!({})).json("summary.json");
    assert_eq!((&summary["rows"], &summary["rows_without_lesion"]), (&json!(7470), &json!(7470)));
    let counts = json!({"akiec": 228, "bcc": 327, "bkl": 727, "df": 73, "mel": 614, "nv": 5403, "vasc": 98});
    assert_eq!(summary["counts"], json!({"dx": counts}));
}

// pd.read_csv(…, sep="\t") and pd.read_csv(…): .dx.value_counts(), .age.mean()
#[test]
#[ignore = "needs the real data"]
fn other_editions_of_ham10000_give_the_same_rows() {
    let tab = real(&["HAM10000_metadata_first_400.tab"], json!({}));
    let export = real(&["HAM10000_pandas_export_first_400.csv"], json!({}));
    let columns = |ran: &Ran| {
        let table = ran.table("table.parquet");
        ["image_id", "lesion_id", "label"].map(|name| required_strings(&table, name).unwrap())
    };
    assert_eq!(columns(&tab), columns(&export));
    assert_eq!(
        floats(&tab.table("table.parquet"), "age").unwrap(),
        floats(&export.table("table.parquet"), "age").unwrap()
    );
    assert_eq!(tab.json("summary.json")["rows"], 400);
}

// truth.set_index("image").idxmax(axis=1).value_counts(), about.age_approx.isna().sum(), about.lesion_id.isna().sum()
#[test]
#[ignore = "needs the real data"]
fn the_two_tables_of_isic_2019_match_pandas() {
    let files = ["ISIC_2019_Training_GroundTruth_600.csv", "ISIC_2019_Training_Metadata_600.csv"];
    let summary = real(&files, json!({})).json("summary.json");
    let counts = json!({"ak": 15, "bcc": 38, "bkl": 73, "df": 7, "mel": 58, "nv": 398, "vasc": 11});
    assert_eq!(summary["counts"]["dx"], counts);
    assert_eq!((&summary["age"]["missing"], &summary["rows_without_lesion"]), (&json!(5), &json!(86)));
}

// pd.read_csv("PAD-UFES-20_metadata_300.csv"): .diagnostic.value_counts(), .age.mean(), .patient_id.nunique()
#[test]
#[ignore = "needs the real data"]
fn pad_ufes_20_matches_pandas() {
    let columns = json!({"image_id": "img_id", "dx": "diagnostic", "sex": "gender", "localization": "region", "lesion_id": "patient_id"});
    let labels = json!({"NEV": "nv", "ACK": "ak", "SEK": "bkl"});
    let params = json!({"columns": columns, "labels": labels});
    let summary = real(&["PAD-UFES-20_metadata_300.csv"], params).json("summary.json");
    assert_eq!(summary["counts"]["dx"], json!({"ak": 8, "bcc": 11, "bkl": 39, "mel": 40, "nv": 202}));
    assert_eq!(summary["age"]["mean"], 53.083333333333336);
    assert_eq!((&summary["layout"], &summary["absent"]), (&json!("table"), &json!(["dx_type"])));
}
