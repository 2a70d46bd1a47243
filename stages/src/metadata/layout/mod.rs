//! The layouts of datasets: how files say which images there are, what their classes are, and whose they are.

mod folders;
mod ham10000;
mod isic_one_hot;
mod table;

use hamflow_stage_api::{StageError, near_miss};

use super::cases::{Cases, Cells, Diagnoses, join};
use super::params::MetadataParams;
use super::role::Role;
use crate::dataset::Class;
use crate::image_names::ImageNames;
use crate::table::{Sheet, is_unknown};

/// A layout of a dataset.
pub struct Layout {
    /// The name in `pipeline.toml`.
    pub name: &'static str,
    /// One phrase for the reference documentation.
    pub summary: &'static str,
    /// The names of its columns, unless the parameter `columns` says otherwise.
    pub columns: &'static [(Role, &'static str)],
    /// The classes unless they are declared; `None` for those that occur.
    pub classes: Option<fn() -> Vec<Class>>,
    /// Whether a dataset cannot be of any other layout.
    pub fits: fn(&Source<'_>) -> bool,
    /// Reads the cases.
    pub read: for<'a> fn(&'static Layout, &Source<'a>) -> Result<Cases<'a>, StageError>,
}

/// Every layout, in the order of detection and of the documentation.
pub const LAYOUTS: &[&Layout] = &[&ham10000::LAYOUT, &isic_one_hot::LAYOUT, &folders::LAYOUT, &table::LAYOUT];

/// The columns of `HAM10000_metadata.csv`, and that of Harvard Dataverse for the source.
const COLUMNS: &[(Role, &str)] = &[
    (Role::LesionId, "lesion_id"),
    (Role::ImageId, "image_id"),
    (Role::Dx, "dx"),
    (Role::DxType, "dx_type"),
    (Role::Age, "age"),
    (Role::Sex, "sex"),
    (Role::Localization, "localization"),
    (Role::Dataset, "dataset"),
];

/// The files of a dataset.
pub struct Source<'a> {
    /// The tables, in the order of the port `csv`.
    pub sheets: &'a [Sheet],
    /// The image files by id.
    pub images: &'a ImageNames<'a>,
    /// The parameters.
    pub params: &'a MetadataParams,
}

/// Looks up a layout by name.
pub fn find(name: &str) -> Option<&'static Layout> {
    LAYOUTS.iter().find(|layout| layout.name == name).copied()
}

