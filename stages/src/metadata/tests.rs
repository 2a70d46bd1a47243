//! Tests of `metadata` on small CSV files and on the real dataset.

use hamflow_stage_api::{AnyKind, ArtifactType, Digest, ErrorCategory, Input, InputFile, JobEvent, StageError};
use serde_json::{Value, json};

use super::Metadata;
use super::real::real_inputs;
use crate::artifact;
use crate::table::{floats, integers, required_strings, strings};
use crate::test_support::{Ran, file_input, files_input, golden, resolve, run_kind};

const HEADER: &str = "lesion_id,image_id,dx,dx_type,age,sex,localization\n";

fn images(paths: &[(u32, &str)]) -> Input {
    let file = |&(root, path): &(u32, &str)| InputFile {
        root,
        path: path.to_owned(),
        digest: Digest::of(path.as_bytes()).into(),
        source: "/nonexistent".into(),
    };
    files_input(paths.iter().map(file).collect(), None)
}

fn run(rows: &str, images: Input, params: Value) -> Result<Ran, StageError> {
    run_text(&format!("{HEADER}{rows}"), None, images, params)
}

fn run_text(text: &str, artifact_type: Option<ArtifactType>, images: Input, params: Value) -> Result<Ran, StageError> {
    let folder = tempfile::tempdir().unwrap();
    let csv = file_input(folder.path(), "meta.csv", text.as_bytes(), artifact_type);
    run_kind(&Metadata, &params, &[("csv", csv), ("images", images)])
}

fn error(rows: &str) -> StageError {
    run(rows, images(&[(0, "i1.jpg"), (0, "i2.jpg")]), json!({})).map(|_| ()).unwrap_err()
}

#[test]
fn images_are_found_in_every_folder_at_any_depth() {
    let ran = run(
        "l1,i2,mel,histo,,unknown,back\r\nl1,i1,bkl,,45.5,,\r\n",
        images(&[(0, "nested/deep/i1.JPEG"), (1, "i2.png"), (1, "spare.jpg"), (1, "notes.txt")]),
        json!({}),
    )
    .unwrap();
    let table = ran.table("table.parquet");
    assert_eq!(required_strings(&table, "image_id").unwrap(), ["i2", "i1"]);
    assert_eq!(required_strings(&table, "path").unwrap(), ["i2.png", "nested/deep/i1.JPEG"]);
    assert_eq!(integers(&table, "folder").unwrap(), [Some(1), Some(0)]);
    assert_eq!(integers(&table, "cell_type_idx").unwrap(), [Some(5), Some(2)]);
    assert_eq!(required_strings(&table, "label").unwrap(), ["mel", "bkl"]);
    assert_eq!(required_strings(&table, "cell_type").unwrap(), ["Melanoma", "Benign keratosis-like lesions"]);
    assert_eq!(floats(&table, "age").unwrap(), [None, Some(45.5)]);
    assert_eq!(strings(&table, "sex").unwrap(), [None, None]);
    let summary = ran.json("summary.json");
    assert_eq!(summary["lesions"], 1);
    assert_eq!(summary["images_beyond_first_of_lesion"], 1);
    assert_eq!(summary["images_without_rows"], 1);
    assert_eq!(summary["nulls"]["dx_type"], 1);
    assert_eq!(summary["synthetic"], false);
    assert_eq!(summary["unknown_words"], json!({"sex": {"unknown": 1}}));
    assert_eq!(summary["rows_without_lesion"], 0);
}

