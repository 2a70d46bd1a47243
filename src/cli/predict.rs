//! `hamflow predict`: classes for images of one's own, from a model alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use hamflow_stage_api::{Answer, ArtifactType, Classified, Classify, Input, InputFile, StageError};
use serde_json::{Map, json};

use super::{CliError, Common, project};
use crate::config::Kinds;
use crate::digest::{self, Digest};
use crate::exec::disk_error;
use crate::fs::{self, Durability};
use crate::{threads, ui};

/// Arguments of `hamflow predict`.
#[derive(Debug, Args)]
pub struct PredictArguments {
    /// A folder that holds a model, such as `out/train/model`, or the stage that made one
    #[arg(value_name = "MODEL")]
    model: String,
    /// Image files, or folders of them
    #[arg(value_name = "IMAGES", required = true)]
    images: Vec<PathBuf>,
    #[command(flatten)]
    common: Common,
    /// Also write for each image a PNG of where the model looks into this folder
    #[arg(long, value_name = "FOLDER")]
    gradcam: Option<PathBuf>,
    /// One JSON object per image, with the probability of every class
    #[arg(long)]
    json: bool,
}

/// What is taken from a folder of images.
const EXTENSIONS: [&str; 3] = ["jpg", "jpeg", "png"];

/// Runs the command.
pub fn execute(arguments: &PredictArguments, kinds: Kinds) -> Result<u8, CliError> {
    let folder = model_folder(arguments, kinds)?;
    let model = model(&folder)?;
    let images = images(&arguments.images)?;
    if let Some(pictures) = &arguments.gradcam {
        picture_names(&images)?;
        fs::create_dir(pictures)?;
    }
    let asked = Classify {
        model: &model,
        images: &images,
        overlays: arguments.gradcam.is_some(),
        threads: threads::available(),
    };
    let mut failed = 0;
    let mut tell = |labels: &[String], classified: Classified| -> Result<(), StageError> {
        failed += usize::from(classified.answer.is_err());
        if arguments.json {
            say_json(labels, &classified)
        } else {
            say(labels, &classified)
        }
        let overlay = classified.answer.ok().and_then(|answer| answer.overlay);
        if let (Some(pictures), Some(png)) = (&arguments.gradcam, overlay) {
            let path = pictures.join(picture_name(&classified.path));
            fs::write(&path, &png, Durability::Relaxed).map_err(|error| disk_error(&error))?;
        }
        Ok(())
    };
    for kind in kinds {
        if kind.classify(&asked, &mut tell)? {
            return Ok(u8::from(failed > 0));
        }
    }
    Err(CliError::user("no kind of stage of this program can classify images"))
}

/// The folder of the model: the one that was named, or where a stage's model lies for people.
fn model_folder(arguments: &PredictArguments, kinds: Kinds) -> Result<PathBuf, CliError> {
    let named = PathBuf::from(&arguments.model);
    if named.is_dir() {
        return Ok(named);
    }
    let nothing = || format!("`{}` is neither a folder nor a stage that makes a model", arguments.model);
    let graph = project::load_graph(&arguments.common, kinds).map_err(|error| {
        // Who named a folder that is not there need not have a pipeline.
        if project::pipeline_file(&arguments.common).exists() { error } else { CliError::user(nothing()) }
    })?;
    let stage = graph.pipeline.stages.iter().find(|stage| stage.name == arguments.model);
    let output = stage.and_then(|stage| {
        let output = stage.outputs.iter().find(|output| output.artifact_type == ArtifactType::Model)?;
        Some(graph.pipeline.root.join("out").join(&stage.name).join(&output.path))
    });
    let folder = output.ok_or_else(|| {
        let made = |stage: &&crate::config::Stage| {
            stage.outputs.iter().any(|output| output.artifact_type == ArtifactType::Model)
        };
        let names: Vec<String> =
            graph.pipeline.stages.iter().filter(made).map(|stage| format!("`{}`", stage.name)).collect();
        let hint = if names.is_empty() { String::new() } else { format!("\nhint: {} does", names.join(" or ")) };
        CliError::user(format!("{}{hint}", nothing()))
    })?;
    if !folder.is_dir() {
        let stage = &arguments.model;
        return Err(CliError::user(format!("`{stage}` has made no model yet\nhint: `hamflow run {stage}` makes it")));
    }
    Ok(folder)
}

