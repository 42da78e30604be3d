//! Which driver the process uses: decided once, at the first call or by [`choose`].

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};

use libloading::Library;
use thiserror::Error;

/// The environment variable that forces a driver: `nvidia` or `software`.
pub const SETTING: &str = "LAYERNORM_DRIVER";

/// NVIDIA's driver as the dynamic linker knows it.
const LIBRARY: &str = if cfg!(windows) {
    "nvcuda.dll"
} else {
    "libcuda.so.1"
};

/// A driver that the `cu*` functions can lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// NVIDIA's driver, on a real GPU.
    Nvidia,
    /// The software device.
    Software,
}

impl Backend {
    /// The name that `LAYERNORM_DRIVER` takes: `nvidia` or `software`.
    pub const fn name(self) -> &'static str {
        match self {
            Backend::Nvidia => "nvidia",
            Backend::Software => "software",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why there is no driver.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Error {
    /// `LAYERNORM_DRIVER` has a value that it cannot have.
    #[error("{SETTING} is {value:?}; allowed are nvidia and software")]
    UnknownSetting {
        /// The value.
        value: OsString,
    },
    /// NVIDIA's driver was asked for and its library does not load.
    #[error("NVIDIA's driver does not load: {reason}")]
    NotLoaded {
        /// What the dynamic linker says.
        reason: String,
    },
    /// NVIDIA's driver was asked for and does not start.
    #[error("NVIDIA's driver does not start: cuInit gives CUDA error {code}")]
    NotStarted {
        /// The `CUresult`.
        code: u32,
    },
    /// NVIDIA's driver was asked for and reports no device.
    #[error("NVIDIA's driver reports no device")]
    NoDevice,
}

/// Why a driver cannot be chosen.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChooseError {
    /// The process already uses the other driver.
    #[error("the process already uses the driver `{0}`, and cannot change it")]
    AlreadyChosen(Backend),
    /// `LAYERNORM_DRIVER` forces the other driver.
    #[error("{SETTING} forces the driver `{0}`")]
    Forced(Backend),
    /// The driver is not there.
    #[error(transparent)]
    Unavailable(#[from] Error),
}

/// The driver in use.
pub(crate) enum Driver {
    Nvidia(Library),
    Software,
}

impl Driver {
    fn backend(&self) -> Backend {
        match self {
            Driver::Nvidia(_) => Backend::Nvidia,
            Driver::Software => Backend::Software,
        }
    }
}

static DRIVER: OnceLock<Driver> = OnceLock::new();
/// Held while deciding, so that two threads do not load two drivers.
static DECIDING: Mutex<()> = Mutex::new(());

/// The driver of this process, which is decided here if it was not before.
///
/// # Errors
/// `LAYERNORM_DRIVER` is neither `nvidia` nor `software`, or it is `nvidia` and NVIDIA's driver cannot
/// be used. Nothing is decided then.
pub fn backend() -> Result<Backend, Error> {
    driver().map(Driver::backend)
}

/// Makes the process use that driver. To be called before the first `cu*` call; choosing again what is
/// chosen is fine.
///
/// # Errors
/// The other driver is in use or forced by `LAYERNORM_DRIVER`, or NVIDIA's cannot be used. Nothing is
/// decided then.
pub fn choose(backend: Backend) -> Result<(), ChooseError> {
    let _deciding = DECIDING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(driver) = DRIVER.get() {
        return match driver.backend() {
            used if used == backend => Ok(()),
            used => Err(ChooseError::AlreadyChosen(used)),
        };
    }
    if let Some(forced) = setting()?.filter(|forced| *forced != backend) {
        return Err(ChooseError::Forced(forced));
    }
    let driver = open(backend)?;
    DRIVER.get_or_init(|| driver);
    Ok(())
}

/// What the software device said of the last thing that went wrong in this process: kernel, PTX line,
/// block, thread and address of a fault, or the log of a module that did not load. None on NVIDIA's
/// driver.
pub fn last_fault() -> Option<String> {
    match DRIVER.get() {
        Some(Driver::Software) => software_gpu::driver::last_fault(),
        _ => None,
    }
}

/// The driver of this process.
pub(crate) fn driver() -> Result<&'static Driver, Error> {
    if let Some(driver) = DRIVER.get() {
        return Ok(driver);
    }
    let _deciding = DECIDING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(driver) = DRIVER.get() {
        return Ok(driver);
    }
    let driver = match setting()? {
        Some(backend) => open(backend)?,
        None => open(Backend::Nvidia).unwrap_or(Driver::Software),
    };
    Ok(DRIVER.get_or_init(|| driver))
}

/// The driver that the environment forces.
fn setting() -> Result<Option<Backend>, Error> {
    match env::var_os(SETTING) {
        None => Ok(None),
        Some(value) => parse(value),
    }
}

fn parse(value: OsString) -> Result<Option<Backend>, Error> {
    match value.to_str() {
        Some("") => Ok(None),
        Some("nvidia") => Ok(Some(Backend::Nvidia)),
        Some("software") => Ok(Some(Backend::Software)),
        _ => Err(Error::UnknownSetting { value }),
    }
}

fn open(backend: Backend) -> Result<Driver, Error> {
    match backend {
        Backend::Software => Ok(Driver::Software),
        Backend::Nvidia => open_nvidia().map(Driver::Nvidia),
    }
}

/// NVIDIA's driver, started, with at least one device.
fn open_nvidia() -> Result<Library, Error> {
    type Init = unsafe extern "C" fn(u32) -> u32;
    type Count = unsafe extern "C" fn(*mut i32) -> u32;
    let not_loaded = |error: libloading::Error| Error::NotLoaded {
        reason: error.to_string(),
    };
    // SAFETY: loading a CUDA driver runs its initialisers, which are made to run in any process.
    let library = unsafe { Library::new(LIBRARY) }.map_err(not_loaded)?;
    // SAFETY: both have these types in every CUDA driver.
    let (init, count) = unsafe {
        let init = library.get::<Init>(b"cuInit\0").map_err(not_loaded)?;
        let count = library.get::<Count>(b"cuDeviceGetCount\0");
        (*init, *count.map_err(not_loaded)?)
    };
    if std::ptr::fn_addr_eq(init, crate::symbols::cuInit as Init) {
        // This very crate, built into a library of that name: it would call itself for ever.
        let reason = format!("{LIBRARY} is this program's own forwarder");
        return Err(Error::NotLoaded { reason });
    }
    // SAFETY: the driver's own function, with the one value that its parameter may have.
    let code = unsafe { init(0) };
    if code != 0 {
        return Err(Error::NotStarted { code });
    }
    let mut devices = 0;
    // SAFETY: `devices` is writable.
    let code = unsafe { count(&mut devices) };
    if code != 0 || devices < 1 {
        return Err(Error::NoDevice);
    }
    Ok(library)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_takes_two_names_and_says_so() {
        assert_eq!(parse("nvidia".into()), Ok(Some(Backend::Nvidia)));
        assert_eq!(parse("software".into()), Ok(Some(Backend::Software)));
        assert_eq!(parse("".into()), Ok(None));
        for value in ["NVIDIA", "cuda", " software"] {
            let text = parse(value.into()).unwrap_err().to_string();
            assert!(
                text.contains(value) && text.contains("nvidia and software"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_backends_name_is_what_the_setting_takes() {
        for backend in [Backend::Nvidia, Backend::Software] {
            assert_eq!(parse(backend.name().into()), Ok(Some(backend)));
        }
    }
}
