//! A CSV parser (RFC 4180) whose errors name the line, and which reads what spreadsheets, R and pandas write.
//!
//! Fields may be separated by commas, semicolons, tabs or bars. Byte order marks, `sep=` lines, lines that start with
//! `#`, empty rows, spaces around fields and the row names of R are recognised.

mod scanner;
mod text;

use hamflow_stage_api::{StageError, near_miss};

use scanner::Scanner;

/// A CSV file with a header. Every row has as many fields as the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csv {
    name: String,
    /// The character between fields.
    pub separator: char,
    /// The number of lines that start with `#`.
    pub comments: usize,
    /// The column names; a column of row names may have none.
    pub header: Vec<String>,
    /// The rows, without empty ones.
    pub rows: Vec<Row>,
}

/// A row of a CSV file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The fields.
    pub fields: Vec<Field>,
}

/// A field with its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The content without quotes and without spaces around it.
    pub text: String,
    /// The line, 1-based.
    pub line: u64,
    /// The character of that line at which it starts, 1-based.
    pub column: u64,
}

impl Csv {
    /// Parses a file called `name`.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, StageError> {
        let text = text::decode(name, bytes)?;
        let mut scanner = Scanner::new(name, &text);
        let Some(mut header) = scanner.row()? else {
            return Err(StageError::input(format!("`{name}` is empty")));
        };
        let mut rows = Vec::new();
        while let Some(row) = scanner.data_row(header.fields.len())? {
            if row.fields.iter().any(|field| !field.text.is_empty()) {
                rows.push(row);
            }
        }
        align(&mut header, &mut rows);
        if let Some(row) = rows.iter().find(|row| row.fields.len() != header.fields.len()) {
            return Err(wrong_length(name, row, &header, scanner.separator));
        }
        let line = header.fields.first().map_or(1, |field| field.line);
        let header: Vec<String> = header.fields.into_iter().map(|field| field.text).collect();
        let is_repeated = |(i, column): &(usize, &String)| !column.is_empty() && header[..*i].contains(column);
        if let Some((_, column)) = header.iter().enumerate().find(is_repeated) {
            return Err(StageError::input(format!("duplicate column `{column}` in `{name}`")).at(name, line, 0));
        }
        if rows.is_empty() {
            return Err(StageError::input(format!("`{name}` has a header but no rows")).at(name, line, 0));
        }
        let Scanner { separator, comments, .. } = scanner;
        Ok(Self { name: name.to_owned(), separator, comments, header, rows })
    }

    /// The index of a column, if there is one. If none has exactly this name, case, spaces, dots and hyphens do not
    /// count.
    pub fn find(&self, column: &str) -> Option<usize> {
        let exact = self.header.iter().position(|name| name == column);
        exact.or_else(|| {
            let mut alike = self.alike(column);
            alike.next().filter(|_| alike.next().is_none())
        })
    }

    /// The index of a column, if there is one. Several that are alike are an error.
    pub fn optional_column(&self, column: &str) -> Result<Option<usize>, StageError> {
        let found = self.find(column);
        let alike: Vec<&str> = self.alike(column).map(|index| &self.header[index][..]).collect();
        if found.is_some() || alike.is_empty() {
            return Ok(found);
        }
        let error = StageError::input(format!("`{}` has several columns `{}`", self.name, alike.join("`, `")));
        Err(error.at(&self.name, 1, 0).hint(format!("name one of them `{column}`")))
    }

    fn alike(&self, column: &str) -> impl Iterator<Item = usize> {
        let wanted = plain_name(column);
        (0..self.header.len()).filter(move |index| plain_name(&self.header[*index]) == wanted)
    }

    /// The index of a column; the hint of the error suggests the closest one.
    pub fn column(&self, column: &str) -> Result<usize, StageError> {
        self.optional_column(column)?.ok_or_else(|| {
            let error = StageError::input(format!("`{}` has no column `{column}`", self.name)).at(&self.name, 1, 0);
            match self.header.len() {
                1 if self.header[0].contains(' ') => error.hint("separate the fields with commas, semicolons or tabs"),
                _ if self.comments > 0 => {
                    error.hint("lines that start with `#` are skipped; remove the `#` if one of them is the header")
                }
                _ => StageError { hint: near_miss::hint(column, self.header.iter().map(String::as_str)), ..error },
            }
        })
    }

    /// An error at the position of a field.
    pub fn error(&self, field: &Field, message: impl Into<String>) -> StageError {
        StageError::input(message).at(&self.name, field.line, field.column)
    }
}

