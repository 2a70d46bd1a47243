//! The checkpoint file of a training run, saved after each epoch.
//!
//! ```text
//! hamflow-checkpoint 1
//! BLAKE3 (32 bytes) of the folder name and the state
//! state
//! ```
//!
//! The folder name is derived from everything that determines the training. The hash covers it, so that the
//! checkpoint of another training run that was copied or restored into this folder is not accepted.

use std::path::PathBuf;

use hamflow_stage_api::{StageError, Symlinks, envelope, read_regular};

use super::Run;
use crate::ml::trainer::{Restored, Trainer};

const MAGIC: &[u8] = b"hamflow-checkpoint 1\n";

/// The prefix of checkpoints from versions that did not hash the folder name.
const UNHASHED_MAGIC: &[u8] = b"hamflow-training ";

/// The checkpoint of a training run, from which a killed or extended run resumes.
pub(super) struct Checkpoint<'a> {
    run: Run<'a>,
    /// `None` if nothing is to be saved: the engine gave no directory, or the existing checkpoint is further than
    /// this run will get.
    file: Option<PathBuf>,
    /// The name of the folder.
    owner: Vec<u8>,
}

impl<'a> Checkpoint<'a> {
    pub(super) fn of(run: Run<'a>) -> Self {
        let folder = run.context.checkpoint_dir();
        let owner = folder.and_then(|folder| folder.file_name()).unwrap_or_default().as_encoded_bytes().to_vec();
        Self { run, file: folder.map(|folder| folder.join("training")), owner }
    }

    /// Resumes the trainer from the checkpoint, if there is one of at most `epochs` epochs.
    pub(super) fn restore(&mut self, trainer: &mut Trainer<'_>, epochs: usize) -> Result<(), StageError> {
        let Some(file) = &self.file else { return Ok(()) };
        let Ok(bytes) = read_regular(file, Symlinks::Refuse) else { return Ok(()) };
        let Some(state) = envelope::open_for(&self.owner, MAGIC, &bytes) else {
            let problem = match bytes.starts_with(UNHASHED_MAGIC) {
                true => "from an earlier version of hamflow",
                false => "damaged or belongs to another training run",
            };
            self.run.note(format!("training starts from scratch: the checkpoint is {problem}"));
            return Ok(());
        };
        match trainer.restore(state, epochs)? {
            Restored::After(epoch) => self.run.note(format!("training resumes from the checkpoint of epoch {epoch}")),
            Restored::Longer => self.file = None,
            Restored::OtherPlan => self.run.note(
                "training starts from scratch: the learning rate schedule depends on `epochs`, which differs from the checkpoint's"
                    .to_owned(),
            ),
            Restored::Unusable => {}
        }
        Ok(())
    }

    /// Saves the state. A write error only causes a warning, because it cannot affect the result.
    pub(super) fn save(&mut self, trainer: &Trainer<'_>) -> Result<(), StageError> {
        let Some(file) = &self.file else { return Ok(()) };
        let staged = file.with_extension("staged");
        let bytes = envelope::seal_for(&self.owner, MAGIC, &trainer.checkpoint()?);
        // Never through a symlink in place of the file.
        let _ = std::fs::remove_file(&staged);
        if let Err(error) = std::fs::write(&staged, bytes).and_then(|()| std::fs::rename(&staged, file)) {
            let _ = std::fs::remove_file(&staged);
            let message = format!("cannot save the checkpoint `{}`: {error}", file.display());
            self.run.context.warn(format!("{message}; an interrupted run will start from scratch"));
            self.file = None;
            return Ok(());
        }
        self.run.context.saved_checkpoint();
        Ok(())
    }
}
