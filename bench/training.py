#!/usr/bin/env python3
"""Compares CPU training speed with PyTorch and Keras: milliseconds per step of the notebook's network.

`python3 bench/training.py [--rounds N] [--batches 10 32 64] [--seconds S]` creates a virtual environment with PyTorch and
Keras/TensorFlow, starts every program once, and measures training steps (forward, backward, Adam in f32, with dropout and without
augmentation) in interleaved rounds, on batches in memory, with one thread per core. PyTorch is measured eager and compiled, both with
the channels-last format; Keras's step is compiled by TensorFlow. Prints the medians.
"""
import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from project import ROOT

COMMON = """
import os, sys, time
import numpy as np
BATCHES, CORES = 64, os.cpu_count()
rng = np.random.default_rng(1)
images = rng.uniform(-2, 2, (BATCHES, 75, 100, 3)).astype(np.float32)
labels = np.arange(BATCHES) % 7
def serve(step):
    for line in sys.stdin:
        batch, steps = map(int, line.split())
        step(batch); step(batch)
        started = time.perf_counter()
        for _ in range(steps):
            step(batch)
        print(f"{(time.perf_counter() - started) * 1e3 / steps:.3f}", flush=True)
"""

TORCH = COMMON + """
import torch
from torch import nn
torch.set_num_threads(CORES)
model = nn.Sequential(
    nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25),
    nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.4),
    nn.Flatten(), nn.Linear(18 * 25 * 64, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 7),
).to(memory_format=torch.channels_last)
assert sum(p.numel() for p in model.parameters()) == 3_752_999
optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7, **OPTIONS)
criterion = nn.CrossEntropyLoss()
x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
y = torch.from_numpy(labels)
def loss_of(a, b):
    return criterion(model(a), b)
if COMPILE:
    loss_of = torch.compile(loss_of)
def step(batch):
    optimiser.zero_grad(set_to_none=True)
    loss_of(x[:batch], y[:batch]).backward()
    optimiser.step()
serve(step)
"""

KERAS = COMMON + """
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(CORES)
import keras
from keras import layers as l
model = keras.Sequential([
    keras.Input((75, 100, 3)),
    l.Conv2D(32, 3, padding="same", activation="relu"), l.Conv2D(32, 3, padding="same", activation="relu"), l.MaxPool2D(2), l.Dropout(0.25),
    l.Conv2D(64, 3, padding="same", activation="relu"), l.Conv2D(64, 3, padding="same", activation="relu"), l.MaxPool2D(2), l.Dropout(0.4),
    l.Flatten(), l.Dense(128, activation="relu"), l.Dropout(0.5), l.Dense(7),
])
assert model.count_params() == 3_752_999
optimiser = keras.optimizers.Adam(1e-3)
optimiser.build(model.trainable_variables)
criterion = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
@tf.function
def train(a, b):
    with tf.GradientTape() as tape:
        loss = criterion(b, model(a, training=True))
    optimiser.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables))
    return loss
x, y = tf.constant(images), tf.constant(labels)
def step(batch):
    train(x[:batch], y[:batch]).numpy()
serve(step)
"""

PEERS = {
    "PyTorch, eager": ("torch", "COMPILE, OPTIONS = False, dict(foreach=True)\n" + TORCH),
    "PyTorch, compiled": ("torch", "COMPILE, OPTIONS = True, dict(fused=True)\n" + TORCH),
    "Keras, TensorFlow": ("keras", KERAS),
}
PACKAGES = {"torch": ["torch", "numpy"], "keras": ["tensorflow", "keras", "numpy"]}


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


class Program:
    def __init__(self, command: list):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def ask(self, batch: int, steps: int) -> float:
        self.process.stdin.write(f"{batch} {steps}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, nargs="+", default=[10, 32, 64])
    parser.add_argument("--seconds", type=float, default=3.0, help="about how long a program is measured in a round")
    parser.add_argument("--environments", type=Path, default=Path(os.environ.get("TMPDIR", "/tmp")) / "hamflow-bench")
    arguments = parser.parse_args()
    programs = {"hamflow": Program([built(), "serve"])}
    for name, (packages, script) in PEERS.items():
        try:
            programs[name] = Program([python(packages, arguments.environments), "-c", script])
        except subprocess.CalledProcessError as error:
            print(f"skipped: {name}: {error}", file=sys.stderr)
    found = {(name, batch): [] for name in programs for batch in arguments.batches}
    for number in range(arguments.rounds + 1):
        for batch in arguments.batches:
            for name, program in list(programs.items()):
                known = found[name, batch]
                steps = max(2, round(arguments.seconds * 1e3 / known[-1])) if known else 3
                try:
                    known.append(program.ask(batch, steps))
                except (ValueError, BrokenPipeError):
                    print(f"skipped: {name} exited", file=sys.stderr)
                    del programs[name]
    print(f"ms per step, medians of {arguments.rounds} interleaved rounds (least), {os.cpu_count()} threads\n")
    print("| | " + " | ".join(f"batch {batch}" for batch in arguments.batches) + " |")
    print("| --- |" + " --- |" * len(arguments.batches))
    for name in programs:
        # The first round warms up and compiles.
        rounds = [found[name, batch][1:] for batch in arguments.batches]
        print(f"| {name} | " + " | ".join(f"{statistics.median(of):.1f} ({min(of):.1f})" for of in rounds) + " |")


if __name__ == "__main__":
    main()
