"""Measures how long a number of tasks of one second takes on Slurm: an array by hand, hamflow, Snakemake and submitit, in turn.

    python3 bench/cluster.py HAMFLOW [TASKS] [WAYS]

For Snakemake and submitit, the folder of this Python needs snakemake, snakemake-executor-plugin-slurm and submitit. WAYS are names below,
with commas between them. `tests/slurm.sh` starts a Slurm of this machine alone.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HAMFLOW = str(Path(sys.argv[1]).resolve())
TASKS = int(sys.argv[2]) if len(sys.argv) > 2 else 500

PIPELINE = f"""
[executors.cluster]
kind = "slurm"
OPTIONS
[stages.wait]
kind = "command"
executor = "cluster"
params = {{ n = 0 }}
resources = {{ memory = "10MB" }}
outputs = {{ y = {{ type = "file" }} }}
run = "sleep 1; echo {{params.n}} > {{outputs.y}}"
matrix = {{ n = {list(range(TASKS))} }}
"""

SNAKEFILE = f"""
rule all:
    input: expand("y/{{n}}.txt", n=range({TASKS}))
rule wait:
    output: "y/{{n}}.txt"
    resources: mem_mb=10, runtime=5
    shell: "sleep 1; echo {{wildcards.n}} > {{output}}"
"""

SUBMITIT = f"""
import subprocess, submitit
def wait(n):
    subprocess.run(f"sleep 1; echo {{n}} > y/{{n}}.txt", shell=True, check=True)
executor = submitit.AutoExecutor(folder="jobs", cluster="slurm")
executor.update_parameters(slurm_array_parallelism={TASKS}, timeout_min=5, mem_gb=0.5, cpus_per_task=1)
for job in executor.map_array(wait, range({TASKS})):
    job.result()
"""


def call(*command: str, script: str | None = None) -> None:
    """Runs a command. Counts its questions to Slurm in the file `questions`."""
    ran = subprocess.run(command, input=script, capture_output=True, text=True)
    if ran.returncode != 0:
        raise RuntimeError(f"{command[0]} failed:\n{ran.stdout[-1000:]}\n{ran.stderr[-1000:]}")


def by_hand() -> None:
    script = '#!/bin/sh\nsleep 1; echo $SLURM_ARRAY_TASK_ID > y/$SLURM_ARRAY_TASK_ID.txt\n'
    call("sbatch", f"--array=0-{TASKS - 1}", "--mem=10", "--output=/dev/null", script=script)
    while len(os.listdir("y")) < TASKS:
        time.sleep(0.2)


def hamflow(options: str) -> None:
    Path("pipeline.toml").write_text(PIPELINE.replace("OPTIONS", options))
    call(HAMFLOW, "run")


def snakemake(*options: str) -> None:
    Path("Snakefile").write_text(SNAKEFILE)
    program = str(Path(sys.executable).parent / "snakemake")
    call(program, "--executor", "slurm", "--jobs", str(TASKS), "--slurm-no-account", "--slurm-status-command", "squeue", *options)


def submitit() -> None:
    Path("many.py").write_text(SUBMITIT)
    call(sys.executable, "many.py")


WAYS = {
    "sbatch": by_hand,
    "hamflow-equal": lambda: hamflow(f'max_jobs = {TASKS}\ntask_time = "1s"'),
    "hamflow": lambda: hamflow(""),
    "snakemake": lambda: snakemake(),
    "snakemake-array": lambda: snakemake("--slurm-array-jobs=all"),
    "submitit": submitit,
}


def main() -> None:
    ways = sys.argv[3].split(",") if len(sys.argv) > 3 else list(WAYS)
    for name in ways:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            os.chdir(folder)
            os.mkdir("y")
            os.mkdir("bin")
            for program in ["squeue", "sacct"]:
                found = subprocess.run(["sh", "-c", f"command -v {program}"], capture_output=True, text=True).stdout.strip()
                Path(f"bin/{program}").write_text(f'#!/bin/sh\ndate +%s.%N >> "{folder}/questions"\nexec {found} "$@"\n')
                Path(f"bin/{program}").chmod(0o755)
            path = os.environ["PATH"]
            os.environ["PATH"] = f"{folder}/bin:{path}"
            start = time.monotonic()
            try:
                WAYS[name]()
            except RuntimeError as error:
                print(f"{name}: {error}", flush=True)
            took = time.monotonic() - start
            os.environ["PATH"] = path
            times = Path("questions")
            asked = [float(line) for line in times.read_text().split()] if times.exists() else []
            closest = min((b - a for a, b in zip(asked, asked[1:])), default=0)
            print(f"{name}: {took:.1f} s, {len(asked)} questions, {closest:.1f} s apart at least", flush=True)
            os.chdir("..")


if __name__ == "__main__":
    main()
