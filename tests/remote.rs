//! Remotes: results are shared, untrusted results are ignored, and a broken remote costs little.

use std::process::{Command, Stdio};

use crate::harness::server::{Fault, Server};
use crate::harness::sharing::{Shared, keygen, large, run, warnings};
use crate::harness::{CHAIN, Project, in_namespace, services};

#[test]
fn results_are_shared_through_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keygen(&Project::new(CHAIN));
    let shared = Shared::new(folder.path().to_str().unwrap(), "main", &keys[1]);
    let first = shared.machine();
    let ran = run(&first, &[("HAMFLOW_SIGNING_KEY", &keys[0])]);
    assert_eq!((ran.code, ran.count("ran"), ran.count("uploaded")), (0, 4, 4), "{ran:?}");
    // Without a signing key, the remote is read-only.
    let second = shared.machine();
    let ran = run(&second, &[]);
    assert_eq!((ran.code, ran.count("ran"), ran.count("fetched"), ran.count("uploaded")), (0, 0, 4, 0), "{ran:?}");
    assert_eq!(warnings(&ran), Vec::<String>::new());
    assert_eq!(second.files("out"), first.files("out"));
    assert_eq!(second.hamflow(&["cache", "verify"]).code, 0);
    // The secret is not written anywhere.
    for (path, bytes) in [first.files("cache"), second.files("cache")].concat() {
        assert!(!String::from_utf8_lossy(&bytes).contains(&keys[0]), "{path}");
    }
    let kept = std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name());
    assert_eq!(
        kept.collect::<std::collections::BTreeSet<_>>(),
        ["ac".into(), "pack".into()].into(),
        "small blobs are packed"
    );
}

#[test]
fn push_and_pull_transfer_the_locked_results() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keygen(&Project::new(CHAIN));
    let shared = Shared::new(folder.path().to_str().unwrap(), "main", &keys[1]);
    let first = shared.machine();
    assert_eq!(run(&first, &[("HAMFLOW_REMOTE", "")]).count("ran"), 4);
    let refused = first.hamflow(&["cache", "push"]);
    assert!(refused.code == 2 && refused.stderr.contains("there is no signing key"), "{refused:?}");
    let mut push = first.command(&["cache", "push"]);
    let pushed = Project::finish({
        push.env("HAMFLOW_SIGNING_KEY", &keys[0]);
        push
    });
    assert!(pushed.code == 0 && pushed.stdout.starts_with("4 of 4 results available at"), "{pushed:?}");
    let info = first.hamflow(&["cache", "info", "--remote"]).stdout;
    assert!(info.contains("results  4 of 4") && info.contains("writes   no: there is no signing key"), "{info}");

    let second = shared.machine();
    second.write("pipeline.lock", first.read("pipeline.lock"));
    let pulled = second.hamflow(&["cache", "pull", "first"]);
    assert!(pulled.code == 0 && pulled.stdout.starts_with("downloaded 1 result from"), "{pulled:?}");
    assert_eq!(second.hamflow(&["cache", "pull"]).code, 0);
    let ran = run(&second, &[("HAMFLOW_REMOTE", "")]);
    assert_eq!((ran.count("ran"), ran.count("cached")), (0, 4), "{ran:?}");
    std::fs::remove_file(second.path("text.txt")).unwrap();
    assert_eq!(second.run_with(&["--allow-missing"]).count("ran"), 0, "listings were transferred, too");
}

#[test]
fn parts_are_shared_individually() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keygen(&Project::new(CHAIN));
    let machine = |texts: &[(&str, &str)]| {
        let project = Project::new(&format!(
            "[inputs]\ntexts = \"texts\"\n[stages.pieces]\nfolder = \"inputs.texts\"\n[cache.remote]\nurl = \"{}\"\n[cache.remote.keys]\nmain = [\"{}\"]\n",
            folder.path().display(),
            keys[1]
        ));
        texts.iter().for_each(|(name, text)| project.write(&format!("texts/{name}"), text));
        run(&project, &[("HAMFLOW_SIGNING_KEY", &keys[0])])
    };
    let first = machine(&[("a", "one"), ("b", "two"), ("c", "three")]);
    assert_eq!((first.count("parts_ran"), first.count("uploaded")), (3, 4), "{first:?}");
    let second = machine(&[("a", "one"), ("b", "TWO"), ("c", "three")]);
    assert_eq!((second.count("parts_ran"), second.count("parts_cached")), (1, 2), "{second:?}");
}

