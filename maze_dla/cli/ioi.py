"""`maze-dla ioi`: Indirect Object Identification on GPT-2."""

from __future__ import annotations

import argparse

from maze_dla.cli.parser import DONE, Commands, add_out, add_prompt, add_seed, count, print_report


def add_ioi(commands: Commands) -> None:
    """Describe the command's arguments."""
    text = "Attribute a GPT-2 model's indirect object to its parts: the same report, on IOI prompts."
    ioi = commands.add_parser("ioi", help=text, description=text)
    ioi.add_argument(
        "--model",
        metavar="NAME|FOLDER|FILE",
        help="gpt2-small or another GPT-2 by name, a Hugging Face folder, a checkpoint, or bundled "
        "(default: gpt2-small where it is on this machine, else the bundled tiny model)",
    )
    ioi.add_argument(
        "--n-prompts", type=count, metavar="N", help="how many to sample (default: the eight standard prompts)"
    )
    ioi.add_argument(
        "--causal",
        action="store_true",
        help="also show what the answer hangs on: patching between the same prompts with the two names swapped, "
        "ablation of every head and MLP, and a circuit",
    )
    add_seed(ioi)
    add_prompt(ioi)
    add_out(ioi, "maze_dla_ioi_report")
    ioi.set_defaults(run=_ioi)


def _ioi(chosen: argparse.Namespace) -> int:
    from maze_dla.files import output_folder

    with output_folder(chosen.out):
        return _write_report(chosen)


def _write_report(chosen: argparse.Namespace) -> int:
    from maze_dla.adapters.gpt2.load import load_gpt2
    from maze_dla.adapters.gpt2.sources import BUNDLED_NAME
    from maze_dla.adapters.text.ioi import ioi_prompts
    from maze_dla.adapters.text.ioi_pairs import ioi_pairs
    from maze_dla.analysis.metrics import metric_by_name
    from maze_dla.report.write import write_report

    model = load_gpt2(chosen.model, device=chosen.device)
    batch, metric = metric_by_name(ioi_prompts(model, chosen.n_prompts, seed=chosen.seed), "logit_diff")
    causal = chosen.causal and ioi_pairs(model, n_prompts=chosen.n_prompts, seed=chosen.seed)
    report = write_report(model, batch, metric, chosen.out, prompt=chosen.prompt, causal=causal)
    is_bundled = model.cfg.model_name == BUNDLED_NAME
    note = "This is the bundled tiny model; for gpt2-small's figures give --model, or set MAZE_DLA_GPT2 to its folder."
    print_report(report, note if is_bundled else "")
    return DONE