fn plain_name(name: &str) -> String {
    name.to_lowercase().replace([' ', '-', '.'], "_")
}

/// If each row has one field more than the header: the first is R's number of the row, or the last is after a surplus
/// separator.
fn align(header: &mut Row, rows: &mut [Row]) {
    let count = header.fields.len();
    // A single row is more likely to have a separator in a field.
    if rows.len() < 2 || rows.iter().any(|row| row.fields.len() != count + 1) {
        return;
    }
    if rows.iter().all(|row| row.fields[count].text.is_empty()) {
        rows.iter_mut().for_each(|row| drop(row.fields.pop()));
    } else if rows.iter().all(|row| row.fields[0].text.parse::<u64>().is_ok()) {
        let line = header.fields.first().map_or(1, |field| field.line);
        header.fields.insert(0, Field { text: String::new(), line, column: 1 });
    }
}

fn wrong_length(name: &str, row: &Row, header: &Row, separator: char) -> StageError {
    let (found, wanted) = (row.fields.len(), header.fields.len());
    let line = row.fields.first().map_or(0, |field| field.line);
    let fields = if found == 1 { "1 field".to_owned() } else { format!("{found} fields") };
    let error = StageError::input(format!("line {line} has {fields}, but the header has {wanted}")).at(name, line, 0);
    match separator {
        _ if found < wanted => error.hint("the file may be truncated"),
        ',' => error.hint("fields with a comma must be quoted"),
        separator => error.hint(format!("fields with a {separator:?} must be quoted")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(bytes: &[u8]) -> Vec<Vec<String>> {
        let csv = Csv::parse("a.csv", bytes).unwrap();
        csv.rows.into_iter().map(|row| row.fields.into_iter().map(|field| field.text).collect()).collect()
    }

    fn place(bytes: &[u8]) -> (String, u64, u64) {
        let error = Csv::parse("a.csv", bytes).unwrap_err();
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
        let csv = Csv::parse("a.csv", b"a,b\n\"1\n\",2\n3,4\n").unwrap();
        assert_eq!(csv.rows[1].fields[1], Field { text: "4".to_owned(), line: 4, column: 3 });
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
        assert_eq!(Csv::parse("a.csv", b"").unwrap_err().message, "`a.csv` is empty");
        assert_eq!(Csv::parse("a.csv", b"\xef\xbb\xbf\n\n").unwrap_err().message, "`a.csv` is empty");
    }

    #[test]
    fn a_missing_column_is_reported_with_the_closest_name() {
        let csv = Csv::parse("a.csv", b"lesion,image_id\n1,2\n").unwrap();
        assert_eq!(csv.column("image_id").unwrap(), 1);
        let error = csv.column("image_ids").unwrap_err();
        assert_eq!(error.message, "`a.csv` has no column `image_ids`");
        assert_eq!(error.hint.as_deref(), Some("did you mean `image_id`?"));
        let csv = Csv::parse("a.csv", b"lesion image_id\n1 2\n").unwrap();
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
        let named = Csv::parse("a.csv", b"\"a\",\"b\"\n\"1\",\"x\",\"y\"\n\"2\",\"z\",\"w\"\n").unwrap();
        assert_eq!(named.header, ["", "a", "b"], "R's row names");
    }

    #[test]
    fn a_row_that_starts_with_a_hash_is_data() {
        let csv = Csv::parse("a.csv", b"a,b\n#N/A,1\n\"#2\",2\n# remark\n#3,3\n").unwrap();
        let firsts: Vec<&str> = csv.rows.iter().map(|row| &row.fields[0].text[..]).collect();
        assert_eq!((firsts, csv.comments), (vec!["#N/A", "#2", "#3"], 1));
        let csv = Csv::parse("a.csv", b"#lesion_id,b\nL1,1\n").unwrap_err();
        assert!(csv.message.contains("no rows"), "{csv}");
    }

    #[test]
    fn names_of_columns_are_found_in_any_case_unless_they_are_ambiguous() {
        let csv = Csv::parse("a.csv", b"Lesion ID,IMAGE-ID,Sex,sex,x.y\n1,2,3,4,5\n").unwrap();
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
            let error = Csv::parse("a.csv", bytes).unwrap_err();
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
}
