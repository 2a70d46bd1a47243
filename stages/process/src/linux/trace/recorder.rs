//! From system calls to uses of files.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::environments::Environments;
use super::filter::{Call, calls};
use super::listener::{Notification, read_memory, read_path};
use crate::watch::{Listed, Observed, Stamp, State, Use, Watch};

/// What a call does to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Look,
    Read,
    Execute,
    List,
    Write,
    ReadAndWrite,
}

/// A call with the absolute paths that it names.
pub struct Named {
    thread: u32,
    steps: Vec<(Action, PathBuf)>,
}

/// A call, resolved to its paths without symlinks and, below the roots, to what is there before it.
pub struct Event {
    thread: u32,
    steps: Vec<(Action, PathBuf, Option<State>)>,
}

/// A folder that may have been listed to find a module.
struct Search {
    folder: PathBuf,
    /// Whether the process has searched it before, and nothing in it has changed since.
    is_repeated: bool,
}

/// Collects the uses of files.
pub struct Recorder {
    watch: Watch,
    calls: HashMap<i32, Call>,
    environments: Environments,
    /// Folders as programs name them, and without symlinks.
    folders: HashMap<PathBuf, PathBuf>,
    /// The watched folder that each thread asked about in its last call.
    asked: HashMap<u32, PathBuf>,
    /// What each thread may have listed to find a module; its next calls tell.
    searching: HashMap<u32, Search>,
    /// The folders in which a process has looked for modules of Python, and the time of their last change then.
    searched: HashMap<(u32, PathBuf), [i64; 2]>,
    /// Folders, as programs name them, in which nothing is watched. Most calls ask about files in them.
    unwatched: HashSet<Vec<u8>>,
    buffer: Vec<u8>,
    observed: Observed,
}

impl Recorder {
    /// Starts with nothing observed.
    pub fn new(watch: Watch) -> Self {
        let calls =
            calls().into_iter().filter_map(|(number, call)| Some((i32::try_from(number).ok()?, call))).collect();
        Self {
            environments: Environments::new(&watch.roots),
            watch,
            calls,
            folders: HashMap::new(),
            asked: HashMap::new(),
            searching: HashMap::new(),
            searched: HashMap::new(),
            unwatched: HashSet::new(),
            buffer: Vec::new(),
            observed: Observed::default(),
        }
    }

    /// What was observed.
    pub fn into_observed(mut self) -> Observed {
        for (_, search) in std::mem::take(&mut self.searching) {
            self.was_listed(&search.folder, Listed::All);
        }
        self.observed
    }

    /// Reads the paths of a call that is about to happen. `None` if it concerns no file.
    pub fn read(&mut self, notification: &Notification) -> Option<Named> {
        let thread = notification.pid;
        let arguments = &notification.arguments;
        let call = *self.calls.get(&notification.number)?;
        if let Call::Look { path, .. } = call {
            return self.read_look(thread, call, arguments, path);
        }
        let mut path = |index: usize, at: bool| {
            let folder = at.then(|| arguments[index - 1] as i32);
            self.path(thread, folder, arguments[index])
        };
        let one = |action, path| Some(Named { thread, steps: vec![(action, path?)] });
        match call {
            Call::Open { path: index, flags, at } => one(of_flags(arguments[flags])?, path(index, at)),
            Call::OpenHow => {
                let mut flags = [0; 8];
                read_memory(thread, arguments[2], &mut flags).ok()?;
                one(of_flags(u64::from_ne_bytes(flags))?, path(1, true))
            }
            Call::Create => one(Action::Write, path(0, false)),
            Call::Look { .. } => None,
            Call::Execute { path: index, at } => one(Action::Execute, path(index, at)),
            Call::Change { path: index, at } => one(Action::Write, path(index, at)),
            Call::List => one(Action::List, open_file(thread, arguments[0] as i32)),
            Call::Move { from, to, at } => {
                let steps = vec![(Action::Write, path(from, at)?), (Action::Write, path(to, at)?)];
                Some(Named { thread, steps })
            }
        }
    }

