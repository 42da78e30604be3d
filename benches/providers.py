"""The peers. A provider is made for one shape; it has `forward`, `backward` and `both`, each a function of the
number of an input set, or lacks what it cannot do. What they return is y; dx, dweight and dbias; all four."""

import ast
import importlib
import os
import pathlib
import sys
import types

import torch

EPS = 1e-5
layer_norm = torch.nn.functional.layer_norm
native_forward = torch.ops.aten.native_layer_norm
native_backward = torch.ops.aten.native_layer_norm_backward


class Torch:
    """PyTorch, eager: the operators that autograd calls."""

    def __init__(self, data, _module):
        self.data, self.shape = data, (data.n_cols,)
        self.saved = [native_forward(x, self.shape, data.weight, data.bias, EPS)[1:] for x in data.x]

    def forward(self, i):
        return layer_norm(self.data.x[i], self.shape, self.data.weight, self.data.bias, EPS)

    def backward(self, i, saved=None):
        data = self.data
        mean, rstd = saved or self.saved[i]
        wanted = [True, True, True]
        return native_backward(data.dy[i], data.x[i], self.shape, mean, rstd, data.weight, data.bias, wanted)

    def both(self, i):
        y, *saved = native_forward(self.data.x[i], self.shape, self.data.weight, self.data.bias, EPS)
        return y, *self.backward(i, saved)


class Compiled:
    """torch.compile in its default mode: forward and backward as functions of their own, and `both` as autograd
    splits them."""

    def __init__(self, data, _module):
        self.data, shape = data, (data.n_cols,)
        self.saved = [native_forward(x, shape, data.weight, data.bias, EPS)[1:] for x in data.x]

        def forward(x, weight, bias):
            return layer_norm(x, shape, weight, bias, EPS)

        def backward(dy, x, mean, rstd, weight, bias):
            return native_backward(dy, x, shape, mean, rstd, weight, bias, [True, True, True])

        self.compiled_forward = torch.compile(forward, dynamic=False)
        self.compiled_both = torch.compile(lambda x, weight, bias: forward(x, weight, bias), dynamic=False)
        self.compiled_backward = torch.compile(backward, dynamic=False)
        self.leaves = [t.detach().requires_grad_() for t in (data.weight, data.bias)]
        self.x = [t.detach().requires_grad_() for t in data.x]

    def forward(self, i):
        with torch.no_grad():
            return self.compiled_forward(self.data.x[i], self.data.weight, self.data.bias)

    def backward(self, i):
        data = self.data
        return self.compiled_backward(data.dy[i], data.x[i], *self.saved[i], data.weight, data.bias)

    def both(self, i):
        y = self.compiled_both(self.x[i], *self.leaves)
        return y.detach(), *torch.autograd.grad(y, (self.x[i], *self.leaves), self.data.dy[i])


class Liger:
    def __init__(self, data, module):
        self.data, self.module = data, module
        self.saved = [self.saving(i)[1] for i in range(len(data.x))]

    def saving(self, i):
        """y, and the mean and rstd for the backward pass."""
        y, _, mean, rstd, *_ = self.module.layer_norm_forward(self.data.x[i], self.data.weight, self.data.bias, EPS)
        return y, (mean, rstd)

    def forward(self, i):
        return self.module.layer_norm_forward(self.data.x[i], self.data.weight, self.data.bias, EPS)[0]

    def backward(self, i, saved=None):
        data, (mean, rstd) = self.data, saved or self.saved[i]
        return self.module.layer_norm_backward(data.dy[i], data.x[i], data.weight, data.bias, mean, rstd)

    def both(self, i):
        y, saved = self.saving(i)
        return y, *self.backward(i, saved)


class Unsloth:
    class Context:
        """What autograd gives a Function's forward and backward."""

        needs_input_grad = (True, True, True, False)

        def save_for_backward(self, *tensors):
            self.saved_tensors = tensors

    def __init__(self, data, module):
        self.data, self.module = data, module
        self.saved = [self.call(i)[0] for i in range(len(data.x))]

    def call(self, i):
        context = self.Context()
        y = self.module.forward(context, self.data.x[i], self.data.weight, self.data.bias, EPS)
        return context, y

    def forward(self, i):
        return self.call(i)[1]

    def backward(self, i):
        return self.module.backward(self.saved[i], self.data.dy[i])[:3]

    def both(self, i):
        context, y = self.call(i)
        return y, *self.module.backward(context, self.data.dy[i])[:3]


