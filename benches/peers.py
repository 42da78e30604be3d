"""Times our kernels beside PyTorch's, torch.compile's, Liger-Kernel's, Unsloth's and others', in one process, by
one method, into one CSV. README.md beside this file says how to run it, and what the method is.

    python3 benches/peers.py --plan target/release/examples/plan --out results.csv
"""

import argparse
import csv
import datetime
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
DEFAULT_COLS = "4096,1024,8192,2048,512,256,16384,32768,65536,1023,4099"
PASSES = ("forward", "backward", "both")
# Tensors of x's size that a pass must at least move; the weights, the statistics and the partials are small beside it.
TENSORS = {"copy": 2, "forward": 2, "backward": 3, "both": 5}
HEADER = (
    "kernel_name,kernel_provider,kernel_operation_mode,metric_name,metric_unit,x_name,x_label,x_value,y_value_50,"
    "y_value_20,y_value_80,extra_benchmark_config_str,gpu_name,timestamp,liger_version"
).split(",")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", type=pathlib.Path, help="the example `plan`, built")
    parser.add_argument("--ptx", type=pathlib.Path, help="folder of the PTX images; default: the repository's")
    parser.add_argument("--out", type=pathlib.Path, help="CSV, in Liger-Kernel's columns, written row by row")
    parser.add_argument("--providers", default="torch,torch.compile,liger,unsloth,quack,apex,transformer_engine")
    parser.add_argument("--dtypes", default="bf16,f32")
    parser.add_argument("--cols", default=DEFAULT_COLS, help="in the order in which they are measured")
    parser.add_argument("--rows", type=int, default=32768, help="fewer above --max-elements")
    parser.add_argument("--max-elements", type=int, default=2**28 + 2**18)
    parser.add_argument("--shapes", help="ROWSxCOLS,... instead of --cols and --rows")
    parser.add_argument("--passes", default="forward,backward,both")
    parser.add_argument("--small", default="1x4096,64x4096", help="shapes for the host's cost of a launch; '' for none")
    parser.add_argument("--launch-cost", type=pathlib.Path, help="the example `launch_cost`, built")
    parser.add_argument("--budget-s", type=float, default=math.inf, help="no shape is begun that would end after it")
    parser.add_argument("--workers", type=int, default=0, help="processes that compile the peers' kernels beforehand")
    parser.add_argument("--variants", type=pathlib.Path, help="lines of JSON: builds of ours to compare, see README.md")
    parser.add_argument("--driver", help="a libcuda.so, such as the software GPU's: ours alone, checked and not timed")
    parser.add_argument("--only-compile", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def shapes(arguments):
    """(dtype, n_rows, n_cols), in the order in which they are measured."""
    if arguments.shapes:
        pairs = [tuple(map(int, shape.split("x"))) for shape in arguments.shapes.split(",")]
    else:
        most = arguments.max_elements
        pairs = [(min(arguments.rows, most // n), n) for n in map(int, arguments.cols.split(","))]
    return [(dtype, *pair) for dtype in arguments.dtypes.split(",") for pair in pairs]


class Results:
    """The CSV, and the same for whoever watches."""

    def __init__(self, path, gpu):
        self.gpu, self.start = gpu, time.monotonic()
        try:
            from importlib.metadata import version

            self.liger = version("liger_kernel")
        except Exception:
            self.liger = ""
        self.file = path.open("w", newline="") if path else None
        if self.file:
            csv.writer(self.file).writerow(HEADER)

    def row(self, provider, mode, dtype, n_rows, n_cols, times, metric="speed", **more):
        low, median, high = times
        config = {"n_rows": n_rows, "dtype": dtype, "eps": 1e-5}
        config.update((key, value) for key, value in more.items() if value is not None)
        if metric == "speed" and mode in TENSORS:
            size = {"f32": 4, "bf16": 2, "f16": 2, "f64": 8}[dtype]
            config["gb_per_s"] = round(TENSORS[mode] * n_rows * n_cols * size / median / 1e3, 1)
        if self.file:
            now = datetime.datetime.now().isoformat(timespec="seconds")
            cells = ["layer_norm", provider, mode, metric, "us", "H", "hidden size", n_cols]
            cells += [f"{median:.3f}", f"{low:.3f}", f"{high:.3f}", json.dumps(config), self.gpu, now, self.liger]
            csv.writer(self.file).writerow(cells)
            self.file.flush()
        rate = f"{config['gb_per_s']:7.0f} GB/s" if "gb_per_s" in config else ""
        error = f"   error {config['error']:.1e}" if "error" in config else ""
        print(f"    {mode:9s} {provider:20s} {median:9.2f} us {rate}{error}", flush=True)


def percentiles(times):
    times = sorted(times)
    return [times[round(part * (len(times) - 1))] for part in (0.2, 0.5, 0.8)]


# ---- On a GPU


class Data:
    """Input sets of one shape, so many that a round through them is larger than the L2 cache."""

    def __init__(self, torch, name, n_rows, n_cols, sets=None):
        self.name, self.n_rows, self.n_cols = name, n_rows, n_cols
        self.dtype = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32, "f64": torch.float64}[name]
        size = n_rows * n_cols * self.dtype.itemsize
        sets = sets or max(2, min(24, math.ceil(600e6 / (2 * size))))
        torch.manual_seed(3407)
        rows = lambda scale, mean: torch.randn(n_rows, n_cols, device="cuda").mul_(scale).add_(mean).to(self.dtype)
        self.x = [rows(2, 0.5) for _ in range(sets)]
        self.dy = [rows(1, 0) for _ in range(sets)]
        self.weight = (torch.rand(n_cols, device="cuda") + 0.5).to(self.dtype)
        self.bias = torch.randn(n_cols, device="cuda").to(self.dtype)

    def expected(self, torch):
        """Set 0 in float64: y, dx, dweight, dbias."""
        leaves = [t.double().requires_grad_() for t in (self.x[0], self.weight, self.bias)]
        y = torch.nn.functional.layer_norm(leaves[0], (self.n_cols,), leaves[1], leaves[2], 1e-5)
        return [y.detach(), *torch.autograd.grad(y, leaves, self.dy[0].double())]


class OurProvider:
    """Our kernels in buffers of PyTorch's, on its current stream."""

    def __init__(self, torch, ours, data):
        self.torch, self.ours, self.data = torch, ours, data
        self.plan = ours.plan(data.n_rows, data.n_cols, data.name, data.name)
        empty = lambda shape, dtype: torch.full(shape, math.nan, device="cuda", dtype=dtype)
        # Outputs of the sets, so that writes go past the cache as well.
        self.out = [torch.full_like(x, math.nan) for x in data.x]
        n_rows, n_cols = data.n_rows, data.n_cols
        statistics = torch.float64 if data.name == "f64" else torch.float32
        self.mean, self.rstd = (empty((n_rows,), statistics) for _ in range(2))
        self.dweight, self.dbias = (empty((n_cols,), data.dtype) for _ in range(2))
        workspace = max(plan["workspace_bytes"] for plan in self.plan.values())
        self.workspace = torch.empty(max(workspace, 16), dtype=torch.uint8, device="cuda")
        names = "mean rstd dweight dbias workspace".split()
        self.addresses = {name: getattr(self, name).data_ptr() for name in names}
        self.addresses |= {"weight": data.weight.data_ptr(), "bias": data.bias.data_ptr()}
        self.launch("forward", 0)

    def launch(self, kind, i):
        data, out = self.data, self.out[i].data_ptr()
        sets = {"x": data.x[i].data_ptr(), "dy": data.dy[i].data_ptr(), "y": out, "dx": out}
        stream = self.torch.cuda.current_stream().cuda_stream
        self.ours.run(self.plan[kind], self.addresses | sets, stream)

    def forward(self, i):
        self.launch("forward", i)
        return self.out[i]

    def backward(self, i):
        self.launch("backward", i)
        return self.out[i], self.dweight, self.dbias

    def both(self, i):
        # y and dx would be in one buffer: y goes where the next set's dx will, which is as far from the cache.
        data, n = self.data, len(self.out)
        stream = self.torch.cuda.current_stream().cuda_stream
        y, dx = self.out[i], self.out[(i + 1) % n]
        sets = {"x": data.x[i].data_ptr(), "dy": data.dy[i].data_ptr(), "y": y.data_ptr(), "dx": dx.data_ptr()}
        for kind in ("forward", "backward"):
            self.ours.run(self.plan[kind], self.addresses | sets, stream)
        return y, dx, self.dweight, self.dbias


class Clock:
    """Device time: launches captured in a CUDA graph, so that no host's cost is in it, and replayed between events."""

    def __init__(self, torch):
        self.torch, self.stream = torch, torch.cuda.Stream()

    def device_us(self, call, sets, repeats=15):
        torch = self.torch
        torch.cuda.synchronize()
        with torch.cuda.stream(self.stream):
            for i in range(sets):
                call(i)
        torch.cuda.synchronize()
        graph, launches = torch.cuda.CUDAGraph(), math.ceil(10 / sets) * sets
        with torch.cuda.graph(graph, stream=self.stream):
            for i in range(launches):
                call(i % sets)
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
        return percentiles(times)

    def host_us(self, call, sets, rounds=15, launches=200):
        """What a call costs the host, without the device's work."""
        for i in range(20):
            call(i % sets)
        times = []
        for _ in range(rounds):
            self.torch.cuda.synchronize()
            start = time.perf_counter()
            for i in range(launches):
                call(i % sets)
            times.append((time.perf_counter() - start) * 1e6 / launches)
        self.torch.cuda.synchronize()
        return percentiles(times)


LIMITS = {"bf16": 8e-3, "f16": 1e-3, "f32": 1e-5, "f64": 1e-12}


def error_of(kind, outputs, expected):
    """The largest distance of a result to float64's, relative to its norm; a NaN is infinitely far."""
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    wanted = {"forward": expected[:1], "backward": expected[1:], "both": expected}[kind]
    far = 0.0
    for got, want in zip(outputs, wanted, strict=True):
        distance = ((got.reshape(want.shape).double() - want).norm() / want.norm()).item()
        far = max(far, distance if distance == distance else math.inf)
    return far


def measure(torch, clock, results, makers, shape, passes, small):
    data = Data(torch, *shape)
    name, n_rows, n_cols = shape
    sets = len(data.x)
    print(f"{name} {n_rows} x {n_cols}, {sets} input sets", flush=True)
    expected = data.expected(torch)
    if not small:
        out = [torch.empty_like(x) for x in data.x]
        copy = clock.device_us(lambda i: torch.mul(data.x[i], 1, out=out[i]), sets)
        results.row("copy", "copy", name, n_rows, n_cols, copy)
        del out
    for provider, make in makers.items():
        made = None
        try:
            made = make(data)
        except Exception as reason:
            print(f"    {provider} cannot: {repr(reason)[:200]}")
            continue
        for kind in passes:
            call = getattr(made, kind, None)
            if call is None:
                continue
            try:
                outputs = call(0)
                error = error_of(kind, outputs, expected)
                del outputs
                if not error <= LIMITS[name]:
                    print(f"    {kind:9s} {provider:20s} WRONG: off by {error:.1e}; not timed", flush=True)
                    continue
                results.row(provider, kind, name, n_rows, n_cols, clock.device_us(call, sets), error=error)
                if small and provider not in ("ours",):
                    times = clock.host_us(call, sets)
                    results.row(provider, kind, name, n_rows, n_cols, times, "host", language="Python")
            except Exception as reason:  # a peer that cannot do a shape is shown as such
                print(f"    {kind:9s} {provider:20s} failed: {repr(reason)[:200]}", flush=True)
        del made


def host_cost_of_ours(results, program, shape):
    """Our launcher is Rust: its program times itself."""
    name, n_rows, n_cols = shape
    command = [str(program), str(n_rows), str(n_cols), name]
    for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines():
        line = json.loads(line)
        results.row("ours", line["pass"], name, n_rows, n_cols, line["us"], "host", language="Rust")


def compile_beforehand(arguments, todo):
    """Compiles what the peers need for these shapes in processes of their own, into caches that this one reads. What
    they measured of each other's company is thrown away: this process tunes again, by itself."""
    cache = pathlib.Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    workers = []
    for worker in range(arguments.workers):
        own = [f"{dtype}:{n_rows}x{n_cols}" for dtype, n_rows, n_cols in todo[worker :: arguments.workers]]
        if own:
            command = [sys.executable, __file__, "--only-compile", "--shapes", ",".join(own)]
            command += ["--providers", arguments.providers, "--passes", arguments.passes]
            workers.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
    for worker in workers:
        _, stderr = worker.communicate()
        if worker.returncode:
            print(f"a compiling process failed, its kernels are compiled here: {stderr[-300:]}")
    for tuned in cache.rglob("*.best_config"):
        tuned.unlink()


def only_compile(torch, arguments, makers):
    for shape in arguments.shapes.split(","):
        dtype, rest = shape.split(":")
        data = Data(torch, dtype, *map(int, rest.split("x")), sets=1)
        for make in makers.values():
            try:
                made = make(data)
                for kind in arguments.passes.split(","):
                    call = getattr(made, kind, None)
                    if call:
                        call(0)
            except Exception as reason:
                print(repr(reason)[:200], file=sys.stderr)
        torch.cuda.synchronize()
        torch._dynamo.reset()
        del data
        torch.cuda.empty_cache()


def variants(arguments, driver):
    """Our builds by name: the one that is committed, and those of --variants."""
    from ours import PTX, Ours

    builds = {"ours": Ours(driver, arguments.plan, arguments.ptx or PTX)} if arguments.plan else {}
    only = {}
    if arguments.variants:
        for line in filter(None, map(str.strip, arguments.variants.read_text().splitlines())):
            line = json.loads(line)
            name, folder = line["name"], arguments.variants.parent
            plan = folder / line["plan"] if "plan" in line else arguments.plan
            ptx = folder / line["ptx"] if "ptx" in line else arguments.ptx or PTX
            builds[name] = Ours(driver, plan, ptx, name)
            only[name] = re.compile(line.get("only", ""))
    return builds, only


def on_gpu(arguments, torch):
    from ours import Driver
    import providers

    peers, missing = providers.load([name for name in arguments.providers.split(",") if name])
    if arguments.only_compile:
        return only_compile(torch, arguments, peers)
    start = time.monotonic()
    gpu = torch.cuda.get_device_name()
    print(f"{gpu}, torch {torch.__version__}")
    for name, reason in missing.items():
        print(f"{name} is not timed: {reason}")
    torch.cuda.init()
    torch.zeros(1, device="cuda")
    builds, only = variants(arguments, Driver())
    todo = [(shape, False) for shape in shapes(arguments)]
    if arguments.small:
        pairs = [shape.split("x") for shape in arguments.small.split(",")]
        small = [(dtype, int(r), int(c)) for dtype in arguments.dtypes.split(",") for r, c in pairs]
        todo = [(shape, True) for shape in small] + todo
    passes = [name for name in PASSES if name in arguments.passes.split(",")]
    if arguments.workers:
        compile_beforehand(arguments, [shape for shape, _ in todo])
        print(f"compiled beforehand in {time.monotonic() - start:.0f} s", flush=True)
    results, clock, longest = Results(arguments.out, gpu), Clock(torch), 0.0
    for shape, small in todo:
        begun = time.monotonic()
        if begun - start + longest > arguments.budget_s:
            print(f"out of time: {shape} and what comes after it is not measured")
            break
        makers = {}
        for name, ours in builds.items():
            if name not in only or only[name].search("{} {}x{}".format(*shape)):
                makers[name] = lambda data, ours=ours: OurProvider(torch, ours, data)
        measure(torch, clock, results, makers | peers, shape, passes, small)
        if small and arguments.launch_cost:
            try:
                host_cost_of_ours(results, arguments.launch_cost.resolve(), shape)
            except Exception as reason:
                print(f"    {arguments.launch_cost} failed: {repr(reason)[:200]}")
        torch._dynamo.reset()
        torch.cuda.empty_cache()
        longest = max(longest, time.monotonic() - begun)
    print(f"{time.monotonic() - start:.0f} s")


# ---- Without a GPU


def on_software_gpu(arguments, torch):
    """Ours alone, on the software GPU: that plan, parameters and launches are right, and nothing of speed."""
    import ctypes
    import warnings

    from ours import Driver

    # PyTorch finds the driver that is loaded here, and that it is not NVIDIA's.
    warnings.simplefilter("ignore")
    driver = Driver(arguments.driver, own_context=True)
    builds, only = variants(arguments, driver)
    dtypes = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32, "f64": torch.float64}
    wrong = 0
    for name, n_rows, n_cols in shapes(arguments):
        dtype = dtypes[name]
        torch.manual_seed(3407)
        host = {"x": torch.randn(n_rows, n_cols) * 2 + 0.5, "dy": torch.randn(n_rows, n_cols)}
        host |= {"weight": torch.rand(n_cols) + 0.5, "bias": torch.randn(n_cols)}
        host = {key: value.to(dtype) for key, value in host.items()}
        leaves = [host[key].double().requires_grad_() for key in ("x", "weight", "bias")]
        y = torch.nn.functional.layer_norm(leaves[0], (n_cols,), leaves[1], leaves[2], 1e-5)
        expected = [y.detach(), *torch.autograd.grad(y, leaves, host["dy"].double())]
        statistics = torch.float64 if name == "f64" else torch.float32
        host |= {"y": torch.full_like(host["x"], math.nan), "dx": torch.full_like(host["x"], math.nan)}
        host |= {key: torch.full((n_rows,), math.nan, dtype=statistics) for key in ("mean", "rstd")}
        host |= {key: torch.full((n_cols,), math.nan, dtype=dtype) for key in ("dweight", "dbias")}
        for build, ours in builds.items():
            if build in only and not only[build].search(f"{name} {n_rows}x{n_cols}"):
                continue
            plan = ours.plan(n_rows, n_cols, name, name)
            addresses = {key: driver.allocate(value.nbytes) for key, value in host.items()}
            addresses["workspace"] = driver.allocate(max(line["workspace_bytes"] for line in plan.values()))
            for key, value in host.items():
                size = ctypes.c_size_t(value.nbytes)
                driver.call("cuMemcpyHtoD_v2", ctypes.c_uint64(addresses[key]), ctypes.c_void_p(value.data_ptr()), size)
            for kind in ("forward", "backward"):
                ours.run(plan[kind], addresses, None)
            driver.call("cuCtxSynchronize")
            got = []
            for key in ("y", "dx", "dweight", "dbias"):
                value = torch.empty_like(host[key])
                size = ctypes.c_size_t(value.nbytes)
                driver.call("cuMemcpyDtoH_v2", ctypes.c_void_p(value.data_ptr()), ctypes.c_uint64(addresses[key]), size)
                got.append(value)
            for address in addresses.values():
                driver.call("cuMemFree_v2", ctypes.c_uint64(address))
            error = error_of("both", tuple(got), expected)
            good = error <= LIMITS[name]
            wrong += not good
            entries = [launch["entry"] for kind in ("forward", "backward") for launch in plan[kind]["launches"]]
            print(f"{name} {n_rows} x {n_cols} {build}: error {error:.1e}{'' if good else '   WRONG'}")
            print(f"    {', '.join(entries)}", flush=True)
    print("nothing was timed: the software GPU's time says nothing of a GPU's")
    if wrong:
        sys.exit(f"{wrong} shapes are wrong")


def on_cpu(arguments):
    print("No CUDA GPU: PyTorch's CPU is measured against this library's CPU path. Nothing here is of a GPU.")
    program = HERE.parent / "layernorm-host/benches/cpu.py"
    sys.exit(subprocess.run([sys.executable, str(program)], cwd=ROOT).returncode)


def main():
    arguments = parse()
    # One cache for all the processes of a run; before PyTorch reads where it is.
    cache = os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", tempfile.mkdtemp(prefix="peers-inductor-"))
    os.environ.setdefault("TRITON_CACHE_DIR", os.path.join(cache, "triton"))
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    sys.path.insert(0, str(HERE))
    import torch

    if arguments.driver:
        return on_software_gpu(arguments, torch)
    if not torch.cuda.is_available():
        return on_cpu(arguments)
    if not (arguments.plan or arguments.variants or arguments.only_compile):
        sys.exit("--plan or --variants is needed: cargo build --release --example plan")
    on_gpu(arguments, torch)


if __name__ == "__main__":
    main()