    /// Like [`Recorder::read`], for a call that asks about a path. `None` if nothing can be watched there.
    fn read_look(&mut self, thread: u32, call: Call, arguments: &[u64; 6], index: usize) -> Option<Named> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = read_path(thread, arguments[index], &mut buffer);
        let is_unwatched = split(&buffer).is_some_and(|folder| self.unwatched.contains(folder));
        let is_idle = self.asked.is_empty() && self.searching.is_empty();
        let path = (read.is_ok() && !(is_unwatched && is_idle)).then(|| PathBuf::from(OsStr::from_bytes(&buffer)));
        self.buffer = buffer;
        let folder = matches!(call, Call::Look { at: true, .. }).then(|| arguments[index - 1] as i32);
        Some(Named { thread, steps: vec![(Action::Look, absolute(thread, folder, path?)?)] })
    }

    /// Remembers a folder, as a program names it, in which nothing is watched.
    fn remember_unwatched(&mut self, named: &Path, real: &Path) {
        let Some((named, real)) = split(named.as_os_str().as_bytes()).zip(real.parent()) else { return };
        let is_apart = |root: &PathBuf| !real.starts_with(root) && !root.starts_with(real);
        if self.environments.know(real) || self.watch.roots.iter().all(is_apart) {
            self.unwatched.insert(named.to_vec());
        }
    }

    /// Whether the call must wait until it is resolved, because it may change what is there.
    ///
    /// Most calls are about software outside of the roots, which need not wait. If a symlink leads from there into a root, the state is
    /// taken a moment later.
    pub fn must_wait(&self, named: &Named) -> bool {
        named.steps.iter().any(|(_, path)| {
            let bytes = path.as_os_str().as_bytes();
            let is_below = |folder: &PathBuf| bytes.starts_with(folder.as_os_str().as_bytes());
            self.watch.roots.iter().any(is_below) && !path.parent().is_some_and(|folder| self.environments.know(folder))
        })
    }

    /// Resolves the paths of a call.
    pub fn resolve(&mut self, Named { thread, steps }: Named) -> Event {
        let steps = steps.into_iter().map(|(action, path)| {
            let named = path;
            let path = if action == Action::List { named.clone() } else { self.without_symlinks(named.clone()) };
            let state = self.is_watched(&path).then(|| state(&path));
            if state.is_none() {
                self.remember_unwatched(&named, &path);
            }
            (action, path, state)
        });
        Event { thread, steps: steps.collect() }
    }

    fn is_watched(&mut self, path: &Path) -> bool {
        let bytes = path.as_os_str().as_bytes();
        // Comparing steps takes longer.
        let may_be_below = |folder: &PathBuf| bytes.starts_with(folder.as_os_str().as_bytes());
        self.watch.roots.iter().any(|root| may_be_below(root) && path.starts_with(root))
            && !self.watch.except.iter().any(|except| path.starts_with(except))
            && !self.environments.contain(path)
    }

    /// The path at an address, made absolute.
    fn path(&mut self, thread: u32, folder: Option<i32>, address: u64) -> Option<PathBuf> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = read_path(thread, address, &mut buffer);
        let path = PathBuf::from(OsStr::from_bytes(&buffer));
        self.buffer = buffer;
        read.ok()?;
        absolute(thread, folder, path)
    }

    /// A path without symlinks in front of its last step.
    fn without_symlinks(&mut self, path: PathBuf) -> PathBuf {
        match path.components().next_back() {
            Some(Component::Normal(name)) => match path.parent() {
                Some(parent) => self.real_folder(parent).join(name),
                None => path,
            },
            _ => self.real_folder(&path),
        }
    }

    /// A folder without symlinks.
    fn real_folder(&mut self, folder: &Path) -> PathBuf {
        if let Some(known) = self.folders.get(folder) {
            return known.clone();
        }
        let real = match (folder.parent(), folder.components().next_back()) {
            (Some(parent), Some(Component::Normal(name))) => {
                let real = self.real_folder(parent).join(name);
                // A symlink to itself leads nowhere.
                if real.is_symlink() { real.canonicalize().unwrap_or(real) } else { real }
            }
            (Some(parent), Some(Component::ParentDir)) => {
                let parent = self.real_folder(parent);
                parent.parent().map_or_else(|| parent.clone(), Path::to_owned)
            }
            _ => folder.to_owned(),
        };
        self.folders.insert(folder.to_owned(), real.clone());
        real
    }

    /// Records a call that happens.
    pub fn record(&mut self, Event { thread, steps }: Event) {
        for (action, path, state) in steps {
            self.end_search(thread, action, &path);
            if action == Action::Execute && (state.is_some() || path.is_file()) {
                self.observed.programs.insert(path.clone());
            }
            let Some(before) = state else {
                self.asked.remove(&thread);
                if action == Action::Read && !is_of_the_kernel(&path) {
                    self.observed.others.insert(path);
                }
                continue;
            };
            // Every program may look at the folder that it runs in.
            if action == Action::Look && self.watch.roots.contains(&path) {
                self.asked.insert(thread, path);
                continue;
            }
            let search = (action == Action::List).then(|| self.search(thread, &path)).flatten();
            let is_search = search.is_some();
            match action {
                Action::Look => drop(self.asked.insert(thread, path.clone())),
                // The folder is opened to be listed.
                Action::Read if self.asked.get(&thread) == Some(&path) => {}
                _ => drop(self.asked.remove(&thread)),
            }
            if let Some(search) = search {
                self.searching.insert(thread, search);
            }
            let is_file = before != State::Folder;
            let writes = matches!(action, Action::Write | Action::ReadAndWrite);
            let is_first_write = action == Action::Write;
            let used = self.observed.uses.entry(path).or_insert_with(|| Use {
                before,
                is_written_first: is_first_write,
                is_written: false,
                is_opened: false,
                listed: None,
            });
            used.is_written |= writes;
            used.is_opened |= is_file && matches!(action, Action::Read | Action::Execute | Action::ReadAndWrite);
            if action == Action::List && !is_search {
                used.listed = Some(Listed::All);
            }
        }
    }

    fn was_listed(&mut self, folder: &Path, listed: Listed) {
        if let Some(used) = self.observed.uses.get_mut(folder) {
            used.listed = used.listed.max(Some(listed));
        }
    }

    /// Whether a thread may list a folder to find a module.
    ///
    /// The import system of Python (`FileFinder` in `importlib`) asks for the time of a folder in `sys.path` and lists it once in each
    /// process, and again if it has changed (by a `__pycache__`). `importlib.metadata` lists it once more. What it does next tells whether it was that: see [`Recorder::end_search`].
    fn search(&mut self, thread: u32, path: &Path) -> Option<Search> {
        if let Some(search) = self.searching.get(&thread).filter(|search| search.folder == path) {
            // A listing takes several calls.
            return Some(Search { folder: path.to_owned(), is_repeated: search.is_repeated });
        }
        let process = self.asked.get(&thread).filter(|asked| *asked == path).and_then(|_| process_of(thread))?;
        if !is_module_folder(process, path, &self.observed) {
            return None;
        }
        let modified = fs::metadata(path).ok().map(|metadata| [metadata.mtime(), metadata.mtime_nsec()])?;
        let before = self.searched.insert((process, path.to_owned()), modified);
        Some(Search { folder: path.to_owned(), is_repeated: before == Some(modified) })
    }

    /// Decides what a folder was listed for by the calls that follow. The import system next opens a module in it, once it has asked which of
    /// its suffixes is there, or asks for the time of the library's folder. A program that lists the folder itself and then imports a module
    /// makes the import system list it again. `importlib.metadata` goes on with the next entry of `sys.path`, the library as an archive.
    fn end_search(&mut self, thread: u32, action: Action, path: &Path) {
        let Some(Search { folder, is_repeated }) = self.searching.get(&thread) else { return };
        let is_in_it = path.starts_with(folder) && path != folder;
        let listed = match action {
            Action::List if path == folder => return,
            _ if *is_repeated => match action == Action::Look && is_library_archive(path) {
                true => Listed::Modules,
                false => Listed::All,
            },
            Action::Look if is_in_it && is_module(path) => return,
            Action::Read if is_in_it && is_module(path) => Listed::Modules,
            Action::Look if !is_in_it && is_library(path) => Listed::Modules,
            _ => Listed::All,
        };
        if let Some(search) = self.searching.remove(&thread) {
            self.was_listed(&search.folder, listed);
        }
    }
}

