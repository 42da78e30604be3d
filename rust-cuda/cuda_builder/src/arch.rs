//! What PTX can be built for: architectures under Rust-CUDA's names, and PTX versions.

use std::fmt;

/// Declares the architectures once: Rust-CUDA's name, and rustc's `target-cpu`.
macro_rules! architectures {
    ($($name:ident = $cpu:literal, $capability:literal;)*) => {
        /// A virtual architecture. PTX for one runs on devices of its compute capability and newer;
        /// with an `a` on that capability alone, with an `f` on its family.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)]
        pub enum NvvmArch { $($name,)* }

        impl NvvmArch {
            /// All of them, oldest first.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// rustc's name for it: `sm_80`.
            pub const fn target_cpu(self) -> &'static str {
                match self { $(Self::$name => $cpu,)* }
            }

            /// The compute capability as one number, major and minor: 80 for 8.0, 120 for 12.0.
            pub const fn capability_value(self) -> u32 {
                match self { $(Self::$name => $capability,)* }
            }
        }
    };
}

architectures! {
    Compute75 = "sm_75", 75;
    Compute80 = "sm_80", 80;
    Compute86 = "sm_86", 86;
    Compute87 = "sm_87", 87;
    Compute89 = "sm_89", 89;
    Compute90 = "sm_90", 90;
    Compute90a = "sm_90a", 90;
    Compute100 = "sm_100", 100;
    Compute100f = "sm_100f", 100;
    Compute100a = "sm_100a", 100;
    Compute103 = "sm_103", 103;
    Compute103f = "sm_103f", 103;
    Compute103a = "sm_103a", 103;
    Compute120 = "sm_120", 120;
    Compute120f = "sm_120f", 120;
    Compute120a = "sm_120a", 120;
    Compute121 = "sm_121", 121;
    Compute121f = "sm_121f", 121;
    Compute121a = "sm_121a", 121;
}

impl NvvmArch {
    /// Whether PTX for it runs on every newer device: it has no `a` or `f`.
    pub fn is_portable(self) -> bool {
        self.target_cpu().ends_with(|c: char| c.is_ascii_digit())
    }
}

impl fmt::Display for NvvmArch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.target_cpu())
    }
}

/// A version of the PTX language. A driver loads the versions up to its own, so an older one runs on
/// more machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PtxVersion {
    /// The 7 of 7.4.
    pub major: u8,
    /// The 4 of 7.4.
    pub minor: u8,
}

impl PtxVersion {
    /// PTX `major.minor`.
    pub const fn new(major: u8, minor: u8) -> Self {
        Self { major, minor }
    }

    /// rustc's name for it as a target feature: `ptx74`.
    pub fn target_feature(self) -> String {
        format!("ptx{}{}", self.major, self.minor)
    }
}

impl fmt::Display for PtxVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        for &arch in NvvmArch::ALL {
            let number = arch.target_cpu().trim_start_matches("sm_");
            let number = number.trim_end_matches(['a', 'f']);
            assert_eq!(number, arch.capability_value().to_string());
            assert_eq!(
                format!("{arch:?}").trim_start_matches("Compute"),
                arch.target_cpu().trim_start_matches("sm_")
            );
        }
    }

    #[test]
    fn a_ptx_version_has_two_spellings() {
        assert_eq!(PtxVersion::new(7, 4).to_string(), "7.4");
        assert_eq!(PtxVersion::new(7, 4).target_feature(), "ptx74");
    }
}
