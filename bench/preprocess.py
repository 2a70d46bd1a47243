#!/usr/bin/env python3
"""Compares preprocessing speed with other libraries: a table of images per second.

`python3 bench/preprocess.py [--images N] [--rounds N] [--originals FOLDER] [--no-peers] [--cold-disk] [--changes N]` creates N
distinct JPEGs (default 10,015: the originals repeated, each with a number in a comment) and a virtual environment with the other
libraries. For each image size it runs, in interleaved rounds: the bare decoder on these files (`benches/preprocess`), a cold `hamflow run` (empty cache, including the hashing of all files and the table), and each library with one process per core.

The efficiency of a cold run relative to its bare decoder is the median of the ratios of the rounds, both by wall time and by CPU time;
the latter is less meaningful, but also valid on a busy machine.

`--changes N` instead measures N runs after a change of one image. `--cold-disk` evicts the files from the page cache before each
measurement instead of loading them (requires root). Needs a release build of hamflow.
"""
import argparse
import hashlib
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from project import ORIGINALS, ROOT, binary, write


PACKAGES = {
    "pillow": ["pillow", "numpy"],
    "opencv": ["opencv-python-headless"],
    "torchvision": ["torch", "torchvision"],
    "dali": ["nvidia-dali-cuda120"],
}
SIZES = [(75, 100), (224, 224)]

# The code of each library to decode and resize one file; one process per core handles its share of the files.
PEERS = {
    "Pillow, draft": ("pillow", """
from PIL import Image
import numpy as np
def one(path, h, w):
    image = Image.open(path); image.draft("RGB", (w, h))
    return np.asarray(image.convert("RGB").resize((w, h), Image.Resampling.BICUBIC))
"""),
    "Pillow": ("pillow", """
from PIL import Image
import numpy as np
def one(path, h, w):
    return np.asarray(Image.open(path).convert("RGB").resize((w, h), Image.Resampling.BICUBIC))
"""),
    "OpenCV, reduced": ("opencv", """
import cv2
cv2.setNumThreads(1)
def one(path, h, w):
    flag = cv2.IMREAD_REDUCED_COLOR_4 if h == 75 else cv2.IMREAD_REDUCED_COLOR_2
    return cv2.cvtColor(cv2.resize(cv2.imread(path, flag), (w, h), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
"""),
    "OpenCV": ("opencv", """
import cv2
cv2.setNumThreads(1)
def one(path, h, w):
    return cv2.cvtColor(cv2.resize(cv2.imread(path), (w, h), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
"""),
    "torchvision": ("torchvision", """
import torch, torchvision
from torchvision.io import read_file, decode_jpeg
from torchvision.transforms.functional import resize
torch.set_num_threads(1)
def one(path, h, w):
    return resize(decode_jpeg(read_file(path)), [h, w], antialias=True).numpy()
"""),
}
LOOP = """
import sys, time, os
from multiprocessing import get_context
paths = sorted(os.path.join(d, f) for d, _, fs in os.walk(sys.argv[1]) for f in fs if f.endswith(".jpg"))
h, w = int(sys.argv[2]), int(sys.argv[3])
def share(paths):
    return sum(one(path, h, w).nbytes for path in paths)
if __name__ == "__main__":
    n = os.cpu_count()
    with get_context("fork").Pool(n) as pool:
        pool.map(share, [paths[:1]] * n)
        start = time.perf_counter()
        pool.map(share, [paths[i:i + 64] for i in range(0, len(paths), 64)], chunksize=1)
        print(len(paths) / (time.perf_counter() - start))
"""
DALI = """
import sys, time, os
import nvidia.dali.fn as fn, nvidia.dali.types as types
from nvidia.dali import pipeline_def
paths = sorted(os.path.join(d, f) for d, _, fs in os.walk(sys.argv[1]) for f in fs if f.endswith(".jpg"))
h, w = int(sys.argv[2]), int(sys.argv[3])
@pipeline_def(batch_size=64, num_threads=os.cpu_count(), device_id=None)
def pipe():
    data, _ = fn.readers.file(files=paths, random_shuffle=False)
    return fn.resize(fn.decoders.image(data, device="cpu", output_type=types.RGB), resize_x=w, resize_y=h)
p = pipe(); p.build(); p.run()
start = time.perf_counter(); done = 0
while done + 64 <= len(paths) - 64:
    p.run(); done += 64
print(done / (time.perf_counter() - start))
"""


