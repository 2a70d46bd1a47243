#!/usr/bin/env python3
"""Compares CPU training speed with PyTorch and Keras: milliseconds per step.

`python3 bench/training.py [--rounds N] [--cases CASE…] [--seconds S]` creates a virtual environment with PyTorch and
Keras/TensorFlow, starts every program once, and measures steps in interleaved rounds, on batches in memory, with one thread per core:
training steps (forward, backward, Adam in f32, without augmentation) and predictions. A case is `NETWORK train|predict HEIGHT WIDTH
BATCH`. PyTorch is measured eager and compiled, both with the channels-last format; Keras only trains the notebook's network, compiled by
TensorFlow. Prints the medians.
"""
import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from project import ROOT

FIXTURES = ROOT / "stages/ml/src/fixtures"

COMMON = """
import os, sys, time
import numpy as np
CORES = os.cpu_count()
rng = np.random.default_rng(1)
def batch_of(height, width, batch):
    return rng.uniform(-2, 2, (batch, height, width, 3)).astype(np.float32), np.arange(batch) % 7
def serve(prepare):
    known = {}
    for line in sys.stdin:
        case, steps = line.rsplit(" ", 1)
        if case not in known:
            name, mode, height, width, batch = case.split()
            known[case] = prepare(name, mode, int(height), int(width), int(batch))
            known[case](); known[case]()
        known[case]()
        started = time.perf_counter()
        for _ in range(int(steps)):
            known[case]()
        print(f"{(time.perf_counter() - started) * 1e3 / int(steps):.3f}", flush=True)
"""

TORCH = COMMON + """
import torch
from torch import nn
sys.path.append(FIXTURES)
from torch_networks import Lite
torch.set_num_threads(CORES)
def baseline(height, width):
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.4),
        nn.Flatten(), nn.Linear(height // 4 * (width // 4) * 64, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 7),
    )
    assert (height, width) != (75, 100) or sum(p.numel() for p in model.parameters()) == 3_752_999
    return model
def resnet(height, width):
    import torchvision
    return torchvision.models.resnet18(num_classes=7)
MODELS = {"baseline": baseline, "efficientnet-lite0": lambda height, width: Lite(7), "resnet-18": resnet}
criterion = nn.CrossEntropyLoss()
def prepare(name, mode, height, width, batch):
    images, labels = batch_of(height, width, batch)
    model = MODELS[name](height, width).to(memory_format=torch.channels_last)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    y = torch.from_numpy(labels)
    if mode == "predict":
        model.eval()
        # Compiled for constant weights, which are rearranged once.
        torch._inductor.config.freezing = True
        predict = torch.compile(model) if COMPILE else model
        if COMPILE:
            with torch.inference_mode():
                predict(x)
        torch._inductor.config.freezing = False
        def step():
            with torch.inference_mode():
                predict(x)
        return step
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7, **OPTIONS)
    def loss_of(a, b):
        return criterion(model(a), b)
    loss_of = torch.compile(loss_of) if COMPILE else loss_of
    def step():
        optimiser.zero_grad(set_to_none=True)
        loss_of(x, y).backward()
        optimiser.step()
    return step
serve(prepare)
"""

KERAS = COMMON + """
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(CORES)
import keras
from keras import layers as l
def prepare(name, mode, height, width, batch):
    if (name, mode) != ("baseline", "train"):
        return lambda: None
    model = keras.Sequential([
        keras.Input((height, width, 3)),
        l.Conv2D(32, 3, padding="same", activation="relu"), l.Conv2D(32, 3, padding="same", activation="relu"), l.MaxPool2D(2), l.Dropout(0.25),
        l.Conv2D(64, 3, padding="same", activation="relu"), l.Conv2D(64, 3, padding="same", activation="relu"), l.MaxPool2D(2), l.Dropout(0.4),
        l.Flatten(), l.Dense(128, activation="relu"), l.Dropout(0.5), l.Dense(7),
    ])
    optimiser = keras.optimizers.Adam(1e-3)
    optimiser.build(model.trainable_variables)
    criterion = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    @tf.function
    def train(a, b):
        with tf.GradientTape() as tape:
            loss = criterion(b, model(a, training=True))
        optimiser.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables))
        return loss
    x, y = map(tf.constant, batch_of(height, width, batch))
    return lambda: train(x, y).numpy()
serve(prepare)
"""

