//! Masked loads and stores of device memory, one instruction each.
//!
//! They are `asm!`: rustc's backend makes 16-byte accesses of arrays only by luck, and has no name for
//! `.nc`. Off the device the same functions are plain reads and writes, so that the kernels
//! type-check there. Each takes its condition as a predicate rather than a branch, so that loads that
//! follow each other are all under way before the first is waited for.

/// A masked load: `asm!` on the device, a plain read elsewhere.
macro_rules! load_fn {
    ($name:ident, $word:ty, $register:ident, $count:literal, $instruction:literal, $list:literal, $($out:ident),*) => {
        /// Reads if `valid`, else gives `otherwise`.
        ///
        /// # Safety
        /// If `valid`, the address is readable and aligned to the access.
        #[inline(always)]
        pub unsafe fn $name(at: *const $word, valid: bool, otherwise: [$word; $count]) -> [$word; $count] {
            #[cfg(target_arch = "nvptx64")]
            {
                let [$(mut $out),*] = otherwise;
                // SAFETY: the caller says that the address is readable and aligned if `valid`; the
                // instruction runs under that predicate and writes only the named registers.
                unsafe {
                    core::arch::asm!(
                        "{{ .reg .pred p; setp.ne.u32 p, {valid}, 0;",
                        concat!("@p ", $instruction, " ", $list, ", [{at}]; }}"),
                        valid = in(reg32) valid as u32,
                        at = in(reg64) at,
                        $($out = inout($register) $out,)*
                        options(nostack, preserves_flags, readonly),
                    );
                }
                [$($out),*]
            }
            #[cfg(not(target_arch = "nvptx64"))]
            {
                // SAFETY: as above.
                if valid { unsafe { at.cast::<[$word; $count]>().read() } } else { otherwise }
            }
        }
    };
}

/// A masked store: `asm!` on the device, a plain write elsewhere.
macro_rules! store_fn {
    ($name:ident, $word:ty, $register:ident, $count:literal, $instruction:literal, $list:literal, $($value:ident),*) => {
        /// Writes if `valid`.
        ///
        /// # Safety
        /// If `valid`, the address is writable and aligned to the access, and no other lane writes there.
        #[inline(always)]
        pub unsafe fn $name(at: *mut $word, values: [$word; $count], valid: bool) {
            #[cfg(target_arch = "nvptx64")]
            {
                let [$($value),*] = values;
                // SAFETY: the caller says that the address is writable and aligned if `valid`; the
                // instruction runs under that predicate.
                unsafe {
                    core::arch::asm!(
                        "{{ .reg .pred p; setp.ne.u32 p, {valid}, 0;",
                        concat!("@p ", $instruction, " [{at}], ", $list, "; }}"),
                        valid = in(reg32) valid as u32,
                        at = in(reg64) at,
                        $($value = in($register) $value,)*
                        options(nostack, preserves_flags),
                    );
                }
            }
            #[cfg(not(target_arch = "nvptx64"))]
            {
                // SAFETY: as above.
                if valid { unsafe { at.cast::<[$word; $count]>().write(values) } }
            }
        }
    };
}

// Without `L1::no_allocate`: with it, an H200 is 4 % slower.
load_fn!(
    load_x4,
    u32,
    reg32,
    4,
    "ld.global.v4.b32",
    "{{{a}, {b}, {c}, {d}}}",
    a,
    b,
    c,
    d
);
load_fn!(
    load_x4_shared,
    u32,
    reg32,
    4,
    "ld.global.nc.v4.b32",
    "{{{a}, {b}, {c}, {d}}}",
    a,
    b,
    c,
    d
);
load_fn!(load_word, u32, reg32, 1, "ld.global.b32", "{a}", a);
load_fn!(
    load_word_shared,
    u32,
    reg32,
    1,
    "ld.global.nc.b32",
    "{a}",
    a
);
load_fn!(load_half, u16, reg16, 1, "ld.global.b16", "{a}", a);
load_fn!(
    load_half_shared,
    u16,
    reg16,
    1,
    "ld.global.nc.b16",
    "{a}",
    a
);
load_fn!(load_double, u64, reg64, 1, "ld.global.b64", "{a}", a);
store_fn!(
    store_x4,
    u32,
    reg32,
    4,
    "st.global.v4.b32",
    "{{{a}, {b}, {c}, {d}}}",
    a,
    b,
    c,
    d
);
store_fn!(store_word, u32, reg32, 1, "st.global.b32", "{a}", a);
store_fn!(store_half, u16, reg16, 1, "st.global.b16", "{a}", a);
store_fn!(store_double, u64, reg64, 1, "st.global.b64", "{a}", a);

/// Reads 16 bits into 32 if `valid`, else gives zero: two such are not put together, and so waited for, before
/// the code does it.
///
/// # Safety
/// If `valid`, the address is readable and aligned to the access.
#[inline(always)]
pub unsafe fn load_half_wide(at: *const u16, valid: bool) -> u32 {
    #[cfg(target_arch = "nvptx64")]
    {
        let mut value = 0;
        // SAFETY: the caller says that the address is readable and aligned if `valid`; the instruction runs
        // under that predicate and writes only the named register.
        unsafe {
            core::arch::asm!(
                "{{ .reg .pred p; setp.ne.u32 p, {valid}, 0;",
                "@p ld.global.u16 {value}, [{at}]; }}",
                valid = in(reg32) valid as u32,
                at = in(reg64) at,
                value = inout(reg32) value,
                options(nostack, preserves_flags, readonly),
            );
        }
        value
    }
    #[cfg(not(target_arch = "nvptx64"))]
    {
        // SAFETY: as above.
        if valid {
            unsafe { at.read() as u32 }
        } else {
            0
        }
    }
}
