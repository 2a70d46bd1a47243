//! Makes a job out of a stage and one piece of its work.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hamflow_stage_api::{Input, Inputs, Job, JobPart, Part, StageError, Threads};

use crate::config::Stage;
use crate::digest::{Digest, FileDigest};
use crate::fs::{self, disk_error};
use crate::store::Store;

/// Where a job works.
pub struct Places<'a> {
    /// The store that inputs lie in.
    pub store: &'a Store,
    /// Where the job's own folders are made.
    pub tmp: &'a Path,
    /// The project's root.
    pub project: &'a Path,
    /// Where the run keeps the stage's side outputs.
    pub side: &'a Path,
    /// Where progress is kept, for kinds that can continue.
    pub checkpoint: Option<&'a Path>,
}

/// The inputs of a part: of each port's first input the files that the part names, and of all others the whole.
pub fn part_inputs(inputs: &Inputs, part: &Part) -> Result<Inputs, StageError> {
    let mut chosen = Inputs::default();
    for (port, connected) in &inputs.0 {
        let Some(first) = connected.first() else { continue };
        // Only what the part names is in its key, so it sees nothing else.
        let indices = part.files.get(port).map_or(&[][..], Vec::as_slice);
        let files = indices
            .iter()
            .map(|index| first.files.get(*index as usize).cloned())
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| {
            StageError::bug(format!("part `{}` names a file that `{port}` does not have", part.name))
        })?;
        // Field by field: the whole listing, perhaps a million files, is not copied for each part.
        let Input { name, is_artifact, labels, digest, files: _, folder, path } = first;
        let input = Input {
            name: name.clone(),
            is_artifact: *is_artifact,
            labels: labels.clone(),
            digest: *digest,
            files,
            folder: *folder,
            path: path.clone(),
        };
        chosen.0.insert(port.clone(), vec![input]);
    }
    Ok(chosen)
}

/// The bytes that a part reads, by port in its order, as far as they are known.
pub fn digests(inputs: &Inputs, part: &Part) -> BTreeMap<String, Vec<FileDigest>> {
    let named = inputs.0.iter().filter(|(port, _)| part.files.contains_key(*port));
    let of = |inputs: &Vec<Input>| inputs.iter().flat_map(|input| &input.files).map(|file| file.digest).collect();
    named.map(|(port, inputs)| (port.clone(), of(inputs))).collect()
}

/// The same of a part whose files are all hashed.
pub fn known_digests(inputs: &Inputs, part: &Part) -> Result<BTreeMap<String, Vec<Digest>>, StageError> {
    let known = |(port, digests): (String, Vec<FileDigest>)| {
        let digests: Option<Vec<Digest>> = digests.into_iter().map(FileDigest::known).collect();
        let unhashed = || StageError::bug(format!("part `{}` has a key and unhashed files at `{port}`", part.name));
        Ok((port.clone(), digests.ok_or_else(unhashed)?))
    };
    digests(inputs, part).into_iter().map(known).collect()
}

/// Where a job works. Another process never works there: whoever moves the cache away does not mix two runs.
pub fn work_dir(tmp: &Path, id: u64) -> PathBuf {
    tmp.join(format!("job-{}-{id}", std::process::id()))
}

/// One piece of the work of a stage.
pub struct Piece {
    /// The job's number.
    pub id: u64,
    /// The whole stage, a part of it, or the merge of its parts.
    pub part: JobPart,
    /// The inputs that the piece reads.
    pub inputs: Inputs,
    /// The number of threads that it may use.
    pub threads: usize,
}

/// Makes the job. Its folders exist afterwards and are empty.
pub fn make(stage: &Stage, piece: Piece, places: &Places<'_>) -> Result<Job, StageError> {
    let Piece { id, part, inputs, threads } = piece;
    let spec = &stage.spec;
    let work = work_dir(places.tmp, id);
    let (output_dir, scratch_dir) = (work.join("output"), work.join("scratch"));
    for folder in [&output_dir, &scratch_dir] {
        fs::create_dir(folder).map_err(|error| disk_error(&error))?;
    }
    if let Some(folder) = places.checkpoint {
        fs::create_dir(folder).map_err(|error| disk_error(&error))?;
    }
    fs::create_dir(places.side).map_err(|error| disk_error(&error))?;
    let inputs = if spec.dynamic_ports { lay_out(inputs, &work.join("inputs"), places.store)? } else { inputs };
    let names = stage.env.iter().chain(&stage.secret_env);
    let env: BTreeMap<String, String> =
        names.filter_map(|name| Some((name.clone(), std::env::var(name).ok()?))).collect();
    Ok(Job {
        id,
        stage: stage.name.clone(),
        kind: spec.name.to_owned(),
        params: stage.params.json().clone(),
        seed: spec.seeded.then_some(stage.seed),
        part,
        inputs,
        output_dir,
        scratch_dir,
        side_dir: places.side.to_owned(),
        checkpoint_dir: places.checkpoint.map(Path::to_owned),
        threads,
        pool_threads: if spec.threads == Threads::All { threads } else { 1 },
        project_dir: places.project.to_owned(),
        env,
    })
}

/// Copies artifacts out of the store for a program that is not ours: under their own names, and where a write hurts nobody.
fn lay_out(mut inputs: Inputs, folder: &Path, store: &Store) -> Result<Inputs, StageError> {
    for (port, connected) in &mut inputs.0 {
        for (number, input) in connected.iter_mut().enumerate() {
            if !input.files.iter().all(|file| file.source.starts_with(store.content.folder())) || is_outside(input) {
                continue;
            }
            let below = folder.join(port.replace(['/', ':'], "_")).join(number.to_string());
            for file in &mut input.files {
                let target = below.join(&file.path);
                if !store.content.copy(&file.known_digest()?, &target).map_err(|error| disk_error(&error))? {
                    return Err(StageError::input_changed(&file.source));
                }
                file.source = target;
            }
            fs::create_dir(&below).map_err(|error| disk_error(&error))?;
            input.path = Some(if input.folder { below } else { input.files[0].source.clone() });
        }
    }
    Ok(inputs)
}

fn is_outside(input: &Input) -> bool {
    !input.is_artifact
}