class Quack:
    """Takes weight and bias in f32 alone, whatever x is. Before 0.3 it has no backward pass of LayerNorm."""

    def __init__(self, data, module):
        self.data, self.module = data, module
        self.weight, self.bias = data.weight.float(), data.bias.float()
        self.saved = [self.saving(i)[1:] for i in range(len(data.x))]
        if not hasattr(module, "layernorm_bwd"):
            self.backward = self.both = None

    def saving(self, i):
        options = dict(eps=EPS, return_rstd=True, return_mean=True)
        return self.module.layernorm_fwd(self.data.x[i], self.weight, self.bias, **options)

    def forward(self, i):
        return self.module.layernorm_fwd(self.data.x[i], self.weight, self.bias, eps=EPS)

    def backward(self, i, saved=None):
        rstd, mean = saved or self.saved[i]
        return self.module.layernorm_bwd(self.data.x[i], self.weight, self.data.dy[i], rstd, mean)

    def both(self, i):
        y, *saved = self.saving(i)
        return y, *self.backward(i, saved)


class Module:
    """Any `torch.nn.Module`, through autograd."""

    def __init__(self, data, make):
        self.data = data
        self.layer = make(data.n_cols, EPS).to(device=data.x[0].device, dtype=data.dtype)
        with torch.no_grad():
            self.layer.weight.copy_(data.weight)
            self.layer.bias.copy_(data.bias)
        self.x = [t.detach().requires_grad_() for t in data.x]
        self.y = [self.layer(x) for x in self.x]

    def gradients(self, i, y, **options):
        return torch.autograd.grad(y, (self.x[i], self.layer.weight, self.layer.bias), self.data.dy[i], **options)

    def forward(self, i):
        with torch.no_grad():
            return self.layer(self.data.x[i])

    def backward(self, i):
        return self.gradients(i, self.y[i], retain_graph=True)

    def both(self, i):
        y = self.layer(self.x[i])
        return y.detach(), *self.gradients(i, y)


def load_liger():
    return importlib.import_module("liger_kernel.ops.layer_norm")


def load_unsloth():
    """Unsloth's kernel file by itself: importing the package patches transformers and wants far more than it."""
    folders = (pathlib.Path(path or ".") / "unsloth/kernels" for path in sys.path)
    folder = next((folder for folder in folders if (folder / "layernorm.py").exists()), None)
    if folder is None:
        raise ImportError("no unsloth on the path")
    import functools

    import triton

    for name in ("unsloth", "unsloth.kernels", "unsloth_zoo", "unsloth_zoo.patching_utils"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["unsloth.kernels"].__path__ = [str(folder)]
    sys.modules["unsloth_zoo.patching_utils"].patch_layernorm = lambda *a, **k: None
    utils = types.ModuleType("unsloth.kernels.utils")
    utils.__dict__.update(torch=torch, triton=triton, os=os, functools=functools, torch_gpu_device=torch.cuda.device)
    wanted = {"MAX_FUSED_SIZE", "next_power_of_2", "calculate_settings"}
    wanted |= {"_NORM_ARCH_WARPS", "_cuda_capability", "norm_num_warps"}
    path = folder / "utils.py"
    for node in ast.parse(path.read_text()).body:
        names = {getattr(node, "name", None)} | {getattr(t, "id", None) for t in getattr(node, "targets", [])}
        names |= {getattr(getattr(node, "target", None), "id", None)}
        if names & wanted:
            exec(compile(ast.Module([node], []), str(path), "exec"), utils.__dict__)
    sys.modules["unsloth.kernels.utils"] = utils
    utils.long_indexing = importlib.import_module("unsloth.kernels.indexing").long_indexing
    return importlib.import_module("unsloth.kernels.layernorm").Fast_Layernorm


def load_apex():
    fused = importlib.import_module("apex.normalization").FusedLayerNorm
    return lambda n_cols, eps: fused(n_cols, eps=eps)


def load_transformer_engine():
    layer = importlib.import_module("transformer_engine.pytorch").LayerNorm
    return lambda n_cols, eps: layer(n_cols, eps=eps)


# By name: what loads the peer, once, and what is made of it for each shape.
PEERS = {
    "torch": (lambda: None, Torch),
    "torch.compile": (lambda: None, Compiled),
    "liger": (load_liger, Liger),
    "unsloth": (load_unsloth, Unsloth),
    "quack": (lambda: importlib.import_module("quack.rmsnorm"), Quack),
    "apex": (load_apex, Module),
    "transformer_engine": (load_transformer_engine, Module),
}


def load(names):
    """The peers of these names that are installed, and of the others why not."""
    found, missing = {}, {}
    for name in names:
        loader, make = PEERS[name]
        try:
            module = loader()
            found[name] = lambda data, make=make, module=module: make(data, module)
        except Exception as reason:
            missing[name] = repr(reason)[:200]
    return found, missing
