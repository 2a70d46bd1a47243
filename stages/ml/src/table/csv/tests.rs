//! Tests of the CSV parser.

use hamflow_stage_api::StageError;

use crate::table::{Sheet, Source};

fn read(bytes: &[u8]) -> Result<Sheet, StageError> {
    Sheet::read("a.csv", bytes.to_vec())
}

fn texts(bytes: &[u8]) -> Vec<Vec<String>> {
    let csv = read(bytes).unwrap();
    let row = |row: usize| (0..csv.header.len()).map(|column| csv.text(row, column).to_owned()).collect();
    (0..csv.height()).map(row).collect()
}

fn place(bytes: &[u8]) -> (String, u64, u64) {
    let error = read(bytes).unwrap_err();
    let place = error.place.unwrap();
    (error.message, place.line, place.column)
}

#[test]
fn line_endings_byte_order_marks_and_empty_lines_are_ignored() {
    let plain = texts(b"a,b\n1,2\n3,\n");
    assert_eq!(plain, [["1", "2"], ["3", ""]]);
    assert_eq!(texts(b"a,b\r\n1,2\r\n3,\r\n"), plain);
    assert_eq!(texts(b"\xef\xbb\xbfa,b\n1,2\n3,"), plain);
    assert_eq!(texts(b"a,b\n\n1,2\n3,\n\n\r\n"), plain);
}

#[test]
fn quoted_fields_may_contain_commas_quotes_and_line_ends() {
    assert_eq!(texts(b"a,b\n\"1,\"\"x\"\"\",\"2\n3\"\n"), [["1,\"x\"", "2\n3"]]);
    let csv = read(b"a,b\n\"1\n\",2\n3,4\n").unwrap();
    assert_eq!(csv.text(1, 1), "4");
    let place = csv.error(1, 1, "").place.unwrap();
    assert_eq!((place.line, place.column, csv.row_name(1)), (4, 3, "line 4".to_owned()));
    let csv = read(b"a,b\n1,2\n x, \"3 \"\"y\"\n").unwrap();
    let places = [0, 1].map(|column| csv.error(1, column, "").place.unwrap().column);
    assert_eq!((csv.text(1, 1), places), ("3 \"y", [2, 5]));
}

#[test]
fn errors_name_the_line() {
    assert_eq!(place(b"a,b\n1,2\n3\n"), ("line 3 has 1 field, but the header has 2".to_owned(), 3, 0));
    assert_eq!(place(b"a,b\n1,2,3\n"), ("line 2 has 3 fields, but the header has 2".to_owned(), 2, 0));
    assert_eq!(place(b"a,b\n1,\"2\n3,4\n"), ("unclosed quote".to_owned(), 2, 3));
    assert_eq!(place(b"a,b\n\"1\"x,2\n"), ("text after a closing quote".to_owned(), 2, 4));
    assert_eq!(place(b"a,b\n1,2\n\xff,2\n"), ("`a.csv` is not UTF-8".to_owned(), 3, 0));
    assert_eq!(place(b"a,a\n1,2\n"), ("duplicate column `a` in `a.csv`".to_owned(), 1, 0));
    assert_eq!(place(b"a,b\n").0, "`a.csv` has a header but no rows");
    assert_eq!(read(b"").unwrap_err().message, "`a.csv` is empty");
    assert_eq!(read(b"\xef\xbb\xbf\n\n").unwrap_err().message, "`a.csv` is empty");
}

#[test]
fn a_missing_column_is_reported_with_the_closest_name() {
    let csv = read(b"lesion,image_id\n1,2\n").unwrap();
    assert_eq!(csv.column("image_id").unwrap(), 1);
    let error = csv.column("image_ids").unwrap_err();
    assert_eq!(error.message, "`a.csv` has no column `image_ids`");
    assert_eq!(error.hint.as_deref(), Some("did you mean `image_id`?"));
    let csv = read(b"lesion image_id\n1 2\n").unwrap();
    assert!(csv.column("image_id").unwrap_err().hint.unwrap().contains("commas, semicolons or tabs"));
}

