#!/usr/bin/env python3
"""Compares GPU training speed with PyTorch: images per second of the baseline and EfficientNet-Lite0, on one device.

`python3 bench/cuda.py [--program FILE] [--rounds N] [--batches 10 64 512] [--precisions f32 tf32 bf16] [--models …] [--seconds S]` first checks
that GPU and CPU agree. It then runs training steps (forward, backward, Adam, dropout enabled) of hamflow and PyTorch in interleaved
rounds, on images that are in GPU memory, and prints the medians. PyTorch uses the channels-last format and the same precision, in
three modes: eager, compiled with CUDA graphs (`mode="max-autotune"`), and the whole compiled step in one CUDA graph. hamflow's step
includes gathering and normalising its images from bytes.

`--quick` does what fits into ten minutes, each step with a time limit and its own file in `--results`: nothing that fails keeps the
rest from running. With `--hamflow`, the program itself, it also runs the demo to the report.

`--program` is the benchmark binary (printed by `cargo bench --bench cuda --features cuda --no-run`), for machines without Rust; by
default it is built. If this Python has no PyTorch, a virtual environment is created.
"""
import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from project import ROOT

TORCH = """
import sys, time
import torch
from torch import nn
torch.manual_seed(1)
torch.backends.cudnn.benchmark = True
sys.path.append(FIXTURES)
from torch_networks import Lite
labels_of = lambda count: torch.arange(count, device="cuda") % 7

def network(name):
    if name == "efficientnet-lite0":
        return Lite(7).cuda().to(memory_format=torch.channels_last)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.4),
        nn.Flatten(), nn.Linear(18 * 25 * 64, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 7),
    )
    assert sum(p.numel() for p in model.parameters()) == 3_752_999
    return model.cuda().to(memory_format=torch.channels_last)

def prepare(name, precision, batch):
    torch.compiler.reset()
    tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    model = network(name)
    # The master weights stay in f32; autocast multiplies in bf16.
    context = lambda: torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16", cache_enabled=False)
    criterion = nn.CrossEntropyLoss()
    x = torch.randn(batch, 3, 75, 100, device="cuda").contiguous(memory_format=torch.channels_last)
    y = labels_of(batch)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-5, eps=1e-7, fused=True, capturable=True)
    def loss_of(a, b):
        with context():
            return criterion(model(a), b)
    if HOW == "compiled":
        loss_of = torch.compile(loss_of, mode="max-autotune")
    if HOW == "graph":
        loss_of = torch.compile(loss_of, mode="max-autotune-no-cudagraphs")
    def step():
        optimiser.zero_grad(set_to_none=HOW != "graph")
        loss_of(x, y).backward()
        optimiser.step()
    if HOW != "graph":
        return step
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(5):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay

ready = None
for line in sys.stdin:
    case, steps = line.rsplit(" ", 1)
    if ready is None or ready[0] != case:
        ready = None
        torch.cuda.empty_cache()
        name, precision, batch = case.split()
        ready = (case, prepare(name, precision, int(batch)))
        for _ in range(10):
            ready[1]()
    for _ in range(3):
        ready[1]()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(int(steps)):
        ready[1]()
    torch.cuda.synchronize()
    print(f"{(time.perf_counter() - started) * 1e3 / int(steps):.4f}", flush=True)
"""

TORCH = f"FIXTURES = {str(ROOT / 'stages/ml/src/fixtures')!r}\n" + TORCH

PEERS = {
    "PyTorch, eager": "HOW = 'eager'\n" + TORCH,
    "PyTorch, compiled, CUDA graphs": "HOW = 'compiled'\n" + TORCH,
    "PyTorch, compiled, the step in one CUDA graph": "HOW = 'graph'\n" + TORCH,
}


def python_with_torch(folder: Path) -> Path:
    """A Python interpreter with PyTorch."""
    own = Path(sys.executable)
    if subprocess.run([own, "-c", "import torch"], capture_output=True).returncode == 0:
        return own
    python = folder / "torch-cuda" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder / "torch-cuda"], check=True)
    if subprocess.run([python, "-c", "import torch"], capture_output=True).returncode != 0:
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "torch", "numpy"], check=True)
    return python


def built() -> Path:
    """The path of the benchmark binary."""
    command = ["cargo", "bench", "--bench", "cuda", "--features", "cuda", "--no-run", "--message-format=short"]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stderr
    path = said.rsplit("cuda.rs (", 1)[1].split(")")[0]
    return Path(path) if os.path.isabs(path) else ROOT / path


