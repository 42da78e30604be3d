//! What to do about an error, where there is something to do that its text does not say.

use layernorm_host::Error;

/// A hint for whoever typed the command.
pub fn hint(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::NoDevice { .. } => {
            "`layernorm devices` lists what there is; --device software runs the same kernels without a GPU, --device cpu native code"
        }
        Error::Ordinal { .. } => {
            "`layernorm devices` lists them; SOFTWARE_GPU_DEVICES says how many the software GPU plays"
        }
        Error::NoImage { .. } => "--device cpu runs native code",
        Error::Jit { .. } => {
            "an NVIDIA driver that is older than the PTX has to be updated; `nvidia-smi` shows its version"
        }
        Error::OutOfMemory { .. } | Error::OutOfHostMemory { .. } => {
            "fewer rows at a time take less; --device cpu uses the host's memory"
        }
        Error::Cuda { .. } => {
            "the same with LAYERNORM_DRIVER=software names the kernel, the access and the thread that is at fault"
        }
        Error::MissingTensor { .. } => {
            "`layernorm run --help` says which tensors a group must have"
        }
        Error::NotSafetensors { .. } => "`layernorm run` reads safetensors, and NumPy's .npy",
        Error::UnsupportedDType { .. } => {
            "the other dtypes have to be converted where the file is made"
        }
        Error::Eps { .. } => "--eps sets it; else it is the file's metadata `eps`, else 1e-5",
        _ => return None,
    })
}
