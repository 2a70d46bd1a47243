//! The file in which training saves its state after each epoch.
//!
//! ```text
//! hamflow-checkpoint 1
//! BLAKE3 (32 bytes) of the name of the folder and the state
//! state
//! ```
//!
//! The folder is named by everything that decides the training. The hash covers that name, so the state of another training, copied or
//! restored into this folder, is not taken for one of this.

use std::path::PathBuf;

use hamflow_stage_api::{StageContext, StageError, Symlinks, read_regular};

use crate::ml::trainer::{Restored, Trainer};

const MAGIC: &[u8] = b"hamflow-checkpoint 1\n";

/// How every file of a hamflow begins that did not write the hash of the folder's name.
const BEFORE: &[u8] = b"hamflow-training ";

/// Where training saves its state after each epoch, so that a killed run, or one of more epochs, goes on from there.
pub(super) struct Checkpoint<'a> {
    context: &'a StageContext<'a>,
    /// None where nothing is to be saved: the engine gave no place, or what is there is further than this training will be.
    file: Option<PathBuf>,
    /// The name of the folder.
    owner: Vec<u8>,
}

impl<'a> Checkpoint<'a> {
    pub(super) fn of(context: &'a StageContext<'a>) -> Self {
        let folder = context.checkpoint_dir();
        let owner = folder.and_then(|folder| folder.file_name()).unwrap_or_default().as_encoded_bytes().to_vec();
        Self { context, file: folder.map(|folder| folder.join("training")), owner }
    }

    /// Lets the trainer go on from the saved state, if there is one of at most `epochs` epochs.
    pub(super) fn restore(&mut self, trainer: &mut Trainer<'_>, epochs: usize) -> Result<(), StageError> {
        let Some(file) = &self.file else { return Ok(()) };
        let Ok(bytes) = read_regular(file, Symlinks::Refuse) else { return Ok(()) };
        let Some(state) = open(&bytes, &self.owner) else {
            let problem = match bytes.starts_with(BEFORE) {
                true => "of an earlier version of hamflow",
                false => "damaged, or of another training",
            };
            self.context.note(format!("starts from the first epoch: the checkpoint is {problem}"));
            return Ok(());
        };
        match trainer.restore(state, epochs)? {
            Restored::After(epoch) => self.context.note(format!("goes on after epoch {epoch}, from a checkpoint")),
            Restored::Longer => self.file = None,
            Restored::OtherPlan => self.context.note(
                "starts from the first epoch: its learning rate is planned over all epochs, and the checkpoint is of another number of them",
            ),
            Restored::Unusable => {}
        }
        Ok(())
    }

    /// Saves the state. That it cannot be written costs time after a kill, no result.
    pub(super) fn save(&mut self, trainer: &Trainer<'_>) -> Result<(), StageError> {
        let Some(file) = &self.file else { return Ok(()) };
        let staged = file.with_extension("staged");
        let bytes = seal(&trainer.checkpoint()?, &self.owner);
        // Not through a symlink that somebody put there.
        let _ = std::fs::remove_file(&staged);
        if let Err(error) = std::fs::write(&staged, bytes).and_then(|()| std::fs::rename(&staged, file)) {
            let _ = std::fs::remove_file(&staged);
            let message = format!("its progress cannot be saved to `{}`: {error}", file.display());
            self.context.warn(format!("{message}; a killed run will start from the first epoch"));
            self.file = None;
        }
        Ok(())
    }
}

fn hash(state: &[u8], owner: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(owner.len() as u64).to_le_bytes()).update(owner).update(state);
    *hasher.finalize().as_bytes()
}

fn seal(state: &[u8], owner: &[u8]) -> Vec<u8> {
    [MAGIC, &hash(state, owner), state].concat()
}

/// The state that a file holds, if it is whole and of this owner.
fn open<'b>(bytes: &'b [u8], owner: &[u8]) -> Option<&'b [u8]> {
    let (found, state) = bytes.strip_prefix(MAGIC)?.split_at_checked(32)?;
    (hash(state, owner) == *found).then_some(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_opened_by_its_owner_alone() {
        let sealed = seal(b"state", b"one");
        assert_eq!(open(&sealed, b"one"), Some(&b"state"[..]));
        assert_eq!((open(&sealed, b"two"), open(&sealed, b""), open(&sealed[1..], b"one")), (None, None, None));
        assert_eq!(open(&seal(b"estate", b"on"), b"one"), None, "names and states do not run into each other");
        assert_eq!(open(&[&sealed[..], b"x"].concat(), b"one"), None);
    }
}
