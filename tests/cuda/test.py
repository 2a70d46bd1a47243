"""Trains with the very program on the stand-in for NVIDIA's libraries, and looks at what came out and what was called.

    python tests/cuda/test.py PROGRAM STAND_IN NVRTC

PROGRAM is `hamflow` built with `--features cuda`, STAND_IN the folder of `tests/cuda/build.sh`, NVRTC the folder of
NVIDIA's compiler. Needs numpy, Pillow, pyarrow and safetensors.
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
import PIL.Image
import pyarrow.parquet
from safetensors.numpy import load_file

PROGRAM, STAND_IN, NVRTC = map(os.path.abspath, sys.argv[1:4]) if len(sys.argv) > 3 else (None, None, None)

PIPELINE = """
[pipeline]
seed = 7
[inputs]
images = "images"
[stages.metadata]
images = "inputs.images"
[stages.split]
table = "metadata"
images = "inputs.images"
fractions = {{ train = 0.6, validation = 0.2, test = 0.2 }}
[stages.preprocess]
table = "metadata"
images = "inputs.images"
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
[stages.gradcam]
model = "train"
shards = "preprocess"
predictions = "evaluate"
images = "inputs.images"
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

# 60 of the 100 images are for training: 210 steps.
STEPS = {"batch_size": 4, "epochs": 14}


def draw(folder, size):
    """100 images of noise in three classes, told apart by a stripe. In flat areas, rounding would choose the maximum of a window."""
    random = numpy.random.default_rng(1)
    for number in range(100):
        image = random.integers(0, 90, (size, size, 3), dtype=numpy.uint8)
        place = random.integers(2, size - 2)
        stripe = (place, slice(None)) if number % 3 == 0 else (slice(None), place) if number % 3 == 1 else None
        if stripe:
            image[stripe] += 150
        of_class = folder / "abc"[number % 3]
        of_class.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(image).save(of_class / f"image_{number:03}.png")


def toml(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {toml(part)}" for name, part in value.items()) + " }"
    return json.dumps(value)


class Project:
    """A project in a folder of its own, and the log of what it called."""

    def __init__(self, size, train):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.log = self.folder / "stand-in.log"
        draw(self.folder / "images", size)
        self.write(size, train)

    def write(self, size, train):
        lines = "\n".join(f"{name} = {toml(value)}" for name, value in train.items())
        (self.folder / "pipeline.toml").write_text(PIPELINE.format(size=size, train=lines))

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


def distance(ours, theirs):
    """The largest difference of two models' weights, without running statistics."""
    assert ours.keys() == theirs.keys()
    return max(float(numpy.abs(ours[name] - theirs[name]).max()) for name in ours if "running" not in name)