/// All of these are the same table, as other programs write it.
#[test]
fn what_other_programs_write_is_read_with_the_same_result() {
    let plain = texts(b"a,b,c\n1,x y,\n2,,z\n");
    for (who, file) in [
        ("a spreadsheet with semicolons", "a;b;c\n1;x y;\n2;;z\n"),
        ("a spreadsheet with tabs", "a\tb\tc\r\n1\tx y\t\r\n2\t\tz\r\n"),
        ("bars", "a|b|c\n1|x y|\n2||z\n"),
        ("a `sep=` line", "sep=;\r\na;b;c\r\n1;x y;\r\n2;;z\r\n"),
        ("a quoted `sep=` line", "\"sep=,\"\na,b,c\n1,x y,\n2,,z\n"),
        ("an old Mac", "a,b,c\r1,x y,\r2,,z\r"),
        ("mixed line ends", "a,b,c\r\n1,x y,\r2,,z\n"),
        ("line ends that were converted twice", "a,b,c\r\r\n1,x y,\r\r\n2,,z\r\r\n"),
        ("comment lines", "# made by R\n#\na,b,c\n1,x y,\n# a remark, with \"commas\n2,,z\n"),
        ("spaces", " a , b,c \n1, x y ,\n 2,, z\n"),
        ("spaces before quotes", "a, \"b\" ,c\n1, \"x y\",\n2,,\"z\"\n"),
        ("empty rows at the end", "a,b,c\n1,x y,\n2,,z\n,,\n,,\n"),
        ("surplus separators", "a,b,c\n1,x y,,\n2,,z,\n"),
        ("no final line end", "a,b,c\n1,x y,\n2,,z"),
    ] {
        assert_eq!(texts(file.as_bytes()), plain, "{who}");
        let units: Vec<u16> = file.encode_utf16().collect();
        let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        assert_eq!(texts(&[b"\xff\xfe", &little[..]].concat()), plain, "{who}, UTF-16");
        assert_eq!(texts(&[b"\xfe\xff", &big[..]].concat()), plain, "{who}, UTF-16");
    }
    let named = read(b"\"a\",\"b\"\n\"1\",\"x\",\"y\"\n\"2\",\"z\",\"w\"\n").unwrap();
    assert_eq!(named.header, ["", "a", "b"], "R's row names");
}

#[test]
fn a_row_that_starts_with_a_hash_is_data() {
    let csv = read(b"a,b\n#N/A,1\n\"#2\",2\n# remark\n#3,3\n").unwrap();
    let firsts: Vec<&str> = (0..csv.height()).map(|row| csv.text(row, 0)).collect();
    assert_eq!(firsts, ["#N/A", "#2", "#3"]);
    assert_eq!(csv.source, Source::Csv { separator: ',', comments: 1 });
    let csv = read(b"#lesion_id,b\nL1,1\n").unwrap_err();
    assert!(csv.message.contains("no rows"), "{csv}");
}

#[test]
fn names_of_columns_are_found_in_any_case_unless_they_are_ambiguous() {
    let csv = read(b"Lesion ID,IMAGE-ID,Sex,sex,x.y\n1,2,3,4,5\n").unwrap();
    assert_eq!(
        ["lesion_id", "image_id", "sex", "x_y"].map(|name| csv.find(name)),
        [Some(0), Some(1), Some(3), Some(4)]
    );
    assert_eq!(csv.find("SEX"), None);
    assert_eq!(csv.column("SEX").unwrap_err().message, "`a.csv` has several columns `Sex`, `sex`");
}

#[test]
fn files_that_are_not_csv_are_named() {
    let message = |bytes: &[u8]| {
        let error = read(bytes).unwrap_err();
        assert!(error.hint.is_some(), "{error}");
        error.message
    };
    assert_eq!(message(b"\x1f\x8b\x08\0"), "`a.csv` is compressed with gzip");
    assert_eq!(message(b"PK\x03\x04"), "`a.csv` is a ZIP archive or an Excel workbook");
    assert_eq!(message(b"\n <!DOCTYPE html>\n<html>"), "`a.csv` is a web page, not a table");
    assert_eq!(
        message(b"version https://git-lfs.github.com/spec/v1\n"),
        "`a.csv` is a pointer of Git LFS, not the file itself"
    );
    assert_eq!(message(b"a,b\n1,\0\n"), "`a.csv` has a NUL character in line 2");
    assert_eq!(message(b"a\0,\0b\0"), "`a.csv` has a NUL character in line 1");
    assert_eq!(message(b"\xff\xfea"), "`a.csv` is neither UTF-16 nor UTF-8");
}