fn model(folder: &Path) -> Result<Input, CliError> {
    let mut files = Vec::new();
    for listed in fs::list(folder, 1)? {
        let source = folder.join(&listed.path);
        let digest = digest::of_file(&source).map_err(fs::at("read", &source))?;
        files.push(InputFile { root: 0, path: listed.path, digest, source });
    }
    let listing: String = files.iter().map(|file| format!("{} {}\n", file.path, file.digest)).collect();
    Ok(Input {
        name: folder.display().to_string(),
        artifact_type: Some(ArtifactType::Model),
        labels: Vec::new(),
        digest: Digest::of(listing.as_bytes()),
        files,
        folder: true,
        path: None,
    })
}

/// The files that were named, and those of folders, sorted by name.
fn images(named: &[PathBuf]) -> Result<Vec<PathBuf>, CliError> {
    let mut images = Vec::new();
    for path in named {
        if path.is_dir() {
            let before = images.len();
            for listed in fs::list(path, threads::available())? {
                let extension = Path::new(&listed.path).extension().and_then(|extension| extension.to_str());
                if extension
                    .is_some_and(|extension| EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known)))
                {
                    images.push(path.join(&listed.path));
                }
            }
            if images.len() == before {
                return Err(CliError::user(format!(
                    "`{}` has no file with the extension jpg, jpeg or png",
                    path.display()
                )));
            }
        } else if path.exists() {
            images.push(path.clone());
        } else {
            return Err(CliError::user(format!("there is no image `{}`", path.display())));
        }
    }
    Ok(images)
}

/// The file of an image's picture.
fn picture_name(image: &Path) -> String {
    format!("{}.png", image.file_stem().unwrap_or_default().to_string_lossy())
}

/// Two images of one name would have one picture.
fn picture_names(images: &[PathBuf]) -> Result<(), CliError> {
    let mut seen = BTreeSet::new();
    match images.iter().find(|image| !seen.insert(picture_name(image))) {
        Some(twice) => Err(CliError::user(format!(
            "two images would have the picture `{}`\nhint: give those of one folder at a time",
            picture_name(twice)
        ))),
        None => Ok(()),
    }
}

fn most_probable(answer: &Answer) -> Option<(usize, f64)> {
    answer.probabilities.iter().copied().enumerate().fold(None, |best, (class, probability)| match best {
        Some((_, highest)) if probability <= highest => best,
        _ => Some((class, probability)),
    })
}

fn say(labels: &[String], Classified { path, answer }: &Classified) {
    match answer {
        Ok(answer) => {
            if let Some((class, probability)) = most_probable(answer) {
                ui::data(&format!("{}\t{}\t{probability:.4}", path.display(), labels[class]));
            }
        }
        Err(problem) => ui::say(&CliError::user(format!("`{}` {problem}", path.display())).text),
    }
}

fn say_json(labels: &[String], Classified { path, answer }: &Classified) {
    let line = match answer {
        Ok(answer) => {
            let probabilities: Map<String, serde_json::Value> =
                labels.iter().cloned().zip(answer.probabilities.iter().map(|value| json!(value))).collect();
            let best = most_probable(answer);
            json!({
                "image": path.display().to_string(),
                "class": best.map(|(class, _)| &labels[class]),
                "probability": best.map(|(_, probability)| probability),
                "probabilities": probabilities,
            })
        }
        Err(problem) => json!({ "image": path.display().to_string(), "error": problem }),
    };
    ui::data(&line.to_string());
}
