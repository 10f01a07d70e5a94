"""Time a training step of `VariationalLSTM` against `torch.nn.LSTM` in one run, and print the ratios.

The peers: nn.LSTM on packed sequences, which is right on padding, with the dropout between layers that it
offers; and nn.LSTM on the padded batch without dropout, which is wrong on padding but is torch's fastest. Each
round times all of them in turn, so that whatever else the machine does meets them alike.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr_lstm.evaluate import device_name
from asr_lstm.lstm import VariationalLSTM

DROPOUT = 0.1
OURS, OURS_BF16, PACKED, DENSE = (
    "VariationalLSTM, all dropout on",
    "the same, bfloat16 products",
    "nn.LSTM, packed, dropout",
    "nn.LSTM, dense, no dropout",
)

Runner = Callable[[Tensor, Tensor], Tensor]


def make_runners(*, input_size: int, hidden: int, layers: int, device: str) -> dict[str, Runner]:
    """What is compared: each maps (batch, frames, dims) and lengths (batch,) to the outputs."""
    ours = VariationalLSTM(
        input_size,
        hidden,
        layers=layers,
        input_dropout=DROPOUT,
        layer_dropout=DROPOUT,
        state_dropout=DROPOUT,
    ).to(device)
    between = DROPOUT if layers > 1 else 0.0
    options = {"num_layers": layers, "bidirectional": True, "batch_first": True, "device": device}
    packed = nn.LSTM(input_size, hidden, dropout=between, **options)
    dense = nn.LSTM(input_size, hidden, **options)

    def run_packed(inputs: Tensor, lengths: Tensor) -> Tensor:
        sequences = pack_padded_sequence(inputs, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(packed(sequences)[0], batch_first=True, total_length=inputs.shape[1])[0]

    def run_dense(inputs: Tensor, lengths: Tensor) -> Tensor:
        outputs: Tensor = dense(inputs)[0]
        return outputs

    def run_bf16(inputs: Tensor, lengths: Tensor) -> Tensor:
        with torch.autocast(inputs.device.type, torch.bfloat16):
            outputs: Tensor = ours(inputs, lengths)
        return outputs

    return {OURS: ours, OURS_BF16: run_bf16, PACKED: run_packed, DENSE: run_dense}


def step_seconds(run: Runner, inputs: Tensor, lengths: Tensor) -> float:
    """Seconds of one forward and backward pass, gradients of the inputs included."""
    inputs = inputs.clone().requires_grad_()
    _wait_for(inputs.device)
    start = time.perf_counter()
    run(inputs, lengths).sum().backward()
    _wait_for(inputs.device)
    return time.perf_counter() - start


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def compare(
    runners: dict[str, Runner], inputs: Tensor, lengths: Tensor, *, rounds: int
) -> dict[str, list[float]]:
    """Seconds of each runner's step in each of `rounds` rounds, after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for round_ in range(rounds + 1):
        for name, run in runners.items():
            elapsed = step_seconds(run, inputs, lengths)
            if round_:
                seconds[name].append(elapsed)
    return seconds


def format_table(seconds: dict[str, list[float]]) -> str:
    """A line each: the median of its seconds, how many times faster than packed, its share of dense's speed."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    lines = [f"{'training step':<32}{'seconds':>9}{'x packed':>10}{'of dense':>10}"]
    for name, median in medians.items():
        faster, share = medians[PACKED] / median, medians[DENSE] / median
        lines.append(f"{name:<32}{median:>9.3f}{faster:>10.2f}{share:>10.2f}")
    return "\n".join(lines)


def describe_machine(device: str) -> str:
    """One line: threads and cores, processor, torch."""
    cores = f"{torch.get_num_threads()} threads, {os.cpu_count()} cores"
    return f"{cores}, {device_name(device)}, torch {torch.__version__}"


def _at_least_one(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {count}")
    return count


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--layers", type=_at_least_one, default=3)
    parser.add_argument("--hidden", type=_at_least_one, default=256, help="units a direction")
    parser.add_argument("--input", type=_at_least_one, default=240, help="dims of the input")
    parser.add_argument("--batch", type=_at_least_one, default=16)
    parser.add_argument(
        "--frames", type=_at_least_one, default=400, help="lengths are uniform from half of it to all"
    )
    parser.add_argument("--rounds", type=_at_least_one, default=7, help="the median of so many is taken")
    parser.add_argument("--threads", type=_at_least_one, help="as many as torch chooses by default")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)

    torch.manual_seed(0)
    inputs = torch.randn(options.batch, options.frames, options.input, device=options.device)
    shortest = max(1, options.frames // 2)
    lengths = torch.randint(shortest, options.frames + 1, (options.batch,), device=options.device)
    lengths[0] = options.frames
    runners = make_runners(
        input_size=options.input, hidden=options.hidden, layers=options.layers, device=options.device
    )
    print(format_table(compare(runners, inputs, lengths, rounds=options.rounds)))
    print(
        f"\n{options.layers} layers of {options.hidden} a direction, input {options.input}, "
        f"batch {options.batch}, {options.frames} frames, lengths {int(lengths.min())} .. {int(lengths.max())}, "
        f"median of {options.rounds}\n{describe_machine(options.device)}"
    )


if __name__ == "__main__":
    main()
