"""Helpers of the benchmark scripts: the program, the original images, and a project that preprocesses a directory of images."""
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ORIGINALS = Path(os.environ.get("HAMFLOW_DATA", ROOT.parent / "shared")) / "ham10000-originals"


def binary() -> Path:
    """The release build of hamflow."""
    path = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/hamflow"
    if not path.exists():
        raise SystemExit(f"{path} does not exist; run `cargo build --release` first")
    return path


def write(project: Path, images: Path, **parameters: object) -> int:
    """Writes a project with `metadata` and `preprocess` for a directory of JPEGs. Returns the number of images."""
    names = sorted(path.stem for path in images.glob("*.jpg"))
    rows = "".join(f"L{name},{name},nv,histo,40,male,back\n" for name in names)
    (project / "metadata.csv").write_text("lesion_id,image_id,dx,dx_type,age,sex,localization\n" + rows)
    settings = "".join(f"{name} = {value}\n" if isinstance(value, int) else f'{name} = "{value}"\n' for name, value in parameters.items())
    (project / "pipeline.toml").write_text(f"""
[inputs]
metadata = "metadata.csv"
images = ["{images.resolve()}"]
[stages.metadata]
csv = "inputs.metadata"
images = "inputs.images"
[stages.preprocess]
table = "metadata"
images = "inputs.images"
{settings}""")
    return len(names)
