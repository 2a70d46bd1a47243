//! `hamflow predict`: classifies image files with a trained model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use hamflow_stage_api::{ArtifactType, Classified, Classify, Input, InputFile, StageError};
use serde_json::{Map, json};

use super::{CliError, Common, project, status};
use crate::config::Kinds;
use crate::digest::{self, Digest, FileDigest};
use crate::fs::{self, Durability, disk_error};
use crate::plan::Planner;
use crate::{threads, ui};

/// Arguments of `hamflow predict`.
#[derive(Debug, Args)]
pub struct PredictArguments {
    /// A model directory, such as `out/train/model`, or a stage that trains a model
    #[arg(value_name = "MODEL")]
    model: String,
    /// Image files or directories of images
    #[arg(value_name = "IMAGES", required = true)]
    images: Vec<PathBuf>,
    #[command(flatten)]
    common: Common,
    /// Also write a Grad-CAM overlay of each image as PNG to this directory
    #[arg(long, value_name = "DIR")]
    gradcam: Option<PathBuf>,
    /// Print one JSON object per image, with the probability of every class
    #[arg(long)]
    json: bool,
}

/// The extensions of the files that are taken from a directory of images.
const EXTENSIONS: [&str; 3] = ["jpg", "jpeg", "png"];

/// Runs the command.
pub fn execute(arguments: &PredictArguments, kinds: Kinds) -> Result<u8, CliError> {
    let model = model(arguments, kinds)?;
    let images = images(&arguments.images)?;
    if let Some(pictures) = &arguments.gradcam {
        check_overlays(&images, pictures)?;
        fs::create_dir(pictures)?;
    }
    let request = Classify {
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
            let path = pictures.join(overlay_name(&classified.path));
            fs::write(&path, &png, Durability::Relaxed).map_err(|error| disk_error(&error))?;
        }
        Ok(())
    };
    for kind in kinds {
        if kind.classify(&request, &mut tell)? {
            return Ok(u8::from(failed > 0));
        }
    }
    Err(CliError::user("this build of hamflow has no kind of stage that can classify images"))
}

/// The model in the named directory, or the up-to-date model of the named stage.
fn model(arguments: &PredictArguments, kinds: Kinds) -> Result<Input, CliError> {
    let named = PathBuf::from(&arguments.model);
    if named.is_dir() {
        return model_in(&named);
    }
    let nothing = || format!("`{}` is neither a directory nor a stage that produces a model", arguments.model);
    let common = &arguments.common;
    if common.file.is_none() && !project::pipeline_file(common).exists() {
        // A mistyped directory must not be reported as a missing pipeline file.
        return Err(CliError::user(nothing()));
    }
    let opened = project::open(common, kinds)?;
    let is_model = |output: &hamflow_stage_api::Output| output.artifact_type == ArtifactType::Model;
    let stages = &opened.graph.pipeline.stages;
    let Some(stage) = stages.iter().find(|stage| stage.name == arguments.model && stage.outputs.iter().any(is_model))
    else {
        let names = stages.iter().filter(|stage| stage.outputs.iter().any(is_model));
        let names: Vec<String> = names.map(|stage| format!("`{}`", stage.name)).collect();
        let hint = (!names.is_empty()).then(|| format!("stages with a model: {}", names.join(", ")));
        return Err(CliError::user(nothing()).with_hint(hint));
    };
    let targets = opened.graph.select(std::slice::from_ref(&arguments.model))?;
    let mut planner = Planner::new(&opened.graph, &opened.store, &opened.lock, true);
    let (_, results) = status::verdicts(&mut planner, &targets);
    let result = targets.first().and_then(|id| results.get(id)).ok_or_else(|| {
        let name = &stage.name;
        let message = format!("the model of `{name}` is not up to date");
        let hint = project::other_options(&opened, &arguments.common).unwrap_or_else(|| {
            format!("train it with `hamflow run {name}` and the same options; `hamflow why {name}` shows what changed")
        });
        CliError::user(message).hint(hint)
    })?;
    let output = result.outputs.artifacts().iter().find(|output| output.artifact_type == ArtifactType::Model);
    let output = output.ok_or_else(|| CliError::bug("internal error: the result has no model among its outputs"))?;
    let listed = opened.store.files(result).unwrap_or_default();
    let files = listed.iter().filter_map(|(path, digest)| {
        let path = path.relative_to(&output.path)?.to_string();
        Some(InputFile { root: 0, path, digest: FileDigest::Known(*digest), source: opened.store.content.path(digest) })
    });
    Ok(input(stage.name.clone(), output.digest, files.collect()))
}

