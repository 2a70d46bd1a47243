"""What the scripts beside this file share: the program, the originals and a project that preprocesses a folder of images."""
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ORIGINALS = Path(os.environ.get("HAMFLOW_DATA", ROOT.parent / "shared")) / "ham10000-originals"


def binary() -> Path:
    """The release build of hamflow."""
    path = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/hamflow"
    if not path.exists():
        raise SystemExit(f"there is no {path}: `cargo build --release` makes it")
    return path


def write(project: Path, images: Path, **parameters: object) -> int:
    """Writes a project of `metadata` and `preprocess` with these parameters over a folder of JPEGs; returns their number."""
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
