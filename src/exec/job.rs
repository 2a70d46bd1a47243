//! Creates the job for a stage, a part of it or the merge of its parts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hamflow_stage_api::{Input, Inputs, Job, JobPart, Lineage, Part, Redactor, StageError, Threads};

use crate::config::Stage;
use crate::digest::{Digest, FileDigest};
use crate::fs::{self, disk_error};
use crate::store::Store;

/// The directories of a job.
pub struct Places<'a> {
    /// The store that contains the inputs.
    pub store: &'a Store,
    /// The parent of the work directory.
    pub tmp: &'a Path,
    /// The project root.
    pub project: &'a Path,
    /// What hamflow itself keeps in the project.
    pub own: &'a [PathBuf],
    /// The directory for side outputs of the stage; exists.
    pub side: &'a Path,
    /// The checkpoint directory, for kinds that can resume.
    pub checkpoint: Option<&'a Path>,
    /// Whether the job waits in a queue: then its task creates the directories, since there may be very many.
    pub is_queued: bool,
    /// Hides the secrets of all stages.
    pub redactor: &'a Redactor,
}

/// Returns the inputs of a part: for each port, the files of its first input that the part lists.
pub fn part_inputs(inputs: &Inputs, part: &Part) -> Result<Inputs, StageError> {
    let mut chosen = Inputs::default();
    for (port, connected) in &inputs.0 {
        let Some(first) = connected.first() else { continue };
        // Only the listed files are in the key of the part, so it must not see others.
        let indices = part.files.get(port).map_or(&[][..], Vec::as_slice);
        let files = indices
            .iter()
            .map(|index| first.files.get(*index as usize).cloned())
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| {
            StageError::bug(format!("part `{}` names a file that `{port}` does not have", part.name))
        })?;
        // Cloned field by field to avoid cloning the whole file list, which may have a million entries, for each part.
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

/// Returns the digests of the files that a part reads, by port and in the part's order. Unhashed files are included.
pub fn digests(inputs: &Inputs, part: &Part) -> BTreeMap<String, Vec<FileDigest>> {
    let named = inputs.0.iter().filter(|(port, _)| part.files.contains_key(*port));
    let of = |inputs: &Vec<Input>| inputs.iter().flat_map(|input| &input.files).map(|file| file.digest).collect();
    named.map(|(port, inputs)| (port.clone(), of(inputs))).collect()
}

/// Like [`digests`], for a part whose files are all hashed.
pub fn known_digests(inputs: &Inputs, part: &Part) -> Result<BTreeMap<String, Vec<Digest>>, StageError> {
    let known = |(port, digests): (String, Vec<FileDigest>)| {
        let digests: Option<Vec<Digest>> = digests.into_iter().map(FileDigest::known).collect();
        let unhashed = || StageError::bug(format!("part `{}` has a key and unhashed files at `{port}`", part.name));
        Ok((port.clone(), digests.ok_or_else(unhashed)?))
    };
    digests(inputs, part).into_iter().map(known).collect()
}

/// The work directory of a job. It is unique to the process, so that two runs never share one even if the cache is moved meanwhile.
pub fn work_dir(tmp: &Path, id: u64) -> PathBuf {
    tmp.join(format!("job-{}-{id}", std::process::id()))
}

/// A unit of work of a stage.
pub struct Piece {
    /// The id of the job.
    pub id: u64,
    /// The whole stage, a part of it, or the merge of its parts.
    pub part: JobPart,
    /// The inputs of the job.
    pub inputs: Inputs,
    /// The lineage of the inputs, for kinds that ask for it.
    pub lineage: Option<Lineage>,
    /// Number of threads that the job may use.
    pub threads: usize,
}

/// Creates the job and its directories.
pub fn make(stage: &Stage, piece: Piece, places: &Places<'_>) -> Result<Job, StageError> {
    let Piece { id, part, inputs, lineage, threads } = piece;
    let spec = &stage.spec;
    let work = work_dir(places.tmp, id);
    let (output_dir, scratch_dir) = (work.join("output"), work.join("scratch"));
    if !places.is_queued {
        for folder in [&output_dir, &scratch_dir] {
            fs::create_dir(folder).map_err(|error| disk_error(&error))?;
        }
    }
    if let Some(folder) = places.checkpoint {
        fs::create_dir(folder).map_err(|error| disk_error(&error))?;
    }
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
        lineage,
        inputs,
        output_dir,
        scratch_dir,
        side_dir: places.side.to_owned(),
        checkpoint_dir: places.checkpoint.map(Path::to_owned),
        threads,
        pool_threads: if spec.threads == Threads::All { threads } else { 1 },
        project_dir: places.project.to_owned(),
        own_paths: places.own.to_vec(),
        params_file: stage.params_file.as_ref().map(|path| places.project.join(path)),
        env,
        redactor: places.redactor.clone(),
    })
}

/// Copies artifacts out of the store for an external program, under their own names, so that writes to them cannot damage the store.
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