/// The folder of an absolute path whose last step is a name.
fn split(path: &[u8]) -> Option<&[u8]> {
    let end = path.iter().rposition(|byte| *byte == b'/').filter(|_| path.starts_with(b"/"))?;
    let name = &path[end + 1..];
    (!matches!(name, b"" | b"." | b"..")).then_some(&path[..end])
}

/// A path of a thread, made absolute: relative to an open folder, or to the current one.
fn absolute(thread: u32, folder: Option<i32>, path: PathBuf) -> Option<PathBuf> {
    if path.as_os_str().is_empty() {
        return None;
    }
    Some(match folder.filter(|folder| *folder != libc::AT_FDCWD) {
        _ if path.is_absolute() => path,
        Some(folder) => open_file(thread, folder)?.join(path),
        None => fs::read_link(format!("/proc/{thread}/cwd")).ok()?.join(path),
    })
}

/// Whether a file can be a module of Python, or a folder can be a package.
fn is_module(path: &Path) -> bool {
    path.extension().is_none_or(|suffix| ["py", "pyc", "so"].iter().any(|known| suffix == *known))
}

/// Whether a folder belongs to the library of a Python: `/usr/lib/python3.11`, `/usr/lib/python311.zip`.
fn is_library(path: &Path) -> bool {
    let is_version =
        |text: &str| text.starts_with(char::is_numeric) && text.chars().all(|c| c.is_numeric() || c == '.');
    let names = path.components().filter_map(|step| step.as_os_str().to_str()?.strip_prefix("python"));
    names.map(|rest| rest.strip_suffix(".zip").unwrap_or(rest)).any(is_version)
}

