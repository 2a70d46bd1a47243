"""Trains a model of scikit-learn on hamflow's tensors and split, and predicts the validation and test rows."""

import csv
import glob
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

shards, split, predictions = sys.argv[1:]
pixels = {}
for path in sorted(glob.glob(f"{shards}/*.arrow")):
    for batch in pa.ipc.open_file(path).read_all().to_batches():
        pixels.update(zip(batch.column("image_id").to_pylist(), batch.column("image").to_numpy_ndarray()))
rows = pq.read_table(split, columns=["image_id", "label", "split"]).to_pylist()


def features(rows):
    """The mean colour of 6 × 8 tiles of each image of 24 × 32 pixels."""
    images = np.array([pixels[row["image_id"]] for row in rows])
    return images.reshape(-1, 6, 4, 8, 4, 3).mean(axis=(2, 4)).reshape(len(rows), -1) / 255


train, held_out = ([row for row in rows if (row["split"] == "train") == is_train] for is_train in (True, False))
model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
model.fit(features(train), [row["label"] for row in train])
with open(predictions, "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["image_id", *(f"probability_{label}" for label in model.classes_)])
    for row, probabilities in zip(held_out, model.predict_proba(features(held_out))):
        writer.writerow([row["image_id"], *probabilities])
