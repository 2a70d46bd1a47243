//! Makes the tensors of one part, on as many threads as there are for it.

use std::iter::Enumerate;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use hamflow_stage_api::{Digest, InputFile, ReadAhead, StageContext, StageError};

use super::{BadImages, Parameters, Quarantined};
use crate::imaging::{BadImage, Preparer};
use crate::shard::{ShardWriter, tensor_hash};

/// Adds a part's images to its shard, in their order; returns the numbers and the tensors' hashes of those that are in it.
///
/// Each thread takes the next image, reads, checks, decodes and resizes it, and waits until the images before are added.
/// Memory is taken for a thread's first image and for larger ones than before, not for each.
pub(super) fn prepare_all(
    context: &StageContext<'_>,
    parameters: &Parameters,
    image_ids: &[String],
    writer: &mut ShardWriter<'_>,
    quarantined: &mut Vec<Quarantined>,
) -> Result<Vec<(usize, blake3::Hash)>, StageError> {
    let files = &context.input("images")?.files;
    if image_ids.len() != files.len() {
        return Err(StageError::bug(format!("{} image ids have {} files", image_ids.len(), files.len())));
    }
    let added = Added {
        context,
        parameters,
        image_ids,
        writer,
        quarantined,
        made: Vec::with_capacity(files.len()),
        read: Vec::with_capacity(files.len()),
        end: None,
    };
    let making = Making {
        parameters,
        ahead: Mutex::new(ReadAhead::new(files).enumerate()),
        added: Mutex::new(added),
        next: Condvar::new(),
    };
    let helpers = context.threads().min(files.len()).saturating_sub(1);
    std::thread::scope(|scope| {
        let helpers: Vec<_> = (0..helpers).map(|_| scope.spawn(|| making.work())).collect();
        making.work();
        for helper in helpers {
            if let Err(panic) = helper.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    let Added { made, read, end, .. } = making.added.into_inner().unwrap_or_else(PoisonError::into_inner);
    match end {
        Some(error) => Err(error),
        None => {
            context.read("images", read);
            Ok(made)
        }
    }
}

/// What the threads share.
struct Making<'a, 'w> {
    parameters: &'a Parameters,
    ahead: Mutex<Enumerate<ReadAhead<'a>>>,
    added: Mutex<Added<'a, 'w>>,
    /// An image was added, or none will be any more.
    next: Condvar,
}

impl Making<'_, '_> {
    /// Takes images until there are no more, or one is an error.
    fn work(&self) {
        let _alarm = Alarm(self);
        let mut preparer = Preparer::new(self.parameters.preparation());
        let (mut bytes, mut tensor) = (Vec::new(), vec![0; self.parameters.shape().iter().product()]);
        loop {
            let taken = locked(&self.ahead).next();
            let Some((number, opened)) = taken else { return };
            let image = opened.read(&mut bytes).map(|(file, digest)| {
                let made = preparer.prepare(&bytes, &mut tensor).map(|()| tensor_hash(&tensor));
                Image { file, digest, made }
            });
            let waits = |added: &mut Added<'_, '_>| added.read.len() != number && added.end.is_none();
            let mut added = self.next.wait_while(locked(&self.added), waits).unwrap_or_else(PoisonError::into_inner);
            if added.end.is_some() {
                return;
            }
            if let Err(error) = image.and_then(|image| added.add(image, &tensor)) {
                added.end = Some(error);
            }
            drop(added);
            self.next.notify_all();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the waiting for a thread that panics: its image will never be added.
struct Alarm<'m, 'a, 'w>(&'m Making<'a, 'w>);

impl Drop for Alarm<'_, '_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            locked(&self.0.added).end.get_or_insert_with(|| StageError::bug("a thread of the part panicked"));
            self.0.next.notify_all();
        }
    }
}

/// An image that was read.
struct Image<'a> {
    file: &'a InputFile,
    digest: Digest,
    /// The hash of its tensor.
    made: Result<blake3::Hash, BadImage>,
}

/// The shard with the images that were added so far.
struct Added<'a, 'w> {
    context: &'a StageContext<'a>,
    parameters: &'a Parameters,
    image_ids: &'a [String],
    writer: &'a mut ShardWriter<'w>,
    quarantined: &'a mut Vec<Quarantined>,
    /// The numbers and the tensors' hashes of those that are in the shard.
    made: Vec<(usize, blake3::Hash)>,
    /// The digests of the files of all that had their turn.
    read: Vec<Digest>,
    /// Why no more are added.
    end: Option<StageError>,
}

impl Added<'_, '_> {
    fn add(&mut self, Image { file, digest, made }: Image<'_>, tensor: &[u8]) -> Result<(), StageError> {
        let number = self.read.len();
        let image_id = &self.image_ids[number];
        self.read.push(digest);
        match made {
            Ok(hash) => {
                self.writer.push(tensor)?;
                self.made.push((number, hash));
            }
            Err(bad) if self.parameters.bad_images == BadImages::Error => {
                return Err(StageError::input(format!("bad image `{}`: the file {bad}", self.shown(file)))
                    .hint("replace it, or set `bad_images = \"quarantine\"` to leave such images out"));
            }
            Err(bad) => {
                self.context.warn(format!("left out `{image_id}`: the file `{}` {bad}", self.shown(file)));
                self.writer.leave_out();
                let BadImage { reason, offset, .. } = bad;
                self.quarantined.push(Quarantined { image_id: image_id.clone(), reason, offset });
            }
        }
        Ok(())
    }

    /// The file's name for people: where it is, or its path within an artifact, whose bytes have no name on disk.
    fn shown(&self, file: &InputFile) -> String {
        match self.context.inputs().optional("images") {
            Some(input) if input.artifact_type.is_none() => file.source.display().to_string(),
            _ => file.path.clone(),
        }
    }
}
