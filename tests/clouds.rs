//! Remotes in S3, Google Cloud Storage and Azure, against local servers with their APIs.

use std::process::Command;

use crate::harness::sharing::{Shared, keygen, large, warnings};
use crate::harness::{CHAIN, Project, Ran, clouds};

const KEY: &str = "AKIAHAMFLOWTEST";
const SECRET: &str = "correct/horse+battery=staple";

/// Prefixes of environment variables that tests must not inherit.
const FOREIGN: [&str; 7] = ["AWS_", "AZURE_", "GOOGLE_", "STORAGE_EMULATOR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];

fn run_with(project: &Project, environment: &[(&str, &str)]) -> Ran {
    let mut command = project.command(&["run", "--json"]);
    for (name, _) in std::env::vars() {
        if FOREIGN.iter().any(|prefix| name.to_uppercase().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.env("HOME", "/nonexistent").envs(environment.iter().copied());
    Project::finish(command)
}

/// Shares results between two machines through `url`, and checks that no secret is written anywhere.
fn share(url: &str, environment: &[(&str, &str)], secrets: &[&str]) {
    let keys = keygen(&Project::new(CHAIN));
    let shared = Shared::new(url, "main", &keys[1]);
    let first = shared.machine();
    large(&first);
    let made = run_with(&first, &[environment, &[("HAMFLOW_SIGNING_KEY", &keys[0][..])]].concat());
    assert_eq!((made.count("uploaded"), warnings(&made)), (4, vec![]), "{made:?}");
    let second = shared.machine();
    large(&second);
    let ran = run_with(&second, environment);
    assert_eq!((ran.count("fetched"), warnings(&ran)), (4, vec![]), "{ran:?}");
    assert_eq!(second.files("out"), first.files("out"));
    let written = [first.files("cache"), second.files("cache")].concat();
    for secret in secrets {
        for (path, bytes) in &written {
            assert!(!String::from_utf8_lossy(bytes).contains(secret), "{path}");
        }
        assert!(!format!("{made:?}{ran:?}").contains(secret));
    }
}

/// The only warning of a run that continued without the remote at `url`.
fn warning(url: &str, environment: &[(&str, &str)]) -> String {
    let keys = keygen(&Project::new(CHAIN));
    let machine = Shared::new(url, "main", &keys[1]).machine();
    let ran = run_with(&machine, &[environment, &[("HAMFLOW_SIGNING_KEY", &keys[0][..])]].concat());
    assert_eq!((ran.code, ran.count("ran")), (0, 4), "{ran:?}");
    let [warning] = &warnings(&ran)[..] else { panic!("one warning is wanted: {ran:?}") };
    warning.clone()
}

#[test]
#[ignore = "needs s3s-fs"]
fn s3_works_as_a_remote() {
    let folder = tempfile::tempdir().unwrap();
    let server = clouds::s3(folder.path(), KEY, SECRET);
    let endpoint = format!("http://127.0.0.1:{}", server.port);
    let at = ("AWS_ENDPOINT_URL", &endpoint[..]);
    let credentials = [at, ("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET)];
    share("s3://ham/cache", &credentials, &[SECRET]);
    assert!(folder.path().join("ham/cache/cas").is_dir(), "large blobs are separate objects");

    // The same with credentials from the AWS config files.
    let home = tempfile::tempdir().unwrap();
    let files = home.path().join(".aws");
    std::fs::create_dir(&files).unwrap();
    let keys = format!("[ci]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n");
    std::fs::write(files.join("credentials"), keys).unwrap();
    std::fs::write(files.join("config"), format!("[profile ci]\nendpoint_url = {endpoint}\nregion = eu-central-1\n"))
        .unwrap();
    let home = home.path().to_str().unwrap();
    share("s3://ham/by-profile", &[("HOME", home), ("AWS_PROFILE", "ci")], &[SECRET]);

    // A single sign-on profile works if its credentials were exported to the environment.
    std::fs::write(files.join("config"), "[profile people]\nsso_session = x\n").unwrap();
    share("s3://ham/signed-in", &[&credentials[..], &[("HOME", home), ("AWS_PROFILE", "people")]].concat(), &[SECRET]);

    let wrong = warning("s3://ham/cache", &[at, ("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", "wrong-secret")]);
    assert!(wrong.contains("remote `s3://ham/cache`: access denied, SignatureDoesNotMatch"), "{wrong}");
    assert!(!wrong.contains("wrong-secret") && wrong.contains("`AWS_PROFILE`"), "{wrong}");
    drop(server);
    let gone = warning("s3://ham/cache", &credentials);
    assert!(gone.contains("cannot connect") && gone.contains("refused"), "{gone}");
}

#[test]
#[ignore = "needs s3s-fs"]
fn a_slow_connection_does_not_time_out_while_it_makes_progress() {
    let folder = tempfile::tempdir().unwrap();
    let server = clouds::s3(folder.path(), KEY, SECRET);
    let endpoint = format!("http://127.0.0.1:{}", clouds::slow_line(server.port));
    let credentials =
        [("AWS_ENDPOINT_URL", &endpoint[..]), ("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET)];
    let keys = keygen(&Project::new(CHAIN));
    let machine = Shared::new("s3://ham/slow", "main", &keys[1]).machine();
    // Large enough for the upload to take longer than the stall timeout.
    machine.write("text.txt", "abc ".repeat(1_500_000));
    machine.touch("text.txt", 5);
    let ran = run_with(&machine, &[&credentials[..], &[("HAMFLOW_SIGNING_KEY", &keys[0][..])]].concat());
    assert_eq!((ran.count("uploaded"), warnings(&ran)), (4, vec![]), "{ran:?}");
}

#[test]
fn invalid_cloud_settings_are_rejected_before_anything_runs() {
    let keys = keygen(&Project::new(CHAIN));
    for (url, environment, wanted) in [
        ("s3://ham", ("AWS_PROFILE", "nobody"), "have no profile `nobody`"),
        ("s3://key:horse@ham", ("HOME", ""), "credentials are read from the environment"),
        ("az://ham", ("AZURE_STORAGE_ACCOUNT_NAME", ""), "`AZURE_STORAGE_ACCOUNT_NAME`"),
    ] {
        let machine = Shared::new(url, "main", &keys[1]).machine();
        let ran = run_with(&machine, &[environment]);
        assert!(ran.code == 2 && ran.stderr.contains(wanted), "{url}: {ran:?}");
        assert!(!ran.stderr.contains("horse") && !machine.path("out").exists(), "{url}: {ran:?}");
    }
}

/// The well-known account of Azurite.
const AZURE_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Creates the container `ham` with a signed request (Shared Key, version 2021-08-06).
const MAKE_CONTAINER: &str = r#"
import base64, hashlib, hmac, sys, urllib.request
from email.utils import formatdate
port, key = sys.argv[1], base64.b64decode(sys.argv[2])
date = formatdate(usegmt=True)
headers = f"x-ms-date:{date}\nx-ms-version:2021-08-06\n"
text = "PUT" + "\n" * 12 + headers + "/devstoreaccount1/devstoreaccount1/ham\nrestype:container"
signature = base64.b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode()
request = urllib.request.Request(f"http://127.0.0.1:{port}/devstoreaccount1/ham?restype=container", method="PUT", headers={
    "x-ms-date": date, "x-ms-version": "2021-08-06", "Authorization": "SharedKey devstoreaccount1:" + signature})
urllib.request.urlopen(request)
"#;

#[test]
#[ignore = "needs Azurite"]
fn azure_works_as_a_remote() {
    let folder = tempfile::tempdir().unwrap();
    let server = clouds::azurite(folder.path());
    let python = std::env::var("HAMFLOW_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let port = server.port.to_string();
    let made = Command::new(python).args(["-c", MAKE_CONTAINER, &port, AZURE_KEY]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let endpoint = format!("http://127.0.0.1:{port}/devstoreaccount1");
    let at = [("AZURE_STORAGE_ENDPOINT", &endpoint[..]), ("AZURE_STORAGE_ACCOUNT_NAME", "devstoreaccount1")];
    let credentials = [&at[..], &[("AZURE_STORAGE_ACCOUNT_KEY", AZURE_KEY)]].concat();
    share("az://ham/cache", &credentials, &[AZURE_KEY]);
    let container = warning("az://hum/cache", &credentials);
    assert!(container.contains("no such bucket, ContainerNotFound"), "{container}");
    let other = AZURE_KEY.replace("Eby8", "AAAA");
    let wrong = warning("az://ham/cache", &[&at[..], &[("AZURE_STORAGE_ACCOUNT_KEY", &other[..])]].concat());
    assert!(wrong.contains("access denied") && !wrong.contains(&other), "{wrong}");
}

#[test]
#[ignore = "needs gcp-storage-emulator"]
fn google_cloud_storage_works_as_a_remote() {
    let server = clouds::google();
    let host = format!("127.0.0.1:{}", server.port);
    share("gs://ham/cache", &[("STORAGE_EMULATOR_HOST", &host)], &[]);
    drop(server);
    let gone = warning("gs://ham/cache", &[("STORAGE_EMULATOR_HOST", &host)]);
    assert!(gone.contains("cannot connect"), "{gone}");
}
