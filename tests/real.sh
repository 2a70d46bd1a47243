#!/usr/bin/env bash
# Runs the whole pipeline on the real HAM10000 dataset at $1, and checks what is rerun after each change.
set -euo pipefail
hamflow=$(realpath "${CARGO_TARGET_DIR:-target}/release/hamflow")
data=$(realpath "$1")
tests=$(realpath "$(dirname "$0")")
project=$(mktemp -d)
trap 'rm -rf "$project"' EXIT
cat pipeline.toml tests/fixtures/real.toml > "$project/pipeline.toml"
# A copy, since this script modifies it.
mkdir "$project/shared"
cp -r "$data/ham10000" "$project/shared/ham10000"
chmod -R u+w "$project/shared"
cd "$project"
images=shared/ham10000/HAM10000_images_part_

summary() { # the last line of a run: `summary ran` prints one number of it
  python3 -c 'import json,sys; print(json.loads(open("run.json").read().splitlines()[-1])[sys.argv[1]])' "$1"
}
stages() { # the names of the stages with outcome $1
  python3 - "$1" <<'P'
import json, sys
events = map(json.loads, open("run.json"))
print(*sorted(e["stage"] for e in events if e["event"] == "stage_finished" and e["outcome"] == sys.argv[1]))
P
}
run() { "$hamflow" run --profile real --json "$@" > run.json || { cat run.json; exit 1; }; tail -n 1 run.json; }
expect() { # what, found, wanted
  [ "$2" = "$3" ] || { echo "$1: found '$2', wanted '$3'" >&2; exit 1; }
}

echo "-- full run"
time run
expect "stages that ran" "$(summary failed)" 0
"$hamflow" metrics --profile real
python3 - <<'P'
import json
s = json.load(open("out/metadata/summary.json"))
assert s["rows"] == 10015 and s["lesions"] == 7470, s
assert json.load(open("out/clean/summary.json"))
P

echo "-- second run: nothing to do"
time run
expect "ran" "$(summary ran)" 0
expect "cached" "$(summary cached)" 0

echo "-- touched image: nothing to do"
touch ${images}1/ISIC_0024306.jpg
run
expect "ran" "$(summary ran)" 0

read -r training_image test_image < <("$HAMFLOW_PYTHON" - <<'P'
import pyarrow.parquet as pq
t = pq.read_table("out/split/table.parquet", columns=["path", "folder", "split"]).to_pylist()
row = lambda split: next(r for r in t if r["split"] == split)
print(*[f'{r["folder"] + 1}/{r["path"]}' for r in (row("train"), row("test"))])
P
)

echo "-- changed training image: one part and its dependents"
cp "$data/ham10000-originals/ISIC_0024306.jpg" "$images$training_image"
run
expect "parts" "$(summary parts_ran)" 1
expect "ran" "$(stages ran)" "eda evaluate gradcam preprocess report split train"

echo "-- changed test image and age: no training"
cp "$data/ham10000-originals/ISIC_0024317.jpg" "$images$test_image"
sed -i '2s/80\.0/75.0/' shared/ham10000/HAM10000_metadata.csv
run
expect "parts" "$(summary parts_ran)" 1
expect "ran" "$(stages ran)" "clean eda evaluate gradcam metadata preprocess report split"

echo "-- pages in a browser"
page=$("$hamflow" report --profile real)
[ "$(stat -c %s out/report/index.html)" -lt 5000000 ] || { echo "the report is larger than 5 MB" >&2; exit 1; }
read -r last before < <("$hamflow" log --json | python3 -c 'import json,sys; print(*[json.loads(l)["run"] for l in sys.stdin][:2])')
compared=$("$hamflow" compare --profile real "$before" "$last")
[ -z "${HAMFLOW_BROWSER_MODULES:-}" ] || node "$tests/browser.mjs" "$HAMFLOW_BROWSER_MODULES" "$page" "$compared" ${HAMFLOW_SCREENSHOTS:-}

echo "-- one epoch of EfficientNet-Lite0 from public weights, compared with the baseline"
cp "$data/weights/efficientnet-lite0.safetensors" weights.safetensors
"$hamflow" run --profile real-transfer --json > run.json || { cat run.json; exit 1; }
python3 - <<'P'
import json
test = json.load(open("out/evaluate-fine-tuned/metrics.json"))["test"]
print({name: round(test[name], 3) for name in ("accuracy", "balanced_accuracy", "f1_macro", "roc_auc_macro")})
# The baseline reaches a balanced accuracy of 0.2 to 0.3 after one epoch.
assert test["balanced_accuracy"] > 0.45 and test["roc_auc_macro"] > 0.85, test
compared = json.load(open("out/compare/comparison.json"))
print(compared["differences"][0])
assert [model["name"] for model in compared["models"]] == ["baseline", "efficientnet-lite0"], compared
assert compared["differences"][0]["metric"] == "balanced_accuracy" and compared["differences"][0]["interval"][0] > 0
assert "Model comparison" in open("out/report/index.html").read()
P

echo "-- datasets of other layouts: init, and one epoch to the report"
layout() { # the folder, the layout that init finds, the number of images
  mkdir "$1" && ln -s "$project/shared/ham10000/HAM10000_images_part_1" "$1/a" && ln -s "$project/shared/ham10000/HAM10000_images_part_2" "$1/b"
  for table in "${@:4}"; do cp "$data/datasets/$table" "$1"; done
  (
    cd "$1"
    "$hamflow" init
    sed -i 's/epochs = 50/epochs = 1/' pipeline.toml
    "$hamflow" run
    python3 - "$2" "$3" <<'P'
import json, sys
summary = json.load(open("out/metadata/summary.json"))
assert (summary["layout"], summary["rows"]) == (sys.argv[1], int(sys.argv[2])), summary
page = open("out/report/index.html").read()
for column, title in [("age", "Images by age"), ("sex", "Images by sex"), ("localization", "Images by site")]:
    assert (title in page) == (column not in summary["absent"]), (column, title)
P
  )
}
layout dataverse ham10000 400 HAM10000_metadata_first_400.tab
layout pandas ham10000 400 HAM10000_pandas_export_first_400.csv
layout isic-2018 isic-one-hot 7470 ISIC2018_Task3_Training_GroundTruth.csv
layout isic-2019 isic-one-hot 600 ISIC_2019_Training_GroundTruth_600.csv ISIC_2019_Training_Metadata_600.csv
layout pad-ufes-20 table 300 PAD-UFES-20_metadata_300.csv
python3 - <<'P'
import json
balance = json.load(open("isic-2018/out/split/balance.json"))
assert balance["rows"] == balance["rows_without_group"] == 7470, balance
for entry in balance["classes"]:
    for name, side in entry["splits"].items():
        assert abs(side["fraction"] - side["target"]) < 0.01, (entry["class"], name, side)
P

echo "-- the training images of ISIC 2018 are no external test set of HAM10000"
"$hamflow" run --profile real-external evaluate > /dev/null 2> refused.txt && exit 1
grep "the external test set .isic-2018.table. shares .* images with training and validation" refused.txt

echo "-- rebuilt stages are identical"
"$hamflow" verify --profile real --rebuild clean split preprocess

echo "-- without the data: nothing to do"
mv shared gone
run --allow-missing
expect "ran" "$(summary ran)" 0
"$hamflow" run --profile real > /dev/null 2> missing.txt && exit 1
cat missing.txt
mv gone shared
"$hamflow" cache verify --profile real
"$hamflow" log --profile real
