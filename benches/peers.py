"""Times our kernels beside PyTorch's, torch.compile's, Liger-Kernel's and Unsloth's, in one process, by one method.

Needs a CUDA GPU and PyTorch; Liger and Unsloth are timed where they can be imported. Ours are the committed PTX,
launched through the driver as `cargo run --release --example plan` plans them:

    python3 benches/peers.py --plan PLAN_BINARY --out results.csv

Method: buffers are rotated so that a round is larger than the L2 cache; every provider's launches are captured in
a CUDA graph, so that no host's launch overhead is in the figures; a graph is replayed and timed with events; what
is printed is the median, with the 20th and 80th percentile in the CSV. Each provider's result is compared with
float64 before it is timed. Bytes: forward reads x and writes y; backward reads x and dy and writes dx; weights,
statistics and partials are small beside them and are not counted. The copy is an elementwise kernel of PyTorch's
that moves as many bytes as the forward pass.
"""

import argparse
import ast
import csv
import ctypes
import datetime
import json
import math
import pathlib
import subprocess
import sys
import types

import torch

ROOT = pathlib.Path(__file__).resolve().parent.parent
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
EPS = 1e-5


class Ours:
    """The committed PTX, each kernel a module of its own, as the library loads it."""

    def __init__(self, plan_binary):
        self.plan_binary = plan_binary
        self.cuda = ctypes.CDLL("libcuda.so.1")
        properties = torch.cuda.get_device_properties(0)
        self.sm_count = properties.multi_processor_count
        self.max_shared = properties.shared_memory_per_block_optin
        target = 80 if torch.cuda.get_device_capability() >= (8, 0) else 75
        self.ptx = (ROOT / f"layernorm-host/ptx/layernorm_sm_{target}.ptx").read_text()
        self.functions = {}

    def check(self, result, what):
        if result:
            raise RuntimeError(f"{what}: CUDA error {result}")

    def function(self, entry):
        if entry not in self.functions:
            start = self.ptx.index(f".visible .entry {entry}(")
            text = self.ptx[: self.ptx.index(".visible .entry ")] + self.ptx[start : self.ptx.index("\n}\n", start) + 3]
            module, function, static = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_int()
            self.check(self.cuda.cuModuleLoadData(ctypes.byref(module), text.encode()), entry)
            self.check(self.cuda.cuModuleGetFunction(ctypes.byref(function), module, entry.encode()), entry)
            self.check(self.cuda.cuFuncGetAttribute(ctypes.byref(static), 1, function), entry)
            self.check(self.cuda.cuFuncSetAttribute(function, 8, self.max_shared - static.value), entry)
            self.functions[entry] = function
        return self.functions[entry]

    def plan(self, x, weight, n_rows, n_cols):
        command = [self.plan_binary, self.sm_count, self.max_shared, x, weight, n_rows, n_cols]
        lines = subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout
        return [json.loads(line) for line in lines.splitlines()]

    def launch(self, launch, arguments):
        function = self.function(launch["entry"])
        values = [ctypes.c_void_p(a.data_ptr()) if isinstance(a, torch.Tensor) else a for a in arguments]
        pointers = (ctypes.c_void_p * len(values))(*[ctypes.addressof(value) for value in values])
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        result = self.cuda.cuLaunchKernel(
            function, *launch["grid"], launch["block"], 1, 1, launch["shared_bytes"], stream, pointers, None
        )
        self.check(result, launch["entry"])

    def forward(self, plan, x, weight, bias, y, mean, rstd):
        n_rows, n_cols = x.shape
        u64, u32, f32, null = ctypes.c_uint64, ctypes.c_uint32, ctypes.c_float, ctypes.c_void_p(0)
        numbers = [u64(n_rows), u64(n_cols), u64(n_cols), u32(n_cols), f32(EPS), f32(1 / n_cols)]
        self.launch(plan[0], [x, null, weight, bias, y, null, mean, rstd, *numbers])

    def backward(self, plan, dy, x, weight, mean, rstd, dx, partials, dweight, dbias, row_sums):
        n_rows, n_cols = x.shape
        *kernels, reduce = plan[1:]
        u64, u32, f32, null = ctypes.c_uint64, ctypes.c_uint32, ctypes.c_float, ctypes.c_void_p(0)
        strides = [u64(n_cols)] * 3
        numbers = [u64(n_rows), *strides, u32(n_cols), f32(1 / n_cols), row_sums]
        for kernel in kernels:
            self.launch(kernel, [dy, x, weight, mean, rstd, null, dx, partials[0], partials[1], *numbers])
        numbers = [u32(partials.shape[1]), u32(n_cols), u32(0)]
        self.launch(reduce, [partials[0], partials[1], dweight, dbias, *numbers])


def load_liger():
    from liger_kernel.ops import layer_norm

    return layer_norm


