//! What the columns of a dataset's tables mean.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The meaning of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The name of the image's file, with or without extension and folders.
    ImageId,
    /// The class.
    Dx,
    /// The lesion. Its images stay together in a split.
    LesionId,
    /// The patient; in place of the lesion if the lesion is not known.
    PatientId,
    /// How the diagnosis was made.
    DxType,
    /// The age of the patient in years.
    Age,
    /// The sex of the patient.
    Sex,
    /// The body site.
    Localization,
    /// The source of the image.
    Dataset,
}

impl Role {
    /// Every role, in the order of the table's columns.
    pub const ALL: [Self; 9] = [
        Self::LesionId,
        Self::ImageId,
        Self::Dx,
        Self::DxType,
        Self::Age,
        Self::Sex,
        Self::Localization,
        Self::Dataset,
        Self::PatientId,
    ];

    /// The key in the parameter `columns`, and the column of the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ImageId => "image_id",
            Self::Dx => "dx",
            Self::LesionId => "lesion_id",
            Self::PatientId => "patient_id",
            Self::DxType => "dx_type",
            Self::Age => "age",
            Self::Sex => "sex",
            Self::Localization => "localization",
            Self::Dataset => "dataset",
        }
    }

    /// Other names in public datasets: ISIC's archive and challenges, PAD-UFES-20, Derm7pt, BCN20000.
    pub const fn other_names(self) -> &'static [&'static str] {
        match self {
            Self::ImageId => &["image", "isic_id", "image_name", "img_id", "bcn_filename", "filename", "file_name"],
            Self::Dx => &["diagnosis", "diagnostic", "diagnosis_1", "class", "label", "category"],
            Self::LesionId => &["lesion", "case_id"],
            Self::PatientId => &["patient", "subject_id"],
            Self::DxType => &["diagnosis_confirm_type"],
            Self::Age => &["age_approx", "age_years"],
            Self::Sex => &["gender"],
            Self::Localization => {
                &["anatom_site_general", "anatom_site_general_challenge", "anatomic_site", "region", "location", "site"]
            }
            Self::Dataset => &[],
        }
    }
}
