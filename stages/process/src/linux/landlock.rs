//! Hides files from a program (landlock(7)): it needs no privileges and holds for all that the program starts.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr,
    RulesetError, path_beneath_rules,
};

use super::trace::Environments;
use crate::isolation::Isolation;

/// The rights that are taken: those of Linux 6.2, so that truncating counts as writing.
const RIGHTS: ABI = ABI::V3;

/// Whether the kernel can hide files.
pub fn can_isolate() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        let required = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        required.handle_access(AccessFs::from_all(ABI::V1)).and_then(Ruleset::create).is_ok()
    })
}

/// Hides files from the program that `command` will start.
pub fn isolate(command: &mut Command, isolation: &Isolation) -> io::Result<()> {
    let mut rules = Some(rules(isolation).map_err(io::Error::other)?);
    let restrict = move || match rules.take() {
        Some(rules) => rules.restrict_self().map(|_| ()).map_err(io::Error::other),
        None => Ok(()),
    };
    // SAFETY: between fork and exec, the closure makes two system calls and frees memory, which the allocator of glibc and musl allows
    // then.
    unsafe { command.pre_exec(restrict) };
    Ok(())
}

fn rules(isolation: &Isolation) -> Result<RulesetCreated, RulesetError> {
    let Isolation { hidden, readable, writable } = isolation;
    let all = AccessFs::from_all(RIGHTS);
    let read = readable.iter().cloned().chain(software(hidden));
    Ruleset::default()
        .handle_access(all)?
        .create()?
        .add_rules(path_beneath_rules(outside(hidden), all))?
        .add_rules(path_beneath_rules(read, AccessFs::from_read(RIGHTS)))?
        .add_rules(path_beneath_rules(writable, all))
}

/// Everything outside of the folders. A right for a folder holds for all below it, so the folders above are not among it, only what else
/// is in them.
fn outside(folders: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut above = vec![PathBuf::from("/")];
    while let Some(folder) = above.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if folders.contains(&path) {
                continue;
            }
            match folders.iter().any(|hidden| hidden.starts_with(&path)) {
                true => above.push(path),
                false => found.push(path),
            }
        }
    }
    found
}

/// Installed software and caches of tools in the folders, and the folders in which programs are looked for.
fn software(folders: &[PathBuf]) -> Vec<PathBuf> {
    let environments = Environments::new(folders);
    let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| environments.is_one(path)).collect();
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Never a hidden folder itself, which `PATH` may name.
    let is_below = |path: &Path| folders.iter().any(|folder| path.starts_with(folder) && path != folder);
    found
        .extend(std::env::split_paths(&path).filter_map(|path| path.canonicalize().ok()).filter(|path| is_below(path)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_outside_of_folders_is_next_to_their_parents() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for path in ["a/hidden/x", "a/seen", "b"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        let found = outside(&[root.join("a/hidden")]);
        assert!(found.contains(&root.join("a/seen")) && found.contains(&root.join("b")), "{found:?}");
        assert!(found.contains(&PathBuf::from("/usr")), "{found:?}");
        let is_above =
            |path: &PathBuf| root.join("a/hidden").starts_with(path) || path.starts_with(root.join("a/hidden"));
        assert!(!found.iter().any(is_above), "{found:?}");
    }
}
