"""A small convolutional network of PyTorch: its symmetries, proved, and two of its channels exchanged.

Run it: python examples/01_torch_cnn.py
"""

import numpy as np
import torch
from torch import nn

import saddlescope as ss

torch.manual_seed(0)
net = nn.Sequential(
    nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5), nn.Tanh()
)
net.append(nn.Linear(5, 3))
images = torch.randn(32, 1, 8, 8)
net(images)  # in train mode once: the running statistics get values
net.eval()

# 1. Convert; the statistics become part of weight and bias, so that every channel can be exchanged.
model, params = ss.from_torch(net, images, statistics="folded")
for group in model.symmetries:
    print(f"layer {group.layer}: {group.units} {group.kind} of {group.name}, deviation {group.deviation:.0e}")

# 2. Exchange channels 0 and 3 by hand, in every array that the group names.
channels = model.symmetries[0]
order = np.array([3, 1, 2, 0])
moved = dict(params)
for piece in (*channels.incoming, *channels.outgoing):
    rows = (order[:, None] * piece.block + np.arange(piece.block)).ravel()
    moved[piece.name] = np.take(moved[piece.name], rows, axis=piece.axis)

# 3. Back into the module: other weights, the same function.
before = net(images)
net.load_state_dict(ss.to_torch(moved, net, statistics="folded"))
print(f"outputs differ by at most {float((net(images) - before).abs().max().detach()):.0e} in float32")
assert torch.allclose(net(images), before, atol=1e-5)
