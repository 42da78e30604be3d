//! The entry points as C has them, made from the two tables.

use super::error::Code;
use super::ffi::guard;
use super::report;

/// The bodies: each takes the parameters of the entry point of its name.
mod body {
    pub(in super::super) use super::super::attributes::*;
    pub(in super::super) use super::super::capture::*;
    pub(in super::super) use super::super::context::*;
    pub(in super::super) use super::super::copy::*;
    pub(in super::super) use super::super::device::*;
    pub(in super::super) use super::super::event::*;
    pub(in super::super) use super::super::function::*;
    pub(in super::super) use super::super::graph::*;
    pub(in super::super) use super::super::host::*;
    pub(in super::super) use super::super::launch::*;
    pub(in super::super) use super::super::lookup::*;
    pub(in super::super) use super::super::memory::*;
    pub(in super::super) use super::super::module::*;
    pub(in super::super) use super::super::occupancy::*;
    pub(in super::super) use super::super::pool::*;
    pub(in super::super) use super::super::settings::*;
    pub(in super::super) use super::super::stream::*;
}

macro_rules! supported {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => {
        $(
            /// As the CUDA driver API has it.
            ///
            /// # Safety
            /// Pointers are null or point to what the driver API says, with its sizes.
            #[allow(unused_unsafe, clippy::too_many_arguments, reason = "true of most entry points, not of all")]
            pub unsafe extern "C" fn $name($($arg: $type),*) -> u32 {
                // SAFETY: the caller passes what the driver API asks for.
                guard(stringify!($name), || unsafe { body::$name($($arg),*) })
            }
        )*

        fn find_supported(name: &str) -> Option<*const u8> {
            match name {
                $(stringify!($name) => Some($name as *const u8),)*
                _ => None,
            }
        }
    };
}

macro_rules! unsupported {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => {
        $(
            /// Not had by this device: gives `CUDA_ERROR_NOT_SUPPORTED`.
            ///
            /// # Safety
            /// Nothing is asked: no pointer is followed.
            #[allow(clippy::too_many_arguments, reason = "true of some entry points, not of all")]
            pub unsafe extern "C" fn $name($(_: $type),*) -> u32 {
                guard(stringify!($name), || {
                    report::unsupported(stringify!($name));
                    Err(Code::NOT_SUPPORTED)
                })
            }
        )*

        fn find_unsupported(name: &str) -> Option<*const u8> {
            match name {
                $(stringify!($name) => Some($name as *const u8),)*
                _ => None,
            }
        }
    };
}

crate::for_each_supported!(supported);
crate::for_each_unsupported!(unsupported);

/// The entry point of that name, had or not.
pub(super) fn find(name: &str) -> Option<*const u8> {
    find_supported(name).or_else(|| find_unsupported(name))
}
