"""The committed kernels, launched by Python's standard library alone: no Rust and no CUDA toolkit at run time.

    cargo run --release --example plan -- 90 132 232448 2619000 5120 f32 f32 5 48 > target/plan.jsonl
    python3 layernorm-host/examples/ptx_abi.py target/plan.jsonl [path of a libcuda.so.1]

The plan must be of the device that it is run on: its compute capability, multiprocessors and shared memory. This
program asks the device and refuses another's. The results are held against float64.
"""

import ctypes
import json
import math
import pathlib
import random
import sys
from array import array

IMAGES = pathlib.Path(__file__).resolve().parent.parent / "ptx"
EPS = 1e-5
C_TYPES = {"u64": ctypes.c_uint64, "u32": ctypes.c_uint32, "f32": ctypes.c_float}


class Driver:
    """The few calls of the driver API that a launch takes."""

    def __init__(self, path):
        self.library = ctypes.CDLL(path)
        self("cuInit", 0)
        self.device, self.context = ctypes.c_int(), ctypes.c_void_p()
        self("cuDeviceGet", ctypes.byref(self.device), 0)
        self("cuDevicePrimaryCtxRetain", ctypes.byref(self.context), self.device)
        self("cuCtxSetCurrent", self.context)

    def __call__(self, name, *arguments):
        result = getattr(self.library, name)(*arguments)
        if result:
            raise RuntimeError(f"{name}: CUDA error {result}")

    def attribute(self, number):
        value = ctypes.c_int()
        self("cuDeviceGetAttribute", ctypes.byref(value), number, self.device)
        return value.value

    def memory(self, size, values=None):
        """An address of `size` bytes: the values, or NaNs, so that what is never written shows."""
        address = ctypes.c_uint64()
        self("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(size, 1)))
        data = bytes(values) if values is not None else b"\xff" * max(size, 1)
        self("cuMemcpyHtoD_v2", address, data, ctypes.c_size_t(len(data)))
        return address.value

    def read(self, address, count):
        data = array("f", bytes(4 * count))
        pointer = ctypes.c_void_p(data.buffer_info()[0])
        self("cuMemcpyDtoH_v2", pointer, ctypes.c_uint64(address), ctypes.c_size_t(4 * count))
        return list(data)

    def function(self, image, entry, dynamic_shared, cluster):
        """One kernel as a module of its own: what the image declares, then that entry point."""
        ptx = (IMAGES / f"layernorm_sm_{image}.ptx").read_text()
        start = ptx.index(f".visible .entry {entry}(")
        text = ptx[: ptx.index(".visible .entry ")] + ptx[start : ptx.index("\n}\n", start) + 3]
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        self("cuModuleLoadData", ctypes.byref(module), text.encode())
        self("cuModuleGetFunction", ctypes.byref(function), module, entry.encode())
        # 8: CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, without which more than 48 KiB are refused.
        self("cuFuncSetAttribute", function, 8, dynamic_shared)
        if cluster > 8:
            # CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED
            self("cuFuncSetAttribute", function, 14, 1)
        return function

    def launch(self, launch, buffers):
        values = []
        for parameter in launch["parameters"]:
            if "value" in parameter:
                values.append(C_TYPES[parameter["type"]](parameter["value"]))
            elif parameter["buffer"] is None:
                values.append(ctypes.c_uint64(0))
            else:
                values.append(ctypes.c_uint64(buffers[parameter["buffer"]] + parameter["offset"]))
        pointers = (ctypes.c_void_p * len(values))(*[ctypes.addressof(value) for value in values])
        function = self.function(launch["image"], launch["entry"], launch["shared_bytes"], launch["cluster"][0])
        geometry = [*launch["grid"], *launch["block"], launch["shared_bytes"]]
        self("cuLaunchKernel", function, *geometry, None, pointers, None)


def reference(n_rows, n_cols, x, dy, weight, bias):
    """The formula in float64."""
    y, dx, dweight, dbias = [], [], [0.0] * n_cols, [0.0] * n_cols
    for start in range(0, n_rows * n_cols, n_cols):
        row, grad = x[start : start + n_cols], dy[start : start + n_cols]
        mean = math.fsum(row) / n_cols
        rstd = 1 / math.sqrt(math.fsum((v - mean) ** 2 for v in row) / n_cols + EPS)
        xhat = [(v - mean) * rstd for v in row]
        dxhat = [g * w for g, w in zip(grad, weight)]
        c1, c2 = math.fsum(dxhat) / n_cols, math.fsum(map(math.prod, zip(dxhat, xhat))) / n_cols
        y += [h * w + b for h, w, b in zip(xhat, weight, bias)]
        dx += [rstd * (d - c1 - h * c2) for d, h in zip(dxhat, xhat)]
        for column in range(n_cols):
            dweight[column] += grad[column] * xhat[column]
            dbias[column] += grad[column]
    return {"y": y, "dx": dx, "dweight": dweight, "dbias": dbias}


def main():
    passes = [json.loads(line) for line in pathlib.Path(sys.argv[1]).read_text().splitlines()]
    driver = Driver(sys.argv[2] if len(sys.argv) > 2 else "libcuda.so.1")
    capability = 10 * driver.attribute(75) + driver.attribute(76)
    device = f"{capability} {driver.attribute(16)} {driver.attribute(97)}"
    print(f"the device: compute capability, multiprocessors and shared memory are {device}")
    (n_rows, n_cols), = {(p["n_rows"], p["n_cols"]) for p in passes}
    if {(p["x"], p["weight"]) for p in passes} != {("f32", "f32")}:
        raise SystemExit("this example has no other dtype than f32")
    newest = max(launch["image"] for p in passes for launch in p["launches"])
    if newest > capability:
        raise SystemExit(f"the plan is for another device: make it with {device}")

    random.seed(7)
    normal = lambda count, mean: array("f", [random.gauss(mean, 1) for _ in range(count)])
    inputs = {
        "x": normal(n_rows * n_cols, 0.5),
        "dy": normal(n_rows * n_cols, 0),
        "weight": normal(n_cols, 1),
        "bias": normal(n_cols, 0),
    }
    counts = {"y": n_rows * n_cols, "dx": n_rows * n_cols, "dweight": n_cols, "dbias": n_cols}
    buffers = {name: driver.memory(4 * len(values), values) for name, values in inputs.items()}
    buffers |= {name: driver.memory(4 * count) for name, count in counts.items()}
    buffers |= {name: driver.memory(4 * n_rows) for name in ("mean", "rstd")}
    buffers["workspace"] = driver.memory(max(p["workspace_bytes"] for p in passes))
    for one in passes:
        for launch in one["launches"]:
            print(f"{one['pass']}: {launch['entry']}, grid {launch['grid']}, block {launch['block']}")
            driver.launch(launch, buffers)
    driver("cuCtxSynchronize")

    expected = reference(n_rows, n_cols, *(list(inputs[name]) for name in ("x", "dy", "weight", "bias")))
    for name, values in expected.items():
        got = driver.read(buffers[name], counts[name])
        norm = math.sqrt(math.fsum(v * v for v in values))
        error = math.sqrt(math.fsum((g - v) ** 2 for g, v in zip(got, values))) / norm
        print(f"{name}: error {error:.1e} of the norm")
        if not error <= 2e-6:
            raise SystemExit(f"{name} is wrong")


if __name__ == "__main__":
    main()
