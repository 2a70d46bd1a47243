//! Tests of `eda` through the interface of the engine.

use hamflow_stage_api::{ArtifactType, Input};
use polars::prelude::Column;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::plot::Figure;
use crate::table;
use crate::test_support::{Ran, file, file_input, files_input, golden, run_kind, shared};

/// Twelve images of nine lesions; melanomas occur on the backs of old patients.
struct Fixture {
    folder: TempDir,
    rows: Vec<Row>,
}

/// Image, lesion, class, sex, site and age.
type Row = (&'static str, &'static str, i64, Option<&'static str>, &'static str, Option<f64>);

const LABELS: [(&str, &str); 2] = [("mel", "Melanoma"), ("nv", "Melanocytic nevi")];

impl Fixture {
    fn new() -> Self {
        let rows = vec![
            ("i00", "a", 0, Some("male"), "back", Some(80.0)),
            ("i01", "a", 0, Some("male"), "back", Some(80.0)),
            ("i02", "b", 0, Some("female"), "back", Some(75.0)),
            ("i03", "c", 0, Some("male"), "back", Some(70.0)),
            ("i04", "d", 1, Some("female"), "face", Some(20.0)),
            ("i05", "e", 1, None, "trunk", None),
            ("i06", "f", 1, Some("female"), "trunk", Some(35.0)),
            ("i07", "g", 1, Some("female"), "back", Some(40.0)),
            ("i08", "h", 1, Some("male"), "trunk", Some(45.0)),
            ("i09", "i", 0, Some("male"), "unknown", Some(60.0)),
            ("i10", "i", 1, Some("male"), "unknown", Some(60.0)),
            ("i11", "f", 1, Some("female"), "trunk", Some(35.0)),
        ];
        Self { folder: tempfile::tempdir().unwrap(), rows }
    }

    fn table(&self) -> Input {
        let text = |name: &str, values: Vec<&str>| Column::new(name.into(), values);
        let class = |row: &Row| LABELS[row.2 as usize];
        let frame = table::frame(vec![
            text("image_id", self.rows.iter().map(|row| row.0).collect()),
            text("lesion_id", self.rows.iter().map(|row| row.1).collect()),
            text("label", self.rows.iter().map(|row| class(row).0).collect()),
            text("cell_type", self.rows.iter().map(|row| class(row).1).collect()),
            Column::new("cell_type_idx".into(), self.rows.iter().map(|row| row.2).collect::<Vec<i64>>()),
            Column::new("sex".into(), self.rows.iter().map(|row| row.3).collect::<Vec<Option<&str>>>()),
            text("dx_type", self.rows.iter().map(|_| "histo").collect()),
            text("localization", self.rows.iter().map(|row| row.4).collect()),
            Column::new("age".into(), self.rows.iter().map(|row| row.5).collect::<Vec<Option<f64>>>()),
        ])
        .unwrap();
        file_input(self.folder.path(), "table.parquet", &table::write(&frame).unwrap(), Some(ArtifactType::TABLE))
    }

    /// Small images in distinct colours, except for two identical files.
    fn images(&self) -> Input {
        let picture = |number: usize| {
            let shade = if number == 7 { 6 } else { number } as u8 * 20;
            let image = image::RgbImage::from_pixel(40, 30, image::Rgb([shade, 255 - shade, 90]));
            let mut png = std::io::Cursor::new(Vec::new());
            image.write_to(&mut png, image::ImageFormat::Png).unwrap();
            png.into_inner()
        };
        let bytes = |number: usize| if number == 3 { b"no picture".to_vec() } else { picture(number) };
        let one = |(number, row): (usize, &Row)| file(self.folder.path(), &format!("{}.png", row.0), &bytes(number));
        files_input(self.rows.iter().enumerate().map(one).collect(), None)
    }

    fn run(&self) -> Ran {
        run_kind(&Eda, &json!({}), &[("table", self.table()), ("images", self.images())]).unwrap()
    }
}

#[test]
fn findings_describe_the_rows_and_files() {
    let findings = Fixture::new().run().json("findings.json");
    assert_eq!(findings["images"], 12);
    assert_eq!(findings["imbalance"], json!({"most_frequent": "nv", "rarest": "mel", "ratio": 1.4}));
    let lesions = &findings["lesions"];
    assert_eq!((&lesions["lesions"], &lesions["images_that_share_a_lesion"]), (&json!(9), &json!(6)));
    assert_eq!(lesions["contradicting"], json!([{"lesion_id": "i", "classes": ["mel", "nv"]}]));
    assert_eq!(
        findings["identical_images"]["named"],
        json!([{"images": ["i06", "i07"], "lesions": ["f", "g"], "classes": ["nv"]}])
    );
    assert_eq!(findings["unknown"], json!({"age": 1, "sex": 1, "localization": 2, "dx_type": 0}));
    let melanoma = &findings["concentrations"]["by_class"][0];
    assert_eq!((&melanoma["class"], &melanoma["lesions"]), (&json!("mel"), &json!(4)));
    assert_eq!(melanoma["age"]["effect"], 1.0, "every melanoma is older than every nevus");
    assert_eq!((&melanoma["site"]["site"], &melanoma["site"]["share"]), (&json!("back"), &json!(0.75)));
    assert!(melanoma["site"]["p"].as_f64().unwrap() > melanoma["site"]["effect"].as_f64().unwrap() / 100.0);
}

