"""One thread per test process: the nets are tiny, and xdist runs the processes side by side."""

import torch

torch.set_num_threads(1)