#[test]
fn a_result_inherits_the_origins_of_its_parts() {
    let folder = tempfile::tempdir().unwrap();
    let (main, request) = (keygen(&Project::new(CHAIN)), keygen(&Project::new(CHAIN)));
    let machine = |b: &str| {
        let project = Project::new(&format!(
            "[inputs]\ntexts = \"texts\"\n[stages.pieces]\nfolder = \"inputs.texts\"\n[cache.remote]\nurl = \"{}\"\n[cache.remote.keys]\nmain = [\"{}\"]\n\"pr-*\" = [\"{}\"]\n",
            folder.path().display(),
            main[1],
            request[1]
        ));
        project.write("texts/a", "one");
        project.write("texts/b", b);
        project
    };
    let as_request = [("HAMFLOW_REMOTE_SCOPE", "pr-1"), ("HAMFLOW_SIGNING_KEY", &request[0][..])];
    assert_eq!(run(&machine("two"), &as_request).count("uploaded"), 3);
    // A reviewer of the pull request returns to main in the same checkout. One part came from the pull request's scope.
    let reviewer = machine("three");
    let ran = run(&reviewer, &[("HAMFLOW_REMOTE_SCOPE", "pr-1")]);
    assert_eq!((ran.count("parts_ran"), ran.count("parts_cached")), (1, 1), "{ran:?}");
    let as_main = run(&reviewer, &[("HAMFLOW_SIGNING_KEY", &main[0])]);
    assert_eq!((as_main.count("ran"), as_main.count("parts_ran")), (1, 1), "untrusted parts are rerun: {as_main:?}");
}

#[test]
fn a_seal_of_remote_results_is_valid_only_for_their_scope() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keygen(&Project::new(CHAIN));
    let shared = Shared::new(folder.path().to_str().unwrap(), "main", &keys[1]);
    assert_eq!(run(&shared.machine(), &[("HAMFLOW_SIGNING_KEY", &keys[0])]).count("uploaded"), 4);
    let reader = shared.machine();
    assert_eq!(run(&reader, &[]).count("fetched"), 4);
    reader.until_sealed(|| assert_eq!(run(&reader, &[]).count("ran"), 0));
    // In another scope the key is not trusted.
    assert_eq!(run(&reader, &[("HAMFLOW_REMOTE_SCOPE", "pr-1")]).count("ran"), 4);
}

#[test]
fn untrusted_signatures_are_misses_with_one_warning() {
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().to_str().unwrap();
    let (ours, theirs) = (keygen(&Project::new(CHAIN)), keygen(&Project::new(CHAIN)));
    // Somebody with write access to the directory signs with their own key.
    let first = Shared::new(url, "main", &theirs[1]).machine();
    assert_eq!(run(&first, &[("HAMFLOW_SIGNING_KEY", &theirs[0])]).count("uploaded"), 4);
    let second = Shared::new(url, "main", &ours[1]).machine();
    let ran = run(&second, &[]);
    assert_eq!((ran.code, ran.count("ran")), (0, 4), "{ran:?}");
    let printed = warnings(&ran);
    assert!(
        printed.len() == 1 && printed[0].contains("signed by a key that may not write to scope `main`"),
        "{printed:?}"
    );
}

