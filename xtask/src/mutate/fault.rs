//! A planted mistake: what it is, and how it gets into a source.

use anyhow::{Result, bail};
use cuda_builder::NvvmArch;

/// One planted mistake.
#[derive(Debug)]
pub struct Fault {
    pub name: &'static str,
    /// What is then wrong.
    pub what: &'static str,
    pub kind: Kind,
    /// The file, from the repository's root.
    pub file: &'static str,
    /// Text that the file has once.
    find: &'static str,
    /// What is put there.
    put: &'static str,
}

/// What has to be built again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The PTX of sm_80's image, which has almost all kernels.
    Device,
    /// The PTX of sm_75's image: kernels that only a device with little shared memory comes to.
    Older,
    /// The PTX of sm_90's image: the kernels of clusters, and those that wait for the launch before.
    Clusters,
    /// The library.
    Host,
}

impl Kind {
    /// The image that such faults are in, and the software GPU's device that runs it.
    pub fn arch_and_model(self) -> (NvvmArch, &'static str) {
        match self {
            Kind::Device | Kind::Host => (NvvmArch::Compute80, "a100"),
            Kind::Older => (NvvmArch::Compute75, "t4"),
            Kind::Clusters => (NvvmArch::Compute90, "h100"),
        }
    }
}

impl Fault {
    /// The file's text with the fault in it.
    pub fn planted(&self, text: &str) -> Result<String> {
        replaced(text, self.find, self.put)
    }
}

/// Replaces what must be there exactly once.
pub fn replaced(text: &str, find: &str, put: &str) -> Result<String> {
    match text.matches(find).count() {
        1 => Ok(text.replacen(find, put, 1)),
        count => bail!("this is there {count} times and not once: {find}"),
    }
}

pub(super) const fn fault(
    name: &'static str,
    what: &'static str,
    kind: Kind,
    file: &'static str,
    find: &'static str,
    put: &'static str,
) -> Fault {
    Fault {
        name,
        what,
        kind,
        file,
        find,
        put,
    }
}