def dataset(folder: Path, originals: Path, count: int) -> Path:
    """Repeats the originals; a number in a JPEG comment makes each copy distinct."""
    which = hashlib.sha256(str(originals.resolve()).encode()).hexdigest()[:8]
    images = folder / f"images-{which}-{count}"
    if not (images / "whole").exists():
        shutil.rmtree(images, ignore_errors=True)
        images.mkdir(parents=True)
        sources = [path.read_bytes() for path in sorted(originals.glob("*.jpg"))]
        for number in range(count):
            comment = f"{number:08d}".encode()
            source = sources[number % len(sources)]
            bytes_ = source[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + source[2:]
            (images / f"IMG_{number:07d}.jpg").write_bytes(bytes_)
        (images / "whole").touch()
    return images


def environment(folder: Path) -> tuple[Path, set[str]]:
    """A virtual environment with the other libraries that can be installed."""
    venv = folder / "venv"
    python = venv / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    there = set()
    for name, packages in PACKAGES.items():
        installed = subprocess.run([python, "-m", "pip", "install", "-q", *packages], capture_output=True, text=True)
        if installed.returncode == 0:
            there.add(name)
        else:
            print(f"SKIPPED: {name} does not install: {installed.stderr.strip().splitlines()[-1]}", file=sys.stderr)
    return python, there


def simd_environment(folder: Path) -> Path | None:
    """A virtual environment with Pillow-SIMD instead of Pillow; None if it cannot be built."""
    python = folder / "venv-simd" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder / "venv-simd"], check=True)
    built = subprocess.run([python, "-m", "pip", "install", "-q", "pillow-simd", "numpy"], capture_output=True, text=True)
    if built.returncode == 0:
        return python
    print(f"SKIPPED: Pillow-SIMD does not build: {built.stderr.strip().splitlines()[-1]}", file=sys.stderr)
    return None


def resident(root: int) -> int:
    """The resident memory of a process and its descendants, in bytes."""
    total, todo = 0, [root]
    while todo:
        pid = todo.pop()
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            for task in Path(f"/proc/{pid}/task").iterdir():
                todo += map(int, (task / "children").read_text().split())
        except OSError:
            pass
    return total


def warm(images: Path, size: tuple[int, int], count: int) -> None:
    """Loads the files into the page cache, then allocates and frees as much memory as a run will write.

    A virtual machine may have returned free memory to its host, which makes the first access slow. No program should pay for
    another.
    """
    for path in images.glob("*.jpg"):
        path.read_bytes()
    size_in_bytes = 2**30 + count * size[0] * size[1] * 3 * 5 // 2
    touch = f"import mmap; mmap.mmap(-1, {size_in_bytes}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)"
    subprocess.run([sys.executable, "-c", touch], check=True)
    os.sync()


