//! Which of the processor's vector instructions the kernels are run with: the newest, or those that `LAYERNORM_CPU`
//! names, to compare them or to have another machine's bits.

use std::sync::LazyLock;

use crate::{Error, Result};

/// The variable's name.
const SETTING: &str = "LAYERNORM_CPU";

/// What the variable says, read once; `Err` has what no kind here is called.
static CHOSEN: LazyLock<std::result::Result<pulp::Arch, String>> = LazyLock::new(|| {
    let Some(name) = std::env::var_os(SETTING) else {
        return Ok(pulp::Arch::new());
    };
    let kind = kinds().into_iter().find(|(kind, _)| name == *kind);
    kind.map(|(_, arch)| arch)
        .ok_or_else(|| name.to_string_lossy().into_owned())
});

/// The kinds that this processor has, by name.
pub fn kinds() -> Vec<(&'static str, pulp::Arch)> {
    #[allow(unused_mut, reason = "there are others on some processors alone")]
    let mut kinds = vec![("scalar", pulp::Arch::Scalar)];
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(v3) = pulp::x86::V3::try_new() {
            kinds.push(("avx2", pulp::Arch::V3(v3)));
        }
        if let Some(v4) = pulp::x86::V4::try_new() {
            kinds.push(("avx512", pulp::Arch::V4(v4)));
        }
    }
    #[cfg(target_arch = "aarch64")]
    if let Some(neon) = pulp::aarch64::Neon::try_new() {
        kinds.push(("neon", pulp::Arch::Neon(neon)));
    }
    kinds
}

/// Fails where the variable names what is not here.
pub fn check() -> Result<()> {
    match &*CHOSEN {
        Ok(_) => Ok(()),
        Err(got) => Err(Error::Instructions {
            got: got.clone(),
            allowed: kinds().into_iter().map(|(name, _)| name).collect(),
        }),
    }
}

/// The kind to run with; in tests what a thread is told instead. A pass has asked [`check`].
pub fn arch() -> pulp::Arch {
    #[cfg(test)]
    if let Some(arch) = super::kinds::TOLD.get() {
        return arch;
    }
    CHOSEN.as_ref().copied().unwrap_or_default()
}
