//! The device: a model, its memory, and launches on it.

use std::sync::Arc;

use crate::checks::Checks;
use crate::counters::Counters;
use crate::exec::Footprint;
use crate::fault::Fault;
use crate::memory::{Memory, MemoryError};
use crate::model::Model;
use crate::module::Kernel;

/// A device. It is shared by `Arc`: every method takes `&self`.
pub struct Gpu {
    model: Model,
    memory: Arc<Memory>,
    settings: Settings,
}

/// What is the user's choice about a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// What it checks.
    pub checks: Checks,
    /// The adversary's seed. It shuffles the order of blocks and warps, cuts warps' turns short, takes
    /// either side of a branch first, lands asynchronous copies early or late, and lets approximate
    /// instructions give any value inside their documented error. The same seed does the same again.
    /// Without one everything runs in order and approximations are rounded correctly.
    pub seed: Option<u64>,
    /// Approximations are rounded correctly whatever the seed, so that two seeds differ in order alone.
    pub exact: bool,
    /// Bytes that the device takes from the host at most, whatever its model advertises.
    pub host_bytes: u64,
    /// Which device of its machine it is, from 0 to 63: each has addresses of its own, so that one of
    /// another device is found to be wrong.
    pub ordinal: u32,
    /// Instructions that the warps of a block execute at most before the launch counts as hung.
    pub block_instructions: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            checks: Checks::ALL,
            seed: None,
            exact: false,
            host_bytes: 8 << 30,
            ordinal: 0,
            block_instructions: 1 << 31,
        }
    }
}

impl Settings {
    /// The defaults, changed by `SOFTWARE_GPU_CHECKS` (`off`, `memory` or `all`), `SOFTWARE_GPU_SEED` (a number)
    /// and `SOFTWARE_GPU_EXACT` (`1`: approximations are exact). With another value of one of them, the defaults.
    pub fn from_environment() -> Settings {
        Settings::of_environment().unwrap_or_default()
    }

    /// As above, or what a variable may not be.
    pub(crate) fn of_environment() -> Result<Settings, String> {
        let read = |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Settings::of(
            read("SOFTWARE_GPU_CHECKS").as_deref(),
            read("SOFTWARE_GPU_SEED").as_deref(),
            read("SOFTWARE_GPU_EXACT").as_deref(),
        )
    }

    /// By the variables' values; an empty one is as if it were not there.
    fn of(
        checks: Option<&str>,
        seed: Option<&str>,
        exact: Option<&str>,
    ) -> Result<Settings, String> {
        let set = |value: Option<&'_ str>| match value.map(str::trim) {
            None | Some("") => None,
            Some(value) => Some(value.to_owned()),
        };
        let mut settings = Settings::default();
        if let Some(name) = set(checks) {
            settings.checks = Checks::by_name(&name).ok_or_else(|| {
                format!("SOFTWARE_GPU_CHECKS is `{name}`; allowed are all, memory and off")
            })?;
        }
        if let Some(text) = set(seed) {
            let seed = text.parse();
            let most = u64::MAX;
            settings.seed = Some(seed.map_err(|_| {
                format!("SOFTWARE_GPU_SEED is `{text}`; allowed is a number, 0 to {most}")
            })?);
        }
        settings.exact = match set(exact).as_deref() {
            None | Some("0") => false,
            Some("1") => true,
            Some(text) => {
                return Err(format!(
                    "SOFTWARE_GPU_EXACT is `{text}`; allowed are 0 and 1"
                ));
            }
        };
        Ok(settings)
    }
}

/// How many threads a launch has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchConfig {
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y and z.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: u32,
}

impl Gpu {
    /// A device of that model with empty memory, with the [settings of the environment]
    /// (Settings::from_environment).
    pub fn new(model: Model) -> Gpu {
        Gpu::with_settings(model, Settings::from_environment())
    }

    /// A device of that model with empty memory.
    pub fn with_settings(model: Model, settings: Settings) -> Gpu {
        let track = settings.checks.initialised;
        let memory = Memory::new(
            model.memory_bytes,
            settings.host_bytes,
            track,
            settings.ordinal,
        );
        let memory = Arc::new(memory);
        Gpu {
            model,
            memory,
            settings,
        }
    }

    /// A device of that model with empty memory that makes these checks.
    pub fn with_checks(model: Model, checks: Checks) -> Gpu {
        Gpu::with_settings(
            model,
            Settings {
                checks,
                ..Settings::default()
            },
        )
    }

    /// What was chosen about the device.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// What the device says about itself.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Memory of `bytes` bytes, at a multiple of 256, holding NaNs.
    ///
    /// # Errors
    /// No bytes asked for, or more than are free.
    pub fn alloc(&self, bytes: u64) -> Result<u64, MemoryError> {
        self.memory.alloc(bytes)
    }

