//! The kind `preprocess`: decodes and resizes images into shards of tensors, part by part.

mod listing;
mod making;
mod preview;

use std::collections::BTreeMap;

use hamflow_stage_api::{
    Access, ArtifactType, Columns, InputFile, Kind, KindSpec, Output, Part, PartOutput, Parts, Planning, Port, Preview,
    StageContext, StageError, Symlinks, Threads, View, Views, read_regular,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::artifact;
use crate::json::indented as to_json;
use crate::shard::{self, Dtype, IndexRow, ShardWriter, encode_index};
use crate::table;
use hamflow_kernels::imaging::{ColourConstancy, Decoding, Filter, Fit, HairRemoval, Preparation};
use listing::{TableRow, part_name, read_rows, split_into_parts};
use making::prepare_all;

/// Incremented whenever equal inputs produce different shards.
///
/// 4: JPEGs of unusual structures are decoded as libjpeg-turbo does, or refused.
/// 3: quarantine entries of a part do not contain the image's path, which is not in the part's key.
/// 2: baseline JPEGs are decoded at reduced size unless `decode` is `exact`.
/// 1: first revision.
const REVISION: u32 = 4;

/// A part's side file, which `merge` reads instead of the shards.
const ROWS: &str = "rows.json";

/// The list of quarantined images.
const QUARANTINE: &str = "quarantine.json";

/// Converts image files into shards of tensors of one size.
pub struct Preprocess;

/// The parameters of `preprocess`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PreprocessParams {
    /// Height of the tensors in pixels (default 75, as in the notebook).
    #[schemars(range(min = 1, max = 4096))]
    height: u32,
    /// Width of the tensors in pixels (default 100, as in the notebook).
    #[schemars(range(min = 1, max = 4096))]
    width: u32,
    /// Resampling filter: `nearest`, `bilinear`, `bicubic` (default, as in the notebook) or `lanczos`; each matches Pillow.
    filter: Filter,
    /// How an image with a different aspect ratio is fitted: `stretch` (default, as in the notebook), `center-crop`
    /// (the largest centred crop, as Pillow's `ImageOps.fit`) or `pad` (the whole image with black borders, as
    /// Pillow's `ImageOps.pad`).
    fit: Fit,
    /// `reduced` (default) decodes baseline JPEGs at a half, a quarter or an eighth of their size if that is at least
    /// the target size, which is faster. `exact` decodes every image at full size, as the filter `nearest` and hair
    /// removal always do.
    decode: Decoding,
    /// `none` (default) or `shades-of-grey`: colour constancy on the resized image with p = 6 (Finlayson, Trezzi
    /// 2004; Barata, Celebi, Marques 2015).
    colour_constancy: ColourConstancy,
    /// `none` (default) or `dullrazor`: detects dark thin lines with a black-hat transform (17-pixel cross, threshold
    /// 10, meant for images of about 600×450) and fills them in from their surroundings before resizing (after Lee et
    /// al. 1997).
    hair_removal: HairRemoval,
    /// Element type of the tensors: `u8` (default, 0 to 255), which `train` reads, or `f32` (0 to 1), for other programs.
    dtype: Dtype,
    /// Approximate number of images per part (default 64). A changed image recomputes one part.
    #[schemars(range(min = 1, max = 65536))]
    part_size: u32,
    /// What to do with an image that cannot be decoded: `error` (default) fails the stage, `quarantine` skips and lists it.
    bad_images: BadImages,
}

impl Default for PreprocessParams {
    fn default() -> Self {
        Self {
            height: 75,
            width: 100,
            filter: Filter::Bicubic,
            fit: Fit::default(),
            decode: Decoding::default(),
            colour_constancy: ColourConstancy::default(),
            hair_removal: HairRemoval::default(),
            dtype: Dtype::default(),
            part_size: 64,
            bad_images: BadImages::Error,
        }
    }
}

/// What to do with an image that cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BadImages {
    /// Fail the stage and name the image.
    Error,
    /// Skip the image and list it.
    Quarantine,
}

impl PreprocessParams {
    fn shape(&self) -> [usize; 3] {
        [self.height as usize, self.width as usize, 3]
    }

