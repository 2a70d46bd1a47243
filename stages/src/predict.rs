//! The command `predict`: classifies image files with a trained model.

mod classify;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::artifact;
use crate::image_names::is_resource_fork;
use hamflow_stage_api::{
    Argument, Arguments, CommandError, Form, Host, Input, StageError, Subcommand, SubcommandSpec, Wanted,
};
use serde_json::{Map, json};

use classify::{Classified, Classify};

/// Classifies a user's own images.
pub struct Predict;

/// The longest name that file systems take, in bytes.
const MAX_NAME: usize = 255;

/// The extensions of the files that are taken from a directory of images.
const EXTENSIONS: [&str; 3] = ["jpg", "jpeg", "png"];

impl Subcommand for Predict {
    fn spec(&self) -> SubcommandSpec {
        let argument = |name, form, doc| Argument { name, form, doc };
        let arguments = vec![
            argument(
                "model",
                Form::Text { placeholder: "MODEL" },
                "A model directory, such as `out/train/model`, or a stage that trains a model",
            ),
            argument("images", Form::Paths { placeholder: "IMAGES" }, "Image files or directories of images"),
            argument(
                "gradcam",
                Form::PathOption { placeholder: "DIR" },
                "Also write a Grad-CAM overlay of each image as PNG to this directory",
            ),
            argument("tta", Form::Flag, "Average the probabilities over eight flips and quarter turns of each image"),
            argument("json", Form::Flag, "Print one JSON object per image, with the probability of every class"),
        ];
        SubcommandSpec { name: "predict", summary: "Classify your own images with a trained model", arguments }
    }

    fn run(&self, arguments: &Arguments, host: &dyn Host) -> Result<u8, CommandError> {
        let model = model(arguments.text("model"), host)?;
        let images = images(arguments.paths("images"), host)?;
        let pictures = arguments.path("gradcam");
        if let Some(pictures) = pictures {
            check_overlays(&images, pictures)?;
            host.create_folder(pictures)?;
        }
        let request = Classify {
            model: &model,
            images: &images,
            views: if arguments.flag("tta") { 8 } else { 1 },
            overlays: pictures.is_some(),
            threads: host.threads(),
        };
        let mut failed = 0;
        let mut tell = |labels: &[String], classified: Classified| -> Result<(), CommandError> {
            failed += usize::from(classified.answer.is_err());
            if arguments.flag("json") {
                say_json(labels, &classified, host)
            } else {
                say(labels, &classified, host)
            }
            let overlay = classified.answer.ok().and_then(|answer| answer.overlay);
            if let (Some(pictures), Some(png)) = (pictures, overlay) {
                host.write(&pictures.join(overlay_name(&classified.path)), &png)?;
            }
            Ok(())
        };
        classify::classify(&request, &mut tell)?;
        Ok(u8::from(failed > 0))
    }
}

/// The model in the named directory, or the up-to-date model of the named stage.
fn model(named: &str, host: &dyn Host) -> Result<Input, CommandError> {
    let folder = Path::new(named);
    if !folder.join("card.json").is_file() && folder.join("model/card.json").is_file() {
        let (folder, inner) = (folder.display(), folder.join("model"));
        let error = StageError::input(format!("`{folder}` does not contain a model"));
        return Err(error.hint(format!("did you mean `{}`?", inner.display())).into());
    }
    host.artifact(named, Wanted { artifact_type: artifact::MODEL, noun: "model", verb: "train" })
}

/// Expands the arguments: files as given, directories to their images sorted by name.
fn images(named: &[PathBuf], host: &dyn Host) -> Result<Vec<PathBuf>, CommandError> {
    let mut images = Vec::new();
    for path in named {
        if path.is_dir() {
            let before = images.len();
            for listed in host.list(path)? {
                if Path::new(&listed).file_name().is_some_and(|name| is_resource_fork(&name.to_string_lossy())) {
                    continue;
                }
                let extension = Path::new(&listed).extension().and_then(|extension| extension.to_str());
                if extension
                    .is_some_and(|extension| EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known)))
                {
                    images.push(path.join(&listed));
                }
            }
            if images.len() == before {
                let folder = path.display();
                let message = format!("`{folder}` contains no files with the extension jpg, jpeg or png");
                return Err(StageError::input(message).into());
            }
        } else if path.exists() {
            images.push(path.clone());
        } else {
            return Err(StageError::input(format!("no such image: `{}`", path.display())).into());
        }
    }
    Ok(images)
}

/// The file name of an image's overlay. It differs from the image's own, which may be in the same directory.
fn overlay_name(image: &Path) -> String {
    format!("{}_gradcam.png", image.file_stem().unwrap_or_default().to_string_lossy())
}

/// Rejects images whose overlays would have the same name, and overlays that would overwrite an image.
fn check_overlays(images: &[PathBuf], pictures: &Path) -> Result<(), StageError> {
    if pictures.exists() && !pictures.is_dir() {
        return Err(StageError::input(format!(
            "`{}` is a file, but `--gradcam` takes a directory",
            pictures.display()
        )));
    }
    let mut seen: BTreeMap<String, &PathBuf> = BTreeMap::new();
    for image in images {
        let name = overlay_name(image);
        if name.len() > MAX_NAME {
            let message = format!("the overlay of `{}` would have a name that is too long", image.display());
            return Err(StageError::input(message).hint("rename the image"));
        }
        if let Some(first) = seen.insert(name.clone(), image) {
            let (first, second) = (first.display(), image.display());
            return Err(StageError::input(format!("`{first}` and `{second}` would both write the overlay `{name}`"))
                .hint("classify them in separate invocations with different `--gradcam` directories"));
        }
    }
    let replaced = images.iter().find(|image| seen.keys().any(|name| same_file(&pictures.join(name), image)));
    match replaced {
        Some(image) => Err(StageError::input(format!("an overlay would overwrite the image `{}`", image.display()))
            .hint("choose another directory for `--gradcam`")),
        None => Ok(()),
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
}

fn say(labels: &[String], Classified { path, answer }: &Classified, host: &dyn Host) {
    match answer {
        Ok(answer) => {
            let (class, probability) = (&labels[answer.class], answer.probabilities[answer.class]);
            host.print(&format!("{}\t{class}\t{probability:.4}", path.display()));
        }
        Err(problem) => host.report(StageError::input(format!("`{}` {problem}", path.display()))),
    }
}

fn say_json(labels: &[String], Classified { path, answer }: &Classified, host: &dyn Host) {
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
    host.print(&line.to_string());
}
