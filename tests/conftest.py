"""What all tests share: one thread, as networks of these sizes are slower with more."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