/// Whether a file is the library of a Python as an archive: `python311.zip`.
fn is_library_archive(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| suffix == "zip") && is_library(path)
}

/// What an opening does, by its flags (open(2)); `None` for a nameless temporary file.
fn of_flags(flags: u64) -> Option<Action> {
    let flags = flags as i32;
    let has = |flag: i32| flags & flag == flag;
    if has(libc::O_TMPFILE) {
        return None;
    }
    if has(libc::O_PATH) {
        return Some(Action::Look);
    }
    Some(match flags & libc::O_ACCMODE {
        libc::O_RDONLY if has(libc::O_TRUNC) => Action::Write,
        libc::O_RDONLY => Action::Read,
        libc::O_RDWR if !has(libc::O_TRUNC) && !has(libc::O_EXCL) => Action::ReadAndWrite,
        _ => Action::Write,
    })
}

/// The path of an open file.
fn open_file(thread: u32, descriptor: i32) -> Option<PathBuf> {
    let path = fs::read_link(format!("/proc/{thread}/fd/{descriptor}")).ok()?;
    path.is_absolute().then_some(path)
}

/// Whether a file is an interface of the kernel rather than data.
fn is_of_the_kernel(path: &Path) -> bool {
    ["/proc", "/sys", "/dev"].iter().any(|folder| path.starts_with(folder))
}

fn state(path: &Path) -> State {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => State::File(stamp(&metadata)),
        Ok(metadata) if metadata.is_dir() => State::Folder,
        Ok(_) => State::Other,
        Err(_) => State::Absent,
    }
}

/// The stamp of a file.
pub fn stamp(metadata: &Metadata) -> Stamp {
    Stamp {
        size: metadata.len(),
        modified: [metadata.mtime(), metadata.mtime_nsec()],
        changed: [metadata.ctime(), metadata.ctime_nsec()],
        inode: metadata.ino(),
    }
}

/// The process of a thread (proc_pid_status(5)).
fn process_of(thread: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// Whether a process is a Python that looks for modules in a folder: that of its script, or that of a package which it has imported.
fn is_module_folder(process: u32, folder: &Path, observed: &Observed) -> bool {
    let Ok(program) = fs::read_link(format!("/proc/{process}/exe")) else { return false };
    if !program.file_name().is_some_and(|name| name.as_bytes().starts_with(b"python")) {
        return false;
    }
    let is_package = observed.uses.get(&folder.join("__init__.py")).is_some_and(|used| used.is_opened);
    is_package || script_folder(process).is_some_and(|script| script == folder)
}

/// The folder of the script that a Python runs; the current one for `-c` and `-m`.
fn script_folder(process: u32) -> Option<PathBuf> {
    let line = fs::read(format!("/proc/{process}/cmdline")).ok()?;
    let current = fs::read_link(format!("/proc/{process}/cwd")).ok()?;
    let mut arguments = line.split(|byte| *byte == 0).skip(1);
    while let Some(argument) = arguments.next() {
        match argument {
            b"-W" | b"-X" => drop(arguments.next()),
            b"-" => return Some(current),
            [b'-', options @ ..] => {
                if !options.starts_with(b"-") && options.iter().any(|option| b"cm".contains(option)) {
                    return Some(current);
                }
            }
            script => {
                let script = fs::canonicalize(current.join(std::ffi::OsString::from_vec(script.to_vec()))).ok()?;
                return script.parent().map(Path::to_owned);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_with_python_in_its_name_is_no_library() {
        for path in ["/usr/lib/python3.11", "/usr/lib/python3/dist-packages", "/opt/env/lib/python311.zip"] {
            assert!(is_library(Path::new(path)), "{path}");
        }
        for path in ["/home/u/python-project/data", "/home/u/python/x.csv", "/home/u/python3-demo", "/usr/lib/x"] {
            assert!(!is_library(Path::new(path)), "{path}");
        }
    }
}
