//! The classes of a dataset and their indices.

use std::collections::BTreeMap;

use hamflow_stage_api::{StageError, near_miss};

use super::cases::Diagnoses;
use super::declared::{DeclaredClass, name_of};
use super::layout::{Layout, is_unknown_word};
use super::params::{ClassOrder, MetadataParams};
use crate::dataset::{Class, LabelFlaw, find_flaw};

/// The classes of a dataset, and those of its words.
#[derive(Debug)]
pub struct Classes {
    /// The classes in index order.
    pub classes: Vec<Class>,
    /// The class index of each distinct word; `None` if its rows are left out.
    pub of_word: Vec<Option<u32>>,
    /// What does not fit the parameters.
    pub notes: Vec<String>,
}

impl Classes {
    /// Finds the class of every word, or makes one if the classes are not declared.
    pub fn new(diagnoses: &Diagnoses<'_>, layout: &Layout, params: &MetadataParams) -> Result<Self, StageError> {
        let declared = params.classes.as_ref().map(|classes| classes.iter().map(DeclaredClass::class).collect());
        let declared: Option<Vec<Class>> = declared.or_else(|| layout.classes.map(|classes| classes()));
        let finder = Finder { diagnoses, params, declared: declared.as_deref() };
        let mut labels: Vec<Option<String>> = Vec::with_capacity(diagnoses.words.len());
        for (number, word) in diagnoses.words.iter().enumerate() {
            labels.push(finder.label(number, word)?);
        }
        let mut classes = declared.clone().unwrap_or_else(|| classes_of(diagnoses, &labels, params));
        if params.class_order == ClassOrder::Name {
            classes.sort_by(|a, b| a.name.cmp(&b.name));
        }
        if let Some(LabelFlaw { message, .. }) = find_flaw(&classes) {
            let found = classes.iter().map(|class| class.label.as_str()).collect::<Vec<_>>().join("`, `");
            let error = StageError::input(match classes.len() {
                0 | 1 => format!("the dataset has only the class `{found}`; a classifier needs two"),
                _ => message,
            });
            return Err(error.hint("declare the classes with `classes`, or rename them with `labels`"));
        }
        let index = |label: &String| classes.iter().position(|class| class.label == *label).map(|index| index as u32);
        let of_word = labels.iter().map(|label| label.as_ref().and_then(index)).collect();
        Ok(Self { of_word, notes: finder.unused(), classes })
    }
}

/// The classes of the labels that occur. The name of a class is known for its code, or the first word for it.
fn classes_of(diagnoses: &Diagnoses<'_>, labels: &[Option<String>], params: &MetadataParams) -> Vec<Class> {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    for (label, word) in labels.iter().zip(&diagnoses.words) {
        let Some(label) = label else { continue };
        let is_renamed = !label.eq_ignore_ascii_case(word) && params.labels.values().any(|other| other == label);
        let name = name_of(label).unwrap_or(if is_renamed { label } else { word });
        let least = names.entry(label).or_insert(name);
        *least = (*least).min(name);
    }
    names.into_iter().map(|(label, name)| Class { label: label.to_owned(), name: name.to_owned() }).collect()
}

struct Finder<'f> {
    diagnoses: &'f Diagnoses<'f>,
    params: &'f MetadataParams,
    declared: Option<&'f [Class]>,
}

impl Finder<'_> {
    /// The label of a word; `None` if its rows are left out.
    fn label(&self, number: usize, word: &str) -> Result<Option<String>, StageError> {
        let is_excluded =
            |text: &str| self.params.exclude_classes.iter().any(|excluded| excluded.eq_ignore_ascii_case(text));
        if is_excluded(word) {
            return Ok(None);
        }
        let renamed = self.params.labels.iter().find(|(from, _)| *from == word);
        let renamed = renamed.or_else(|| self.params.labels.iter().find(|(from, _)| from.eq_ignore_ascii_case(word)));
        let text = renamed.map_or(word, |(_, to)| to);
        let label = match self.declared {
            Some(classes) => declared_label(classes, text).ok_or_else(|| self.unknown_class(number, text, classes))?,
            None if renamed.is_none() && is_unknown_word(word, self.params) => return Err(self.no_class(number, word)),
            None => text.to_lowercase(),
        };
        Ok(Some(label).filter(|label| !is_excluded(label)))
    }

    /// An error about a word, at its first row.
    fn error(&self, number: usize, message: impl Fn(&str, &str) -> String) -> StageError {
        let first = self.diagnoses.of_row.iter().position(|word| *word == number as u32).unwrap_or(0);
        match &self.diagnoses.cells {
            Some(cells) => cells.error(first, message(cells.name(), &cells.row_name(first))),
            None => StageError::input(message("dx", "the dataset")),
        }
    }

    fn no_class(&self, number: usize, word: &str) -> StageError {
        self.error(number, |column, row| format!("{row} has no class: `{column}` is `{word}`"))
            .hint(format!("leave such rows out with `exclude_classes = [{word:?}]`, or declare a class for them"))
    }

    fn unknown_class(&self, number: usize, word: &str, classes: &[Class]) -> StageError {
        if is_unknown_word(word, self.params) {
            return self.no_class(number, word);
        }
        let mut error = self.error(number, |column, row| match &self.diagnoses.cells {
            Some(_) => format!("unknown class `{word}` in column `{column}` of {row}"),
            None => format!("unknown class `{word}`"),
        });
        let known = || classes.iter().map(|class| class.label.as_str());
        // `scc` is another diagnosis, not a misspelt `bcc`: only suggest classes that differ in length.
        let is_typo = |label: &&str| label.len() != word.len();
        let listed = || {
            let names = known().collect::<Vec<_>>().join("`, `");
            let others = match self.params.classes {
                Some(_) => "add it to `classes`, or leave its rows out with `exclude_classes`",
                None => "declare others with `classes`, or take those of the table with `layout = \"table\"`",
            };
            format!("known classes: `{names}`; {others}")
        };
        error.hint = Some(near_miss::did_you_mean(word, known().filter(is_typo)).unwrap_or_else(listed));
        error
    }

    /// Notes about parameters that name no word.
    fn unused(&self) -> Vec<String> {
        let occurs = |text: &str| self.diagnoses.words.iter().any(|word| word.eq_ignore_ascii_case(text));
        let labels = self.params.labels.keys().map(|word| ("labels", word));
        let excluded = self.params.exclude_classes.iter().map(|word| ("exclude_classes", word));
        let is_target = |word: &str| self.params.labels.values().any(|to| to.eq_ignore_ascii_case(word));
        let unused = labels.chain(excluded).filter(|(_, word)| !occurs(word) && !is_target(word));
        unused.map(|(parameter, word)| format!("`{parameter}` names `{word}`, which no image has")).collect()
    }
}

fn declared_label(classes: &[Class], word: &str) -> Option<String> {
    let in_any_case = || {
        let mut alike = classes.iter().filter(|class| class.label.eq_ignore_ascii_case(word));
        alike.next().filter(|_| alike.next().is_none())
    };
    classes.iter().find(|class| class.label == word).or_else(in_any_case).map(|class| class.label.clone())
}
