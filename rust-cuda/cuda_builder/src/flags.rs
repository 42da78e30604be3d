//! The compiler's flags, environment and arguments: the one place that knows them. Pure functions, so
//! that they can be tested and hashed without a compiler.

use crate::{NvvmArch, PtxVersion};

/// rustc's name for the target.
pub const TARGET: &str = "nvptx64-nvidia-cuda";

/// What rustc gets for every crate of the program, `core` included.
pub fn rustflags(arch: NvvmArch, ptx_version: Option<PtxVersion>) -> Vec<String> {
    let mut flags = vec![format!("-Ctarget-cpu={}", arch.target_cpu())];
    if let Some(version) = ptx_version {
        flags.push(format!("-Ctarget-feature=+{}", version.target_feature()));
    }
    // Every architecture up to this one, so that code asks for the oldest that will do:
    // `#[cfg(cuda_arch = "80")]`.
    flags.extend(
        NvvmArch::ALL
            .iter()
            .filter(|known| known.is_portable())
            .filter(|known| known.capability_value() <= arch.capability_value())
            .map(|known| format!("--cfg=cuda_arch=\"{}\"", known.capability_value())),
    );
    flags.extend(
        [
            // This pass copies barriers into branches, where they hang: rust-lang/rust#137086.
            "-Zmir-enable-passes=-JumpThreading",
            "-Zunstable-options",
            // A panic is a trap: no messages, no formatting code, no source paths.
            "-Cpanic=immediate-abort",
            // A loop that is not unrolled puts the arrays it indexes into local memory.
            "-Cllvm-args=-unroll-threshold=4000",
        ]
        .map(String::from),
    );
    flags
}

/// The release profile that a kernel crate is built with, whatever its workspace says: one module, so
/// that all is inlined, and no debug info, which would bring in the machine's paths.
pub const PROFILE: &[(&str, &str)] = &[
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3"),
    ("CARGO_PROFILE_RELEASE_LTO", "fat"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "false"),
    ("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "false"),
    ("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "false"),
    ("CARGO_PROFILE_RELEASE_INCREMENTAL", "false"),
];

/// Cargo's arguments, less those that the caller adds.
pub const CARGO_ARGUMENTS: &[&str] = &[
    "rustc",
    "--quiet",
    "--lib",
    "--release",
    "--crate-type",
    "cdylib",
    "--target",
    TARGET,
    "-Zbuild-std=core",
];

/// rustc's arguments for the kernel crate alone: the whole program's assembly is the PTX.
pub const RUSTC_ARGUMENTS: &[&str] = &["--emit=asm"];

/// Whether a variable of the caller's environment is kept from the device build. What rustup and an
/// outer cargo set is meant for another compiler, and would change the output or break the build.
pub fn is_in_the_way(variable: &str) -> bool {
    const KEPT: [&str; 5] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
    ];
    const REMOVED: [&str; 10] = [
        "CARGO",
        "RUSTC",
        "RUSTDOC",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
        "RUST_RECURSION_COUNT",
        "RUST_TARGET_PATH",
        "LD_LIBRARY_PATH",
        "MAKEFLAGS",
        "MFLAGS",
    ];
    !KEPT.iter().any(|kept| variable.starts_with(kept))
        && REMOVED.iter().any(|removed| variable.starts_with(removed))
}

/// Everything here that decides what PTX comes out, as text: part of the committed images' hash.
pub fn fingerprint(arch: NvvmArch, ptx_version: Option<PtxVersion>) -> String {
    let profile: Vec<String> = PROFILE
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    [
        rustflags(arch, ptx_version).join(" "),
        profile.join(" "),
        CARGO_ARGUMENTS.join(" "),
        RUSTC_ARGUMENTS.join(" "),
    ]
    .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_name_the_target_and_keep_barriers_whole() {
        assert_eq!(
            rustflags(NvvmArch::Compute80, Some(PtxVersion::new(7, 4))).join(" "),
            "-Ctarget-cpu=sm_80 -Ctarget-feature=+ptx74 --cfg=cuda_arch=\"75\" \
             --cfg=cuda_arch=\"80\" -Zmir-enable-passes=-JumpThreading \
             -Zunstable-options -Cpanic=immediate-abort -Cllvm-args=-unroll-threshold=4000"
        );
    }

    #[test]
    fn without_a_ptx_version_the_compiler_chooses() {
        let flags = rustflags(NvvmArch::Compute90, None).join(" ");
        assert!(!flags.contains("target-feature"), "{flags}");
    }

    #[test]
    fn code_can_ask_for_any_architecture_up_to_the_images() {
        let asked = |arch| -> Vec<String> {
            let flags = rustflags(arch, None).into_iter();
            flags.filter(|flag| flag.starts_with("--cfg")).collect()
        };
        assert_eq!(asked(NvvmArch::Compute75), ["--cfg=cuda_arch=\"75\""]);
        let newest = asked(NvvmArch::Compute90a);
        assert_eq!(newest.first().unwrap(), "--cfg=cuda_arch=\"75\"");
        assert_eq!(newest.last().unwrap(), "--cfg=cuda_arch=\"90\"");
        assert_eq!(newest.len(), 6);
    }

    #[test]
    fn no_flag_holds_the_separator_that_cargo_uses() {
        let flags = rustflags(NvvmArch::Compute75, Some(PtxVersion::new(6, 3)));
        assert!(flags.iter().all(|flag| !flag.contains('\x1f')));
    }

    #[test]
    fn the_callers_compiler_settings_stay_out_and_its_network_settings_stay() {
        for variable in [
            "CARGO",
            "CARGO_TARGET_DIR",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_PROFILE_RELEASE_LTO",
            "CARGO_BUILD_TARGET",
            "RUSTC",
            "RUSTC_WRAPPER",
            "RUSTC_BOOTSTRAP",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
            "LD_LIBRARY_PATH",
        ] {
            assert!(is_in_the_way(variable), "{variable} is kept");
        }
        for variable in [
            "PATH",
            "HOME",
            "CARGO_HOME",
            "CARGO_NET_OFFLINE",
            "CARGO_HTTP_PROXY",
            "CARGO_REGISTRIES_MINE_INDEX",
            "CARGO_REGISTRY_DEFAULT",
            "RUSTUP_HOME",
            "RUST_BACKTRACE",
        ] {
            assert!(!is_in_the_way(variable), "{variable} is removed");
        }
    }

    #[test]
    fn the_fingerprint_changes_with_the_target() {
        let version = Some(PtxVersion::new(7, 4));
        let of = |arch, version| fingerprint(arch, version);
        assert_ne!(
            of(NvvmArch::Compute80, version),
            of(NvvmArch::Compute90, version)
        );
        assert_ne!(
            of(NvvmArch::Compute80, version),
            of(NvvmArch::Compute80, None)
        );
    }
}