def cool() -> None:
    """Evicts all files from the page cache."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def hamflow(
    folder: Path, images: Path, size: tuple[int, int], decode: str, cold_disk: bool = False
) -> tuple[float, float, float]:
    """A cold run: images per second of wall time and of CPU time, and the peak memory of all its processes in MiB."""
    project = Path(tempfile.mkdtemp(dir=folder))
    count = write(project, images, height=size[0], width=size[1], decode=decode)
    if decode == "reduced":
        warm(images, size, count)
    if cold_disk:
        cool()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    process = subprocess.Popen([binary(), "run"], cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    most = [0]

    def watch() -> None:
        while process.poll() is None:
            most[0] = max(most[0], resident(process.pid))
            time.sleep(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    seconds = time.perf_counter() - start
    watcher.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    work = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    shutil.rmtree(project)
    if code != 0:
        raise SystemExit(f"hamflow ended with {code}")
    return count / seconds, count / (work / os.cpu_count()), most[0] / 2**20


def changed(folder: Path, images: Path, size: tuple[int, int], rounds: int) -> tuple[float, float]:
    """Medians of the seconds and images of a run after a change of one image, and after reverting it."""
    project = Path(tempfile.mkdtemp(dir=folder))
    write(project, images, height=size[0], width=size[1])
    run = [binary(), "run", "--json"]
    subprocess.run(run, cwd=project, check=True, capture_output=True)
    paths = sorted(images.glob("*.jpg"))
    seconds, redone = [], []
    for number in range(rounds):
        path = paths[len(paths) * (2 * number + 1) // (2 * rounds)]
        before = path.read_bytes()
        # Change the number in the comment.
        path.write_bytes(before[:6] + f"{90_000_000 + number}".encode() + before[14:])
        start = time.perf_counter()
        said = subprocess.run(run, cwd=project, check=True, capture_output=True, text=True).stdout
        seconds.append(time.perf_counter() - start)
        redone.append(json.loads(said.splitlines()[-1])["part_files_ran"])
        path.write_bytes(before)
        subprocess.run(run, cwd=project, check=True, capture_output=True)
    shutil.rmtree(project)
    return statistics.median(seconds), statistics.median(redone)


def linked(folder: Path, originals: Path, count: int) -> Path:
    """Links to the originals under many names, for image counts that would not fit on the disk."""
    images = folder / f"links-{count}"
    images.mkdir(exist_ok=True)
    sources = sorted(path.resolve() for path in originals.glob("*.jpg"))
    for number in range(count):
        link = images / f"IMG_{number:07d}.jpg"
        if not link.is_symlink():
            link.symlink_to(sources[number % len(sources)])
    return images


def bare(*arguments: str) -> dict[str, tuple[float, float]]:
    """The output of `cargo run --release --manifest-path benches/preprocess/Cargo.toml` by name: images per second, and the second number of the row."""
    command = ["cargo", "run", "--release", "--manifest-path", "benches/preprocess/Cargo.toml", "--", *arguments]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    rows = re.findall(r"^(\S.*?)\s{2,}(\d+)\s+(\d+)$", printed, re.M)
    if not rows:
        raise SystemExit(f"`{' '.join(command)}` printed no table:\n{printed}")
    return {name.strip(): (float(first), float(second)) for name, first, second in rows}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--images", type=int, default=10015)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--originals", type=Path, default=ORIGINALS)
    arguments.add_argument("--memory", type=int, nargs="*", default=[], help="counts of images to measure memory at")
    arguments.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "hamflow-bench")
    arguments.add_argument("--no-peers", action="store_true", help="hamflow and its decoder only")
    arguments.add_argument("--cold-disk", action="store_true", help="take the files out of the system's cache first (as root)")
    arguments.add_argument("--changes", type=int, default=0, help="only the time of a run after one image changed, so often")
    options = arguments.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    images = dataset(options.folder, options.originals, options.images)
    if options.changes:
        for size in SIZES:
            seconds, redone = changed(options.folder, images, size, options.changes)
            print(f"{size[0]}×{size[1]}: {seconds:.3f} s after one of {options.images} images changed, {redone:.0f} decoded")
        return
    scripts: dict[str, tuple[Path, str]] = {}
    if not options.no_peers:
        python, there = environment(options.folder)
        scripts = {name: (python, code + LOOP) for name, (needs, code) in PEERS.items() if needs in there}
        if "dali" in there:
            scripts["NVIDIA DALI, CPU"] = (python, DALI)
        simd = simd_environment(options.folder)
        if simd:
            scripts["Pillow-SIMD, draft"] = (simd, PEERS["Pillow, draft"][1] + LOOP)
    decoders: dict[str, list[float]] = {}
    rates: dict[tuple[str, tuple[int, int]], list[float]] = {}
    # By size, for each round: the efficiency of a cold run relative to its bare decoder, by wall time and by CPU time.
    reached: dict[tuple[int, int], list[tuple[float, float]]] = {}
    memory = 0.0
    for _ in range(options.rounds):
        if not options.no_peers:
            for name, (rate, _) in bare(str(options.originals.resolve())).items():
                decoders.setdefault(name, []).append(rate)
        for size in SIZES:
            [(alone, alone_by_work)] = bare(str(images.resolve()), "--alone", f"{size[0]}x{size[1]}").values()
            rates.setdefault(("its decoder alone, in a bare loop", size), []).append(alone)
            for decode in ("reduced",) if options.no_peers else ("reduced", "exact"):
                rate, by_work, used = hamflow(options.folder, images, size, decode, options.cold_disk)
                memory = max(memory, used)
                rates.setdefault((f"hamflow, cold run, {decode}", size), []).append(rate)
                if decode == "reduced":
                    reached.setdefault(size, []).append((rate / alone, by_work / alone_by_work))
            for name, (interpreter, code) in scripts.items():
                command = [interpreter, "-c", code, images, str(size[0]), str(size[1])]
                if options.cold_disk:
                    cool()
                ran = subprocess.run(command, capture_output=True, text=True)
                if ran.returncode != 0:
                    print(f"SKIPPED: {name}: {ran.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
                    continue
                rates.setdefault((name, size), []).append(float(ran.stdout.split()[-1]))
    print(f"{options.images} images, {os.cpu_count()} cores, medians of {options.rounds} interleaved rounds, images/s")
    print(f"| program | {' | '.join(f'{h}×{w}' for h, w in SIZES)} |\n| --- | --- | --- |")
    for name in dict.fromkeys(name for name, _ in rates):
        cells = [f"{statistics.median(rates[name, size]):.0f}" if (name, size) in rates else "–" for size in SIZES]
        print(f"| {name} | {' | '.join(cells)} |")
    for which, how in enumerate(("by the clock", "by the processors' work")):
        cells = [f"{statistics.median(ratios[which] for ratios in reached[size]):.0%}" for size in SIZES]
        print(f"| a cold run of its decoder alone, {how} | {' | '.join(cells)} |")
    if decoders:
        print("\n| decoder alone, bare loop over the originals | images/s |\n| --- | --- |")
        for name, rate in decoders.items():
            print(f"| {name} | {statistics.median(rate):.0f} |")
    print(f"most memory of all processes together: {memory:.0f} MiB")
    for count in options.memory:
        images = linked(options.folder, options.originals, count)
        rate, _, memory = hamflow(options.folder, images, SIZES[0], "reduced")
        print(f"{count} images: {memory:.0f} MiB, {rate:.0f} images/s")


if __name__ == "__main__":
    main()
