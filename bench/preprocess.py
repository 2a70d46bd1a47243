#!/usr/bin/env python3
"""Preprocessing beside other programs: a table of images per second, in one run on one machine.

`python3 bench/preprocess.py [--images N] [--rounds N] [--originals FOLDER]` makes N distinct JPEGs (10,015 by default: the
originals repeated, each with a number in a comment), a virtual environment with the peers, and runs interleaved rounds of a
cold `hamflow run` (an empty cache, planning's hash included) and of each peer with a process per core. It needs a release
build of hamflow. `cargo bench --bench preprocess` measures the decoder in a bare loop; its figures are put beside.
"""
import argparse
import hashlib
import os
import re
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

# Each peer decodes, resizes and keeps the pixels of one file; a process per core does its share.
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
    """The originals repeated, each copy made distinct by a number in a comment behind the start of the image."""
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
    """A virtual environment with the peers that install here."""
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
    """A virtual environment with Pillow-SIMD, which takes Pillow's place; none where it does not build."""
    python = folder / "venv-simd" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder / "venv-simd"], check=True)
    built = subprocess.run([python, "-m", "pip", "install", "-q", "pillow-simd", "numpy"], capture_output=True, text=True)
    if built.returncode == 0:
        return python
    print(f"SKIPPED: Pillow-SIMD does not build: {built.stderr.strip().splitlines()[-1]}", file=sys.stderr)
    return None


def resident(root: int) -> int:
    """Bytes in memory of a process and all that it started."""
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


def hamflow(folder: Path, images: Path, size: tuple[int, int], decode: str) -> tuple[float, float]:
    """Images per second of a cold run of the stage alone, and the most memory of all its processes together in MiB."""
    project = Path(tempfile.mkdtemp(dir=folder))
    count = write(project, images, height=size[0], width=size[1], decode=decode)
    subprocess.run([binary(), "run", "metadata"], cwd=project, check=True, capture_output=True)
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
    shutil.rmtree(project)
    if code != 0:
        raise SystemExit(f"hamflow ended with {code}")
    return count / seconds, most[0] / 2**20


def linked(folder: Path, originals: Path, count: int) -> Path:
    """The originals under many names, for counts that no disk should hold."""
    images = folder / f"links-{count}"
    images.mkdir(exist_ok=True)
    sources = sorted(path.resolve() for path in originals.glob("*.jpg"))
    for number in range(count):
        link = images / f"IMG_{number:07d}.jpg"
        if not link.is_symlink():
            link.symlink_to(sources[number % len(sources)])
    return images


def bare(originals: Path) -> dict[str, float]:
    """What `cargo bench --bench preprocess` prints, by name."""
    command = ["cargo", "bench", "--bench", "preprocess", "--", str(originals.resolve())]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    found = {name.strip(): float(median) for name, median in re.findall(r"^(\S.*?)\s{2,}(\d+)\s+\d+$", printed, re.M)}
    if not found:
        raise SystemExit(f"`{' '.join(command)}` printed no table:\n{printed}")
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--images", type=int, default=10015)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--originals", type=Path, default=ORIGINALS)
    arguments.add_argument("--memory", type=int, nargs="*", default=[], help="counts of images to measure memory at")
    arguments.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "hamflow-bench")
    options = arguments.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    images = dataset(options.folder, options.originals, options.images)
    python, there = environment(options.folder)
    decoders: dict[str, list[float]] = {}
    scripts = {name: (python, code + LOOP) for name, (needs, code) in PEERS.items() if needs in there}
    if "dali" in there:
        scripts["NVIDIA DALI, CPU"] = (python, DALI)
    simd = simd_environment(options.folder)
    if simd:
        scripts["Pillow-SIMD, draft"] = (simd, PEERS["Pillow, draft"][1] + LOOP)
    rates: dict[tuple[str, tuple[int, int]], list[float]] = {}
    memory = 0.0
    for _ in range(options.rounds):
        for name, rate in bare(options.originals).items():
            decoders.setdefault(name, []).append(rate)
        for size in SIZES:
            for decode in ("reduced", "exact"):
                rate, used = hamflow(options.folder, images, size, decode)
                memory = max(memory, used)
                rates.setdefault((f"hamflow, cold run, {decode}", size), []).append(rate)
            for name, (interpreter, code) in scripts.items():
                command = [interpreter, "-c", code, images, str(size[0]), str(size[1])]
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
    print("\n| decoder alone, bare loop | images/s |\n| --- | --- |")
    for name, rate in decoders.items():
        print(f"| {name} | {statistics.median(rate):.0f} |")
    for height, width in SIZES:
        alone = decoders.get(f"own, reduced for {height}x{width}")
        if alone:
            whole = statistics.median(rates["hamflow, cold run, reduced", (height, width)])
            print(f"a cold run at {height}×{width} reaches {whole / statistics.median(alone):.0%} of its decoder alone")
    print(f"most memory of all processes together: {memory:.0f} MiB")
    for count in options.memory:
        images = linked(options.folder, options.originals, count)
        rate, memory = hamflow(options.folder, images, SIZES[0], "reduced")
        print(f"{count} images: {memory:.0f} MiB, {rate:.0f} images/s")


if __name__ == "__main__":
    main()