def load_unsloth():
    """Unsloth's kernel file by itself: importing the package patches transformers and wants far more than it."""
    spec = next(
        (path / "unsloth/kernels" for path in map(pathlib.Path, sys.path) if (path / "unsloth/kernels/layernorm.py").exists()),
        None,
    )
    if spec is None:
        raise ImportError("no unsloth on the path")
    for name in ("unsloth", "unsloth.kernels", "unsloth_zoo", "unsloth_zoo.patching_utils"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["unsloth.kernels"].__path__ = [str(spec)]
    sys.modules["unsloth_zoo.patching_utils"].patch_layernorm = lambda *a, **k: None
    import functools
    import os

    import triton

    utils = types.ModuleType("unsloth.kernels.utils")
    utils.__dict__.update(torch=torch, triton=triton, os=os, functools=functools, torch_gpu_device=torch.cuda.device)
    wanted = {"MAX_FUSED_SIZE", "next_power_of_2", "calculate_settings", "_NORM_ARCH_WARPS", "_cuda_capability", "norm_num_warps"}
    source = (spec / "utils.py").read_text()
    for node in ast.parse(source).body:
        names = {getattr(node, "name", None)} | {getattr(t, "id", None) for t in getattr(node, "targets", [])}
        names |= {getattr(getattr(node, "target", None), "id", None)}
        if names & wanted:
            exec(compile(ast.Module([node], []), str(spec / "utils.py"), "exec"), utils.__dict__)
    sys.modules["unsloth.kernels.utils"] = utils
    import importlib

    utils.long_indexing = importlib.import_module("unsloth.kernels.indexing").long_indexing
    return importlib.import_module("unsloth.kernels.layernorm").Fast_Layernorm


class Context:
    """What autograd gives a Function's forward and backward."""

    needs_input_grad = (True, True, True, False)

    def save_for_backward(self, *tensors):
        self.saved_tensors = tensors


STREAM = None


def time_us(calls, repeats=15):
    """20th, 50th and 80th percentile of microseconds a call, over rounds through all the calls."""
    global STREAM
    STREAM = STREAM or torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(STREAM):
        for call in calls:
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    launches = math.ceil(10 / len(calls)) * len(calls)
    with torch.cuda.graph(graph, stream=STREAM):
        for i in range(launches):
            calls[i % len(calls)]()
    graph.replay()
    torch.cuda.synchronize()
    times = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) * 1000 / launches)
    times.sort()
    return [times[round(q * (len(times) - 1))] for q in (0.2, 0.5, 0.8)]


def distance(got, expected):
    return ((got.double() - expected).norm() / expected.norm()).item()