    /// The parameters that determine the pixels, as stored in shards and models.
    fn card(&self) -> Value {
        json!({
            "colour_constancy": self.colour_constancy,
            "decode": self.decode,
            "dtype": self.dtype,
            "filter": self.filter,
            "fit": self.fit,
            "hair_removal": self.hair_removal,
            "height": self.height,
            "width": self.width,
        })
    }

    fn preparation(&self) -> Preparation {
        Preparation {
            height: self.height as usize,
            width: self.width as usize,
            filter: self.filter,
            fit: self.fit,
            decode: self.decode,
            colour_constancy: self.colour_constancy,
            hair_removal: self.hair_removal,
        }
    }
}

/// The content of a part's side file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Rows {
    /// Image ids and tensor digests, in the row order of the shard.
    images: Vec<(String, String)>,
    /// The images that were skipped.
    quarantined: Vec<Quarantined>,
}

/// A quarantined image. Its path is not in the part's key, so only `merge` adds it.
#[derive(Debug, Serialize, Deserialize)]
struct Quarantined {
    image_id: String,
    reason: String,
    /// The byte offset of the error, if known.
    offset: Option<usize>,
}

impl Quarantined {
    fn to_json(&self, path: &str) -> Value {
        json!({ "image_id": self.image_id, "offset": self.offset, "path": path, "reason": self.reason })
    }
}

impl Kind for Preprocess {
    type Params = PreprocessParams;

    fn spec(&self) -> KindSpec {
        let ports = vec![
            Port::new("table", ArtifactType::TABLE, "The table of images: `image_id`, `folder`, `path`.")
                .access(Access::View),
            Port::new("images", artifact::IMAGES, "The image folders that the table's paths refer to.")
                .or_external()
                .access(Access::Content),
        ];
        let summary = "Decodes and resizes the images into shards of tensors; redoes only the parts that changed.";
        let spec = KindSpec::new("preprocess", REVISION, summary, ports);
        KindSpec { threads: Threads::Spare, part_unit: "images", reads_once: true, ..spec }
    }

    fn outputs(&self, _params: &PreprocessParams) -> Vec<Output> {
        vec![
            Output::new("shards", artifact::SHARDS, shard::FOLDER).from_parts(),
            Output::new("index", artifact::INDEX, &format!("{}/{}", shard::FOLDER, shard::INDEX_NAME)),
            Output::new("quarantine", artifact::SUMMARY, QUARANTINE),
        ]
    }

    fn columns(&self) -> Option<&dyn Columns<PreprocessParams>> {
        Some(self)
    }

    fn views(&self) -> Option<&dyn Views<PreprocessParams>> {
        Some(self)
    }

    fn parts(&self) -> Option<&dyn Parts<PreprocessParams>> {
        Some(self)
    }

    fn preview(&self) -> Option<&dyn Preview<PreprocessParams>> {
        Some(self)
    }

    fn run(&self, _params: &PreprocessParams, _context: &StageContext<'_>) -> Result<(), StageError> {
        Err(StageError::bug("`preprocess` runs in parts"))
    }
}

impl Columns<PreprocessParams> for Preprocess {
    fn read(&self, _params: &PreprocessParams) -> Vec<(&'static str, String)> {
        listing::COLUMNS.map(|column| ("table", column.to_owned())).to_vec()
    }
}

impl Views<PreprocessParams> for Preprocess {
    fn project(&self, _params: &PreprocessParams, planning: Planning<'_>) -> Result<Vec<View>, StageError> {
        let images = read_rows(planning.inputs.one("table")?)?;
        let row = |TableRow { image_id, folder, path }: &TableRow| {
            format!("{}\t{folder}/{}\n", table::field(image_id), table::field(path))
        };
        let text = images.iter().map(row).collect();
        Ok(vec![View { name: "image_id, folder and path of all rows".to_owned(), text }])
    }
}