    /// Memory of `bytes` zeros of which the host gives those pages that are touched, for addresses further
    /// apart than the host has memory between. It counts against [`Settings::host_bytes`] whole; and where
    /// [`Checks::initialised`] is on, what is known of each byte is not sparse.
    ///
    /// # Errors
    /// As for [`alloc`](Gpu::alloc).
    pub fn alloc_sparse(&self, bytes: u64) -> Result<u64, MemoryError> {
        self.memory.alloc_sparse(bytes)
    }

    /// Gives an allocation back. Its address is never used again.
    ///
    /// # Errors
    /// Not the start of a living allocation.
    pub fn free(&self, address: u64) -> Result<(), MemoryError> {
        self.memory.free(address)
    }

    /// Copies device memory to the host.
    ///
    /// # Errors
    /// Not inside one allocation.
    pub fn read(&self, address: u64, out: &mut [u8]) -> Result<(), MemoryError> {
        self.memory.read(address, out)
    }

    /// Copies host memory to the device.
    ///
    /// # Errors
    /// Not inside one allocation.
    pub fn write(&self, address: u64, data: &[u8]) -> Result<(), MemoryError> {
        self.memory.write(address, data)
    }

    /// Writes a pattern of 1, 2 or 4 bytes `count` times.
    ///
    /// # Errors
    /// Not inside one allocation, or not aligned to the pattern.
    pub fn fill(&self, address: u64, pattern: &[u8], count: u64) -> Result<(), MemoryError> {
        self.memory.fill(address, pattern, count)
    }

    /// Copies within the device.
    ///
    /// # Errors
    /// Either end not inside one allocation.
    pub fn copy(&self, to: u64, from: u64, bytes: u64) -> Result<(), MemoryError> {
        self.memory.copy(to, from, bytes)
    }

    /// Base and size of the living allocation that `address` is in.
    pub fn allocation(&self, address: u64) -> Option<(u64, u64)> {
        self.memory
            .allocation(address)
            .map(|info| (info.base, info.size))
    }

    /// Bytes free and in all.
    pub fn memory_info(&self) -> (u64, u64) {
        self.memory.info()
    }

    /// Runs a kernel to its end.
    ///
    /// # Errors
    /// The first fault, by which memory may have been changed in part.
    #[expect(
        clippy::result_large_err,
        reason = "a launch is a long call and a fault its end"
    )]
    pub fn launch(
        &self,
        kernel: &Kernel,
        config: &LaunchConfig,
        params: &[u8],
    ) -> Result<Counters, Fault> {
        self.launch_behind(kernel, config, None, None, params)
            .map(|(counters, _)| counters)
    }

    /// Runs a kernel to its end in clusters of so many blocks along x, y and z. A kernel that says itself
    /// how large its clusters are (`.reqnctapercluster`) needs no more than [`launch`](Gpu::launch).
    ///
    /// # Errors
    /// As for [`launch`](Gpu::launch); [`FaultKind::ClusterSize`](crate::FaultKind::ClusterSize).
    #[expect(
        clippy::result_large_err,
        reason = "a launch is a long call and a fault its end"
    )]
    pub fn launch_clusters(
        &self,
        kernel: &Kernel,
        config: &LaunchConfig,
        cluster: [u32; 3],
        params: &[u8],
    ) -> Result<Counters, Fault> {
        self.launch_behind(kernel, config, Some(cluster), None, params)
            .map(|(counters, _)| counters)
    }

    /// Runs a kernel to its end, where the launch that touched what `before` says may still run when it begins. What this
    /// one touches can be given to the next.
    #[expect(
        clippy::result_large_err,
        reason = "a launch is a long call and a fault its end"
    )]
    pub(crate) fn launch_behind(
        &self,
        kernel: &Kernel,
        config: &LaunchConfig,
        cluster: Option<[u32; 3]>,
        before: Option<&Footprint>,
        params: &[u8],
    ) -> Result<(Counters, Footprint), Fault> {
        crate::exec::launch(self, kernel, config, cluster, before, params).map_err(|fault| *fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_are_empty_or_not_there_change_nothing() {
        let defaults = Ok(Settings::default());
        assert_eq!(Settings::of(None, None, None), defaults);
        assert_eq!(Settings::of(Some(""), Some(" "), Some("0")), defaults);
        let settings = Settings::of(Some("memory"), Some(" 7 "), Some("1")).unwrap();
        assert_eq!(settings.checks, Checks::MEMORY);
        assert_eq!((settings.seed, settings.exact), (Some(7), true));
    }

    #[test]
    fn a_value_that_is_not_known_is_named() {
        for (checks, seed, exact, named) in [
            (Some("none"), None, None, "SOFTWARE_GPU_CHECKS is `none`"),
            (None, Some("-1"), None, "SOFTWARE_GPU_SEED is `-1`"),
            (None, Some("abc"), None, "SOFTWARE_GPU_SEED is `abc`"),
            (None, None, Some("yes"), "SOFTWARE_GPU_EXACT is `yes`"),
        ] {
            let said = Settings::of(checks, seed, exact).unwrap_err();
            assert!(
                said.starts_with(named) && said.contains("allowed"),
                "{said}"
            );
        }
    }
}