PEERS = {
    "PyTorch, eager": ("torch", f"COMPILE, OPTIONS, FIXTURES = False, dict(foreach=True), {str(FIXTURES)!r}\n" + TORCH),
    "PyTorch, compiled": ("torch", f"COMPILE, OPTIONS, FIXTURES = True, dict(fused=True), {str(FIXTURES)!r}\n" + TORCH),
    "Keras, TensorFlow": ("keras", KERAS),
}
PACKAGES = {"torch": ["torch", "torchvision", "numpy"], "keras": ["tensorflow", "keras", "numpy"]}


def python(name: str, folder: Path) -> Path:
    """A virtual environment with the packages of another library."""
    python = folder / name / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder / name], check=True)
    if subprocess.run([python, "-c", f"import {PACKAGES[name][0]}"], capture_output=True).returncode != 0:
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *PACKAGES[name]], check=True)
    return python


def built() -> Path:
    """The path of the benchmark binary."""
    command = ["cargo", "bench", "--bench", "training", "--no-run", "--message-format=short"]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stderr
    path = said.rsplit("training.rs (", 1)[1].split(")")[0]
    return Path(path) if os.path.isabs(path) else ROOT / path


CASES = [
    *(f"baseline train 75 100 {batch}" for batch in (10, 32, 64)),
    *(f"efficientnet-lite0 {mode} {size} 32" for size in ("112 150", "150 200") for mode in ("train", "predict")),
    *(f"resnet-18 {mode} 112 150 32" for mode in ("train", "predict")),
]


class Program:
    def __init__(self, command: list):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def ask(self, case: str, steps: int) -> float:
        self.process.stdin.write(f"{case} {steps}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cases", nargs="+", default=CASES, help="`NETWORK train|predict HEIGHT WIDTH BATCH` each")
    parser.add_argument("--programs", nargs="+", default=["hamflow", *PEERS])
    parser.add_argument("--seconds", type=float, default=3.0, help="about how long a program is measured in a round")
    parser.add_argument("--environments", type=Path, default=Path(os.environ.get("TMPDIR", "/tmp")) / "hamflow-bench")
    arguments = parser.parse_args()
    programs = {"hamflow": Program([built(), "serve"])}
    for name, (packages, script) in PEERS.items():
        if name not in arguments.programs:
            continue
        try:
            programs[name] = Program([python(packages, arguments.environments), "-c", script])
        except subprocess.CalledProcessError as error:
            print(f"skipped: {name}: {error}", file=sys.stderr)
    found = {(name, case): [] for name in programs for case in arguments.cases}
    for number in range(arguments.rounds + 1):
        for case in arguments.cases:
            for name, program in list(programs.items()):
                if name.startswith("Keras") and not case.startswith("baseline train"):
                    continue
                known = found[name, case]
                steps = max(2, round(arguments.seconds * 1e3 / known[-1])) if known else 3
                try:
                    known.append(program.ask(case, steps))
                except (ValueError, BrokenPipeError):
                    print(f"skipped: {name} exited", file=sys.stderr)
                    del programs[name]
    print(f"ms per step, medians of {arguments.rounds} interleaved rounds (least), {os.cpu_count()} threads\n")
    print("| | " + " | ".join(programs) + " | best of the others / hamflow |")
    print("| --- |" + " --- |" * (len(programs) + 1))
    for case in arguments.cases:
        # The first round warms up and compiles.
        rounds = {name: found[name, case][1:] for name in programs}
        medians = {name: statistics.median(of) for name, of in rounds.items() if of}
        cells = [f"{medians[name]:.1f} ({min(of):.1f})" if of else "" for name, of in rounds.items()]
        others = [median for name, median in medians.items() if name != "hamflow"]
        ratio = f"{min(others) / medians['hamflow']:.2f}" if others else ""
        print(f"| {case} | " + " | ".join(cells) + f" | {ratio} |")


if __name__ == "__main__":
    main()
