//! Address spaces. A Rust pointer is generic: the hardware finds out at each access which memory it
//! is of. Names and signatures are Rust-CUDA's.

use cuda_std_macros::gpu_only;

/// A memory that a pointer can point into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressSpace {
    /// The device's memory.
    Global,
    /// The block's memory.
    Shared,
    /// The device's memory that kernels cannot write.
    Constant,
    /// The thread's memory.
    Local,
}

/// Whether `ptr`, a generic pointer, points into `address_space`.
///
/// # Safety
///
/// `ptr` is valid for reads of a `T`.
#[gpu_only]
#[inline(always)]
pub unsafe fn is_in_address_space<T>(ptr: *const T, address_space: AddressSpace) -> bool {
    macro_rules! isspacep {
        ($space:literal) => {{
            let inside: u32;
            // SAFETY: the instruction looks at the address alone. The predicate's register is
            // declared in the assembly's own scope.
            unsafe {
                core::arch::asm!(
                    "{{",
                    ".reg .pred %inside;",
                    concat!("isspacep.", $space, " %inside, {ptr};"),
                    "selp.u32 {inside}, 1, 0, %inside;",
                    "}}",
                    ptr = in(reg64) ptr,
                    inside = out(reg32) inside,
                    options(pure, nomem, nostack, preserves_flags),
                )
            };
            inside != 0
        }};
    }
    match address_space {
        AddressSpace::Global => isspacep!("global"),
        AddressSpace::Shared => isspacep!("shared"),
        AddressSpace::Constant => isspacep!("const"),
        AddressSpace::Local => isspacep!("local"),
    }
}

/// One `cvta` instruction, by its direction and address space.
#[cfg(target_arch = "nvptx64")]
macro_rules! cvta {
    ($direction:literal, $space:literal, $ptr:ident) => {{
        let converted;
        // SAFETY: the instruction computes with the address alone.
        unsafe {
            core::arch::asm!(
                concat!("cvta.", $direction, $space, ".u64 {converted}, {ptr};"),
                converted = out(reg64) converted,
                ptr = in(reg64) $ptr,
                options(pure, nomem, nostack, preserves_flags),
            )
        };
        converted
    }};
}

/// A generic pointer as an address in `address_space`, for assembly's `ld` and `st` of that space.
///
/// # Safety
///
/// `ptr` points into `address_space`.
#[gpu_only]
#[inline(always)]
pub unsafe fn convert_generic_to_specific_address_space<T>(
    ptr: *const T,
    address_space: AddressSpace,
) -> *const T {
    match address_space {
        AddressSpace::Global => cvta!("to.", "global", ptr),
        AddressSpace::Shared => cvta!("to.", "shared", ptr),
        AddressSpace::Constant => cvta!("to.", "const", ptr),
        AddressSpace::Local => cvta!("to.", "local", ptr),
    }
}

/// An address in `address_space` as a generic pointer, which Rust can follow.
///
/// # Safety
///
/// `ptr` is an address in `address_space`.
#[gpu_only]
#[inline(always)]
pub unsafe fn convert_specific_address_space_to_generic<T>(
    ptr: *const T,
    address_space: AddressSpace,
) -> *const T {
    match address_space {
        AddressSpace::Global => cvta!("", "global", ptr),
        AddressSpace::Shared => cvta!("", "shared", ptr),
        AddressSpace::Constant => cvta!("", "const", ptr),
        AddressSpace::Local => cvta!("", "local", ptr),
    }
}