#[test]
fn a_pull_request_reads_main_and_writes_only_to_its_own_scope() {
    let folder = tempfile::tempdir().unwrap();
    let (main, request) = (keygen(&Project::new(CHAIN)), keygen(&Project::new(CHAIN)));
    let mut shared = Shared::new(folder.path().to_str().unwrap(), "main", &main[1]);
    shared.keys.push(("pr-*", request[1].clone()));
    shared.read = "[\"main\"]";
    let as_request = [("HAMFLOW_REMOTE_SCOPE", "pr-7"), ("HAMFLOW_SIGNING_KEY", &request[0][..])];
    assert_eq!(run(&shared.machine(), &[("HAMFLOW_SIGNING_KEY", &main[0])]).count("uploaded"), 4);

    let branch = shared.machine();
    assert_eq!(run(&branch, &as_request).count("fetched"), 4);
    branch.write("text.txt", "abcd");
    let ran = run(&branch, &as_request);
    assert!(ran.count("ran") > 0 && ran.count("uploaded") == ran.count("ran"), "{ran:?}");
    let scopes = || std::fs::read_dir(folder.path().join("ac")).unwrap().flatten().map(|entry| entry.file_name());
    assert_eq!(scopes().collect::<std::collections::BTreeSet<_>>(), ["main".into(), "pr-7".into()].into());
    // The request's key cannot write to `main`, and results in `main` signed with it are rejected.
    let intruder = shared.machine();
    intruder.write("text.txt", "abcde");
    assert_eq!(run(&intruder, &[("HAMFLOW_SIGNING_KEY", &request[0])]).count("uploaded"), 0);
    let main_again = shared.machine();
    main_again.write("text.txt", "abcd");
    assert_eq!(run(&main_again, &[]).count("fetched"), 1, "only what does not depend on the text");
}

#[test]
fn transfer_errors_are_misses_with_one_warning() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let keys = keygen(&Project::new(CHAIN));
    let shared = Shared::new(&server.url(), "main", &keys[1]);
    let machine = || {
        let machine = shared.machine();
        large(&machine);
        machine
    };
    let first = machine();
    let key = [("HAMFLOW_SIGNING_KEY", &keys[0][..])];
    assert_eq!(run(&first, &key).count("uploaded"), 4);
    assert_eq!(run(&machine(), &[]).count("fetched"), 4);
    let everywhere = [
        Fault::Stalled,
        Fault::OneBytePerSecond,
        Fault::NoResponse,
        Fault::Delayed,
        Fault::Status(500),
        Fault::Status(403),
        Fault::Status(301),
        Fault::NoResponseAfter(2),
    ];
    let bodies = [Fault::CorruptByte, Fault::Truncated, Fault::WrongLength];
    let in_parts = ["/ac/", "/cas/", "/pack/"].into_iter().flat_map(|part| bodies.map(|fault| (fault, part)));
    for (fault, part) in everywhere.into_iter().map(|fault| (fault, "")).chain(in_parts) {
        let already = server.requests();
        let limited =
            if let Fault::NoResponseAfter(good) = fault { Fault::NoResponseAfter(already + good) } else { fault };
        server.set_fault_for(limited, part);
        let machine = machine();
        let ran = run(&machine, &key);
        assert_eq!((ran.code, ran.count("failed")), (0, 0), "{fault:?} {part}: {ran:?}");
        assert_eq!(machine.files("out"), first.files("out"), "{fault:?} {part}");
        assert_eq!(warnings(&ran).len(), 1, "{fault:?} {part}: {ran:?}");
        assert!(server.requests() - already < 60, "{fault:?} {part}: a faulty remote is no longer used");
        assert_eq!(machine.hamflow(&["cache", "verify"]).code, 0, "{fault:?} {part}");
        server.set_fault(Fault::None);
        assert_eq!(machine.run().count("fresh"), 4, "{fault:?} {part}: the next run is clean");
    }
}

