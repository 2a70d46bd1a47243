#!/usr/bin/env python3
"""Measures the models trained on the real data: the shipped recipe with four seeds, and with some of its options.

`python3 bench/results.py DATA --folder FOLDER [--only NAME …] [--jobs N] [--figures FOLDER]` creates a project in FOLDER for each of
the runs below, runs the whole pipeline on the HAM10000 dataset in DATA (`HAM10000_metadata.csv`, both image directories, the lesion
masks), and prints the tables of docs/results.md. Interrupted runs resume from their last epoch; finished ones are cached. `--jobs`
runs N projects at a time, each with an equal share of the threads; the results are identical. `--figures` copies the figures for
docs/results.md. Needs a release build of hamflow, and pandas with pyarrow.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from project import ROOT, binary

# The first seed was chosen before any training.
SEEDS = (1234, 1, 2, 3)

# The differences from the shipped pipeline, by name; the paths of the data are added to each.
RUNS = {f"baseline-{seed}": (seed, "epochs = 50") for seed in SEEDS}
RUNS["weighted-1234"] = (1234, """
class_weights = "balanced"
epochs = 40
batch_size = 32
schedule = "cosine"
warmup_epochs = 1
clip_norm = 1
keep = "last"
augment = { flip_horizontal = true, flip_vertical = true, rotation = 45 }
""")
RUNS["sampled-1234"] = (1234, """
sampling = "balanced"
epochs = 20
learning_rate = 0.0005
schedule = "cosine"
warmup_epochs = 1
clip_norm = 1
keep = "last"
augment = { flip_horizontal = true, flip_vertical = true }
""")

METRICS = [("accuracy", "accuracy"), ("balanced accuracy", "balanced_accuracy"), ("macro F1", "f1_macro"), ("macro AUC", "roc_auc_macro")]
CURVES, VALIDATION, TEST = "train/figures/learning_curves", "evaluate/figures/confusion_matrix_validation", "evaluate/figures/confusion_matrix_test"
PICTURES = {"baseline-1234": [CURVES, VALIDATION, TEST], "weighted-1234": [CURVES, TEST], "sampled-1234": [CURVES, TEST]}


def write(project: Path, data: Path, seed: int, settings: str) -> None:
    """Writes the shipped pipeline with another seed, the paths of the data and the settings of `train`."""
    project.mkdir(parents=True, exist_ok=True)
    shipped = (ROOT / "pipeline.toml").read_text()
    assert "seed = 1234\n" in shipped
    profile = f"""
