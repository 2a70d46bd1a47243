//! Notices a program that changes its own inputs.

use std::fs::{self, Metadata};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use hamflow_stage_api::{Input, InputFile, Inputs, StageError, sys};

/// A file written so shortly before the program ran could be written again without a new time.
const RACY: Duration = Duration::from_secs(2);

/// How the input files looked before a program ran.
///
/// Hashing a data set again after every command would cost more than most commands; a file whose times, size and inode are as
/// they were is taken as unchanged, unless it was too young for its times to tell. One that was written to is taken as changed
/// even if its bytes are as they were: the program may have read others meanwhile.
pub(super) struct Stamps(Vec<Stamp>);

#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    written: Written,
    /// The time of its last change of any kind, which no program can set back: another link to it counts.
    changed: [i64; 2],
    /// Whether it was written so long ago that a further write has another time.
    is_old: bool,
}

/// What shows that a file was written to, or is another one.
#[derive(Debug, PartialEq, Eq)]
struct Written {
    size: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

impl Stamps {
    /// Looks at every input file.
    pub fn take(inputs: &Inputs) -> Result<Self, StageError> {
        let now = SystemTime::now();
        let stamp = |(_, file): (&Input, &InputFile)| {
            let metadata =
                fs::metadata(&file.source).map_err(|source| StageError::io("read", &file.source, &source))?;
            Ok(Stamp::of(&metadata, now))
        };
        files(inputs).map(stamp).collect::<Result<_, _>>().map(Self)
    }

    /// Fails if one of them is not what it was.
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

/// Files of the project that the command names and that were not there before it ran.
pub(super) struct Absent(Vec<PathBuf>);

impl Absent {
    /// Looks for the files of these names below `project`.
    pub fn of(names: &[String], project: &Path) -> Self {
        let is_inside = |name: &&String| Path::new(name).components().all(|step| step != Component::ParentDir);
        let below = names.iter().filter(is_inside).map(|name| project.join(name));
        Self(below.filter(|path| path.starts_with(project) && path.symlink_metadata().is_err()).collect())
    }

    /// One of them that is there now: named in the command, it will be an input of the next run.
    pub fn made(&self) -> Option<&Path> {
        self.0.iter().find(|path| path.is_file()).map(PathBuf::as_path)
    }
}

fn files(inputs: &Inputs) -> impl Iterator<Item = (&Input, &InputFile)> {
    inputs.0.values().flatten().flat_map(|input| input.files.iter().map(move |file| (input, file)))
}

/// An artifact's copy has a path that tells nobody anything, so it goes by its name.
fn changed(input: &Input, file: &InputFile) -> StageError {
    let error = match input.artifact_type {
        Some(_) if input.folder => StageError::input_changed(Path::new(&format!("{}/{}", input.name, file.path))),
        Some(_) => StageError::input_changed(Path::new(&input.name)),
        None => StageError::input_changed(&file.source),
    };
    error.hint("a command must not write to its inputs; let it copy what it wants to change to an output")
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