#[test]
fn damaged_remote_objects_are_replaced_by_the_next_upload() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keygen(&Project::new(CHAIN));
    let shared = Shared::new(folder.path().to_str().unwrap(), "main", &keys[1]);
    let key = [("HAMFLOW_SIGNING_KEY", &keys[0][..])];
    let first = shared.machine();
    large(&first);
    assert_eq!(run(&first, &key).count("uploaded"), 4);
    for part in ["cas", "pack", "ac"] {
        let mut todo = vec![folder.path().join(part)];
        while let Some(path) = todo.pop() {
            if path.is_dir() {
                todo.extend(std::fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
            } else {
                let mut bytes = std::fs::read(&path).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                std::fs::write(&path, bytes).unwrap();
            }
        }
        // A run stops reading after three corrupt objects, so that several runs may be needed.
        for _ in 0..4 {
            let maker = shared.machine();
            large(&maker);
            let ran = run(&maker, &key);
            assert_eq!((ran.code, ran.count("failed")), (0, 0), "{part}: {ran:?}");
        }
        let reader = shared.machine();
        large(&reader);
        let ran = run(&reader, &[]);
        assert_eq!((ran.count("fetched"), warnings(&ran).len()), (4, 0), "{part}: {ran:?}");
    }
}

#[test]
fn removing_a_key_revokes_everything_it_signed() {
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().to_str().unwrap();
    let (old, new) = (keygen(&Project::new(CHAIN)), keygen(&Project::new(CHAIN)));
    let before = Shared::new(url, "main", &old[1]);
    assert_eq!(run(&before.machine(), &[("HAMFLOW_SIGNING_KEY", &old[0])]).count("uploaded"), 4);
    let machine = before.machine();
    assert_eq!(run(&machine, &[]).count("fetched"), 4);
    assert_eq!(run(&machine, &[]).count("fresh"), 4);
    let refused = Project::finish({
        let mut push = machine.command(&["cache", "push"]);
        push.env("HAMFLOW_SIGNING_KEY", &old[0]);
        push
    });
    assert!(refused.stderr.contains("skipped 4 results that came from a remote"), "{refused:?}");
    // The key leaks and is replaced.
    machine.write("pipeline.toml", machine.read("pipeline.toml").replace(&old[1], &new[1]));
    let ran = run(&machine, &[("HAMFLOW_SIGNING_KEY", &new[0])]);
    assert_eq!((ran.count("ran"), ran.count("uploaded")), (4, 4), "{ran:?}");
    let after = Shared::new(url, "main", &new[1]).machine();
    assert_eq!(run(&after, &[]).count("fetched"), 4, "untrusted results were replaced");
}

#[test]
fn concurrent_uploads_of_the_same_results_are_atomic() {
    let folder = tempfile::tempdir().unwrap();
    assert_concurrent_uploads_are_atomic(folder.path().to_str().unwrap());
}

#[test]
#[ignore = "needs nginx"]
fn concurrent_uploads_of_the_same_results_to_nginx_are_atomic() {
    let served = tempfile::tempdir().unwrap();
    let nginx = services::nginx(served.path());
    assert_concurrent_uploads_are_atomic(&format!("http://127.0.0.1:{}/ham", nginx.port));
}

fn assert_concurrent_uploads_are_atomic(url: &str) {
    let keys = keygen(&Project::new(CHAIN));
    let shared = Shared::new(url, "main", &keys[1]);
    let machines = [shared.machine(), shared.machine(), shared.machine()];
    machines.iter().for_each(large);
    let start = |machine: &Project| {
        let mut command = machine.command(&["run", "--json"]);
        command.env("HAMFLOW_SIGNING_KEY", &keys[0]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let running = machines.each_ref().map(start);
    for run in running {
        let output = run.wait_with_output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && !printed.contains("\"warning\""), "{url}: {printed}");
    }
    let reader = shared.machine();
    large(&reader);
    let ran = run(&reader, &[]);
    assert_eq!((ran.count("fetched"), warnings(&ran).len()), (4, 0), "{url}: {ran:?}");
    assert_eq!(reader.files("out"), machines[0].files("out"), "{url}");
    assert_eq!(reader.hamflow(&["cache", "verify"]).code, 0);
}

#[test]
#[ignore = "needs mount namespaces"]
fn a_full_disk_during_a_download_is_reported_and_leaves_no_partial_files() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keygen(&Project::new(CHAIN));
    let shared = Shared::new(folder.path().to_str().unwrap(), "main", &keys[1]);
    let first = shared.machine();
    large(&first);
    assert_eq!(run(&first, &[("HAMFLOW_SIGNING_KEY", &keys[0])]).count("uploaded"), 4);
    let second = shared.machine();
    large(&second);
    let line = "mkdir -p cache && mount -t tmpfs -o size=300k tmpfs cache && $HAMFLOW run; echo code $? >&2; \
        mount -o remount,size=40m cache && $HAMFLOW cache verify >&2 && $HAMFLOW run --json";
    let ran = in_namespace(&second, line);
    assert!(ran.stderr.contains("the local disk failed: No space left on device"), "{ran:?}");
    assert!(ran.stderr.contains("code 3\n") && ran.stderr.contains("no damage found"), "{ran:?}");
    assert!(ran.count("failed") == 0 && ran.count("fetched") > 0 && warnings(&ran).is_empty(), "{ran:?}");
    assert_eq!(second.files("out"), first.files("out"));
}

