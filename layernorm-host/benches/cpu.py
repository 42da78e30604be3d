"""LayerNorm on the CPU beside PyTorch's, on the same cores, in turn, in one run.

    cargo build --release -p layernorm-host --example cpu_speed
    pip install torch
    python layernorm-host/benches/cpu.py [target folder]

Each round times PyTorch, then this library, both allocating their outputs; a shape's number is the median of its
rounds. The copy is PyTorch's, of x into memory that is there: what the memory allows. Prints a table in Markdown.
"""

import os
import statistics
import subprocess
import sys
import time

import torch

ROUNDS = 5
REPEATS = 15
SHAPES = [(4096, 1024), (4096, 4096)]
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def median_ms(call):
    for _ in range(3):
        call()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def pytorch(n_rows, n_cols, dtype):
    x = torch.randn(n_rows, n_cols).to(dtype).requires_grad_()
    weight = torch.ones(n_cols, dtype=dtype, requires_grad=True)
    bias = torch.zeros(n_cols, dtype=dtype, requires_grad=True)
    dy = torch.randn(n_rows, n_cols).to(dtype)

    def forward():
        with torch.no_grad():
            torch.nn.functional.layer_norm(x, (n_cols,), weight, bias)

    def both():
        x.grad = weight.grad = bias.grad = None
        torch.nn.functional.layer_norm(x, (n_cols,), weight, bias).backward(dy)

    times = {"forward": median_ms(forward), "both": median_ms(both)}
    x, out = x.detach(), torch.empty_like(dy)
    return times | {"copy": median_ms(lambda: out.copy_(x))}


def ours(program, n_rows, n_cols, dtype, instructions=None):
    command = [str(program), str(n_rows), str(n_cols), dtype, str(REPEATS)]
    chosen = {"LAYERNORM_CPU": instructions} if instructions else {}
    environment = os.environ | chosen
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    forward, both, _copy = map(float, output.split())
    return {"forward": forward, "both": both}


def measure(program, n_rows, n_cols, dtype, instructions=()):
    """Milliseconds of each round, sorted, by (provider, pass): PyTorch and ours in turn, and ours by older instructions."""
    times = {}
    for _ in range(ROUNDS):
        theirs = pytorch(n_rows, n_cols, DTYPES[dtype])
        rounds = {("copy", "copy"): theirs.pop("copy")}
        rounds |= {("torch", name): ms for name, ms in theirs.items()}
        for kind in (None, *instructions):
            mine = ours(program, n_rows, n_cols, dtype, kind)
            rounds |= {(f"ours, {kind}" if kind else "ours", name): ms for name, ms in mine.items()}
        for key, ms in rounds.items():
            times.setdefault(key, []).append(ms)
    return {key: sorted(ms) for key, ms in times.items()}


def program_in(target):
    program = os.path.join(target, "release", "examples", "cpu_speed")
    if not os.path.exists(program):
        sys.exit(f"{program} is not there: cargo build --release -p layernorm-host --example cpu_speed")
    return program


def machine():
    return f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {os.cpu_count()} processors"


def main():
    target = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("CARGO_TARGET_DIR", "target")
    program = program_in(target)
    print(machine(), end="\n\n")
    print("| x | PyTorch fwd | ours | ratio | PyTorch fwd+bwd | ours | ratio | copy |")
    print("|---|---|---|---|---|---|---|---|")
    for name, dtype in DTYPES.items():
        for n_rows, n_cols in SHAPES:
            times = measure(program, n_rows, n_cols, name)
            cells = [f"{n_rows} x {n_cols} {name}"]
            for kind in ("forward", "both"):
                theirs, mine = (statistics.median(times[provider, kind]) for provider in ("torch", "ours"))
                cells += [f"{theirs:.2f} ms", f"{mine:.2f} ms", f"{theirs / mine:.2f}"]
            copied = 2 * n_rows * n_cols * dtype.itemsize / statistics.median(times["copy", "copy"]) / 1e6
            print(f"| {' | '.join(cells)} | {copied:.1f} GB/s |", flush=True)


if __name__ == "__main__":
    main()
