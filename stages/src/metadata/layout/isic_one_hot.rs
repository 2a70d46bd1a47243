//! The layout of the ISIC challenges: a column per class with a 1 for the class of the image, and further tables.

use hamflow_stage_api::StageError;

use super::super::cases::{Cases, Cells, Diagnoses};
use super::super::role::Role;
use super::{Layout, Source};
use crate::table::Sheet;

/// The layout.
pub const LAYOUT: Layout = Layout {
    name: "isic-one-hot",
    summary: "the ground truth of the ISIC challenges, one column per class, joined with their other tables on `image`",
    columns: &[
        (Role::ImageId, "image"),
        (Role::LesionId, "lesion_id"),
        (Role::DxType, "diagnosis_confirm_type"),
        (Role::Age, "age_approx"),
        (Role::Sex, "sex"),
        (Role::Localization, "anatom_site_general"),
    ],
    classes: None,
    fits: |source| truth(source).is_some(),
    read,
};

/// The number of rows that detection looks at.
const LOOKED_AT: usize = 1000;

/// The table with the classes, if there is one: all of its columns but the image's are 0 or 1.
fn truth<'a>(source: &Source<'a>) -> Option<&'a Sheet> {
    source.sheets.iter().find(|sheet| {
        let Ok(Some(image)) = LAYOUT.find(Role::ImageId, sheet, source.params) else { return false };
        let rows = sheet.height().min(LOOKED_AT);
        let mut classes =
            (0..sheet.header.len()).filter(|column| *column != image && !sheet.header[*column].is_empty());
        let is_flag =
            |row: usize, column: usize| flag(sheet.text(row, column)).is_some() && !sheet.text(row, column).is_empty();
        sheet.header.len() > 2 && classes.all(|column| (0..rows).all(|row| is_flag(row, column)))
    })
}

/// The value of a field; `None` if it is neither 0 nor 1.
fn flag(text: &str) -> Option<bool> {
    match text {
        "0" | "0.0" | "" => Some(false),
        "1" | "1.0" => Some(true),
        _ => match text.parse::<f64>() {
            Ok(0.0) => Some(false),
            Ok(1.0) => Some(true),
            _ => None,
        },
    }
}

fn read<'a>(layout: &'static Layout, source: &Source<'a>) -> Result<Cases<'a>, StageError> {
    let Some(main) = truth(source).or(source.sheets.first()) else { return Err(layout.no_table()) };
    let ids = Cells::new(main, layout.required(Role::ImageId, main, source.params)?);
    let mut others = vec![layout.required(Role::ImageId, main, source.params)?];
    for (role, _) in layout.columns {
        others.extend(layout.find(*role, main, source.params)?);
    }
    let classes: Vec<usize> =
        (0..main.header.len()).filter(|column| !others.contains(column) && !main.header[*column].is_empty()).collect();
    if classes.len() < 2 {
        let message = format!("`{}` has no columns of classes", main.name());
        return Err(main
            .in_header(StageError::input(message))
            .hint("the layout has one column per class, such as `MEL`"));
    }
    let diagnoses = diagnoses(main, &classes, &ids)?;
    layout.cases(source, ids, diagnoses)
}

fn diagnoses<'a>(main: &'a Sheet, classes: &[usize], ids: &Cells<'a>) -> Result<Diagnoses<'a>, StageError> {
    // Classes without an image, such as `UNK` of most challenges, are none.
    let mut diagnoses = Diagnoses::default();
    for row in 0..main.height() {
        let mut found = None;
        for (number, column) in classes.iter().enumerate() {
            let text = main.text(row, *column);
            let is_set = flag(text).ok_or_else(|| {
                let (name, row_name) = (&main.header[*column], main.row_name(row));
                let message = format!("column `{name}` of {row_name} is `{text}`, expected 0 or 1");
                main.error(row, *column, message).hint("every column but the image's is a class in this layout")
            })?;
            if let (true, Some(first)) = (is_set, found) {
                return Err(two_classes(main, row, [classes[first], *column], ids));
            }
            if is_set {
                found = Some(number);
            }
        }
        let Some(found) = found else {
            let message = format!("{} has no class: no column is 1 for image `{}`", main.row_name(row), ids.text(row));
            return Err(ids.error(row, message).hint(leave_out(ids.text(row))));
        };
        diagnoses.push(&main.header[classes[found]]);
    }
    Ok(diagnoses)
}

fn two_classes(main: &Sheet, row: usize, columns: [usize; 2], ids: &Cells<'_>) -> StageError {
    let [first, second] = columns.map(|column| &main.header[column]);
    let message = format!("{} has two classes, `{first}` and `{second}`", main.row_name(row));
    main.error(row, columns[1], message).hint(leave_out(ids.text(row)))
}

fn leave_out(image: &str) -> String {
    format!("correct it, or leave the image out with `exclude_images = [{image:?}]`")
}
