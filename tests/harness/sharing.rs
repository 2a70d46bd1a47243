//! Projects on several machines that share results through a remote.

use super::{CHAIN, Project, Ran};

/// Generates a key pair: the secret key, then the public one.
pub fn keygen(project: &Project) -> [String; 2] {
    let made = project.hamflow(&["cache", "keygen"]).stdout;
    let mut lines = made.lines().map(str::to_owned);
    [lines.next().unwrap(), lines.next().unwrap()]
}

/// The contents of `[cache.remote]`.
pub struct Shared {
    pub url: String,
    pub read: &'static str,
    pub keys: Vec<(&'static str, String)>,
}

impl Shared {
    pub fn new(url: &str, scope: &'static str, key: &str) -> Self {
        Self { url: url.to_owned(), read: "[]", keys: vec![(scope, key.to_owned())] }
    }

    /// A fresh checkout of the pipeline with its inputs.
    pub fn machine(&self) -> Project {
        let keys: String = self.keys.iter().map(|(scope, key)| format!("\"{scope}\" = [\"{key}\"]\n")).collect();
        let project = Project::new(&format!(
            "{CHAIN}\n[cache.remote]\nurl = \"{}\"\nread = {}\n[cache.remote.keys]\n{keys}",
            self.url, self.read
        ));
        project.write("text.txt", "abc");
        project.touch("text.txt", 5);
        project
    }
}

pub fn run(project: &Project, environment: &[(&str, &str)]) -> Ran {
    let mut command = project.command(&["run", "--json"]);
    command.envs(environment.iter().copied());
    Project::finish(command)
}

pub fn warnings(ran: &Ran) -> Vec<String> {
    let events = ran.events().into_iter().filter(|event| event["event"] == "warning");
    events.map(|event| event["message"].as_str().unwrap().to_owned()).collect()
}

/// Writes an input whose results are too large to be packed.
pub fn large(machine: &Project) {
    machine.write("text.txt", "abc ".repeat(100_000));
    machine.touch("text.txt", 5);
}