impl Parts<PreprocessParams> for Preprocess {
    fn plan(&self, params: &PreprocessParams, planning: Planning<'_>) -> Result<Vec<Part>, StageError> {
        let images = read_rows(planning.inputs.one("table")?)?;
        let files = listing::find(&images, planning.inputs.one("images")?)?;
        let mut parts = Vec::new();
        let mut start = 0;
        for part in split_into_parts(&images, params.part_size as usize) {
            let end = start + part.len();
            parts.push(Part {
                name: part_name(&part[0].image_id),
                key: part.iter().map(|image| image.image_id.as_str()).collect(),
                data: Value::Null,
                files: BTreeMap::from([("images".to_owned(), files[start..end].to_vec())]),
                checkpoint: None,
                amount: None,
            });
            start = end;
        }
        Ok(parts)
    }

    fn run_part(&self, params: &PreprocessParams, context: &StageContext<'_>) -> Result<(), StageError> {
        let (name, key, _) = context.part()?;
        let image_ids: Vec<String> = serde_json::from_value(key.clone())
            .map_err(|error| StageError::bug(format!("cannot parse the part's image ids: {error}")))?;
        let file = context.create(&format!("{}/{}", shard::FOLDER, shard_name(name)))?;
        let (shape, dtype, card) = (params.shape(), params.dtype, params.card());
        let mut writer = ShardWriter::create(file, shape, dtype, &card, &image_ids)?;
        let mut rows = Rows::default();
        let made = prepare_all(context, params, &image_ids, &mut writer, &mut rows.quarantined)?;
        let row = |(image, tensor): (usize, blake3::Hash)| (image_ids[image].clone(), tensor.to_hex().to_string());
        rows.images = made.into_iter().map(row).collect();
        writer.finish()?;
        context.write(ROWS, &to_json(&rows)?)
    }

    fn merge(
        &self,
        _params: &PreprocessParams,
        context: &StageContext<'_>,
        parts: &[PartOutput],
    ) -> Result<(), StageError> {
        let mut index = Vec::new();
        let mut quarantined = Vec::new();
        for part in parts {
            let path = part.side.get(ROWS).ok_or_else(|| StageError::bug(format!("`{}` has no {ROWS}", part.name)))?;
            let bytes = read_regular(path, Symlinks::Refuse).map_err(|source| StageError::io("read", path, &source))?;
            let rows: Rows = serde_json::from_slice(&bytes)
                .map_err(|error| StageError::bug(format!("cannot parse {ROWS} of `{}`: {error}", part.name)))?;
            let shard = shard_name(&part.name);
            index.extend(rows.images.into_iter().zip(0..).map(|((image_id, digest), row)| IndexRow {
                image_id,
                shard: shard.clone(),
                row,
                digest,
            }));
            quarantined.extend(rows.quarantined);
        }
        if index.is_empty() {
            return Err(StageError::input("no image can be decoded")
                .hint("check the image folders; `bad_images = \"error\"` names the first bad image"));
        }
        context.write(&format!("{}/{}", shard::FOLDER, shard::INDEX_NAME), &encode_index(&index)?)?;
        let images = shown_with_paths(context, &quarantined)?;
        context.write(QUARANTINE, &to_json(&json!({ "images": images }))?)
    }
}

impl Preview<PreprocessParams> for Preprocess {
    fn render(&self, params: &PreprocessParams, planning: Planning<'_>, sample: usize) -> Result<Vec<u8>, StageError> {
        let images = read_rows(planning.inputs.one("table")?)?;
        let input = planning.inputs.one("images")?;
        let files = listing::find(&images, input)?;
        let chosen = listing::sample(&images, sample);
        let files: Vec<&InputFile> = chosen.iter().map(|row| &input.files[files[*row] as usize]).collect();
        preview::draw(&params.preparation(), &files)
    }
}

/// The quarantined images with their paths from the table.
fn shown_with_paths(context: &StageContext<'_>, quarantined: &[Quarantined]) -> Result<Vec<Value>, StageError> {
    if quarantined.is_empty() {
        return Ok(Vec::new());
    }
    let images = read_rows(context.input("table")?)?;
    let shown = |left_out: &Quarantined| {
        let found = images.binary_search_by(|image| image.image_id.cmp(&left_out.image_id));
        let image = found.map_err(|_| StageError::bug(format!("image `{}` is not in the table", left_out.image_id)))?;
        Ok(left_out.to_json(&images[image].path))
    };
    quarantined.iter().map(shown).collect()
}

fn shard_name(part: &str) -> String {
    format!("{part}.arrow")
}

#[cfg(test)]
mod tests;