def measure(ours, peers, name, n_rows, n_cols, passes):
    dtype = DTYPES[name]
    size = n_rows * n_cols * dtype.itemsize
    count = max(2, min(24, math.ceil(600e6 / (2 * size))))
    torch.manual_seed(3407)
    x = [torch.randn(n_rows, n_cols, device="cuda").to(dtype) * 2 + 0.5 for _ in range(count)]
    dy = [torch.randn(n_rows, n_cols, device="cuda").to(dtype) for _ in range(count)]
    y = [torch.full_like(t, math.nan) for t in x]
    weight = (torch.rand(n_cols, device="cuda") + 0.5).to(dtype)
    bias = torch.randn(n_cols, device="cuda").to(dtype)
    mean, rstd = (torch.full((n_rows,), math.nan, device="cuda") for _ in range(2))
    plan = ours.plan(name, name, n_rows, n_cols)
    x64, w64, b64 = (t.double().requires_grad_() for t in (x[0], weight, bias))
    y64 = torch.nn.functional.layer_norm(x64, (n_cols,), w64, b64, EPS)
    y64.backward(dy[0].double())
    expected = {"forward": y64.detach(), "backward": x64.grad}
    expected_dweight = w64.grad
    by_columns = "columns" in plan[-2]["entry"]
    partials = torch.empty(2, plan[-2]["grid"][1 if by_columns else 0], n_cols, device="cuda")
    row_sums = torch.empty(n_rows, 2, device="cuda")
    dweight, dbias = (torch.full((n_cols,), math.nan, device="cuda", dtype=dtype) for _ in range(2))

    def layer_norm(t):
        return torch.nn.functional.layer_norm(t, (n_cols,), weight, bias, EPS)

    native_backward = torch.ops.aten.native_layer_norm_backward
    _, saved_mean, saved_rstd = torch.ops.aten.native_layer_norm(x[0], (n_cols,), weight, bias, EPS)

    def torch_backward(d, t):
        return native_backward(d, t, (n_cols,), saved_mean, saved_rstd, weight, bias, [True, True, True])

    forward, backward = {}, {}
    forward["torch"] = layer_norm
    backward["torch"] = torch_backward
    if "torch.compile" in peers:
        forward["torch.compile"] = torch.compile(layer_norm, dynamic=False)
        backward["torch.compile"] = torch.compile(torch_backward, dynamic=False)
    if "liger" in peers:
        liger = peers["liger"]
        forward["liger"] = lambda t: liger.layer_norm_forward(t, weight, bias, EPS)[0]
        saved = liger.layer_norm_forward(x[0], weight, bias, EPS)
        backward["liger"] = lambda d, t: liger.layer_norm_backward(d, t, weight, bias, saved[2], saved[3])
    if "unsloth" in peers:
        unsloth = peers["unsloth"]
        forward["unsloth"] = lambda t: unsloth.forward(Context(), t, weight, bias, EPS)
        saved_context = Context()
        unsloth.forward(saved_context, x[0], weight, bias, EPS)

        def unsloth_backward(d, t):
            _, w, b, r, mu = saved_context.saved_tensors
            context = Context()
            context.__dict__.update(saved_context.__dict__)
            context.saved_tensors = (t, w, b, r, mu)
            return unsloth.backward(context, d)

        backward["unsloth"] = unsloth_backward

    def our_forward(i):
        ours.forward(plan, x[i], weight, bias, y[i], mean, rstd)
        return y[i]

    def our_backward(i):
        ours.backward(plan, dy[i], x[i], weight, mean, rstd, y[i], partials, dweight, dbias, row_sums)
        return y[i], dweight

    results = []

    def record(direction, provider, make, bytes_moved):
        try:
            first = make(0)()
            outputs = first if isinstance(first, tuple) else (first,)
            error = distance(outputs[0].view(n_rows, n_cols), expected[direction])
            if direction == "backward":
                error = max(error, distance(outputs[1], expected_dweight))
            del first, outputs
            low, median, high = time_us([make(i) for i in range(count)])
            rate = bytes_moved / median / 1e3
        except Exception as reason:  # a peer that cannot do a shape is shown as such
            print(f"    {provider:14s} failed: {repr(reason)[:160]}")
            return
        limit = {"bf16": 8e-3, "f16": 1e-3, "f32": 1e-5}[name]
        wrong = "" if error <= limit else "   WRONG"
        print(f"    {provider:14s} {median:9.1f} us {rate:7.0f} GB/s   error {error:.1e}{wrong}")
        results.append((direction, provider, n_rows, n_cols, name, low, median, high, rate, error))

    copy = time_us([lambda a=a, b=b: torch.mul(a, 1, out=b) for a, b in zip(x, y)])
    copy_rate = 2 * size / copy[1] / 1e3
    print(f"{name} {n_rows} x {n_cols}: copy {copy_rate:.0f} GB/s")
    results.append(("copy", "copy", n_rows, n_cols, name, *copy, copy_rate, 0.0))
    if "forward" in passes:
        print("  forward")
        record("forward", "ours", lambda i: lambda: our_forward(i), 2 * size)
        for provider, call in forward.items():
            record("forward", provider, lambda i, call=call: lambda: call(x[i]), 2 * size)
    if "backward" in passes:
        our_forward(0)
        print("  backward")
        record("backward", "ours", lambda i: lambda: our_backward(i), 3 * size)
        for provider, call in backward.items():
            record("backward", provider, lambda i, call=call: lambda: call(dy[i], x[i]), 3 * size)
    sys.stdout.flush()
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", required=True, help="the example `plan`, built")
    parser.add_argument("--out", help="CSV file, in Liger-Kernel's columns")
    parser.add_argument("--dtypes", default="bf16,f32")
    parser.add_argument("--cols", default="256,512,1024,2048,4096,8192,16384,32768,65536")
    parser.add_argument("--rows", type=int, default=32768, help="fewer above 2^28 elements")
    parser.add_argument("--passes", default="forward,backward")
    parser.add_argument("--peers", default="torch.compile,liger,unsloth")
    arguments = parser.parse_args()

    peers = {}
    for name in arguments.peers.split(","):
        try:
            loaders = {"liger": load_liger, "unsloth": load_unsloth, "torch.compile": lambda: True}
            peers[name] = loaders[name]()
        except Exception as reason:
            print(f"{name} is not timed: {repr(reason)[:200]}")
    gpu = torch.cuda.get_device_name()
    print(f"{gpu}, torch {torch.__version__}")
    ours = Ours(arguments.plan)
    rows = []
    for dtype in arguments.dtypes.split(","):
        for n_cols in map(int, arguments.cols.split(",")):
            n_rows = min(arguments.rows, 2**28 // n_cols)
            rows += measure(ours, peers, dtype, n_rows, n_cols, arguments.passes.split(","))
            torch._dynamo.reset()
            torch.cuda.empty_cache()
    if arguments.out:
        try:
            from importlib.metadata import version

            liger_version = version("liger_kernel")
        except Exception:
            liger_version = ""
        now = datetime.datetime.now().isoformat(timespec="seconds")
        with open(arguments.out, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(
                "kernel_name,kernel_provider,kernel_operation_mode,metric_name,metric_unit,x_name,x_label,x_value,"
                "y_value_50,y_value_20,y_value_80,extra_benchmark_config_str,gpu_name,timestamp,liger_version".split(",")
            )
            for direction, provider, n_rows, n_cols, dtype, low, median, high, rate, error in rows:
                config = json.dumps({"n_rows": n_rows, "dtype": dtype, "eps": EPS, "gb_per_s": round(rate, 1), "error": error})
                writer.writerow(
                    ["layer_norm", provider, direction, "speed", "us", "H", "hidden size", n_cols]
                    + [f"{median:.2f}", f"{low:.2f}", f"{high:.2f}", config, gpu, now, liger_version]
                )


if __name__ == "__main__":
    main()
