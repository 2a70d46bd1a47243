#!/usr/bin/env python3
"""Compares hamflow's pixels with Pillow's (libjpeg-turbo) on the original images: decoding only, and all preprocessing.

`python3 bench/fidelity.py [ORIGINALS]` needs a release build of hamflow and a Python with numpy, pillow and pyarrow.
"""
import glob
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from project import ORIGINALS, binary, write

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}


def tensors(originals: Path, height: int, width: int, resize: str, decode: str) -> dict[str, np.ndarray]:
    """The preprocessed images by image ID."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), originals, height=height, width=width, filter=resize, decode=decode)
        subprocess.run([binary(), "run"], cwd=folder, check=True, capture_output=True)
        found = {}
        for path in glob.glob(f"{folder}/out/preprocess/shards/*.arrow"):
            for batch in pa.ipc.open_file(path).read_all().to_batches():
                found.update(zip(batch.column("image_id").to_pylist(), batch.column("image").to_numpy_ndarray().astype(int)))
        return found


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(((a - b) ** 2).mean(), 1e-12))


def main() -> None:
    originals = Path(sys.argv[1]) if len(sys.argv) > 1 else ORIGINALS
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