#[test]
fn unknown_lesions_are_not_the_same_lesion() {
    let files = images(&[(0, "i1.jpg"), (0, "i2.jpg"), (0, "i3.jpg")]);
    let rows = "unknown,i1,mel,histo,nan,NA,n/a\nUnknown,i2,mel,histo,unknown,?,back\n,i3,NV,None,5,m,-\n";
    let ran = run(rows, files, json!({})).unwrap();
    let table = ran.table("table.parquet");
    let lesions = required_strings(&table, "lesion_id").unwrap();
    assert_eq!(lesions, ["lesion of i1", "lesion of i2", "lesion of i3"]);
    assert_eq!(floats(&table, "age").unwrap(), [None, None, Some(5.0)]);
    assert_eq!(strings(&table, "sex").unwrap(), [None, None, Some("male".to_owned())]);
    assert_eq!(strings(&table, "localization").unwrap(), [None, Some("back".to_owned()), None]);
    assert_eq!(required_strings(&table, "label").unwrap(), ["mel", "mel", "nv"]);
    let summary = ran.json("summary.json");
    assert_eq!((&summary["lesions"], &summary["rows_without_lesion"]), (&json!(3), &json!(3)));
    let unknown = json!({"age": {"nan": 1, "unknown": 1}, "dx_type": {"None": 1}, "lesion_id": {"Unknown": 1, "unknown": 1},
                         "localization": {"-": 1, "n/a": 1}, "sex": {"?": 1, "NA": 1}});
    assert_eq!(summary["unknown_words"], unknown);
    let two = images(&[(0, "i2.jpg")]);
    let dropped = run(rows, two, json!({"missing_images": "drop"})).unwrap().json("summary.json");
    assert_eq!((&dropped["rows"], &dropped["rows_without_lesion"]), (&json!(1), &json!(1)));
    let unknown = json!({"age": {"unknown": 1}, "lesion_id": {"Unknown": 1}, "sex": {"?": 1}});
    assert_eq!(dropped["unknown_words"], unknown);
    let warned = |event: &JobEvent| matches!(event, JobEvent::Warning { message } if message.starts_with("3 rows have no `lesion_id`"));
    assert!(ran.events.iter().any(warned), "{:?}", ran.events);
}

#[test]
fn every_way_of_writing_a_table_gives_the_same_table() {
    let files = || images(&[(0, "a/i1.jpg"), (1, "I2.PNG")]);
    let plain = run("l1,i1,mel,histo,50.5,male,back\nl2,I2,nv,,,,\n", files(), json!({})).unwrap();
    for text in [
        "\u{feff}Lesion ID;Image ID;DX;dx.type;Age;SEX;localization\r\nl1;i1;MEL;Histo;50,5;Male;Back\r\nl2;I2;nv;;;;\r\n",
        "sep=\t\nimage_id\tlesion_id\tdx\tdx_type\tage\tsex\tlocalization\ni1.jpg\tl1\tmel\thisto\t50.5\tM\tback\nI2\tl2\tnv\tNA\tNA\tNA\tNA\n",
        "# from R\n\"lesion_id\",\"image_id\",\"dx\",\"dx_type\",\"age\",\"sex\",\"localization\"\n\"1\",\"l1\",\"i1\",\"mel\",\"histo\",50.5,\"male\",\"back\"\n\"2\",\"l2\",\"I2\",\"nv\",NA,NA,NA,NA\n",
        ",lesion_id,image_id,dx,dx_type,age,sex,localization,Unnamed: 8\n0,l1,data/a/i1.jpeg,mel,histo,50.5,male,back,\n1,l2,i2,nv,nan,,None,<NA>,\n",
    ] {
        let ran = run_text(text, None, files(), json!({})).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(ran.bytes("table.parquet"), plain.bytes("table.parquet"), "{text}");
    }
    let twice = run("l1,i2,mel,histo,5,male,back\nl1,I2.png,mel,histo,5,male,back\n", files(), json!({}));
    let message = twice.map(|_| ()).unwrap_err().message;
    assert_eq!(message, "images `i2` and `I2.png` are the same file, `I2.PNG`");
}

