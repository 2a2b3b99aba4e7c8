"""All that ser-train imports or compiles, some of it when something is first done, for `tests.processes`."""

import io
import threading

import distributed  # noqa: F401
import numpy as np
import openpyxl  # noqa: F401
import torch
from matplotlib.figure import Figure

import train.cli
import train.commands.nested
import train.commands.predict
import train.running.opened
import train.running.run  # noqa: F401
from featurestore.format.codec import encode
from train.numerics.layers import LayerSum

torch.set_num_threads(1)
parameter = torch.nn.Parameter(torch.zeros(3))
optimiser = torch.optim.AdamW([parameter])
parameter.grad = torch.ones(3)
optimiser.step()
for dtype in ("float32", "int8"):
    frames = encode(np.ones((3, 4, 5), np.float32), dtype)
    LayerSum(3, 5, learned=True)([frames]).sum().backward()
figure = Figure(layout="constrained")
figure.subplots().set(xlabel="x")
for form in ("png", "svg"):
    figure.savefig(io.BytesIO(), format=form)
assert threading.active_count() == 1
