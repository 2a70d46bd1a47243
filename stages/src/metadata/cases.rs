//! What every layout reads: one case per image, with its diagnosis and its columns as they are written.

use std::sync::Arc;

use hamflow_stage_api::StageError;

use super::role::Role;
use crate::fast_map::{self, FastMap};
use crate::image_names::bare_id;
use crate::table::Sheet;

/// The images of a dataset as its layout has them.
pub struct Cases<'a> {
    /// The id of each image, as written.
    pub images: Vec<&'a str>,
    /// The diagnosis of each image.
    pub diagnoses: Diagnoses<'a>,
    /// The columns, without those that the dataset does not have.
    pub columns: Vec<(Role, Cells<'a>)>,
    /// The column with the image ids; `None` if no table has them.
    pub ids: Option<Cells<'a>>,
    /// What the user should know about how the dataset was read.
    pub notes: Vec<String>,
}

/// The diagnoses of all images, as written.
#[derive(Default)]
pub struct Diagnoses<'a> {
    /// The distinct words, in the order of their first image.
    pub words: Vec<&'a str>,
    /// The word of each image.
    pub of_row: Vec<u32>,
    /// The number of each word.
    numbers: FastMap<&'a str, u32>,
    /// The column with the words; `None` if they are names of columns or folders.
    pub cells: Option<Cells<'a>>,
}

/// A column of a table, in the order of the cases.
#[derive(Clone)]
pub struct Cells<'a> {
    sheet: &'a Sheet,
    column: usize,
    /// The row of each case; `None` if it has the same number. [`NO_ROW`] for a case without a row.
    rows: Option<Arc<[u32]>>,
}

const NO_ROW: u32 = u32::MAX;

impl<'a> Cells<'a> {
    /// The column of a table whose rows are the cases.
    pub fn new(sheet: &'a Sheet, column: usize) -> Self {
        Self { sheet, column, rows: None }
    }

    /// The column of a table that was joined; `rows` has the row of each case.
    pub fn joined(sheet: &'a Sheet, column: usize, rows: &Arc<[u32]>) -> Self {
        Self { sheet, column, rows: Some(Arc::clone(rows)) }
    }

    /// The name of the column in its file.
    pub fn name(&self) -> &'a str {
        &self.sheet.header[self.column]
    }

    /// The table.
    pub fn sheet(&self) -> &'a Sheet {
        self.sheet
    }

    fn row(&self, case: usize) -> Option<usize> {
        match &self.rows {
            None => Some(case),
            Some(rows) => rows.get(case).filter(|row| **row != NO_ROW).map(|row| *row as usize),
        }
    }

    /// The text of a case; empty if there is none.
    pub fn text(&self, case: usize) -> &'a str {
        self.row(case).map_or("", |row| self.sheet.text(row, self.column))
    }

    /// An error in the field of a case.
    pub fn error(&self, case: usize, message: impl Into<String>) -> StageError {
        match self.row(case) {
            Some(row) => self.sheet.error(row, self.column, message),
            None => StageError::input(message),
        }
    }

    /// What a message calls the row of a case, such as `line 5`.
    pub fn row_name(&self, case: usize) -> String {
        self.row(case).map_or_else(|| "a missing row".to_owned(), |row| self.sheet.row_name(row))
    }
}

impl<'a> Diagnoses<'a> {
    /// The diagnoses in a column of words.
    pub fn of(cells: Cells<'a>) -> Self {
        let mut diagnoses = Self { of_row: Vec::with_capacity(cells.sheet.height()), ..Self::default() };
        (0..cells.sheet.height()).for_each(|row| diagnoses.push(cells.text(row)));
        Self { cells: Some(cells), ..diagnoses }
    }

    /// Appends the diagnosis of an image.
    pub fn push(&mut self, word: &'a str) {
        let next = self.words.len() as u32;
        let number = *self.numbers.entry(word).or_insert(next);
        if number == next {
            self.words.push(word);
        }
        self.of_row.push(number);
    }
}

/// The rows of `other` by the cases of `ids`, joined on the image ids; with the number of rows of `other` that belong to
/// no case.
pub fn join(ids: &Cells<'_>, other: &Cells<'_>) -> Result<(Arc<[u32]>, usize), StageError> {
    // Tables of one dataset usually have the same order.
    let height = other.sheet.height();
    if height == ids.sheet.height() && (0..height).all(|row| ids.text(row) == other.text(row)) {
        return Ok(((0..height as u32).collect(), 0));
    }
    let mut rows: FastMap<&str, u32> = fast_map::with_capacity(height);
    for row in 0..height {
        let id = bare_id(other.text(row));
        if let Some(first) = rows.insert(id, row as u32) {
            let names = [first as usize, row].map(|row| other.row_name(row));
            let message =
                format!("duplicate image `{id}` in {} and {} of `{}`", names[0], names[1], other.sheet.name());
            return Err(other.error(row, message).hint("each image must have one row"));
        }
    }
    let mut joined = 0;
    let find = |case: usize| {
        let row = rows.get(bare_id(ids.text(case))).copied();
        joined += usize::from(row.is_some());
        row.unwrap_or(NO_ROW)
    };
    let of_case: Arc<[u32]> = (0..ids.sheet.height()).map(find).collect();
    Ok((of_case, height.saturating_sub(joined)))
}
