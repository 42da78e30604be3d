//! The images that are built and committed: the one list of them.

use std::path::{Path, PathBuf};

use cuda_builder::{NvvmArch, PtxVersion};

/// One PTX file.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    pub arch: NvvmArch,
    /// As old as the image's instructions allow, since a driver loads PTX up to its own version.
    pub ptx_version: PtxVersion,
    /// The devices that the image is assembled for by `cargo xtask ptxas`: those that the host
    /// chooses it for.
    pub assembled_for: &'static [&'static str],
}

/// Oldest first. The host takes a kernel from the last that has it of those that the device can run.
pub const IMAGES: &[Image] = &[
    Image {
        arch: NvvmArch::Compute75,
        ptx_version: PtxVersion::new(6, 3),
        assembled_for: &["sm_75"],
    },
    Image {
        arch: NvvmArch::Compute80,
        // 7.4: `ld.global.nc.L1::no_allocate`.
        ptx_version: PtxVersion::new(7, 4),
        assembled_for: &["sm_80", "sm_86", "sm_90", "sm_100", "sm_120"],
    },
    // Only what needs it or gains by it: the host takes all other kernels from the image before.
    Image {
        arch: NvvmArch::Compute90,
        // 8.1: `st.async`.
        ptx_version: PtxVersion::new(8, 1),
        assembled_for: &["sm_90", "sm_100", "sm_120"],
    },
];

impl Image {
    pub fn file_name(&self) -> String {
        format!("layernorm_{}.ptx", self.arch)
    }
}

/// The repository's root: cargo says where this crate is, also after the repository has moved.
pub fn root() -> PathBuf {
    let crate_folder = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    crate_folder
        .parent()
        .map_or_else(|| ".".into(), Path::to_owned)
}

/// Where the images and their manifest are.
pub fn folder(root: &Path) -> PathBuf {
    root.join("layernorm-host/ptx")
}

/// The crate that they are built from.
pub fn kernel_crate(root: &Path) -> PathBuf {
    root.join("kernels-gpu")
}