#[test]
fn every_figure_has_its_data_and_counts() {
    let fixture = Fixture::new();
    let ran = fixture.run();
    let names = [
        "images_by_sex",
        "images_by_cell_type",
        "images_by_cell_type_and_sex",
        "images_by_dx_type",
        "images_by_dx_type_and_sex",
        "images_by_localization",
        "images_by_localization_and_sex",
        "age",
        "age_by_sex",
        "age_by_cell_type",
        "age_by_localization",
        "samples",
    ];
    for name in names {
        let figure = Figure::from_json(&ran.bytes(&format!("figures/{name}.json"))).unwrap();
        assert_eq!(figure.draw().unwrap().file().as_bytes(), ran.bytes(&format!("figures/{name}.svg")), "{name}");
    }
    let by_sex = &ran.json("figures/images_by_cell_type_and_sex.json")["data"];
    assert_eq!(by_sex["groups"], json!(["Melanocytic nevi", "Melanoma"]));
    assert_eq!(by_sex["series"], json!(["male", "female", "unknown"]), "unknown values come last");
    assert_eq!(by_sex["counts"], json!([[2, 4, 1], [4, 1, 0]]));
    let ages = &ran.json("figures/age.json")["data"];
    assert_eq!((ages["bounds"].as_array().unwrap().len(), &ages["unknown"]), (31, &json!(1)));
    let by_type = &ran.json("figures/age_by_cell_type.json")["data"]["series"];
    let total: u64 = by_type
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|series| series["counts"].as_array().unwrap())
        .filter_map(Value::as_u64)
        .sum();
    assert_eq!(total, 11);
    assert_eq!(by_type[1]["colour"], 0, "the class's own colour");
    let samples = &ran.json("figures/samples.json")["data"]["rows"];
    let melanomas = samples[0]["images"].as_array().unwrap();
    assert_eq!(melanomas.len(), 5);
    let unreadable: Vec<&Value> = melanomas.iter().filter(|sample| sample["jpeg"].is_null()).collect();
    assert_eq!(unreadable.len(), 1);
    assert_eq!(unreadable[0]["image_id"], "i03");
}

#[test]
fn a_missing_column_is_an_error() {
    let fixture = Fixture::new();
    let frame = table::frame(vec![Column::new("image_id".into(), vec!["i00"])]).unwrap();
    let bytes = table::write(&frame).unwrap();
    let table = file_input(fixture.folder.path(), "other.parquet", &bytes, Some(ArtifactType::TABLE));
    let error = run_kind(&Eda, &json!({}), &[("table", table), ("images", fixture.images())]).err().unwrap();
    assert!(error.message.contains("lesion_id"), "{error}");
}

/// If this digest changes, increment `REVISION`; otherwise caches return results of the old version.
#[test]
fn the_golden_digest() {
    assert_eq!(Eda.spec().revision, 3);
    let ran = Fixture::new().run();
    let paths = ["findings.json", "figures/samples.json", "figures/age_by_cell_type.svg", "figures/images_by_sex.svg"];
    assert_eq!(golden(&ran, &paths), "2d725a157d23");
}

// import pandas as pd
// d = pd.read_csv("HAM10000_metadata.csv"); n = d.groupby("lesion_id").image_id.transform("size")
// print(d.lesion_id.nunique(), (n > 1).sum(), n.max(), (d.groupby("lesion_id").dx.nunique() > 1).sum(), d.age.isna().sum())
#[test]
#[ignore = "needs the real data"]
fn the_findings_of_the_real_table_match_pandas() {
    let folder = shared("ham10000");
    let roots = ["HAM10000_images_part_1", "HAM10000_images_part_2"].map(|name| folder.join(name));
    let images = crate::test_support::folder_input(&[&roots[0], &roots[1]], None);
    let csv = crate::test_support::existing_file_input(&folder.join("HAM10000_metadata.csv"), None);
    let metadata =
        run_kind(&crate::metadata::Metadata, &json!({}), &[("csv", csv), ("images", images.clone())]).unwrap();
    let inputs = [("table", metadata.input("table.parquet", ArtifactType::TABLE)), ("images", images)];
    let findings = run_kind(&Eda, &json!({}), &inputs).unwrap().json("findings.json");
    assert_eq!(findings["images"], 10_015);
    assert_eq!(findings["imbalance"], json!({"most_frequent": "nv", "rarest": "df", "ratio": 6705.0 / 115.0}));
    let lesions = &findings["lesions"];
    assert_eq!(lesions["lesions"], 7470);
    assert_eq!(lesions["images_that_share_a_lesion"], 4501);
    assert_eq!(findings["unknown"], json!({"age": 57, "sex": 57, "localization": 234, "dx_type": 0}));
    let by_class = findings["concentrations"]["by_class"].as_array().unwrap();
    let nevi = by_class.iter().find(|class| class["class"] == "nv").unwrap();
    assert!(nevi["age"]["effect"].as_f64().unwrap() < -0.4, "nevi occur in younger patients: {nevi}");
}