#[test]
fn the_column_dataset_is_kept_and_determines_whether_data_is_synthetic() {
    let text = |source: &str| {
        let header = HEADER.trim_end();
        format!("{header},dataset\nl1,i1,mel,histo,5,male,back,\nl2,i2,mel,histo,5,male,back,{source}\n")
    };
    let files = || images(&[(0, "i1.jpg"), (0, "i2.jpg")]);
    for made in [None, Some(artifact::CSV)] {
        let ran = run_text(&text("vidir_modern"), made, files(), json!({})).unwrap();
        assert_eq!(ran.json("summary.json")["synthetic"], false);
        let sources = strings(&ran.table("table.parquet"), "dataset").unwrap();
        assert_eq!(sources, [None, Some("vidir_modern".to_owned())]);
        let ran = run_text(&text("synthetic"), made, files(), json!({})).unwrap();
        assert_eq!(ran.json("summary.json")["synthetic"], true);
        let table = ran.table("table.parquet");
        assert_eq!(crate::table::synthetic(&table).unwrap(), [false, true]);
        let made = Metadata.columns_made(&resolve(&Metadata, &json!({})).unwrap(), "table", &|_| None).unwrap();
        assert_eq!(made, table.get_column_names_owned(), "the engine rejects pipelines based on the declared columns");
    }
}

#[test]
fn errors_in_rows_name_the_line() {
    let wrong = error("l1,i1,mel,histo,5,male,back\nl1,i1,mel,histo,5,male,back\n");
    assert_eq!(wrong.message, "duplicate image `i1` in lines 2 and 3");

    let wrong = error("l1,i1,mell,histo,5,male,back\n");
    assert_eq!(wrong.message, "unknown class `mell` in column `dx` of line 2");
    assert_eq!(wrong.hint.as_deref(), Some("did you mean `mel`?"));
    assert_eq!(wrong.place.unwrap().column, 7);

    let other = error("l1,i1,scc,histo,5,male,back\n").hint.unwrap();
    assert!(other.starts_with("known classes: `nv`, `mel`, "), "{other}");

    for age in ["old", "5O", "inf", "-5", "4500"] {
        let wrong = error(&format!("l1,i1,mel,histo,{age},male,back\n"));
        assert_eq!(wrong.message, format!("invalid age `{age}` in line 2"));
        assert_eq!(wrong.place.unwrap().line, 2);
    }
    for nothing in ["", "NA", "unknown"] {
        assert_eq!(error(&format!("l1,{nothing},mel,histo,5,male,back\n")).message, "line 2 has no `image_id`");
        let message = error(&format!("l1,i1,{nothing},histo,5,male,back\n")).message;
        assert_eq!(message, format!("line 2 has no class: `dx` is `{nothing}`"));
    }
    assert_eq!(error("l1,i1,mel\n").message, "line 2 has 3 fields, but the header has 7");
    assert_eq!(error("").message, "`meta.csv` has a header but no rows");
}

#[test]
fn a_missing_column_is_reported_with_the_closest_name() {
    let text = "lesion_id,images_id,dx,dx_type,age,sex,localization\na,b,mel,x,5,male,back\n";
    let wrong = run_text(text, None, images(&[]), json!({})).map(|_| ()).unwrap_err();
    assert_eq!(wrong.hint.as_deref(), Some("did you mean `images_id`?"));
    assert_eq!(wrong.category, ErrorCategory::Input);
    assert_eq!(wrong.message, "`meta.csv` has no column `image_id`");
}

