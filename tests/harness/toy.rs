//! The engine with toy kinds, to test it without tables, images and training.

use std::io::Write;
use std::process::ExitCode;

use hamflow::cli::Program;
use hamflow_stage_api::{
    Access, Argument, Arguments, ArtifactType, CommandError, Devices, Form, Host, Kind, KindSpec, Output, ParamError,
    Params, Part, PartOutput, Parts, Planning, Port, ReadAhead, StageContext, StageError, Subcommand, SubcommandSpec,
    Threads, View, Views, Wanted,
};
use serde_json::{Value, json};

fn main() -> ExitCode {
    hamflow::cli::main(Program {
        kinds: &[&Shout, &Join, &Names, &Rows, &PIECES, &ONCE, &Dice, &Wait, &Hold, &Crash, &OnDevice],
        commands: &[&Contains],
        detect: None,
    })
}

fn spec(name: &'static str, summary: &'static str, ports: Vec<Port>) -> KindSpec {
    KindSpec { threads: Threads::One, ..KindSpec::new(name, 1, summary, ports) }
}

fn file_port(name: &str) -> Port {
    Port::new(name, ArtifactType::FILE, "A text.").or_external()
}

fn output() -> Vec<Output> {
    vec![Output::new("text", ArtifactType::FILE, "text.txt")]
}

/// Resolves parameters that are strings or numbers, with defaults.
fn resolve(params: &Params, defaults: Value) -> Result<Params, ParamError> {
    let mut resolved = defaults.as_object().cloned().unwrap_or_default();
    for (name, value) in params {
        match resolved.get(name) {
            None => return Err(ParamError::new(name, format!("unknown parameter `{name}`"))),
            Some(default) if default.is_number() != value.is_number() => {
                return Err(ParamError::new(name, format!("`{name}` takes a value like {default}")));
            }
            Some(_) => resolved.insert(name.clone(), value.clone()),
        };
    }
    Ok(resolved)
}

fn schema(defaults: &Value) -> Value {
    let properties: serde_json::Map<String, Value> = defaults
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, default)| (name.clone(), json!({"description": "A toy's parameter.", "default": default})))
        .collect();
    json!({"type": "object", "properties": properties})
}

