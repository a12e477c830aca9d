"""A thousand prompts on a large vocabulary: nothing of the size of their logits is made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MOST = 100  # MiB

SCRIPT = """
from pathlib import Path
from types import SimpleNamespace
import torch
import maze_dla.engine.metrics as m
from maze_dla.engine.fit import check_fit
from maze_dla.engine.model import ModelShape
from maze_dla.engine.prompts import PromptBatch

def peak():
    status = Path("/proc/self/status").read_text()  # ru_maxrss would begin with what the parent process has
    return int(status.split("VmHWM:")[1].split()[0]) / 1024

N, V = 1000, 50257
mask = torch.arange(V) % 3 == 0
own = mask.expand(N, -1).contiguous()
where = torch.stack([torch.arange(N).repeat_interleave(4), torch.arange(4 * N) % V])
sparse = torch.sparse_coo_tensor(where, torch.ones(4 * N), (N, V))
model = SimpleNamespace(weights=SimpleNamespace(shape=ModelShape(1, 1, 1, 1, 1, V, 99)), vocabulary=None)
before = peak()
batch = PromptBatch.from_tokens(
    [[i, 7] for i in range(N)], [[i, i + 1] for i in range(N)], d_vocab=V, incorrect=[[i + 2, i + 3] for i in range(N)],
    token_sets={"third": mask, "near": torch.arange(N)[:, None] + torch.arange(5)},
)
batch = batch.having("all").having("near")
made = [m.logit(batch), m.logit_diff(batch), m.linear_metric(batch, sparse)]
made += [m.correct_vs_other(batch, others) for others in ("all", "third", "near", own)]
for metric in made:
    check_fit(model, batch, metric)
    metric.shift_invariant, metric.select(range(64))
print(peak() - before)
if PLANTED:
    batch.others("all").double()
    print(peak() - before)
"""


def measured(planted: bool) -> list[float]:
    root = Path(__file__).parents[2]
    script = SCRIPT.replace("PLANTED", str(planted))
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    return [float(line) for line in done.stdout.split()]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks of memory are read from /proc here")
def test_prompts_and_metrics_take_little_memory_and_a_dense_array_would_be_seen() -> None:
    little, dense = measured(planted=True)
    assert little < MOST < dense