#[test]
#[ignore = "needs faketime"]
fn wrong_clocks_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keygen(&Project::new(CHAIN));
    let shared = Shared::new(folder.path().to_str().unwrap(), "main", &keys[1]);
    let at = |machine: &Project, time: &str| {
        let mut command = Command::new("faketime");
        command.arg(time).arg(machine.program()).args(["run", "--json"]).current_dir(machine.root());
        Project::finish({
            command.env("HAMFLOW_SIGNING_KEY", &keys[0]);
            command
        })
    };
    let maker = at(&shared.machine(), "2040-01-01");
    assert_eq!((maker.count("uploaded"), warnings(&maker).len()), (4, 0), "{maker:?}");
    let reader = shared.machine();
    for (time, done) in [("2001-01-01", "fetched"), ("2030-01-01", "fresh"), ("2001-01-01", "fresh")] {
        let ran = at(&reader, time);
        assert_eq!((ran.count(done), warnings(&ran).len()), (4, 0), "{time}: {ran:?}");
    }
    assert_eq!(reader.hamflow(&["cache", "gc"]).code, 0);
    assert_eq!(run(&reader, &[]).count("fresh"), 4, "locked results are kept despite the wrong clock");
}

#[test]
fn a_shared_secret_grants_both_reading_and_writing() {
    let folder = tempfile::tempdir().unwrap();
    let anywhere = Project::new(CHAIN);
    std::fs::remove_file(anywhere.path("pipeline.toml")).unwrap();
    let made = anywhere.hamflow(&["cache", "keygen", "--shared"]).stdout;
    let [secret, name] = &made.lines().collect::<Vec<_>>()[..] else { panic!("{made}") };
    assert!(secret.starts_with("hmac-sha256-secret:") && name.starts_with("hmac-sha256:"), "{made}");
    let shared = Shared::new(folder.path().to_str().unwrap(), "main", name);
    let key = [("HAMFLOW_SIGNING_KEY", *secret)];
    assert_eq!(run(&shared.machine(), &key).count("uploaded"), 4);
    let reader = shared.machine();
    assert_eq!(run(&reader, &key).count("fetched"), 4);
    let stranger = run(&shared.machine(), &[]);
    assert_eq!(stranger.count("ran"), 4, "{stranger:?}");
    let printed = warnings(&stranger);
    assert!(printed.len() == 1 && printed[0].contains("unknown shared secret"), "{printed:?}");
    for (path, bytes) in reader.files("cache") {
        assert!(!String::from_utf8_lossy(&bytes).contains(secret), "{path}");
    }
}

#[test]
fn an_unreachable_remote_causes_one_warning() {
    let keys = keygen(&Project::new(CHAIN));
    for url in ["http://127.0.0.1:9/ham", "/no/such/folder"] {
        let machine = Shared::new(url, "main", &keys[1]).machine();
        let ran = run(&machine, &[("HAMFLOW_SIGNING_KEY", &keys[0])]);
        assert_eq!((ran.code, ran.count("ran"), warnings(&ran).len()), (0, 4, 1), "{ran:?}");
        assert!(warnings(&ran)[0].starts_with(&format!("remote `{url}`: ")), "{ran:?}");
    }
}