/// The layout of a dataset: the declared one, or the only one that fits.
pub fn of(source: &Source<'_>) -> Result<&'static Layout, StageError> {
    if let Some(layout) = source.params.layout.as_deref().and_then(find) {
        return Ok(layout);
    }
    let fitting = LAYOUTS.iter().find(|layout| (layout.fits)(source));
    fitting.copied().ok_or_else(|| unknown_layout(source))
}

/// The error for tables of no known layout. It suggests the columns that look like those that are missing.
fn unknown_layout(source: &Source<'_>) -> StageError {
    let Some(sheet) = source.sheets.first() else { return StageError::bug("no layout fits a dataset without tables") };
    let lacking: Vec<Role> =
        [Role::ImageId, Role::Dx].into_iter().filter(|role| sheet.find(role.name()).is_none()).collect();
    if sheet.header.iter().filter(|name| name.starts_with("pixel")).count() > sheet.header.len() / 2 {
        let message = format!("`{}` holds pixels without the names of images and lesions", sheet.name());
        return sheet.in_header(StageError::input(message)).hint(
            "such a table cannot be split without leakage; use the images and the metadata that it was made from",
        );
    }
    let names = lacking.iter().map(|role| format!("`{}`", role.name())).collect::<Vec<_>>().join(" and ");
    let columns = if lacking.len() == 1 { "column" } else { "columns" };
    let error = sheet.in_header(StageError::input(format!("`{}` has no {columns} {names}", sheet.name())));
    let suggested = suggested_columns(sheet);
    if lacking.iter().all(|role| suggested.iter().any(|(found, _)| found == role)) {
        let pairs: Vec<String> = suggested.iter().map(|(role, name)| format!("{} = {name:?}", role.name())).collect();
        return error.hint(format!("if these are its columns, set `columns = {{ {} }}`", pairs.join(", ")));
    }
    let close = |role: &Role| near_miss::did_you_mean(role.name(), sheet.header.iter().map(String::as_str));
    match lacking.first().and_then(close) {
        Some(hint) => error.hint(hint),
        None => error.hint(format!(
            "name its columns with `columns = {{ image_id = \"…\", dx = \"…\" }}`; it has `{}`",
            sheet.header.join("`, `")
        )),
    }
}

/// The columns whose names are known from public datasets, unless they have the name of the role already.
pub fn suggested_columns(sheet: &Sheet) -> Vec<(Role, &str)> {
    let other_name = |role: Role| {
        let mut names = role.other_names().iter();
        names.find_map(|name| sheet.find(name)).map(|index| (role, &sheet.header[index][..]))
    };
    Role::ALL.into_iter().filter(|role| sheet.find(role.name()).is_none()).filter_map(other_name).collect()
}

impl Layout {
    /// The name of a role's column; `None` if the layout has none.
    pub fn column_name<'p>(&'static self, role: Role, params: &'p MetadataParams) -> Option<&'p str> {
        let of_layout = || self.columns.iter().find(|(known, _)| *known == role).map(|(_, name)| *name);
        params.columns.get(&role).map(String::as_str).or_else(of_layout)
    }

    /// The column of a role in a table, if it has one. Several that are alike are an error.
    pub fn find(
        &'static self,
        role: Role,
        sheet: &Sheet,
        params: &MetadataParams,
    ) -> Result<Option<usize>, StageError> {
        self.column_name(role, params).map_or(Ok(None), |name| sheet.optional_column(name))
    }

    /// The cases of the main table, with the columns of the roles from all tables, joined on the image.
    pub fn cases<'a>(
        &'static self,
        source: &Source<'a>,
        ids: Cells<'a>,
        diagnoses: Diagnoses<'a>,
    ) -> Result<Cases<'a>, StageError> {
        let main = ids.sheet();
        let (mut columns, mut notes) = (Vec::new(), Vec::new());
        let wanted = Role::ALL.into_iter().filter(|role| ![Role::ImageId, Role::Dx].contains(role));
        for sheet in source.sheets.iter().filter(|sheet| !std::ptr::eq(*sheet, main)) {
            let column = self.required(Role::ImageId, sheet, source.params)?;
            let (rows, surplus) = join(&ids, &Cells::new(sheet, column))?;
            if surplus > 0 {
                let rows = if surplus == 1 { "1 row".to_owned() } else { format!("{surplus} rows") };
                notes.push(format!("skipped {rows} of `{}` whose images are not in `{}`", sheet.name(), main.name()));
            }
            for role in wanted.clone() {
                if let Some(column) = self.find(role, sheet, source.params)? {
                    columns.push((role, Cells::joined(sheet, column, &rows)));
                }
            }
        }
        for role in wanted {
            if let Some(column) = self.find(role, main, source.params)? {
                columns.retain(|(known, _)| *known != role);
                columns.push((role, Cells::new(main, column)));
            }
        }
        if let Some((role, name)) = source.params.columns.iter().find(|(role, _)| {
            ![Role::ImageId, Role::Dx].contains(role) && columns.iter().all(|(known, _)| known != *role)
        }) {
            let error = main.column(name).err().unwrap_or_else(|| StageError::bug("a column was found only once"));
            return Err(StageError { message: format!("{} for `columns.{}`", error.message, role.name()), ..error });
        }
        let images = (0..main.height()).map(|case| ids.text(case)).collect();
        Ok(Cases { images, diagnoses, columns, ids: Some(ids), notes })
    }

    /// The column of a role that a table must have.
    pub fn required(&'static self, role: Role, sheet: &Sheet, params: &MetadataParams) -> Result<usize, StageError> {
        let column = sheet.column(self.column_name(role, params).unwrap_or(role.name()));
        column.map_err(|error| match params.columns.contains_key(&role) {
            true => StageError { message: format!("{} for `columns.{}`", error.message, role.name()), ..error },
            false => error,
        })
    }

    /// The error for a layout that needs a table.
    pub fn no_table(&self) -> StageError {
        StageError::input(format!("the layout `{}` needs a table", self.name)).hint("connect `csv`")
    }
}

/// Whether a text of a class column says that the class is not known.
pub fn is_unknown_word(word: &str, params: &MetadataParams) -> bool {
    is_unknown(word) || params.unknown.iter().any(|unknown| unknown.eq_ignore_ascii_case(word))
}
