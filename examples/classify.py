"""Classify a picture with a model file of tledge, with nothing of tledge installed: classify.py MODEL.onnx PICTURE.

Needs onnxruntime, numpy and Pillow. The file says what it wants and what its classes are called.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
metadata = session.get_modelmeta().custom_metadata_map
classes, spec = json.loads(metadata["classes"]), json.loads(metadata["preprocess"])
if spec.get("kind") != "image" or spec["fit"] != "stretch":
    sys.exit("This example stretches pictures to the model's size, and the model wants something else.")
size, picture = (spec["width"], spec["height"]), Image.open(sys.argv[2])
if metadata.get("input") == "image":  # exported with --input image: the graph resizes
    picture = ImageOps.exif_transpose(picture).convert("RGB")
else:
    picture.draft(None, size)  # a large JPEG is decoded no larger than needed
    picture = ImageOps.exif_transpose(picture).convert("RGB")
    picture = picture.resize(size, Image.Resampling[spec["interpolation"].upper()])
batch = session.get_inputs()[0].shape[0]  # a number where it was exported with --batch: then as many times the same
pixels = np.repeat(np.asarray(picture)[None], batch if isinstance(batch, int) else 1, axis=0)
probabilities = session.run(["probabilities"], {"image": pixels})[0][0]
best = int(probabilities.argmax())
print(f"{classes[best]!a} {probabilities[best]:.4f}")
