"""Measures what observing programs costs: the same stage with and without observation, in turn.

    python3 bench/observe.py HAMFLOW [ROUNDS]

The Python in PATH needs numpy and pandas.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAMS = {
    "python3 -c 'import numpy, pandas'": "python3 -c 'import numpy, pandas' > {outputs.y}",
    "a line of the shell with three programs": "cat /dev/null | sort | head -1 > {outputs.y}",
}


def time_of(hamflow: str, folder: str, undeclared: str) -> float:
    """The milliseconds that the stage took."""
    command = [hamflow, "run", "--json", "--force", "x", "--set", f"stages.x.undeclared={undeclared}"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    return next(event["wall_ms"] for event in events if event["event"] == "stage_finished")


def main() -> None:
    hamflow, rounds = str(Path(sys.argv[1]).resolve()), int(sys.argv[2]) if len(sys.argv) > 2 else 21
    for name, line in PROGRAMS.items():
        with tempfile.TemporaryDirectory() as folder:
            text = f'[stages.x]\nkind = "command"\noutputs = {{ y = {{ type = "file" }} }}\nrun = "{line}"\n'
            (Path(folder) / "pipeline.toml").write_text(text)
            times = {"off": [], "track": []}
            for number in range(rounds + 1):
                for undeclared, found in times.items():
                    time = time_of(hamflow, folder, undeclared)
                    if number > 0:
                        found.append(time)
            off, track = (statistics.median(times[way]) for way in ("off", "track"))
            print(f"{name}: {off:.0f} ms, observed {track:.0f} ms ({track / off:.3f}, {track - off:+.0f} ms)")


if __name__ == "__main__":
    main()
