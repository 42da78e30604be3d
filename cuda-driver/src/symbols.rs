//! The `cu*` symbols that the linker looks for: each finds its twin in the driver of this process once,
//! and calls it from then on.

use std::io::Write;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::backend::{Driver, driver};

const NO_DEVICE: u32 = 100;
const NOT_SUPPORTED: u32 = 801;

/// A symbol's place in the driver, once it was looked up.
struct Twin {
    /// With a terminating zero.
    name: &'static str,
    found: AtomicPtr<()>,
}

impl Twin {
    const fn new(name: &'static str) -> Twin {
        Twin {
            name,
            found: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    /// The driver's function, or the `CUresult` that stands for its absence.
    #[inline]
    fn find(&self, software: *const ()) -> Result<*const (), u32> {
        match self.found.load(Ordering::Acquire).cast_const() {
            found if !found.is_null() => Ok(found),
            _ => self.look_up(software),
        }
    }

    #[cold]
    fn look_up(&self, software: *const ()) -> Result<*const (), u32> {
        let found = match driver() {
            Ok(Driver::Software) => software,
            Ok(Driver::Nvidia(library)) => {
                // SAFETY: any symbol can be taken for an untyped pointer. The one who calls it gives it
                // the type that CUDA's headers give to that name.
                let symbol = unsafe { library.get::<*const ()>(self.name.as_bytes()) };
                *symbol.map_err(|_| NOT_SUPPORTED)?
            }
            Err(error) => {
                // A `CUresult` cannot say why, and a caller in C has no other way to hear it.
                static SAID: Once = Once::new();
                SAID.call_once(|| {
                    let _ = writeln!(std::io::stderr().lock(), "cuda-driver: {error}");
                });
                return Err(NO_DEVICE);
            }
        };
        self.found.store(found.cast_mut(), Ordering::Release);
        Ok(found)
    }
}

macro_rules! forward {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => { $(
        #[unsafe(no_mangle)]
        #[allow(clippy::too_many_arguments, reason = "true of some symbols, not of all")]
        pub unsafe extern "C" fn $name($($arg: $type),*) -> u32 {
            static TWIN: Twin = Twin::new(concat!(stringify!($name), "\0"));
            type Function = unsafe extern "C" fn($($type),*) -> u32;
            match TWIN.find(software_gpu::driver::$name as *const ()) {
                // SAFETY: the function of this name has this type in any CUDA driver, and gets what
                // the caller passes.
                Ok(twin) => unsafe { std::mem::transmute::<*const (), Function>(twin)($($arg),*) },
                Err(code) => code,
            }
        }
    )* };
}

software_gpu::for_each_supported!(forward);
software_gpu::for_each_unsupported!(forward);
