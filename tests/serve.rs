//! `hamflow serve`: what the pages show, and who may read them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Child;
use std::time::{Duration, SystemTime};

use crate::harness::{CHAIN, Project};

/// A server of a project's pages.
struct Served {
    child: Child,
    /// `127.0.0.1:PORT`.
    address: String,
    /// `/TOKEN/`.
    root: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A response.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: String,
    body: String,
}

impl Served {
    fn start(project: &Project) -> Self {
        let mut child = project.start(&["serve"]);
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let (address, path) = url.trim().strip_prefix("http://").expect("an address").split_once('/').unwrap();
        Self { child, address: address.to_owned(), root: format!("/{path}") }
    }

    fn send(&self, method: &str, path: &str, host: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = Vec::new();
        stream.read_to_end(&mut text).unwrap();
        let text = String::from_utf8_lossy(&text).into_owned();
        let (headers, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = headers.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Answer { status, headers: headers.to_lowercase(), body: body.to_owned() }
    }

    fn get(&self, path: &str) -> Answer {
        self.send("GET", &format!("{}{path}", self.root), &self.address)
    }

    /// Asks until the answer contains a text.
    fn wait_for(&self, path: &str, text: &str) -> Answer {
        let deadline = SystemTime::now() + Duration::from_secs(60);
        loop {
            let answer = self.get(path);
            if answer.body.contains(text) {
                return answer;
            }
            assert!(SystemTime::now() < deadline, "`{path}` never contains `{text}`: {answer:?}");
            std::thread::yield_now();
        }
    }
}

fn chain() -> (Project, String) {
    let project = Project::new(CHAIN);
    project.write("text.txt", "<b>text</b>");
    let ran = project.run();
    let run = ran.events().last().unwrap()["run"].as_str().unwrap().to_owned();
    (project, run)
}

#[test]
fn a_past_run_has_its_stages_artifacts_and_graph() {
    let (project, run) = chain();
    let served = Served::start(&project);
    let list = served.get("");
    assert!(list.body.contains(&format!("href=\"run/{run}/\"")) && list.body.contains("4 ran"), "{list:?}");
    assert!(list.body.contains("1 run<") && list.body.contains("data-state=\"done\""), "{list:?}");
    let page = served.get(&format!("run/{run}/"));
    for expected in
        ["<th scope=\"row\">third</th>", "data-state=\"ran\"", "href=\"artifact/first/text/\"", "src=\"graph.svg?v="]
    {
        assert!(page.body.contains(expected), "{expected}\n{page:?}");
    }
    assert!(!page.body.contains("data-live"), "a run that has ended does not change");
    assert!(served.get(&format!("run/{run}/graph.svg")).body.contains(">third</text>"));
    let artifact = served.get(&format!("run/{run}/artifact/first/text/"));
    assert_eq!(artifact.body, project.read("out/first/text.txt"));
    // What a stage wrote never runs as a page of this site.
    assert!(artifact.headers.contains("content-type: text/plain"), "{artifact:?}");
    assert!(artifact.headers.contains("content-security-policy: sandbox"), "{artifact:?}");
    let empty = served.get("?q=no-such-run");
    assert!(empty.body.contains("No runs."), "{empty:?}");
}

#[test]
fn a_run_is_seen_while_it_happens() {
    let project =
        Project::new("[stages.a]\nkind = \"hold\"\nname = \"a\"\n[stages.b]\nkind = \"shout\"\nfrom = \"a\"\n");
    let served = Served::start(&project);
    assert!(served.get("").body.contains("No runs."));
    let mut run = project.start(&["run"]);
    let list = served.wait_for("", "data-state=\"running\"");
    let link = list.body.split("href=\"run/").nth(1).and_then(|rest| rest.split('/').next()).unwrap().to_owned();
    let path = format!("run/{link}/");
    let page = served.wait_for(&path, "1/2 steps");
    assert!(page.body.contains("data-live=\"yes\"") && page.body.contains("0 of 2 stages ended"), "{page:?}");
    assert!(
        page.body.contains("<th scope=\"row\">b</th><td><span class=\"state\" data-state=\"pending\">"),
        "{page:?}"
    );
    assert!(served.get(&format!("{path}graph.svg")).body.contains(">running</text>"));
    project.write("go-on", "");
    assert!(run.wait().unwrap().success());
    let page = served.get(&path);
    assert!(page.body.contains("data-state=\"done\"") && !page.body.contains("data-live"), "{page:?}");
    assert!(!project.path(&format!("cache/runs/{link}/progress.json")).exists());
}

#[test]
fn a_killed_run_is_not_running() {
    let project = Project::new("[stages.a]\nkind = \"hold\"\nname = \"a\"\n");
    let mut run = project.start(&["run"]);
    project.wait_for("order");
    let served = Served::start(&project);
    let list = served.wait_for("", "data-state=\"running\"");
    run.kill().unwrap();
    run.wait().unwrap();
    let killed = served.wait_for("", "data-state=\"killed\"");
    assert!(!killed.body.contains("data-state=\"running\""), "{list:?}");
    assert!(served.get("?q=killed").body.contains("data-state=\"killed\""));
    for state in ["done", "running"] {
        assert!(served.get(&format!("?q={state}")).body.contains("No runs."), "{state}");
    }
    project.write("go-on", "");
}

#[test]
fn a_failed_stage_and_its_log_are_shown_escaped() {
    let project = Project::new("[stages.crash]\nhow = \"fail\"\n");
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let served = Served::start(&project);
    let list = served.get("");
    assert!(list.body.contains("data-state=\"failed\""), "{list:?}");
    let run = list.body.split("href=\"run/").nth(1).and_then(|rest| rest.split('/').next()).unwrap().to_owned();
    let page = served.get(&format!("run/{run}/"));
    assert!(page.body.contains("<code>crash</code> failed:"), "{page:?}");
    let log = served.get(&format!("run/{run}/log?stage=crash"));
    assert!(log.body.contains("<h1>Log of crash</h1>") && log.body.contains("error: "), "{log:?}");
    let rest = served.get(&format!("run/{run}/log?stage=crash&from=7"));
    let text = project.read(&format!("cache/runs/{run}/crash/log.txt"));
    assert_eq!(rest.body, text[7..]);
    assert!(rest.headers.contains(&format!("x-next: {}", text.len())), "{rest:?}");
}

#[test]
fn requests_need_the_token_and_are_read_only() {
    let (project, run) = chain();
    let served = Served::start(&project);
    for path in ["/", "/index.html", "/0123456789abcdef0123456789abcdef/", &served.root[..served.root.len() - 1], "*"] {
        let answer = served.send("GET", path, &served.address);
        assert!([400, 404].contains(&answer.status) && !answer.body.contains(&run), "{path}: {answer:?}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        assert_eq!(served.send(method, &served.root, &served.address).status, 405, "{method}");
    }
    let other = served.send("GET", &served.root, "example.com");
    assert!(other.status == 421 && !other.body.contains(&run), "{other:?}");
    let head = served.send("HEAD", &served.root, &served.address);
    assert!(head.status == 200 && head.body.is_empty(), "{head:?}");
    for header in [
        "referrer-policy: no-referrer",
        "x-content-type-options: nosniff",
        "default-src 'none'",
        "cache-control: no-store",
    ] {
        assert!(head.headers.contains(header), "{header}: {head:?}");
    }
}

#[test]
fn addresses_never_leave_the_project() {
    let (project, run) = chain();
    // Where the paths below lead if they are taken as they are.
    project.write("secret.txt", "precious");
    project.write("log.txt", "precious");
    let record = project.read(&format!("cache/runs/{run}/record.json"));
    project.write("record.json", record.replace(&run, "../.."));
    let served = Served::start(&project);
    for path in [
        "run/..%2F../".to_owned(),
        "run/..%2F..%2Fsecret.txt/".to_owned(),
        "run/../run/".to_owned(),
        format!("run/{run}/log?stage=..%2F..%2F.."),
        format!("run/{run}/log?stage=.."),
        format!("run/{run}/log?stage=%2Fetc"),
        format!("run/{run}/artifact/first/text/..%2Fsecret.txt"),
        format!("run/{run}/artifact/first/no/"),
        format!("run/{run}/report?stage=first"),
        format!("run/{run}/curves.svg?stage=first"),
        format!("compare?run={run}&run=no"),
        "no".to_owned(),
    ] {
        let answer = served.get(&path);
        assert!(
            answer.status == 404 && !answer.body.contains("precious") && !answer.body.contains("third"),
            "{path}: {answer:?}"
        );
    }
    assert_eq!(served.get(&format!("compare?run={run}")).status, 400);
    assert_eq!(served.get("run/%ff/").status, 400);
    // A log in place of which there is a symlink is not read.
    std::fs::remove_file(project.path(&format!("cache/runs/{run}/first/log.txt"))).ok();
    std::fs::create_dir_all(project.path(&format!("cache/runs/{run}/first"))).unwrap();
    std::os::unix::fs::symlink(project.path("secret.txt"), project.path(&format!("cache/runs/{run}/first/log.txt")))
        .unwrap();
    assert_eq!(served.get(&format!("run/{run}/log?stage=first")).status, 404);
}

#[test]
fn a_pipeline_with_errors_is_shown_with_its_runs() {
    let (project, run) = chain();
    let served = Served::start(&project);
    project.write("pipeline.toml", "[stages.x]\nkind = \"<i>\"\n");
    let list = served.get("");
    assert!(list.body.contains(&run) && list.body.contains("The pipeline file has errors:"), "{list:?}");
    assert!(list.body.contains("&lt;i&gt;") && !list.body.contains("<i>"), "{list:?}");
    let page = served.get(&format!("run/{run}/"));
    assert!(page.body.contains("<th scope=\"row\">third</th>"), "{page:?}");
    project.write("pipeline.toml", CHAIN);
    assert!(!served.get("").body.contains("The pipeline file has errors:"));
}

#[test]
fn two_runs_are_compared_and_more_than_a_hundred_are_listed_in_pages() {
    let (project, first) = chain();
    project.write("text.txt", "other");
    let second = project.run().events().last().unwrap()["run"].as_str().unwrap().to_owned();
    let served = Served::start(&project);
    let page = served.get(&format!("compare?run={second}&run={first}"));
    assert!(page.status == 200 && page.body.contains(&format!("<title>Runs {first} and {second}</title>")), "{page:?}");
    assert!(page.headers.contains("content-security-policy: sandbox allow-scripts;"), "{page:?}");
    let record = project.read(&format!("cache/runs/{first}/record.json"));
    for number in 0..150 {
        let name = format!("20200101-000000-{number:03}");
        project.write(&format!("cache/runs/{name}/record.json"), record.replace(&first, &name));
        // Not a run: it has no record.
        project.write(&format!("cache/runs/20200102-000000-{number:03}/other"), "");
    }
    let rows = |answer: &Answer| answer.body.matches("href=\"run/").count();
    let newest = served.get("");
    assert!(rows(&newest) == 100 && newest.body.contains("?from=100&amp;q=\">Older runs"), "{newest:?}");
    let oldest = served.get("?from=100&q=");
    assert!(rows(&oldest) == 52 && !oldest.body.contains("Older runs"), "{oldest:?}");
    assert!(oldest.body.contains("20200101-000000-000") && oldest.body.contains("Newer runs"), "{oldest:?}");
    let filtered = served.get("?q=20200101-000000-01");
    assert!(rows(&filtered) == 10 && !filtered.body.contains("Older runs"), "{filtered:?}");
}

#[test]
fn a_port_in_use_is_an_error_with_a_way_out() {
    let project = Project::new(CHAIN);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let ran = project.hamflow(&["serve", "--port", &port]);
    assert_eq!(ran.code, 2, "{ran:?}");
    let elsewhere = project.hamflow(&["serve", "--host", "203.0.113.1"]);
    assert!(
        elsewhere.code == 2 && elsewhere.stderr.contains("`--host` takes an address of this machine"),
        "{elsewhere:?}"
    );
    assert!(
        ran.stderr.contains(&format!("cannot listen on 127.0.0.1:{port}")) && ran.stderr.contains("another `--port`"),
        "{ran:?}"
    );
}