#[test]
fn missing_and_ambiguous_images_are_errors() {
    let rows = "l1,i1,mel,histo,5,male,back\nl2,i2,nv,histo,,male,back\n";
    let one = images(&[(0, "i1.jpg")]);
    let wrong = run(rows, one.clone(), json!({})).map(|_| ()).unwrap_err();
    assert_eq!(wrong.message, "1 image is missing in `inputs.folder`: `i2`");
    assert_eq!(wrong.hint.as_deref(), Some("`missing_images = \"drop\"` drops such rows"));

    let ran = run(rows, one, json!({"missing_images": "drop"})).unwrap();
    assert_eq!(required_strings(&ran.table("table.parquet"), "image_id").unwrap(), ["i1"]);
    assert_eq!(ran.json("summary.json")["rows_dropped"], 1);
    assert!(ran.events.iter().any(|event| matches!(event, JobEvent::Warning { .. })));

    let none = run(rows, images(&[(0, "x.gif")]), json!({"missing_images": "drop"})).map(|_| ()).unwrap_err();
    assert_eq!(none.message, "2 images are missing in `inputs.folder`: `i1`, `i2`");

    let double = run(rows, images(&[(0, "i1.jpg"), (0, "i2.jpg"), (1, "b/i2.png")]), json!({}));
    let message = double.map(|_| ()).unwrap_err().message;
    assert!(message.starts_with("image `i2` has two files in `inputs.folder`: `i2.jpg` in folder 1"), "{message}");
}

#[test]
fn classes_can_be_configured() {
    let params = json!({"classes": [{"label": "b", "name": "Zebra"}, {"label": "a", "name": "Ant"}]});
    let ran = run("l1,i1,b,histo,5,male,back\n", images(&[(0, "i1.jpg")]), params).unwrap();
    assert_eq!(integers(&ran.table("table.parquet"), "cell_type_idx").unwrap(), [Some(1)]);
    assert_eq!(ran.json("summary.json")["classes"][0]["label"], "a");
}

#[test]
fn the_output_bytes_match_the_revision() {
    let rows = "l1,i2,mel,histo,,unknown,back\nl1,i1,bkl,,45.5,,\n";
    let ran = run(rows, images(&[(0, "i1.jpg"), (1, "a/i2.png")]), json!({})).unwrap();
    let digest = golden(&ran, &["table.parquet", "summary.json"]);
    assert_eq!((Metadata.spec().revision, digest.as_str()), (4, "84b099ebedee"));
}

// pd.read_csv("HAM10000_metadata.csv"), then .nunique(), .isna().sum(), .value_counts(), .age.describe()
#[test]
#[ignore = "needs the real data"]
fn the_counts_of_the_real_dataset_match_pandas() {
    let (csv, images) = real_inputs();
    let ran = run_kind(&Metadata, &json!({}), &[("csv", csv), ("images", images)]).unwrap();
    let summary = ran.json("summary.json");
    assert_eq!(summary["rows"], 10_015);
    assert_eq!(summary["lesions"], 7_470);
    assert_eq!(summary["images_beyond_first_of_lesion"], 2_545);
    assert_eq!(summary["images_without_rows"], 0);
    let mean = 51.863828077927295;
    assert_eq!(summary["age"], json!({"min": 0.0, "max": 85.0, "mean": mean, "missing": 57}));
    assert_eq!(
        summary["nulls"],
        json!({"age": 57, "dx": 0, "dx_type": 0, "image_id": 0, "lesion_id": 0, "localization": 234, "sex": 57})
    );
    let counts = &summary["counts"];
    assert_eq!(
        counts["dx"],
        json!({"akiec": 327, "bcc": 514, "bkl": 1099, "df": 115, "mel": 1113, "nv": 6705, "vasc": 142})
    );
    assert_eq!(counts["sex"], json!({"female": 4552, "male": 5406}));
    assert_eq!(counts["dx_type"], json!({"confocal": 69, "consensus": 902, "follow_up": 3704, "histo": 5340}));
    assert_eq!(counts["localization"].as_object().unwrap().len(), 14);
    assert_eq!(summary["unknown_words"], json!({"localization": {"unknown": 234}, "sex": {"unknown": 57}}));
    assert_eq!(counts["localization"]["back"], 2192);
    assert_eq!(counts["localization"]["acral"], 7);
    assert_eq!(summary["classes"][2]["label"], "bkl");
    let table = ran.table("table.parquet");
    assert_eq!(table.height(), 10_015);
    assert_eq!(integers(&table, "cell_type_idx").unwrap()[0], Some(2));
}