class OnTheStandIn(unittest.TestCase):
    def project(self, size, **train):
        project = Project(size, train)
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

    def trained(self, size, **train):
        """The weights of a training on the CPU."""
        project = self.project(size, device="cpu", **train)
        project.done("train")
        return project.weights()

    def on_the_device(self, size, steps, **train):
        """The weights of a training on the device, which is evaluated there too, to the report."""
        project = self.project(size, device="cuda", **train)
        said = project.done()
        self.assertNotIn("on the CPU", said)
        interruptions = self.assert_calls_are_proper(project.calls(), steps)
        self.assertLess(interruptions, 10 * train["epochs"] + 20, "waits belong to epochs, not to steps")
        self.assertTrue(list(project.folder.glob("out/report/**/*.html")))
        return project.weights()

    def test_the_baseline_trains_200_steps_as_on_the_cpu(self):
        train = {"model": "baseline", **GENTLE, **STEPS}
        ours, theirs = self.on_the_device(24, 200, **train), self.trained(24, **train)
        moved = distance(theirs, self.trained(24, **train | {"epochs": 1, "learning_rate": 1e-9}))
        self.assertGreater(moved, 0.05)
        self.assertLess(distance(ours, theirs), 1e-3 * moved)

    def test_a_step_of_efficientnet_is_that_of_the_cpu(self):
        train = {"model": "efficientnet-lite0", **GENTLE, "batch_size": 64, "epochs": 1}
        ours, theirs = self.on_the_device(32, 1, **train), self.trained(32, **train)
        moved = distance(theirs, self.trained(32, **train | {"learning_rate": 1e-9}))
        self.assertGreater(moved, 1e-3)
        self.assertLess(distance(ours, theirs), 1e-2 * moved)

    def test_efficientnet_trains_200_steps_within_its_own_sensitivity(self):
        # From random weights and small batches, normalisation amplifies every rounding: a learning rate that is larger by
        # a hundred-thousandth must matter about as much as the device.
        train = {"model": "efficientnet-lite0", **GENTLE, **STEPS, "learning_rate": 1e-5}
        ours, theirs = self.on_the_device(32, 200, **train), self.trained(32, **train)
        nearly = self.trained(32, **train | {"learning_rate": 1.00001e-5})
        self.assertLess(distance(ours, theirs), 5 * distance(nearly, theirs))

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

    def test_every_option_trains(self):
        train = {
            "model": "resnet-18",
            "optimiser": "adam-w",
            "weight_decay": 0.02,
            "ema": 0.9,
            "logit_adjustment": 1.0,
            "cutmix": 1.0,
            "mixup": 0.4,
            "keep_metric": "balanced_accuracy",
            "rate_factors": {"head": 3.0},
            "unfreeze_epochs": 1,
            "batch_size": 12,
            "epochs": 3,
        }
        project = self.project(32, device="cuda", **train)
        self.assertNotIn("on the CPU", project.done("train"))
        self.assert_calls_are_proper(project.calls(), 12)

    def test_a_run_with_nothing_to_do_does_not_start_the_driver(self):
        project = self.project(20, model="baseline", batch_size=20, epochs=1, device="auto")
        project.done()
        self.assertIn("init", project.calls())
        project.done()
        project.calls()
        self.assertIn("nothing to do", project.done())
        self.assertEqual(project.calls(), [])

    def test_a_device_predicts_and_explains_as_the_cpu(self):
        project = self.project(24, model="baseline", batch_size=20, epochs=2, device="cpu")
        found = {}
        for device in ("cpu", "cuda"):
            project.done("train")
            for stage in ("evaluate", "gradcam"):
                project.calls()
                settings = [part for name in ("evaluate", "gradcam") for part in ("--set", f"stages.{name}.device={device}")]
                self.assertRegex(project.done(*settings, stage), rf"ran +{stage}")
                allocated = any(line.startswith("allocate") for line in project.calls())
                self.assertEqual(allocated, device == "cuda", stage)
            table = pyarrow.parquet.read_table(project.folder / "out/evaluate/predictions.parquet")
            names = [name for name in table.column_names if name.startswith("probability_")]
            found[device] = numpy.array([table[name].to_numpy() for name in names])
            self.assertTrue(list((project.folder / "out/gradcam/overlays").glob("*.svg")))
        self.assertEqual(found["cpu"].shape[0], 3)
        self.assertLess(numpy.abs(found["cpu"] - found["cuda"]).max(), 1e-5)

    def test_another_choice_of_devices_asks_the_driver_again(self):
        project = self.project(20, model="baseline", batch_size=20, epochs=1, device="auto")
        project.done()
        project.done()
        project.calls()
        self.assertIn("nothing to do", project.done(CUDA_VISIBLE_DEVICES="0"))
        self.assertIn("init", project.calls())

    def test_results_of_the_cpu_are_used_where_a_device_is(self):
        project = self.project(20, model="baseline", batch_size=20, epochs=1, device="auto")
        project.done(libraries=(NVRTC,))
        bytes_of_the_cpu = project.bytes()
        said = project.done()
        self.assertNotRegex(said, r"ran +(train|evaluate)")
        self.assertEqual(project.bytes(), bytes_of_the_cpu)
        self.assertRegex(project.done("--force", "train"), r"ran +train")
        self.assertIn("replay", project.calls())

    def test_auto_falls_back_whatever_is_wrong_and_cuda_names_it(self):
        without_cudnn = tempfile.TemporaryDirectory()
        self.addCleanup(without_cudnn.cleanup)
        for library in pathlib.Path(STAND_IN).glob("lib*"):
            if "cudnn" not in library.name:
                os.symlink(library.resolve(), pathlib.Path(without_cudnn.name) / library.name)
        for libraries, variables, problem in [
            ((NVRTC,), {}, "libcuda.so"),
            ((STAND_IN,), {}, "libnvrtc.so"),
            ((without_cudnn.name, NVRTC), {}, "libcudnn.so"),
            ((STAND_IN, NVRTC), {"HAMFLOW_STAND_IN_DEVICES": "0"}, "no device"),
            ((STAND_IN, NVRTC), {"HAMFLOW_STAND_IN_CAPABILITY": "70"}, "compute capability 7.0"),
            ((STAND_IN, NVRTC), {"HAMFLOW_STAND_IN_DRIVER": "12040"}, "supports CUDA 12.4"),
            ((STAND_IN, NVRTC), {"HAMFLOW_STAND_IN_CUDNN": "8907"}, "cuDNN 0"),
            ((STAND_IN, NVRTC), {"HAMFLOW_STAND_IN_MEMORY": "3000000"}, "allocate"),
        ]:
            with self.subTest(problem):
                train = {"model": "baseline", "batch_size": 20, "epochs": 1}
                project = self.project(20, device="auto", **train)
                said = project.done("train", libraries=libraries, **variables)
                self.assertEqual(said.count(problem), 1, said)
                self.assertIn("on the CPU", said)
                project.write(20, train | {"device": "cuda"})
                refused = project.run("train", libraries=libraries, **variables)
                self.assertEqual(refused.returncode != 0 and problem in refused.stderr + refused.stdout, True, refused)
                self.assertIn("hint: ", refused.stderr + refused.stdout)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)
