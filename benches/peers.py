"""Times our kernels beside PyTorch's, torch.compile's, Liger-Kernel's, Unsloth's and others', in one process, by
one method, into one CSV. README.md beside this file says how to run it, and what the method is.

    python3 benches/peers.py --plan target/release/examples/plan --out peers.csv
"""

import argparse
import csv
import datetime
import importlib.metadata
import json
import math
import os
import pathlib
import platform
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
# By what they are called here; as they are called on PyPI.
PACKAGES = {
    "triton": "triton",
    "liger": "liger_kernel",
    "unsloth": "unsloth",
    "quack": "quack-kernels",
    "apex": "apex",
    "transformer_engine": "transformer_engine",
}
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
    parser.add_argument("--max-elements", type=int, default=2**28)
    parser.add_argument("--shapes", help="ROWSxCOLS,... instead of --cols and --rows")
    parser.add_argument("--passes", default="forward,backward,both")
    parser.add_argument("--small", default="1x4096,64x4096", help="shapes for the host's cost of a launch; '' for none")
    parser.add_argument("--launch-cost", type=pathlib.Path, help="the example `launch_cost`, built")
    parser.add_argument("--cpu-speed", type=pathlib.Path, help="the example `cpu_speed`, built; without a GPU")
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


def version_of(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def versions(torch):
    """Of PyTorch and of each peer that is here, in one line. `cargo xtask results` reads it in peers.txt."""
    found = {"torch": torch.__version__} | {name: version_of(package) for name, package in PACKAGES.items()}
    # Without its metadata, its kernels can be on the path all the same.
    if not found["unsloth"] and any((pathlib.Path(path) / "unsloth/kernels").exists() for path in sys.path):
        found["unsloth"] = "of unknown version"
    return ", ".join(f"{name} {version}" for name, version in found.items() if version)


class Results:
    """The CSV, and the same for whoever watches."""

    def __init__(self, path, gpu):
        self.gpu, self.start = gpu, time.monotonic()
        self.liger = version_of("liger_kernel")
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
        """Of the first set and the last, in float64: y, dx, dweight, dbias."""
        sets = sorted({0, len(self.x) - 1})
        return {i: in_float64(torch, self.x[i], self.dy[i], self.weight, self.bias) for i in sets}


def in_float64(torch, x, dy, weight, bias):
    leaves = [t.double().requires_grad_() for t in (x, weight, bias)]
    y = torch.nn.functional.layer_norm(leaves[0], x.shape[-1:], leaves[1], leaves[2], 1e-5)
    return [y.detach(), *torch.autograd.grad(y, leaves, dy.double())]


class Launches:
    """Our passes over input sets in buffers whose addresses are given: of each set x, dy, mean, rstd and out; for all
    of them weight, bias, dweight, dbias and workspace."""

    def __init__(self, ours, plan, shared, sets, stream):
        self.ours, self.plan, self.shared, self.sets, self.stream = ours, plan, shared, sets, stream

    def launch(self, kind, i, **others):
        addresses = self.shared | self.sets[i]
        addresses |= {"y": addresses["out"], "dx": addresses["out"]} | others
        self.ours.run(self.plan[kind], addresses, self.stream())

    def forward(self, i):
        self.launch("forward", i)

    def backward(self, i):
        """Of the statistics that the set's last forward saved."""
        self.launch("backward", i)

    def both(self, i):
        """y and dx would be in one buffer: dx goes where the next set's results go, which is as far from the cache."""
        self.launch("forward", i)
        self.launch("backward", i, dx=self.sets[(i + 1) % len(self.sets)]["out"])


class OurProvider:
    """Our kernels in buffers of PyTorch's, on its current stream."""

    def __init__(self, torch, ours, data):
        plan = ours.plan(data.n_rows, data.n_cols, data.name, data.name)
        empty = lambda shape, dtype: torch.full(shape, math.nan, device="cuda", dtype=dtype)
        n_rows, n_cols = data.n_rows, data.n_cols
        statistics = torch.float64 if data.name == "f64" else torch.float32
        # Outputs of the sets, so that writes go past the cache as well.
        self.out = [torch.full_like(x, math.nan) for x in data.x]
        self.saved = [[empty((n_rows,), statistics) for _ in range(2)] for _ in data.x]
        self.dweight, self.dbias = (empty((n_cols,), data.dtype) for _ in range(2))
        workspace = max(line["workspace_bytes"] for line in plan.values())
        self.workspace = torch.empty(max(workspace, 16), dtype=torch.uint8, device="cuda")
        tensors = {"weight": data.weight, "bias": data.bias, "workspace": self.workspace}
        tensors |= {"dweight": self.dweight, "dbias": self.dbias}
        addresses = lambda tensors: {name: tensor.data_ptr() for name, tensor in tensors.items()}
        sets = [
            addresses({"x": x, "dy": dy, "out": out, "mean": mean, "rstd": rstd})
            for x, dy, out, (mean, rstd) in zip(data.x, data.dy, self.out, self.saved, strict=True)
        ]
        stream = lambda: torch.cuda.current_stream().cuda_stream
        self.launches = Launches(ours, plan, addresses(tensors), sets, stream)
        for i in range(len(sets)):
            self.launches.forward(i)

    def forward(self, i):
        self.launches.forward(i)
        return self.out[i]

    def backward(self, i):
        self.launches.backward(i)
        return self.out[i], self.dweight, self.dbias

    def both(self, i):
        self.launches.both(i)
        return self.out[i], self.out[(i + 1) % len(self.out)], self.dweight, self.dbias


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
        # Results are kept until their set comes again: memory that is free at once would be the next call's, and the
        # cache would take writes that go to it over and over.
        kept = [None] * sets
        with torch.cuda.graph(graph, stream=self.stream):
            for i in range(launches):
                kept[i % sets] = call(i % sets)
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
            print(f"    {provider} cannot: {str(reason)[:200] or repr(reason)}", flush=True)
            continue
        for kind in passes:
            call = getattr(made, kind, None)
            if call is None:
                continue
            try:
                error = max(error_of(kind, call(i), wanted) for i, wanted in expected.items())
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
    print(f"versions: {versions(torch)}")
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
        rows = lambda scale, mean: (torch.randn(n_rows, n_cols) * scale + mean).to(dtype)
        weight, bias = (torch.rand(n_cols) + 0.5).to(dtype), torch.randn(n_cols).to(dtype)
        pairs = [(rows(2, 0.5), rows(1, 0)) for _ in range(2)]
        expected = [in_float64(torch, x, dy, weight, bias) for x, dy in pairs]
        for build, ours in builds.items():
            if build in only and not only[build].search(f"{name} {n_rows}x{n_cols}"):
                continue
            try:
                plan = ours.plan(n_rows, n_cols, name, name)
            except LookupError as reason:
                print(f"{name} {n_rows} x {n_cols} {build} cannot: {reason}")
                continue
            error = error_on_software_gpu(torch, driver, ours, plan, weight, bias, pairs, expected)
            good = error <= LIMITS[name]
            wrong += not good
            entries = [launch["entry"] for kind in ("forward", "backward") for launch in plan[kind]["launches"]]
            print(f"{name} {n_rows} x {n_cols} {build}: error {error:.1e}{'' if good else '   WRONG'}")
            print(f"    {', '.join(entries)}", flush=True)
    print("nothing was timed: the software GPU's time says nothing of a GPU's")
    if wrong:
        sys.exit(f"{wrong} shapes are wrong")


def error_on_software_gpu(torch, driver, ours, plan, weight, bias, pairs, expected):
    """The largest error of each pass over each of the sets: all sets' forward passes before their backward passes."""
    import ctypes

    owned = {}

    def put(host):
        address = driver.allocate(host.nbytes)
        owned[address] = host
        size = ctypes.c_size_t(host.nbytes)
        driver.call("cuMemcpyHtoD_v2", ctypes.c_uint64(address), ctypes.c_void_p(host.data_ptr()), size)
        return address

    def get(address):
        value = torch.empty_like(owned[address])
        size = ctypes.c_size_t(value.nbytes)
        driver.call("cuMemcpyDtoH_v2", ctypes.c_void_p(value.data_ptr()), ctypes.c_uint64(address), size)
        return value

    nan = lambda like, dtype=None: torch.full_like(like, math.nan, dtype=dtype)
    statistics = torch.float64 if weight.dtype == torch.float64 else torch.float32
    shared = {"weight": put(weight), "bias": put(bias), "dweight": put(nan(weight)), "dbias": put(nan(bias))}
    shared["workspace"] = driver.allocate(max(line["workspace_bytes"] for line in plan.values()))
    owned[shared["workspace"]] = None
    sets = [
        {"x": put(x), "dy": put(dy), "out": put(nan(x))}
        | {key: put(nan(x[:, 0].contiguous(), statistics)) for key in ("mean", "rstd")}
        for x, dy in pairs
    ]
    launches, far = Launches(ours, plan, shared, sets, lambda: None), 0.0
    for kind in PASSES:
        for i, wanted in enumerate(expected):
            getattr(launches, kind)(i)
            driver.call("cuCtxSynchronize")
            out, gradients = get(sets[i]["out"]), tuple(get(shared[key]) for key in ("dweight", "dbias"))
            if kind == "both":
                gradients = (get(sets[(i + 1) % len(sets)]["out"]), *gradients)
            far = max(far, error_of(kind, out if kind == "forward" else (out, *gradients), wanted))
    for address in owned:
        driver.call("cuMemFree_v2", ctypes.c_uint64(address))
    return far


def processor():
    """The name, and what tells apart those that a virtual machine gives the same name."""
    try:
        fields = [line.split(":") for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if ":" in line]
        first = {name.strip(): value.strip() for name, value in reversed(fields)}
        return f"{first['model name']} (family {first['cpu family']}, model {first['model']})"
    except (OSError, KeyError):
        return platform.processor() or platform.machine()


def older_instructions():
    """Those that LAYERNORM_CPU can name beside the ones that are taken by themselves, as far as they are of use to others."""
    try:
        return ("avx2",) if " avx512vl " in pathlib.Path("/proc/cpuinfo").read_text() else ()
    except OSError:
        return ()


def on_cpu(arguments, torch):
    """PyTorch's CPU and ours, by layernorm-host/benches/cpu.py, into the same CSV."""
    sys.path.insert(0, str(ROOT / "layernorm-host/benches"))
    import cpu

    print("No CUDA GPU: PyTorch's CPU is measured against this library's CPU path. Nothing here is of a GPU.")
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target"))
    program = arguments.cpu_speed or cpu.program_in(ROOT / target)
    name = f"CPU: {processor()}, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}")
    print(f"versions: torch {torch.__version__}")
    passes = [kind for kind in ("copy", "forward", "both") if kind == "copy" or kind in arguments.passes.split(",")]
    shown = shapes(arguments) if arguments.shapes else [(d, *s) for d in arguments.dtypes.split(",") for s in cpu.SHAPES]
    results = Results(arguments.out, name)
    for dtype, n_rows, n_cols in shown:
        print(f"{dtype} {n_rows} x {n_cols}", flush=True)
        for (provider, kind), times in cpu.measure(program, n_rows, n_cols, dtype, older_instructions()).items():
            if kind in passes:
                low, median, high = (1e3 * ms for ms in percentiles(times))
                results.row(provider, kind, dtype, n_rows, n_cols, (low, median, high))
                if high > 1.5 * low:
                    print(f"    ... from {low:.0f} to {high:.0f} us: others use this machine, or it is too small to time")


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
        return on_cpu(arguments, torch)
    if not (arguments.plan or arguments.variants or arguments.only_compile):
        sys.exit("--plan or --variants is needed: cargo build --release --example plan")
    on_gpu(arguments, torch)


if __name__ == "__main__":
    main()
