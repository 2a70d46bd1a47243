//! Detects programs that change their own inputs.

use std::fs::{self, Metadata};
use std::path::Path;
use std::time::{Duration, SystemTime};

use hamflow_stage_api::{Input, InputFile, Inputs, StageError, sys};

/// Files modified less than this before the program started could be written again without a new timestamp.
const RACY: Duration = Duration::from_secs(2);

/// The metadata of the input files before a program ran.
///
/// Hashing all inputs again after every command would cost more than most commands. A file with the same timestamps,
/// size and inode counts as unchanged, unless it was modified too recently for the timestamps to be reliable. A file
/// that was written with the same bytes counts as changed, because the program may have read others in between.
pub(super) struct Stamps(Vec<Stamp>);

#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    written: Written,
    /// The time of the last inode change (ctime), which programs cannot set. New hard links change it, too.
    changed: [i64; 2],
    /// Whether the file is old enough that a further write changes its timestamp.
    is_old: bool,
}

/// The metadata that changes if a file is written or replaced.
#[derive(Debug, PartialEq, Eq)]
struct Written {
    size: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

impl Stamps {
    /// Records the metadata of every input file.
    pub fn take(inputs: &Inputs) -> Result<Self, StageError> {
        let now = SystemTime::now();
        let stamp = |(_, file): (&Input, &InputFile)| {
            let metadata =
                fs::metadata(&file.source).map_err(|source| StageError::io("read", &file.source, &source))?;
            Ok(Stamp::of(&metadata, now))
        };
        files(inputs).map(stamp).collect::<Result<_, _>>().map(Self)
    }

    /// Fails if an input file has changed.
    pub fn check(&self, inputs: &Inputs) -> Result<(), StageError> {
        for ((input, file), stamp) in files(inputs).zip(&self.0) {
            let now = fs::metadata(&file.source).ok().map(|metadata| Stamp::of(&metadata, SystemTime::now()));
            let same = now.filter(|now| now.written == stamp.written).ok_or_else(|| changed(input, file))?;
            let told = stamp.is_old && same.changed == stamp.changed;
            if !told && file.read().is_err() {
                return Err(changed(input, file));
            }
        }
        Ok(())
    }
}

fn files(inputs: &Inputs) -> impl Iterator<Item = (&Input, &InputFile)> {
    inputs.0.values().flatten().flat_map(|input| input.files.iter().map(move |file| (input, file)))
}

/// Artifacts are identified by name, because the paths of their copies are meaningless to the user.
fn changed(input: &Input, file: &InputFile) -> StageError {
    let error = match input.is_artifact {
        true if input.folder => StageError::input_changed(Path::new(&format!("{}/{}", input.name, file.path))),
        true => StageError::input_changed(Path::new(&input.name)),
        false => StageError::input_changed(&file.source),
    };
    error.hint("a command must not write to its inputs; copy the file to an output and modify that")
}

impl Stamp {
    fn of(metadata: &Metadata, now: SystemTime) -> Self {
        let modified = metadata.modified().ok();
        Self {
            written: Written { size: metadata.len(), modified, inode: sys::inode(metadata) },
            changed: sys::change_time(metadata),
            is_old: modified.is_some_and(|time| now.duration_since(time).is_ok_and(|age| age > RACY)),
        }
    }
}
