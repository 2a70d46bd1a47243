//! Produces the tensors of one part on several threads.

use std::iter::Enumerate;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use hamflow_stage_api::{Digest, InputFile, ReadAhead, StageContext, StageError};

use super::{BadImages, PreprocessParams, Quarantined};
use crate::shard::{ShardWriter, tensor_hash};
use hamflow_kernels::imaging::{BadImage, Preparer};

/// Adds a part's images to its shard, in order. Returns the indices and tensor hashes of those that were added.
///
/// Each thread takes the next image, reads, verifies, decodes and resizes it, and waits until the previous images are
/// added. A thread reuses its buffers and only reallocates for a larger image.
pub(super) fn prepare_all(
    context: &StageContext<'_>,
    parameters: &PreprocessParams,
    image_ids: &[String],
    writer: &mut ShardWriter<'_>,
    quarantined: &mut Vec<Quarantined>,
) -> Result<Vec<(usize, blake3::Hash)>, StageError> {
    let files = &context.input("images")?.files;
    if image_ids.len() != files.len() {
        return Err(StageError::bug(format!("{} image ids, but {} files", image_ids.len(), files.len())));
    }
    let added = PartState {
        context,
        parameters,
        image_ids,
        writer,
        quarantined,
        made: Vec::with_capacity(files.len()),
        read: Vec::with_capacity(files.len()),
        end: None,
    };
    let state = SharedState {
        parameters,
        ahead: Mutex::new(ReadAhead::new(files).enumerate()),
        added: Mutex::new(added),
        next: Condvar::new(),
    };
    let helpers = context.threads().min(files.len()).saturating_sub(1);
    std::thread::scope(|scope| {
        let helpers: Vec<_> = (0..helpers).map(|_| scope.spawn(|| state.work())).collect();
        state.work();
        for helper in helpers {
            if let Err(panic) = helper.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    let PartState { made, read, end, .. } = state.added.into_inner().unwrap_or_else(PoisonError::into_inner);
    match end {
        Some(error) => Err(error),
        None => {
            context.read("images", read);
            Ok(made)
        }
    }
}

/// The state shared by the threads.
struct SharedState<'a, 'w> {
    parameters: &'a PreprocessParams,
    ahead: Mutex<Enumerate<ReadAhead<'a>>>,
    added: Mutex<PartState<'a, 'w>>,
    /// Signals that an image was added, or that no more will be.
    next: Condvar,
}

impl SharedState<'_, '_> {
    /// Processes images until none are left or one fails.
    fn work(&self) {
        let _guard = PanicGuard(self);
        let mut preparer = Preparer::new(self.parameters.preparation());
        let (mut bytes, mut tensor) = (Vec::new(), vec![0; self.parameters.shape().iter().product()]);
        loop {
            let taken = locked(&self.ahead).next();
            let Some((number, opened)) = taken else { return };
            let image = opened.read(&mut bytes).map(|(file, digest)| {
                let made = preparer.prepare(&bytes, &mut tensor).map(|()| tensor_hash(&tensor));
                Image { file, digest, made }
            });
            let waits = |added: &mut PartState<'_, '_>| added.read.len() != number && added.end.is_none();
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

/// Wakes the other threads if this one panics, because its image will never be added.
struct PanicGuard<'m, 'a, 'w>(&'m SharedState<'a, 'w>);

impl Drop for PanicGuard<'_, '_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            locked(&self.0.added).end.get_or_insert_with(|| StageError::bug("a thread of the part panicked"));
            self.0.next.notify_all();
        }
    }
}

/// An image that was read and processed.
struct Image<'a> {
    file: &'a InputFile,
    digest: Digest,
    /// The hash of its tensor.
    made: Result<blake3::Hash, BadImage>,
}

/// The shard with the images added so far.
struct PartState<'a, 'w> {
    context: &'a StageContext<'a>,
    parameters: &'a PreprocessParams,
    image_ids: &'a [String],
    writer: &'a mut ShardWriter<'w>,
    quarantined: &'a mut Vec<Quarantined>,
    /// The indices and tensor hashes of the images in the shard.
    made: Vec<(usize, blake3::Hash)>,
    /// The digests of all files read so far, in order.
    read: Vec<Digest>,
    /// The reason why no more images are added.
    end: Option<StageError>,
}

impl PartState<'_, '_> {
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
                    .hint("replace the file, or set `bad_images = \"quarantine\"` to skip bad images"));
            }
            Err(bad) => {
                self.context.warn(format!("skipped image `{image_id}`: the file `{}` {bad}", self.shown(file)));
                self.writer.leave_out();
                let BadImage { reason, offset, .. } = bad;
                self.quarantined.push(Quarantined { image_id: image_id.clone(), reason, offset });
            }
        }
        Ok(())
    }

    /// The file's name for messages: its path on disk, or its path within an artifact, whose files are stored by digest.
    fn shown(&self, file: &InputFile) -> String {
        match self.context.inputs().optional("images") {
            Some(input) if !input.is_artifact => file.source.display().to_string(),
            _ => file.path.clone(),
        }
    }
}