/// Waits until a file exists.
fn wait_for(name: &str) {
    while !std::path::Path::new(name).exists() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

fn read(context: &StageContext<'_>, port: &str) -> Result<String, StageError> {
    String::from_utf8(context.input(port)?.file()?.read()?).map_err(|error| StageError::input(error.to_string()))
}

/// Writes its input in upper case, with a suffix.
struct Shout;

impl Kind for Shout {
    type Params = Params;

    fn spec(&self) -> KindSpec {
        spec("shout", "Writes a text in capitals.", vec![file_port("from")])
    }
    fn schema(&self) -> Value {
        schema(&json!({"suffix": ""}))
    }
    fn resolve(&self, params: &Params) -> Result<Params, ParamError> {
        resolve(params, json!({"suffix": ""}))
    }
    fn outputs(&self, _params: &Params) -> Vec<Output> {
        output()
    }
    fn run(&self, params: &Params, context: &StageContext<'_>) -> Result<(), StageError> {
        let suffix = params["suffix"].as_str().unwrap_or_default().to_owned();
        context.log(format!("shouting for {}", context.stage()));
        context.write("text.txt", format!("{}{suffix}", read(context, "from")?.to_uppercase()).as_bytes())
    }
}

/// Concatenates its inputs, each preceded by its labels.
struct Join;

impl Kind for Join {
    type Params = Params;

    fn spec(&self) -> KindSpec {
        spec("join", "Writes texts one after the other.", vec![file_port("from").many()])
    }
    fn schema(&self) -> Value {
        schema(&json!({}))
    }
    fn resolve(&self, params: &Params) -> Result<Params, ParamError> {
        resolve(params, json!({}))
    }
    fn outputs(&self, _params: &Params) -> Vec<Output> {
        output()
    }
    fn run(&self, _params: &Params, context: &StageContext<'_>) -> Result<(), StageError> {
        let mut text = String::new();
        for input in context.inputs().all("from") {
            let labels: Vec<String> = input.labels.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
            text.push_str(&labels.join(","));
            text.push(':');
            text.push_str(&String::from_utf8_lossy(&input.file()?.read()?));
        }
        context.write("text.txt", text.as_bytes())
    }
}

/// Lists the file names of a directory.
struct Names;

impl Kind for Names {
    type Params = Params;

    fn spec(&self) -> KindSpec {
        let port = Port::new("folder", ArtifactType::FOLDER, "A folder.").or_external().access(Access::Names);
        spec("names", "Lists a folder.", vec![port])
    }
    fn schema(&self) -> Value {
        schema(&json!({}))
    }
    fn resolve(&self, params: &Params) -> Result<Params, ParamError> {
        resolve(params, json!({}))
    }
    fn outputs(&self, _params: &Params) -> Vec<Output> {
        output()
    }
    fn run(&self, _params: &Params, context: &StageContext<'_>) -> Result<(), StageError> {
        let names: Vec<&str> = context.input("folder")?.files.iter().map(|file| &file.path[..]).collect();
        context.write("text.txt", names.join("\n").as_bytes())
    }
}

/// Copies the lines that start with `keep`.
struct Rows;

fn kept(text: &str) -> String {
    text.lines().filter(|line| line.starts_with("keep")).map(|line| format!("{line}\n")).collect()
}

impl Kind for Rows {
    type Params = Params;

    fn spec(&self) -> KindSpec {
        spec("rows", "Copies some lines.", vec![file_port("from").access(Access::View)])
    }
    fn schema(&self) -> Value {
        schema(&json!({}))
    }
    fn resolve(&self, params: &Params) -> Result<Params, ParamError> {
        resolve(params, json!({}))
    }
    fn outputs(&self, _params: &Params) -> Vec<Output> {
        output()
    }
    fn views(&self) -> Option<&dyn Views<Params>> {
        Some(self)
    }
    fn run(&self, _params: &Params, context: &StageContext<'_>) -> Result<(), StageError> {
        context.write("text.txt", kept(&read(context, "from")?).as_bytes())
    }
}

impl Views<Params> for Rows {
    fn project(&self, _params: &Params, planning: Planning<'_>) -> Result<Vec<View>, StageError> {
        let bytes = planning.inputs.one("from")?.file()?.read()?;
        let text = kept(&String::from_utf8_lossy(&bytes)).replace(' ', "\t");
        Ok(vec![View { name: "lines to keep".into(), text }])
    }
}

/// Writes each file of a directory in upper case, with one part per first letter of the name.
struct Pieces {
    name: &'static str,
    reads_once: bool,
}

const PIECES: Pieces = Pieces { name: "pieces", reads_once: false };
const ONCE: Pieces = Pieces { name: "once", reads_once: true };

impl Kind for Pieces {
    type Params = Params;

    fn spec(&self) -> KindSpec {
        let ports = vec![Port::new("folder", ArtifactType::FOLDER, "A folder.").or_external()];
        let threads = if self.reads_once { Threads::Spare } else { Threads::One };
        KindSpec { reads_once: self.reads_once, threads, ..spec(self.name, "Works in parts.", ports) }
    }
    fn schema(&self) -> Value {
        schema(&json!({"suffix": ""}))
    }
    fn resolve(&self, params: &Params) -> Result<Params, ParamError> {
        resolve(params, json!({"suffix": ""}))
    }
    fn outputs(&self, _params: &Params) -> Vec<Output> {
        vec![
            Output::new("pieces", ArtifactType::FOLDER, "pieces").from_parts(),
            Output::new("list", ArtifactType::FILE, "pieces/list.txt"),
        ]
    }
    fn parts(&self) -> Option<&dyn Parts<Params>> {
        Some(self)
    }
    fn run(&self, _params: &Params, _context: &StageContext<'_>) -> Result<(), StageError> {
        Err(StageError::bug("works in parts"))
    }
}

impl Parts<Params> for Pieces {
    fn plan(&self, _params: &Params, planning: Planning<'_>) -> Result<Vec<Part>, StageError> {
        let mut parts: Vec<Part> = Vec::new();
        for (index, file) in planning.inputs.one("folder")?.files.iter().enumerate() {
            let name = file.path[..1].to_owned();
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            if parts.last().is_none_or(|part| part.name != name) {
                let files = [("folder".to_owned(), Vec::new())].into();
                let (data, checkpoint, amount) = (Value::Null, None, None);
                parts.push(Part { name, key: json!([]), data, files, checkpoint, amount });
            }
            let part = parts.last_mut().expect("there is one now");
            part.key.as_array_mut().expect("it is a list").push(json!(file.path));
            part.files.get_mut("folder").expect("it has this port").push(index);
        }
        Ok(parts)
    }
    fn run_part(&self, params: &Params, context: &StageContext<'_>) -> Result<(), StageError> {
        let (name, _, _) = context.part()?;
        context.log(format!("part {name}"));
        let of_libraries = std::env::var("RAYON_NUM_THREADS").unwrap_or_default();
        context.log(format!("{name} has {} threads, libraries {of_libraries}", context.threads()));
        let mut text = self.read_part(params, context)?;
        obey(&text, context)?;
        if text.contains("SAYS ITS MEMORY") {
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            text = status.lines().filter_map(|line| line.strip_prefix("VmRSS:")).collect();
        }
        let path = format!("pieces/{name}.txt");
        context.write(&path, text.as_bytes())?;
        context.write("count.txt", context.input("folder")?.files.len().to_string().as_bytes())
    }
    fn merge(&self, _params: &Params, context: &StageContext<'_>, parts: &[PartOutput]) -> Result<(), StageError> {
        let mut list = String::new();
        for part in parts {
            let path = &part.side["count.txt"];
            let count = std::fs::read_to_string(path).map_err(|error| StageError::io("read", path, &error))?;
            list.push_str(&format!("{} {count}\n", part.name));
        }
        context.write("pieces/list.txt", list.as_bytes())
    }
}

impl Pieces {
    /// The files of the part in upper case, each followed by the suffix.
    fn read_part(&self, params: &Params, context: &StageContext<'_>) -> Result<String, StageError> {
        let suffix = params["suffix"].as_str().unwrap_or_default();
        let mut text = String::new();
        let (mut bytes, mut read) = (Vec::new(), Vec::new());
        for next in ReadAhead::new(&context.input("folder")?.files) {
            let (file, digest) = next.read(&mut bytes)?;
            if self.reads_once {
                read.push(digest);
            }
            text.push_str(&String::from_utf8_lossy(&bytes).to_uppercase());
            text.push_str(suffix);
            if bytes == b"changes once it is read" {
                write(&file.source, "changed")?;
            }
        }
        if !text.contains("SAYS NOTHING") {
            context.read("folder", read);
        }
        Ok(text)
    }
}

/// Does what the text of a part says.
fn obey(text: &str, context: &StageContext<'_>) -> Result<(), StageError> {
    if text.contains("WAITS FOR A COPY") {
        wait_for("copied");
    }
    if text.contains("HOARDS") {
        let strings: Vec<String> = (0..2_000_000).map(|number| format!("{number:064}")).collect();
        // glibc does not return memory that is below a live allocation.
        std::mem::forget(strings.last().cloned());
    }
    if text.contains("A FILE COMES") {
        // A change while `names` runs would be reported.
        wait_for("out/names/text.txt");
        write(&context.input("folder")?.files[0].source.with_file_name("c"), "came")?;
    }
    if text.contains("FAILS ONCE THE OTHER HAS BEGUN") {
        wait_for("begun");
        write("failed".as_ref(), "")?;
    }
    if text.contains("FAILS") {
        return Err(StageError::input("a bad file"));
    }
    if text.contains("WAITS FOR THE FAILURE") {
        write("begun".as_ref(), "")?;
        wait_for("failed");
        // Wait until the engine has handled the failure.
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    if text.contains("NEVER ENDS") {
        write("started".as_ref(), "")?;
        loop {
            std::thread::park();
        }
    }
    if text.contains("SCRATCH") {
        let (name, _, _) = context.part()?;
        context.flaw(format!("there is a scratch on `{name}`"));
    }
    Ok(())
}

fn write(path: &std::path::Path, text: &str) -> Result<(), StageError> {
    std::fs::write(path, text).map_err(|error| StageError::io("write", path, &error))
}

/// Writes a random number.
struct Dice;

impl Kind for Dice {
    type Params = Params;

    fn spec(&self) -> KindSpec {
        KindSpec { seeded: true, ..spec("dice", "Writes a random number.", vec![]) }
    }
    fn schema(&self) -> Value {
        schema(&json!({"sides": 6}))
    }
    fn resolve(&self, params: &Params) -> Result<Params, ParamError> {
        resolve(params, json!({"sides": 6}))
    }
    fn outputs(&self, _params: &Params) -> Vec<Output> {
        output()
    }
    fn run(&self, params: &Params, context: &StageContext<'_>) -> Result<(), StageError> {
        let sides = params["sides"].as_u64().unwrap_or(6);
        context.write("text.txt", context.random("dice")?.below(sides).to_string().as_bytes())
    }
}

/// Creates the file `started`, then waits until it is killed.
struct Wait;

impl Kind for Wait {
    type Params = Params;

    fn spec(&self) -> KindSpec {
        spec("wait", "Waits for its end.", vec![])
    }
    fn schema(&self) -> Value {
        schema(&json!({"started": ""}))
    }
    fn resolve(&self, params: &Params) -> Result<Params, ParamError> {
        resolve(params, json!({"started": ""}))
    }
    fn outputs(&self, _params: &Params) -> Vec<Output> {
        output()
    }
    fn run(&self, params: &Params, context: &StageContext<'_>) -> Result<(), StageError> {
        let started = params["started"].as_str().unwrap_or_default();
        context.log("it waits");
        std::fs::write(started, "").map_err(|error| StageError::io("write", started.as_ref(), &error))?;
        let go_on = std::path::PathBuf::from(format!("{started}-go-on"));
        loop {
            std::thread::sleep(std::time::Duration::from_millis(20));
            if go_on.exists() {
                let _ = std::fs::remove_file(&go_on);
                context.log("it was told to go on");
            }
        }
    }
}

/// Runs until the file `go-on` exists, and writes down in `order` when it starts and when it ends.
struct Hold;

impl Kind for Hold {
    type Params = Params;

    fn spec(&self) -> KindSpec {
        spec("hold", "Waits until it may go on.", vec![])
    }
    fn schema(&self) -> Value {
        schema(&json!({"name": ""}))
    }
    fn resolve(&self, params: &Params) -> Result<Params, ParamError> {
        resolve(params, json!({"name": ""}))
    }
    fn outputs(&self, _params: &Params) -> Vec<Output> {
        output()
    }
    fn run(&self, _params: &Params, context: &StageContext<'_>) -> Result<(), StageError> {
        let note = |what: &str| {
            let order = std::fs::File::options().create(true).append(true).open("order");
            let noted = order.and_then(|mut order| order.write_all(format!("{} {what}\n", context.stage()).as_bytes()));
            noted.map_err(|error| StageError::io("write", "order".as_ref(), &error))
        };
        note("starts")?;
        context.progress(1, 2, "steps", "");
        wait_for("go-on");
        note("ends")?;
        context.write("text.txt", b"held")
    }
}

/// Fails in the given way.
struct Crash;

impl Kind for Crash {
    type Params = Params;

    fn spec(&self) -> KindSpec {
        spec("crash", "Ends badly.", vec![file_port("from").optional()])
    }
    fn schema(&self) -> Value {
        schema(&json!({"how": "fail"}))
    }
    fn resolve(&self, params: &Params) -> Result<Params, ParamError> {
        resolve(params, json!({"how": "fail"}))
    }
    fn outputs(&self, _params: &Params) -> Vec<Output> {
        output()
    }
    fn run(&self, params: &Params, context: &StageContext<'_>) -> Result<(), StageError> {
        match params["how"].as_str() {
            Some("panic") => panic!("as it was told"),
            Some("abort") => std::process::abort(),
            Some("nothing") => Ok(()),
            Some("flaw") => {
                context.flaw("there is a scratch on it");
                context.write("text.txt", b"scratched")
            }
            Some("change") => {
                let source = &context.input("from")?.file()?.source;
                std::fs::write(source, "changed").map_err(|error| StageError::io("write", source, &error))?;
                context.write("text.txt", b"done")
            }
            _ => Err(StageError::failed("it failed as it was told").hint("tell it otherwise")),
        }
    }
}

/// Writes the device that it ran on, which is set by an environment variable.
struct OnDevice;

impl Kind for OnDevice {
    type Params = Params;

    fn spec(&self) -> KindSpec {
        spec("on_device", "Writes its device.", vec![])
    }
    fn schema(&self) -> Value {
        schema(&json!({"takes": "own", "text": ""}))
    }
    fn resolve(&self, params: &Params) -> Result<Params, ParamError> {
        resolve(params, json!({"takes": "own", "text": ""}))
    }
    fn outputs(&self, _params: &Params) -> Vec<Output> {
        output()
    }
    fn devices(&self) -> Option<&dyn Devices<Params>> {
        Some(self)
    }
    fn run(&self, _params: &Params, context: &StageContext<'_>) -> Result<(), StageError> {
        context.write("text.txt", device().as_bytes())
    }
}

impl Devices<Params> for OnDevice {
    fn class(&self, _params: &Params) -> Result<Option<String>, ParamError> {
        match device() {
            device if device == "none" => Err(ParamError::new("takes", "there is no device").hint("plug one in")),
            device => Ok(Some(device)),
        }
    }
    fn accepts_others(&self, params: &Params) -> bool {
        params["takes"] == "any"
    }
}

fn device() -> String {
    std::env::var("TOY_DEVICE").unwrap_or_else(|_| "cpu".to_owned())
}

/// Prints which files of a folder have the same bytes as given files, and copies them.
struct Contains;

impl Subcommand for Contains {
    fn spec(&self) -> SubcommandSpec {
        let argument = |name, form, doc| Argument { name, form, doc };
        let arguments = vec![
            argument("folder", Form::Text { placeholder: "FOLDER" }, "A directory, or a stage that makes a folder"),
            argument("files", Form::Paths { placeholder: "FILES" }, "Files or directories of files"),
            argument("copies", Form::PathOption { placeholder: "DIR" }, "Also copy the files to this directory"),
            argument("json", Form::Flag, "Print one JSON object per file"),
        ];
        SubcommandSpec { name: "contains", summary: "Show which files of yours are in a folder", arguments }
    }

    fn run(&self, arguments: &Arguments, host: &dyn Host) -> Result<u8, CommandError> {
        let wanted = Wanted { artifact_type: ArtifactType::FOLDER, noun: "folder", verb: "make" };
        let folder = host.artifact(arguments.text("folder"), wanted)?;
        let mut missing = 0;
        for given in arguments.paths("files") {
            let below = given.is_dir().then(|| host.list(given)).transpose()?;
            let paths =
                below.map_or_else(|| vec![given.clone()], |names| names.iter().map(|name| given.join(name)).collect());
            for path in paths {
                let bytes = std::fs::read(&path).map_err(|error| StageError::io("read", &path, &error))?;
                let Some(found) = folder.files.iter().find(|file| file.check(&bytes).is_ok()) else {
                    host.report(StageError::input(format!("`{}` is not in `{}`", path.display(), folder.name)));
                    missing += 1;
                    continue;
                };
                if arguments.flag("json") {
                    host.print(&json!({"file": path, "found": found.path}).to_string());
                } else {
                    host.print(&found.path);
                }
                if let (Some(copies), Some(name)) = (arguments.path("copies"), path.file_name()) {
                    host.create_folder(copies)?;
                    host.write(&copies.join(name), &bytes)?;
                }
            }
        }
        Ok(u8::from(missing > 0))
    }
}