[profiles.real]
inputs.metadata = "{data}/HAM10000_metadata.csv"
inputs.images = ["{data}/HAM10000_images_part_1", "{data}/HAM10000_images_part_2"]
inputs.masks = "{data}/HAM10000_segmentations"
stages.gradcam.masks = "inputs.masks"
[profiles.real.stages.train]
""" + settings.strip() + "\n"
    (project / "pipeline.toml").write_text(shipped.replace("seed = 1234\n", f"seed = {seed}\n") + profile)


def run(name: str, folder: Path, data: Path, threads: int) -> None:
    """Runs the pipeline, or what remains of it."""
    write(folder / name, data, *RUNS[name])
    with open(folder / name / "run.log", "a") as log:
        command = [binary(), "run", "--profile", "real", "--jobs", str(threads)]
        subprocess.run(command, cwd=folder / name, check=True, stdout=log, stderr=log)


def read(folder: Path, name: str) -> tuple[dict, dict, list]:
    """The metrics, the training summary and the epochs."""
    out = folder / name / "out"
    load = lambda path: json.loads((out / path).read_text())
    return load("evaluate/metrics.json"), load("train/summary.json"), load("train/history.json")["epochs"]


def with_interval(split: dict, metric: str) -> str:
    low, high = split["intervals"][metric]
    return f"{split[metric]:.3f} ({low:.3f}–{high:.3f})"


def overview(folder: Path, names: list[str], of_seeds: bool) -> None:
    """A row per run: validation, then test with confidence intervals; the mean of runs that differ only in their seed."""
    print(f"| run | epochs, best | validation accuracy | {' | '.join('test ' + shown for shown, _ in METRICS)} |")
    print("| --- " * (3 + len(METRICS)) + "|")
    tests = []
    for name in names:
        metrics, summary, epochs = read(folder, name)
        tests.append(metrics["test"])
        cells = [with_interval(metrics["test"], metric) for _, metric in METRICS]
        print(f"| {name} | {len(epochs)}, {summary['best_epoch']} | {with_interval(metrics['validation'], 'accuracy')} | {' | '.join(cells)} |")
    if of_seeds and len(tests) > 1:
        means = [statistics.mean(test[metric] for test in tests) for _, metric in METRICS]
        spread = [statistics.stdev(test[metric] for test in tests) for _, metric in METRICS]
        cells = [f"{mean:.3f} ± {deviation:.3f}" for mean, deviation in zip(means, spread)]
        print(f"| mean ± standard deviation | | | {' | '.join(cells)} |")


def details(folder: Path, name: str) -> None:
    """All measurements of one run."""
    metrics, _, _ = read(folder, name)
    numbers = [key for key, value in metrics["test"].items() if isinstance(value, float)]
    print(f"\nEverything measured of `{name}`:\n\n| | validation | test |\n| --- | --- | --- |")
    for key in sorted(numbers):
        cells = [f"{split[key]:.3f}" + (" ({:.3f}–{:.3f})".format(*split["intervals"][key]) if key in split["intervals"] else "")
                 for split in (metrics["validation"], metrics["test"])]
        print(f"| {key.replace('_', ' ')} | {' | '.join(cells)} |")
    print("\n| test, by class | images | precision | recall | F1 | AUC | average precision |\n" + "| --- " * 7 + "|")
    for label, scores in metrics["test"]["per_class"].items():
        cells = [f"{scores[key]:.3f}" for key in ("precision", "recall", "f1", "roc_auc", "average_precision")]
        print(f"| {label} | {scores['support']} | {' | '.join(cells)} |")


def decisions(folder: Path, names: list[str]) -> None:
    """The test metrics if each probability is divided by a power of its class's share of the training rows
    (post-hoc logit adjustment, Menon et al. 2021, https://arxiv.org/abs/2007.07314)."""
    import pandas

    powers = [0, 0.5, 1]
    print("\n| test: balanced accuracy, accuracy | " + " | ".join(f"power {power}" for power in powers) + " |\n" + "| --- " * 4 + "|")
    for name in names:
        out = folder / name / "out"
        classes = read(folder, name)[0]["test"]["classes"]
        rows = pandas.read_parquet(out / "split/table.parquet")
        shares = rows[rows["split"] == "train"]["dx"].value_counts(normalize=True)[classes].to_numpy()
        answers = pandas.read_parquet(out / "evaluate/predictions.parquet").query("split == 'test'")
        probabilities = answers[[f"probability_{label}" for label in classes]].to_numpy()
        cells = []
        for power in powers:
            chosen = (probabilities / shares**power).argmax(axis=1)
            right = pandas.Series(answers["label"].to_numpy() == [classes[place] for place in chosen])
            recalls = right.groupby(answers["label"].to_numpy()).mean()
            cells.append(f"{recalls.mean():.3f}, {right.mean():.3f}")
        print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--folder", type=Path, required=True)
    arguments.add_argument("--only", nargs="*", choices=list(RUNS), default=list(RUNS))
    arguments.add_argument("--jobs", type=int, default=1)
    arguments.add_argument("--figures", type=Path)
    options = arguments.parse_args()
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda name: run(name, options.folder, options.data.resolve(), threads), options.only))
    seeds = [name for name in options.only if name.startswith("baseline")]
    if seeds:
        overview(options.folder, seeds, of_seeds=True)
    others = [name for name in options.only if name not in seeds]
    if others:
        print()
        overview(options.folder, others, of_seeds=False)
    decisions(options.folder, options.only)
    for name in options.only:
        details(options.folder, name)
        for picture in PICTURES.get(name, []) if options.figures else []:
            options.figures.mkdir(parents=True, exist_ok=True)
            source = options.folder / name / "out" / f"{picture}.svg"
            shutil.copyfile(source, options.figures / f"{name}-{source.name.replace('_', '-')}")


if __name__ == "__main__":
    main()
