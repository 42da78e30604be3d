"""Our kernels as another engine would launch them: PTX and the launches that the example `plan` prints, by the
CUDA driver's C interface. Nothing here knows how a row lies over threads."""

import ctypes
import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
PTX = ROOT / "layernorm-host/ptx"
TYPES = {"u32": ctypes.c_uint32, "u64": ctypes.c_uint64, "f32": ctypes.c_float, "f64": ctypes.c_double}

STATIC_SHARED, MAX_DYNAMIC_SHARED = 1, 8  # CU_FUNC_ATTRIBUTE_*
SM_COUNT, MAX_SHARED, MAJOR, MINOR = 16, 97, 75, 76  # CU_DEVICE_ATTRIBUTE_*
MEMORY_KHZ, MEMORY_BUS_BITS = 36, 37
PROGRAMMATIC_STREAM_SERIALIZATION = 6  # CU_LAUNCH_ATTRIBUTE_*


class Attribute(ctypes.Structure):
    """CUlaunchAttribute."""

    _fields_ = [("id", ctypes.c_uint), ("padding", ctypes.c_uint), ("value", ctypes.c_uint * 16)]


class Config(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = [
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(Attribute)),
        ("n_attributes", ctypes.c_uint),
    ]


class Driver:
    """The driver API. `library` may be the software GPU's; then the context is made here."""

    def __init__(self, library="libcuda.so.1", own_context=False):
        self.cuda = ctypes.CDLL(library)
        self.call("cuInit", 0)
        if own_context:
            device, context = ctypes.c_int(), ctypes.c_void_p()
            self.call("cuDeviceGet", ctypes.byref(device), 0)
            self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
            self.call("cuCtxSetCurrent", context)
        self.sm_count, self.max_shared, major, minor = map(self.attribute, (SM_COUNT, MAX_SHARED, MAJOR, MINOR))
        self.memory = [self.attribute(MEMORY_KHZ), self.attribute(MEMORY_BUS_BITS)]
        self.capability = 10 * major + minor

    def call(self, name, *arguments):
        code = getattr(self.cuda, name)(*arguments)
        if code:
            raise RuntimeError(f"{name}: CUDA error {code}")

    def attribute(self, which):
        value = ctypes.c_int()
        self.call("cuDeviceGetAttribute", ctypes.byref(value), which, 0)
        return value.value

    def allocate(self, size):
        address = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(size, 16)))
        return address.value


class Ours:
    """One build of the kernels. `ptx` is a folder of images or one file; `plan` is the example `plan`, built, or a
    file of lines that it printed, which may have been changed."""

    def __init__(self, driver, plan, ptx=PTX, name="ours"):
        self.driver, self.name, self.plan_source, self.ptx = driver, name, pathlib.Path(plan), pathlib.Path(ptx)
        self.images, self.functions, self.plans = {}, {}, {}

    def plan(self, n_rows, n_cols, x, weight):
        """The plan's lines, by pass."""
        key = (n_rows, n_cols, x, weight)
        if key not in self.plans:
            if self.plan_source.suffix in (".json", ".jsonl"):
                lines = map(json.loads, filter(str.strip, self.plan_source.read_text().splitlines()))
                keep = [p for p in lines if (p["n_rows"], p["n_cols"], p["x"], p["weight"]) == key]
            else:
                driver = self.driver
                words = [driver.capability, driver.sm_count, driver.max_shared, *driver.memory, x, weight, n_rows, n_cols]
                command = [str(self.plan_source.resolve()), *map(str, words)]
                output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                keep = list(map(json.loads, output.splitlines()))
            found = {line["pass"]: line for line in keep}
            if missing := {"forward", "backward"} - found.keys():
                shape = f"{n_rows}x{n_cols}, x {x}, weight {weight}"
                raise LookupError(f"{self.plan_source.name} has no line for {' and '.join(sorted(missing))} of {shape}")
            self.plans[key] = found
        return self.plans[key]

    def image(self, target):
        if target not in self.images:
            file = self.ptx if self.ptx.is_file() else self.ptx / f"layernorm_sm_{target}.ptx"
            self.images[target] = file.read_text()
        return self.images[target]

    def function(self, launch):
        """The kernel as a module of its own, as the library loads it: the image as a whole takes the driver seconds."""
        entry = launch["entry"]
        if entry not in self.functions:
            image, start = self.image(launch["image"]), ".visible .entry "
            first, own = image.index(start), image.index(f"{start}{entry}(")
            text = image[:first] + image[own : image.index("\n}\n", own) + 3]
            module, function, static = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_int()
            call = self.driver.call
            call("cuModuleLoadData", ctypes.byref(module), text.encode())
            call("cuModuleGetFunction", ctypes.byref(function), module, entry.encode())
            call("cuFuncGetAttribute", ctypes.byref(static), STATIC_SHARED, function)
            dynamic = self.driver.max_shared - static.value
            call("cuFuncSetAttribute", function, MAX_DYNAMIC_SHARED, dynamic)
            if launch["cluster"][0] > 8:
                call("cuFuncSetAttribute", function, 14, 1)  # NON_PORTABLE_CLUSTER_SIZE_ALLOWED
            self.functions[entry] = function
        return self.functions[entry]

    def run(self, plan, addresses, stream):
        """Puts a pass on a stream. `addresses` has the device address of each buffer that the plan names."""
        for launch in plan["launches"]:
            values = []
            for parameter in launch["parameters"]:
                if "type" in parameter:
                    values.append(TYPES[parameter["type"]](parameter["value"]))
                else:
                    buffer = parameter["buffer"]
                    address = addresses[buffer] + parameter["offset"] if buffer else 0
                    values.append(ctypes.c_uint64(address))
            pointers = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
            if launch.get("overlaps"):
                attribute = Attribute(id=PROGRAMMATIC_STREAM_SERIALIZATION, value=(1,))
                config = Config(
                    (ctypes.c_uint * 3)(*launch["grid"]),
                    (ctypes.c_uint * 3)(*launch["block"]),
                    launch["shared_bytes"],
                    stream,
                    ctypes.pointer(attribute),
                    1,
                )
                self.driver.call("cuLaunchKernelEx", ctypes.byref(config), self.function(launch), pointers, None)
                continue
            self.driver.call(
                "cuLaunchKernel",
                self.function(launch),
                *launch["grid"],
                *launch["block"],
                launch["shared_bytes"],
                ctypes.c_void_p(stream),
                pointers,
                None,
            )
