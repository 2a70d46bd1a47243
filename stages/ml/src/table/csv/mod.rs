//! A CSV parser (RFC 4180) whose errors name the line, and which reads what spreadsheets, R and pandas write.
//!
//! Fields may be separated by commas, semicolons, tabs or bars. Byte order marks, `sep=` lines, lines that start with
//! `#`, empty rows, spaces around fields and the row names of R are recognised.

mod scanner;
#[cfg(test)]
mod tests;
mod text;

use hamflow_stage_api::StageError;

use super::fields::{Fields, Span};
use scanner::Scanner;

/// A CSV file with a header. Every row has as many fields as the header.
pub(super) struct Csv {
    /// The column names; a column of row names may have none.
    pub header: Vec<String>,
    /// The rows, without empty ones.
    pub fields: Fields,
    /// The character between fields.
    pub separator: char,
    /// The number of lines that start with `#`.
    pub comments: usize,
}

/// Parses a file called `name`.
pub(super) fn parse(name: &str, bytes: Vec<u8>) -> Result<Csv, StageError> {
    let text = text::decode(name, bytes)?;
    let mut scanner = Scanner::new(name, &text);
    let (mut header, mut spans) = (Vec::new(), Vec::new());
    if !scanner.row(&mut header)? {
        return Err(StageError::input(format!("`{name}` is empty")));
    }
    let mut widths = Widths { header: header.len(), ..Widths::default() };
    while let Some(first) = scanner.data_row(header.len(), &mut spans)? {
        if spans[first..].iter().all(Span::is_empty) {
            spans.truncate(first);
        } else {
            widths.add(&spans[first..]);
        }
    }
    let Scanner { separator, comments, unescaped, extra, .. } = scanner;
    let mut fields = Fields { stride: header.len(), text: text + &extra, spans, unescaped };
    let place = fields.place(&header[0]);
    let mut header: Vec<String> = header.iter().map(|span| span.of(&fields.text).to_owned()).collect();
    let is_aligned = align(&mut header, &mut fields, &widths);
    if let Some((found, span)) = widths.other.filter(|_| !is_aligned) {
        return Err(wrong_length(name, &widths, found, fields.place(&span).0, separator));
    }
    let is_repeated = |(i, column): &(usize, &String)| !column.is_empty() && header[..*i].contains(column);
    if let Some((_, column)) = header.iter().enumerate().find(is_repeated) {
        return Err(StageError::input(format!("duplicate column `{column}` in `{name}`")).at(name, place.0, 0));
    }
    if fields.spans.is_empty() {
        return Err(StageError::input(format!("`{name}` has a header but no rows")).at(name, place.0, 0));
    }
    Ok(Csv { header, fields, separator: char::from(separator), comments })
}

/// The numbers of fields in the rows.
#[derive(Default)]
struct Widths {
    /// The number of columns of the header.
    header: usize,
    rows: usize,
    /// The number of rows with one field more than the header.
    longer: usize,
    /// The number of fields and the first field of the first row whose number differs from that of the header.
    other: Option<(usize, Span)>,
}

impl Widths {
    fn add(&mut self, row: &[Span]) {
        self.rows += 1;
        self.longer += usize::from(row.len() == self.header + 1);
        if let (Some(first), true) = (row.first(), row.len() != self.header) {
            self.other.get_or_insert((row.len(), *first));
        }
    }

    /// Whether each row has one field more than the header. A single row is more likely to have a separator in a field.
    fn all_longer(&self) -> bool {
        self.rows > 1 && self.longer == self.rows
    }
}

/// If each row has one field more than the header: the first is R's number of the row, or the last is after a surplus
/// separator. Returns whether the rows fit the header then.
fn align(header: &mut Vec<String>, fields: &mut Fields, widths: &Widths) -> bool {
    if !widths.all_longer() {
        return widths.other.is_none();
    }
    fields.stride = widths.header + 1;
    let rows = || fields.spans.chunks_exact(widths.header + 1);
    if rows().all(|row| row.last().is_some_and(Span::is_empty)) {
        return true;
    }
    let is_number = |span: &Span| span.of(&fields.text).parse::<u64>().is_ok();
    let is_numbered = rows().all(|row| row.first().is_some_and(is_number));
    if is_numbered {
        header.insert(0, String::new());
    }
    is_numbered
}

fn wrong_length(name: &str, widths: &Widths, found: usize, line: u64, separator: u8) -> StageError {
    let wanted = widths.header;
    let fields = if found == 1 { "1 field".to_owned() } else { format!("{found} fields") };
    let error = StageError::input(format!("line {line} has {fields}, but the header has {wanted}")).at(name, line, 0);
    match char::from(separator) {
        _ if found < wanted => error.hint("the file may be truncated"),
        ',' => error.hint("fields with a comma must be quoted"),
        separator => error.hint(format!("fields with a {separator:?} must be quoted")),
    }
}
