//! The parameters of `metadata`.

use std::collections::BTreeMap;

use hamflow_stage_api::ParamError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::declared::{self, DeclaredClass};
use super::role::Role;

/// The parameters of `metadata`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MetadataParams {
    #[schemars(schema_with = "super::layouts")]
    #[serde(skip_serializing_if = "is_default")]
    pub layout: Option<String>,
    /// The names of columns that differ from those of the layout, such as `{ image_id = "img_id", dx = "diagnostic" }`.
    /// The table has them under the names of `HAM10000_metadata.csv`.
    #[serde(skip_serializing_if = "is_default")]
    pub columns: BTreeMap<Role, String>,
    /// The class for words that the tables use instead, such as `{ NEV = "nv" }`. Upper and lower case are the same.
    #[serde(skip_serializing_if = "is_default")]
    pub labels: BTreeMap<String, String>,
    /// More words for values that are not known, beside `NA`, `unknown` and the like.
    #[serde(skip_serializing_if = "is_default")]
    pub unknown: Vec<String>,
    /// The classes: `label` is the code in column `dx`, `name` the display name. By default those of HAM10000 in the
    /// layout `ham10000`, and those that occur in the others.
    #[serde(skip_serializing_if = "is_default")]
    pub classes: Option<Vec<DeclaredClass>>,
    /// The order of the class indices.
    #[serde(skip_serializing_if = "is_default")]
    pub class_order: ClassOrder,
    /// Ids of images to leave out, such as those that the official scorer of a challenge leaves out.
    #[serde(skip_serializing_if = "is_default")]
    pub exclude_images: Vec<String>,
    /// Classes whose rows are left out.
    #[serde(skip_serializing_if = "is_default")]
    pub exclude_classes: Vec<String>,
    /// What to do with a row without an image: `error`, or `drop` (drops and counts it).
    pub missing_images: MissingImages,
}

/// The order of the class indices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClassOrder {
    /// By display name, as pandas orders a categorical column.
    #[default]
    Name,
    /// As in `classes`.
    Declared,
}

/// What to do with a row without an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MissingImages {
    /// Fail the stage and list the first few.
    #[default]
    Error,
    /// Drop and count the row.
    Drop,
}

/// Parameters that came later are left out of the key at their defaults.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Rejects parameters that contradict themselves.
pub fn check(params: &MetadataParams) -> Result<(), ParamError> {
    let mut seen: BTreeMap<&str, Role> = BTreeMap::new();
    for (role, name) in &params.columns {
        let path = format!("columns.{}", role.name());
        if name.is_empty() {
            return Err(ParamError::new(&path, format!("`{path}` must not be empty")));
        }
        if let Some(other) = seen.insert(name, *role) {
            let other = other.name();
            return Err(ParamError::new(&path, format!("`columns.{other}` and `{path}` are both `{name}`")));
        }
    }
    if params.class_order == ClassOrder::Declared && params.classes.is_none() {
        return Err(ParamError::new("class_order", "`class_order = \"declared\"` needs `classes`"));
    }
    params.classes.as_deref().map_or(Ok(()), declared::check)
}
