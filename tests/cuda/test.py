"""Trains with the very program on the stand-in for NVIDIA's libraries, and looks at what came out and what was called.

    python tests/cuda/test.py PROGRAM STAND_IN NVRTC

PROGRAM is `hamflow` built with `--features cuda`, STAND_IN the folder of `tests/cuda/build.sh`, NVRTC the folder of
NVIDIA's compiler. Needs numpy and safetensors.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import numpy
from safetensors.numpy import load_file

PROGRAM, STAND_IN, NVRTC = map(os.path.abspath, sys.argv[1:4]) if len(sys.argv) > 3 else (None, None, None)

PIPELINE = """
[pipeline]
seed = 7
[stages.synthetic]
images = {images}
[stages.metadata]
csv = "synthetic.metadata"
images = "synthetic.images"
[stages.split]
table = "metadata"
images = "synthetic.images"
fractions = {{ train = 0.6, validation = 0.2, test = 0.2 }}
[stages.preprocess]
table = "metadata"
images = "synthetic.images"
height = {size}
width = {size}
[stages.train]
shards = "preprocess"
split = "split"
{train}
[stages.evaluate]
model = "train"
shards = "preprocess"
split = "split"
[stages.report]
model = "train"
history = "train"
training = "train.summary"
metrics = "evaluate"
predictions = "evaluate"
figures = "evaluate"
"""


# Adam divides by the size of the gradient, so that the rounding of the smallest ones decides where a weight goes.
GENTLE = {"keep": "last", "optimiser": "sgd", "learning_rate": 1e-3}


class Project:
    """A project in a folder of its own, and the log of what it called."""

    def __init__(self, size, train, images=100):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.log = self.folder / "stand-in.log"
        self.write(size, train, images)

    def write(self, size, train, images=100):
        lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in train.items())
        (self.folder / "pipeline.toml").write_text(PIPELINE.format(size=size, images=images, train=lines))

    def run(self, *arguments, libraries=(STAND_IN, NVRTC), **variables):
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("NVIDIA_", "HAMFLOW_STAND_IN"))}
        environment |= {"LD_LIBRARY_PATH": ":".join(map(str, libraries)), "HAMFLOW_STAND_IN_LOG": str(self.log), "NO_COLOR": "1"}
        environment |= variables
        return subprocess.run([PROGRAM, "run", *arguments], cwd=self.folder, env=environment, capture_output=True, text=True)

    def done(self, *arguments, **options):
        """What a run that must succeed says."""
        ran = self.run(*arguments, **options)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout + ran.stderr

    def weights(self):
        return load_file(self.folder / "out/train/model/model.safetensors")

    def bytes(self):
        return {path.name: path.read_bytes() for path in (self.folder / "out/train/model").iterdir()}

    def calls(self):
        """The lines of the log, which is then empty."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines

    def remove(self):
        shutil.rmtree(self.folder)


def difference(ours, theirs):
    """The largest difference of two models, relative to the largest weight of the tensor."""
    assert ours.keys() == theirs.keys()
    return max(float(numpy.abs(ours[name] - theirs[name]).max() / max(numpy.abs(theirs[name]).max(), 1e-6)) for name in ours)


class OnTheStandIn(unittest.TestCase):
    def project(self, size, images=100, **train):
        project = Project(size, train, images)
        self.addCleanup(project.remove)
        return project

    def assert_calls_are_proper(self, calls, steps):
        """Every step is a replay, nothing is allocated or waited for in an epoch, and nothing is left behind."""
        for bad in ("forbidden", "slow", "does not repeat", "left behind", "out of memory"):
            self.assertEqual([line for line in calls if bad in line], [], bad)
        self.assertGreaterEqual(calls.count("replay"), steps)
        # Between the replays of an epoch: only the wait for an event, which is long over.
        text = "\n".join(calls)
        between = re.findall(r"(?<=replay\n)(?:(?!replay).+\n)+(?=replay)", text)
        of_epochs = [part for part in between if "wait\n" not in part]
        self.assertLessEqual({line for part in of_epochs for line in part.splitlines()}, {"wait for an event"})
        return len(between) - len(of_epochs)

    def compare_with_the_cpu(self, size, tolerance, **train):
        on_device = self.project(size, device="cuda", **train)
        on_cpu = self.project(size, device="cpu", **train)
        on_device.done()
        on_cpu.done("train")
        steps = 200
        interruptions = self.assert_calls_are_proper(on_device.calls(), steps)
        epochs = train["epochs"]
        self.assertLess(interruptions, 8 * epochs, "waits belong to epochs, not to steps")
        self.assertLess(difference(on_device.weights(), on_cpu.weights()), tolerance)
        self.assertTrue((on_device.folder / "out/report/index.html").exists() or list(on_device.folder.glob("out/report/**/*.html")))
        history = (on_device.folder / "out/train").glob("history*")
        self.assertTrue(list(history))

    def test_the_baseline_trains_200_steps_as_on_the_cpu(self):
        self.compare_with_the_cpu(24, 1e-3, model="baseline", epochs=14, batch_size=4, **GENTLE)

    def test_efficientnet_trains_200_steps_as_on_the_cpu(self):
        self.compare_with_the_cpu(32, 1e-3, model="efficientnet-lite0", epochs=14, batch_size=4, **GENTLE)

    def test_resumed_and_uninterrupted_trainings_have_equal_bytes(self):
        train = {"model": "baseline", "batch_size": 5, "device": "cuda", "mixup": 0.4}
        whole = self.project(20, epochs=4, **train)
        resumed = self.project(20, epochs=2, **train)
        whole.done("train")
        resumed.done("train")
        resumed.write(20, {"epochs": 4, **train})
        self.assertIn("epoch", resumed.done("train"))
        self.assertEqual(whole.bytes(), resumed.bytes())

    def test_every_precision_trains_and_repeats_its_bytes(self):
        for precision in ("f32", "tf32", "bf16"):
            train = {"model": "baseline", "batch_size": 6, "epochs": 2, "device": "cuda", "precision": precision}
            first, second = self.project(20, **train), self.project(20, **train)
            first.done("train")
            second.done("train")
            self.assert_calls_are_proper(first.calls(), 4)
            self.assertEqual(first.bytes(), second.bytes(), precision)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)
