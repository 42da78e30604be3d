//! The compiler that device code is built with. rustc's own NVPTX backend is in every rustc, but
//! `core` must be built for the device, so the compiler must come with the library's sources.
//!
//! [`look`] sees what is on the machine, [`choose`] decides over what was seen, and is pure.

mod choose;
mod look;

use std::fmt;
use std::path::PathBuf;

pub use choose::{NoToolchain, choose, verdict};
pub use look::look;

/// The oldest rustc whose flags are those that are passed.
pub const OLDEST: Version = Version {
    major: 1,
    minor: 95,
    patch: 0,
};

/// How a compiler came to be looked at, in the order in which they are preferred.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// `CUDA_BUILDER_RUSTC` names it.
    Variable,
    /// It is what `rustc` means here.
    Active,
    /// It is in rustup's folder, under this name.
    Rustup(String),
    /// It is in `PATH` or where systems keep it.
    System,
}

/// A rustc release: 1.96.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 1.
    pub major: u32,
    /// 96.
    pub minor: u32,
    /// 0.
    pub patch: u32,
}

/// What was found out about one compiler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// How it was found.
    pub origin: Origin,
    /// The path it was found under.
    pub path: PathBuf,
    /// What it says of itself, or why it says nothing.
    pub found: Result<Found, String>,
}

/// A compiler that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// From `rustc -vV`.
    pub version: Version,
    /// `rustc -vV`'s first line: `rustc 1.96.0 (ac68faa20 2026-05-25)`.
    pub description: String,
    /// The compiler itself, past rustup's proxies.
    pub rustc: PathBuf,
    /// The cargo that belongs to it, if there is one.
    pub cargo: Option<PathBuf>,
    /// Whether the library's sources are there.
    pub has_rust_src: bool,
}

/// A compiler that can build device code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// How it was found.
    pub origin: Origin,
    /// Its release.
    pub version: Version,
    /// `rustc -vV`'s first line, which tells any two compilers apart whose output may differ.
    pub description: String,
    /// The compiler.
    pub rustc: PathBuf,
    /// Its cargo.
    pub cargo: PathBuf,
}

impl Toolchain {
    /// Looks at the machine and chooses.
    pub fn find() -> Result<Self, NoToolchain> {
        choose(&look())
    }
}

impl Version {
    /// From `1.96.0` or `1.97.0-nightly`.
    pub fn parse(release: &str) -> Option<Self> {
        let mut parts = release.split('-').next()?.split('.').map(str::parse);
        let version = Self {
            major: parts.next()?.ok()?,
            minor: parts.next()?.ok()?,
            patch: parts.next()?.ok()?,
        };
        parts.next().is_none().then_some(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            major,
            minor,
            patch,
        } = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable => f.write_str("CUDA_BUILDER_RUSTC"),
            Self::Active => f.write_str("the active toolchain"),
            Self::Rustup(name) => write!(f, "rustup's {name}"),
            Self::System => f.write_str("the system's"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_ordered() {
        assert_eq!(Version::parse("1.95.0"), Some(OLDEST));
        assert!(Version::parse("1.97.0-nightly") > Some(OLDEST));
        assert!(Version::parse("1.94.2") < Some(OLDEST));
        assert!(Version::parse("1.100.0") > Version::parse("1.96.1"));
        for bad in ["", "1.95", "1.95.0.1", "nightly", "1.x.0"] {
            assert_eq!(Version::parse(bad), None, "{bad}");
        }
    }
}