fn model_in(folder: &Path) -> Result<Input, CliError> {
    if !folder.join("card.json").is_file() && folder.join("model/card.json").is_file() {
        let (folder, inner) = (folder.display(), folder.join("model"));
        return Err(CliError::user(format!("`{folder}` does not contain a model"))
            .hint(format!("did you mean `{}`?", inner.display())));
    }
    let mut files = Vec::new();
    for listed in fs::list(folder, 1).map_err(|error| CliError::user(error.to_string()))? {
        let source = folder.join(&listed.path);
        let digest = digest::of_file(&source).map_err(fs::at("read", &source))?;
        files.push(InputFile { root: 0, path: listed.path, digest: digest.into(), source });
    }
    let listing: String = files.iter().map(|file| format!("{} {}\n", file.path, file.digest)).collect();
    Ok(input(folder.display().to_string(), Digest::of(listing.as_bytes()), files))
}

fn input(name: String, digest: Digest, files: Vec<InputFile>) -> Input {
    let artifact_type = Some(ArtifactType::Model);
    Input { name, artifact_type, labels: Vec::new(), digest: digest.into(), files, folder: true, path: None }
}

/// Expands the arguments: files as given, directories to their images sorted by name.
fn images(named: &[PathBuf]) -> Result<Vec<PathBuf>, CliError> {
    let mut images = Vec::new();
    for path in named {
        if path.is_dir() {
            let before = images.len();
            // An unreadable image directory is a user error, not a failure of hamflow's own disk.
            let listed = fs::list(path, threads::available()).map_err(|error| CliError::user(error.to_string()))?;
            for listed in listed {
                let extension = Path::new(&listed.path).extension().and_then(|extension| extension.to_str());
                if extension
                    .is_some_and(|extension| EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known)))
                {
                    images.push(path.join(&listed.path));
                }
            }
            if images.len() == before {
                return Err(CliError::user(format!(
                    "`{}` contains no files with the extension jpg, jpeg or png",
                    path.display()
                )));
            }
        } else if path.exists() {
            images.push(path.clone());
        } else {
            return Err(CliError::user(format!("no such image: `{}`", path.display())));
        }
    }
    Ok(images)
}

/// The file name of an image's overlay. It differs from the image's own, which may be in the same directory.
fn overlay_name(image: &Path) -> String {
    format!("{}_gradcam.png", image.file_stem().unwrap_or_default().to_string_lossy())
}

/// Rejects images whose overlays would have the same name, and overlays that would overwrite an image.
fn check_overlays(images: &[PathBuf], pictures: &Path) -> Result<(), CliError> {
    if pictures.exists() && !pictures.is_dir() {
        return Err(CliError::user(format!("`{}` is a file, but `--gradcam` takes a directory", pictures.display())));
    }
    let mut seen: BTreeMap<String, &PathBuf> = BTreeMap::new();
    for image in images {
        let name = overlay_name(image);
        if let Some(first) = seen.insert(name.clone(), image) {
            let (first, second) = (first.display(), image.display());
            return Err(CliError::user(format!("`{first}` and `{second}` would both write the overlay `{name}`"))
                .hint("classify them in separate invocations with different `--gradcam` directories"));
        }
    }
    let replaced = images.iter().find(|image| seen.keys().any(|name| same_file(&pictures.join(name), image)));
    match replaced {
        Some(image) => Err(CliError::user(format!("an overlay would overwrite the image `{}`", image.display()))
            .hint("choose another directory for `--gradcam`")),
        None => Ok(()),
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
}

fn say(labels: &[String], Classified { path, answer }: &Classified) {
    match answer {
        Ok(answer) => {
            let (class, probability) = (&labels[answer.class], answer.probabilities[answer.class]);
            ui::data(&format!("{}\t{class}\t{probability:.4}", path.display()));
        }
        Err(problem) => ui::say(&CliError::user(format!("`{}` {problem}", path.display())).to_string()),
    }
}

fn say_json(labels: &[String], Classified { path, answer }: &Classified) {
    let line = match answer {
        Ok(answer) => {
            let probabilities: Map<String, serde_json::Value> =
                labels.iter().cloned().zip(answer.probabilities.iter().map(|value| json!(value))).collect();
            json!({
                "image": path.display().to_string(),
                "class": labels[answer.class],
                "probability": answer.probabilities[answer.class],
                "probabilities": probabilities,
            })
        }
        Err(problem) => json!({ "image": path.display().to_string(), "error": problem }),
    };
    ui::data(&line.to_string());
}