class Program:
    def __init__(self, command: list):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, model: str, precision: str, batch: int, steps: int) -> float:
        self.process.stdin.write(f"{model} {precision} {batch} {steps}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def quick(arguments) -> None:
    """The steps of a short visit to a device. Prints how each ended; its output is in a file."""
    results = arguments.results
    results.mkdir(parents=True, exist_ok=True)
    program = (arguments.program or built()).resolve()
    own = [sys.executable, str(Path(__file__).resolve()), "--program", str(program), "--unchecked", "--no-max-autotune"]
    sanitizer = shutil.which("compute-sanitizer")
    steps = [
        ("versions", 30, ["nvidia-smi", "-q"]),
        ("check", 120, [program, "check"]),
        ("algorithms", 30, [program, "algorithms"]),
        ("again", 60, [program, "again"]),
        ("measure", 120, [*own, "--rounds", "3", "--seconds", "0.3", "--only", "hamflow"]),
    ]
    if subprocess.run([sys.executable, "-c", "import torch"], capture_output=True).returncode == 0:
        steps.append(("pytorch", 150, [*own, "--rounds", "2", "--seconds", "0.3", "--batches", "64", "512"]))
    else:
        print("pytorch: not measured, because this Python has none", flush=True)
    if sanitizer:
        steps[2:2] = [(tool, 45, [sanitizer, "--tool", tool, program, "operations"]) for tool in ("memcheck", "racecheck")]
    if arguments.hamflow:
        demo = results / "demo"
        demo.mkdir(exist_ok=True)
        steps.append(("demo", 60, [arguments.hamflow.resolve(), "run", "--profile", "demo", "--set", "stages.train.device=cuda"]))
    for name, limit, command in steps:
        started, file = time.monotonic(), results / f"{name}.txt"
        with file.open("w") as output:
            try:
                folder = results / "demo" if name == "demo" else None
                ended = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, timeout=limit, cwd=folder).returncode
            except subprocess.TimeoutExpired:
                ended = f"ended after its limit of {limit} s"
            except OSError as error:
                ended = error
        print(f"{name}: {ended} ({time.monotonic() - started:.0f} s), {file}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, help="the benchmark's binary; built here where it is not given")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, nargs="+", default=[10, 64, 512])
    parser.add_argument("--precisions", nargs="+", default=["f32", "tf32", "bf16"])
    parser.add_argument("--models", nargs="+", default=["baseline", "efficientnet-lite0"])
    parser.add_argument("--seconds", type=float, default=2.0, help="about how long a program is measured in a round")
    parser.add_argument("--environments", type=Path, default=Path(os.environ.get("TMPDIR", "/tmp")) / "hamflow-bench")
    parser.add_argument("--quick", action="store_true", help="what fits into ten minutes")
    parser.add_argument("--results", type=Path, default=Path("cuda-results"), help="the folder of `--quick`")
    parser.add_argument("--hamflow", type=Path, help="the program, for the demo of `--quick`")
    parser.add_argument("--unchecked", action="store_true", help="measure without checking before")
    parser.add_argument("--no-max-autotune", action="store_true", help="let PyTorch compile without trying kernels, which takes minutes")
    parser.add_argument("--only", help="measure this program alone")
    arguments = parser.parse_args()
    if arguments.quick:
        return quick(arguments)
    program = arguments.program or built()
    if not arguments.unchecked:
        subprocess.run([program, "check"], check=True)
    commands = {"hamflow": [program, "serve"]}
    if arguments.only != "hamflow":
        python = python_with_torch(arguments.environments)
        for name, script in PEERS.items():
            if arguments.no_max_autotune:
                script = script.replace("max-autotune-no-cudagraphs", "default").replace("max-autotune", "reduce-overhead")
            commands[name] = [python, "-c", script]
    chosen = {name: command for name, command in commands.items() if arguments.only in (None, name)}
    programs = {name: Program(command) for name, command in chosen.items()}
    for model in arguments.models:
        for precision in arguments.precisions:
            measure(arguments, programs, model, precision)


def measure(arguments, programs: dict, model: str, precision: str) -> None:
    """Prints a table of the programs for all batch sizes. A program that ends is left out from then on."""
    found = {(name, batch): [] for name in programs for batch in arguments.batches}
    for batch in arguments.batches:
        for _ in range(arguments.rounds + 1):
            for name, asked in list(programs.items()):
                known = found[name, batch]
                steps = max(10, min(20_000, round(arguments.seconds * 1e3 / known[-1]))) if known else 10
                try:
                    known.append(asked.ask(model, precision, batch, steps))
                except (ValueError, BrokenPipeError):
                    print(f"skipped: {name} exited", file=sys.stderr)
                    del programs[name]
    print(f"\n{model}, {precision}: images/s, medians of {arguments.rounds} interleaved rounds (ms per step)\n")
    print("| | " + " | ".join(f"batch {batch}" for batch in arguments.batches) + " |")
    print("| --- |" + " --- |" * len(arguments.batches))
    for name in programs:
        # The first round warms up, compiles and records.
        medians = [(batch, statistics.median(found[name, batch][1:])) for batch in arguments.batches]
        print(f"| {name} | " + " | ".join(f"{batch / ms * 1e3:,.0f} ({ms:.3f})" for batch, ms in medians) + " |", flush=True)


if __name__ == "__main__":
    main()
