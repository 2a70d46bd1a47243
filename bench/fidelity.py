#!/usr/bin/env python3
"""How far hamflow's pixels lie from Pillow's (libjpeg-turbo), on the originals: decoding alone, and whole preprocessing.

`python3 bench/fidelity.py [ORIGINALS]` needs a release build of hamflow and a Python with numpy, pillow and pyarrow.
"""
import glob
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}


def tensors(originals: Path, height: int, width: int, resize: str, decode: str) -> dict[str, np.ndarray]:
    """What `preprocess` makes of the originals, by image id."""
    binary = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/hamflow"
    with tempfile.TemporaryDirectory() as project:
        rows = "".join(f"L{path.stem},{path.stem},nv,histo,40,male,back\n" for path in originals.glob("*.jpg"))
        Path(project, "metadata.csv").write_text("lesion_id,image_id,dx,dx_type,age,sex,localization\n" + rows)
        Path(project, "pipeline.toml").write_text(f"""
[inputs]
metadata = "metadata.csv"
images = ["{originals.resolve()}"]
[stages.metadata]
csv = "inputs.metadata"
images = "inputs.images"
[stages.preprocess]
table = "metadata"
images = "inputs.images"
height = {height}
width = {width}
filter = "{resize}"
decode = "{decode}"
""")
        subprocess.run([binary, "run"], cwd=project, check=True, capture_output=True)
        found = {}
        for path in glob.glob(f"{project}/out/preprocess/shards/*.arrow"):
            for batch in pa.ipc.open_file(path).read_all().to_batches():
                found.update(zip(batch.column("image_id").to_pylist(), batch.column("image").to_numpy_ndarray().astype(int)))
        return found


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(((a - b) ** 2).mean(), 1e-12))


def main() -> None:
    originals = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent / "shared/ham10000-originals"
    whole = {path.stem: np.asarray(Image.open(path).convert("RGB")).astype(int) for path in originals.glob("*.jpg")}
    ours = tensors(originals, 450, 600, "nearest", "exact")
    differences = [np.abs(ours[name] - pixels) for name, pixels in whole.items() if ours[name].shape == pixels.shape]
    largest, mean = max(d.max() for d in differences), np.mean([d.mean() for d in differences])
    print(f"{len(differences)} images decoded whole: largest difference {largest}, mean {mean:.4f} levels")
    print("| size | filter | exact: largest, share over 1 level | reduced against Pillow's whole: median, least dB | Pillow's draft: median, least dB |")
    print("| --- | --- | --- | --- | --- |")
    for height, width in [(75, 100), (224, 224)]:
        for name, method in FILTERS.items():
            exact, reduced = (tensors(originals, height, width, name, decode) for decode in ("exact", "reduced"))
            wanted, drafts = {}, {}
            for path in originals.glob("*.jpg"):
                wanted[path.stem] = np.asarray(Image.open(path).convert("RGB").resize((width, height), method)).astype(int)
                draft = Image.open(path)
                draft.draft("RGB", (width, height))
                drafts[path.stem] = np.asarray(draft.convert("RGB").resize((width, height), method)).astype(int)
            far = np.concatenate([np.abs(exact[i] - wanted[i]).ravel() for i in wanted])
            own = [psnr(reduced[i], wanted[i]) for i in wanted]
            peer = [psnr(drafts[i], wanted[i]) for i in wanted]
            print(f"| {height}×{width} | {name} | {far.max()}, {(far > 1).mean():.2%} | {np.median(own):.1f}, {min(own):.1f} | {np.median(peer):.1f}, {min(peer):.1f} |")


if __name__ == "__main__":
    main()
