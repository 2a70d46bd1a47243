//! `hamflow predict`: classes for images of one's own, from a model alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use hamflow_stage_api::{ArtifactType, Classified, Classify, Input, InputFile, StageError};
use serde_json::{Map, json};

use super::{CliError, Common, project, status};
use crate::config::Kinds;
use crate::digest::{self, Digest};
use crate::fs::{self, Durability, disk_error};
use crate::plan::Planner;
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
    let model = model(arguments, kinds)?;
    let images = images(&arguments.images)?;
    if let Some(pictures) = &arguments.gradcam {
        check_pictures(&images, pictures)?;
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

/// The model in the folder that was named, or the one that the stage of that name has made of what the pipeline says now.
fn model(arguments: &PredictArguments, kinds: Kinds) -> Result<Input, CliError> {
    let named = PathBuf::from(&arguments.model);
    if named.is_dir() {
        return model_in(&named);
    }
    let nothing = || format!("`{}` is neither a folder nor a stage that makes a model", arguments.model);
    let asked = &arguments.common;
    if asked.file.is_none() && !project::pipeline_file(asked).exists() {
        // Who named a folder that is not there need not have a pipeline.
        return Err(CliError::user(nothing()));
    }
    let opened = project::open(asked, kinds)?;
    let is_model = |output: &hamflow_stage_api::Output| output.artifact_type == ArtifactType::Model;
    let stages = &opened.graph.pipeline.stages;
    let Some(stage) = stages.iter().find(|stage| stage.name == arguments.model && stage.outputs.iter().any(is_model))
    else {
        let names = stages.iter().filter(|stage| stage.outputs.iter().any(is_model));
        let names: Vec<String> = names.map(|stage| format!("`{}`", stage.name)).collect();
        let hint = if names.is_empty() { String::new() } else { format!("\nhint: {} does", names.join(" or ")) };
        return Err(CliError::user(format!("{}{hint}", nothing())));
    };
    let targets = opened.graph.select(std::slice::from_ref(&arguments.model))?;
    let mut planner = Planner::new(&opened.graph, &opened.store, &opened.lock, true);
    let (_, results) = status::verdicts(&mut planner, &targets);
    let result = targets.first().and_then(|id| results.get(id)).ok_or_else(|| {
        let name = &stage.name;
        let message = format!("`{name}` has made no model of what the pipeline says now");
        let hint = project::other_options(&opened, &arguments.common).unwrap_or_else(|| {
            format!("`hamflow run {name}` makes it, with the same options; `hamflow why {name}` says what has changed")
        });
        CliError::user(format!("{message}\nhint: {hint}"))
    })?;
    let output = result.outputs.artifacts().iter().find(|output| output.artifact_type == ArtifactType::Model);
    let output = output.ok_or_else(|| CliError::bug("a model is not among the outputs"))?;
    let listed = opened.store.files(result).unwrap_or_default();
    let files = listed.iter().filter_map(|(path, digest)| {
        let path = path.relative_to(&output.path)?.to_string();
        Some(InputFile { root: 0, path, digest: *digest, source: opened.store.content.path(digest) })
    });
    Ok(input(stage.name.clone(), output.digest, files.collect()))
}

fn model_in(folder: &Path) -> Result<Input, CliError> {
    if !folder.join("card.json").is_file() && folder.join("model/card.json").is_file() {
        let (folder, inner) = (folder.display(), folder.join("model"));
        return Err(CliError::user(format!("`{folder}` is no model\nhint: did you mean `{}`?", inner.display())));
    }
    let mut files = Vec::new();
    for listed in fs::list(folder, 1).map_err(|error| CliError::user(error.to_string()))? {
        let source = folder.join(&listed.path);
        let digest = digest::of_file(&source).map_err(fs::at("read", &source))?;
        files.push(InputFile { root: 0, path: listed.path, digest, source });
    }
    let listing: String = files.iter().map(|file| format!("{} {}\n", file.path, file.digest)).collect();
    Ok(input(folder.display().to_string(), Digest::of(listing.as_bytes()), files))
}

fn input(name: String, digest: Digest, files: Vec<InputFile>) -> Input {
    let artifact_type = Some(ArtifactType::Model);
    Input { name, artifact_type, labels: Vec::new(), digest, files, folder: true, path: None }
}

/// The files that were named, and those of folders, sorted by name.
fn images(named: &[PathBuf]) -> Result<Vec<PathBuf>, CliError> {
    let mut images = Vec::new();
    for path in named {
        if path.is_dir() {
            let before = images.len();
            // What is wrong with a folder of the user's is the user's to change.
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

/// The file of an image's picture: never that of an image itself, which may lie in the same folder.
fn picture_name(image: &Path) -> String {
    format!("{}_gradcam.png", image.file_stem().unwrap_or_default().to_string_lossy())
}

/// Refuses images of one name, which would have one picture, and a picture that would replace an image.
fn check_pictures(images: &[PathBuf], pictures: &Path) -> Result<(), CliError> {
    if pictures.exists() && !pictures.is_dir() {
        return Err(CliError::user(format!("`{}` is a file; `--gradcam` takes a folder", pictures.display())));
    }
    let mut seen: BTreeMap<String, &PathBuf> = BTreeMap::new();
    for image in images {
        let name = picture_name(image);
        if let Some(first) = seen.insert(name.clone(), image) {
            let (first, second) = (first.display(), image.display());
            return Err(CliError::user(format!(
                "`{first}` and `{second}` would both have the picture `{name}`\nhint: give them one after the other, with a folder each"
            )));
        }
    }
    let replaced = images.iter().find(|image| seen.keys().any(|name| same_file(&pictures.join(name), image)));
    match replaced {
        Some(image) => Err(CliError::user(format!(
            "a picture would replace the image `{}`\nhint: name another folder for the pictures",
            image.display()
        ))),
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
        Err(problem) => ui::say(&CliError::user(format!("`{}` {problem}", path.display())).text),
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
