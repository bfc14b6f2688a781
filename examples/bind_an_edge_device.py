"""Bind a network to the camera it was made for, and put it on a device as 8-bit ONNX.

    python examples/bind_an_edge_device.py [STEPS]

For makers of devices. The network reads digits on textured ground, as this camera sees them; on plain ones,
which somebody else's product reads, it is made to fail. STEPS is the length of training and of the
protection; 200 takes half a minute on one CPU core. Needs the extra: pip install 'freehold[onnx]'.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from freehold.config import from_json
from freehold.data.inputs import InputSpec
from freehold.data.sources import load_domain
from freehold.evidence.release import export
from freehold.evidence.scan import scan
from freehold.jobs import protect, train
from freehold.ownership.onnx import OnnxSuspect

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 200
data = {"authorized": "digits-m", "unauthorized": ["digits"], "image_size": 16}
with tempfile.TemporaryDirectory() as folder:
    runs = Path(folder)
    setting = {"model": {"uri": "convnet"}, "data": data, "train": {"steps": steps, "batch_size": 32}}
    train(from_json(setting), runs / "source", progress=False)

    setting |= {"model": {"weights": str(runs / "source")}, "method": {"name": "map", "steps": steps}}
    for sentence in protect(from_json(setting), runs / "bound", progress=False).summary:
        print(sentence)

    release = export(runs / "bound", runs / "device", int8=True)
    before, after, same = (a.value for a in (release.int8.before, release.int8.after, release.int8.agreement))
    print(f"8 bits: {after:.1%} right against {before:.1%}, {same:.1%} the same")

    # The file as the device gets it: nothing but tensors and known operators, and bound as before.
    path = release.directory / "model-int8.onnx"
    size, whole = (found.stat().st_size for found in (path, release.directory / "model.safetensors"))
    print(f"{scan(path).verdict}: {size:,} bytes instead of {whole:,}")
    device = OnnxSuspect(path, InputSpec(size=16))
    for name in ("digits-m", "digits"):
        test = load_domain(name, image_size=16).test
        right = (device.labels(test.images) == test.labels).float().mean()
        print(f"{name}: {float(right):.1%} right on the device")