#[test]
fn invalid_remote_settings_are_rejected_before_anything_runs() {
    let keys = keygen(&Project::new(CHAIN));
    for (table, wanted) in [
        ("ulr = \"x\"", "unknown key `ulr`"),
        ("scope = \"main\"", "`url` is missing"),
        ("url = \"/x\"\nscope = \"a/b\"", "a scope has letters"),
        ("url = \"/x\"\nkeys = { main = [\"ed25519:12\"] }", "`hamflow cache keygen` makes one"),
        ("url = \"ftp://x\"", "`ftp` is not a supported kind of remote"),
    ] {
        let project = Project::new(&format!("{CHAIN}\n[cache.remote]\n{table}\n"));
        project.write("text.txt", "abc");
        let ran = project.hamflow(&["run"]);
        assert!(ran.code == 2 && ran.stderr.contains(wanted), "{table}: {ran:?}");
        assert!(!project.path("out").exists());
    }
    let project = Shared::new("/x", "main", &keys[1]).machine();
    let ran = run(&project, &[("HAMFLOW_SIGNING_KEY", "correct-horse")]);
    assert!(ran.code == 2 && !ran.stderr.contains("correct-horse"), "a key is never printed: {ran:?}");
}

#[test]
#[ignore = "needs nginx"]
fn certificates_are_trusted_if_the_system_trusts_them() {
    let folder = tempfile::tempdir().unwrap();
    let nginx = services::nginx_with_tls(folder.path());
    let keys = keygen(&Project::new(CHAIN));
    let shared = Shared::new(&format!("https://127.0.0.1:{}/ham", nginx.port), "main", &keys[1]);
    let certificate = folder.path().join("certificate.pem");
    let trusted = ("SSL_CERT_FILE", certificate.to_str().unwrap());
    let ran = run(&shared.machine(), &[("HAMFLOW_SIGNING_KEY", &keys[0]), trusted]);
    assert_eq!((ran.count("uploaded"), warnings(&ran)), (4, Vec::new()), "{ran:?}");
    let ran = run(&shared.machine(), &[trusted]);
    assert_eq!((ran.count("fetched"), warnings(&ran)), (4, Vec::new()), "{ran:?}");
    // Neither among the system's certificates nor without any.
    for (unrelated, problem) in [
        ("/etc/ssl/certs/ca-certificates.crt", "the server's certificate is not trusted (UnknownIssuer)"),
        ("/dev/null", "the system has no certificates"),
    ] {
        let ran = run(&shared.machine(), &[("SSL_CERT_FILE", unrelated), ("SSL_CERT_DIR", "/nonexistent")]);
        assert_eq!((ran.code, ran.count("ran")), (0, 4), "{ran:?}");
        let warnings = warnings(&ran);
        assert!(warnings.len() == 1 && warnings[0].contains(problem), "{warnings:?}");
    }
}

#[test]
#[ignore = "needs nginx"]
fn nginx_with_webdav_works_as_a_remote() {
    let folder = tempfile::tempdir().unwrap();
    let nginx = services::nginx(folder.path());
    let keys = keygen(&Project::new(CHAIN));
    let shared = Shared::new(&format!("http://127.0.0.1:{}/ham", nginx.port), "main", &keys[1]);
    let first = shared.machine();
    large(&first);
    let ran = run(&first, &[("HAMFLOW_SIGNING_KEY", &keys[0])]);
    assert_eq!((ran.count("uploaded"), warnings(&ran).len()), (4, 0), "{ran:?}");
    assert!(folder.path().join("objects/ham/cas").is_dir(), "large blobs are separate objects");
    let second = shared.machine();
    large(&second);
    let ran = run(&second, &[]);
    assert_eq!((ran.count("fetched"), warnings(&ran).len()), (4, 0), "{ran:?}");
    assert_eq!(second.files("out"), first.files("out"));
}
