//! Elements in and out of device memory, up to 16 bytes a lane, and to and from f32.
//!
//! An access moves `E` elements: as many as fill 16 bytes (`E` = 4 for f32, 8 for f16 and bf16), or one,
//! for rows whose start is not aligned. A load that is masked out touches no memory and gives zeros.
//!
//! The accesses are `asm!`: rustc's backend makes 16-byte accesses of arrays only by luck, and has no name
//! for the cache hints. Off the device the same functions are plain reads and writes, so that the kernels
//! type-check there.

use half::{bf16, f16};

/// An element type that kernels read and write `E` at a time.
pub trait Packed<const E: usize>: Copy {
    /// The elements as they lie in memory.
    type Raw: Copy;

    /// `E` zeros.
    const ZEROS: Self::Raw;

    /// `E` ones.
    const ONES: Self::Raw;

    /// Reads `E` elements that this launch reads once; masked out, gives `otherwise`.
    ///
    /// # Safety
    /// If `valid`, `E` elements at `at` are readable, aligned to `E * size_of::<Self>()` or 16, the smaller.
    unsafe fn load(at: *const Self, valid: bool, otherwise: Self::Raw) -> Self::Raw;

    /// Reads `E` elements that every row needs and nothing writes during the launch; masked out, gives
    /// `otherwise`.
    ///
    /// # Safety
    /// As for [`load`](Packed::load).
    unsafe fn load_shared(at: *const Self, valid: bool, otherwise: Self::Raw) -> Self::Raw;

    /// Widens to f32, exactly.
    fn unpack(raw: Self::Raw) -> [f32; E];

    /// Rounds to nearest even.
    fn pack(values: [f32; E]) -> Self::Raw;

    /// Writes `E` elements, unless masked out.
    ///
    /// # Safety
    /// As for [`load`](Packed::load), writable, and no other lane writes there.
    unsafe fn store(at: *mut Self, raw: Self::Raw, valid: bool);
}

/// A masked load: `asm!` on the device, a plain read elsewhere.
macro_rules! load_fn {
    ($name:ident, $word:ty, $register:ident, $count:literal, $instruction:literal, $list:literal, $($out:ident),*) => {
        #[inline(always)]
        unsafe fn $name(at: *const $word, valid: bool, otherwise: [$word; $count]) -> [$word; $count] {
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
        #[inline(always)]
        unsafe fn $name(at: *mut $word, values: [$word; $count], valid: bool) {
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

load_fn!(
    load_x4,
    u32,
    reg32,
    4,
    "ld.global.L1::no_allocate.v4.b32",
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

/// Reads one f32; masked out, gives zero. For what this launch may also write.
///
/// # Safety
/// If `valid`, `at` is readable and aligned.
#[inline(always)]
pub unsafe fn load_f32(at: *const f32, valid: bool) -> f32 {
    // SAFETY: the caller's.
    let [bits] = unsafe { load_word(at.cast(), valid, [0]) };
    f32::from_bits(bits)
}

/// Reads one f32 that nothing writes during the launch; masked out, gives zero.
///
/// # Safety
/// As for [`load_f32`].
#[inline(always)]
pub unsafe fn load_f32_shared(at: *const f32, valid: bool) -> f32 {
    // SAFETY: the caller's.
    let [bits] = unsafe { load_word_shared(at.cast(), valid, [0]) };
    f32::from_bits(bits)
}

/// Writes one f32, unless masked out.
///
/// # Safety
/// As for [`load_f32`], writable, and no other lane writes there.
#[inline(always)]
pub unsafe fn store_f32(at: *mut f32, value: f32, valid: bool) {
    // SAFETY: the caller's.
    unsafe { store_word(at.cast(), [value.to_bits()], valid) }
}

impl Packed<1> for f32 {
    type Raw = [u32; 1];
    const ZEROS: Self::Raw = [0];
    const ONES: Self::Raw = [1.0f32.to_bits()];

    #[inline(always)]
    unsafe fn load(at: *const f32, valid: bool, otherwise: Self::Raw) -> Self::Raw {
        // SAFETY: the caller's.
        unsafe { load_word(at.cast(), valid, otherwise) }
    }

    #[inline(always)]
    unsafe fn load_shared(at: *const f32, valid: bool, otherwise: Self::Raw) -> Self::Raw {
        // SAFETY: the caller's.
        unsafe { load_word_shared(at.cast(), valid, otherwise) }
    }

    #[inline(always)]
    fn unpack(raw: [u32; 1]) -> [f32; 1] {
        raw.map(f32::from_bits)
    }

    #[inline(always)]
    fn pack(values: [f32; 1]) -> [u32; 1] {
        values.map(f32::to_bits)
    }

    #[inline(always)]
    unsafe fn store(at: *mut f32, raw: [u32; 1], valid: bool) {
        // SAFETY: the caller's.
        unsafe { store_word(at.cast(), raw, valid) }
    }
}

impl Packed<4> for f32 {
    type Raw = [u32; 4];
    const ZEROS: Self::Raw = [0; 4];
    const ONES: Self::Raw = [1.0f32.to_bits(); 4];

    #[inline(always)]
    unsafe fn load(at: *const f32, valid: bool, otherwise: Self::Raw) -> Self::Raw {
        // SAFETY: the caller's.
        unsafe { load_x4(at.cast(), valid, otherwise) }
    }

    #[inline(always)]
    unsafe fn load_shared(at: *const f32, valid: bool, otherwise: Self::Raw) -> Self::Raw {
        // SAFETY: the caller's.
        unsafe { load_x4_shared(at.cast(), valid, otherwise) }
    }

    #[inline(always)]
    fn unpack(raw: [u32; 4]) -> [f32; 4] {
        raw.map(f32::from_bits)
    }

    #[inline(always)]
    fn pack(values: [f32; 4]) -> [u32; 4] {
        values.map(f32::to_bits)
    }

    #[inline(always)]
    unsafe fn store(at: *mut f32, raw: [u32; 4], valid: bool) {
        // SAFETY: the caller's.
        unsafe { store_x4(at.cast(), raw, valid) }
    }
}

/// f32 weights beside 16-bit rows: eight to a lane, in two accesses.
impl Packed<8> for f32 {
    type Raw = [[u32; 4]; 2];
    const ZEROS: Self::Raw = [[0; 4]; 2];
    const ONES: Self::Raw = [[1.0f32.to_bits(); 4]; 2];

    #[inline(always)]
    unsafe fn load(at: *const f32, valid: bool, otherwise: Self::Raw) -> Self::Raw {
        // SAFETY: the caller's: eight elements, so four and four.
        unsafe {
            [
                load_x4(at.cast(), valid, otherwise[0]),
                load_x4(at.add(4).cast(), valid, otherwise[1]),
            ]
        }
    }

    #[inline(always)]
    unsafe fn load_shared(at: *const f32, valid: bool, otherwise: Self::Raw) -> Self::Raw {
        // SAFETY: the caller's: eight elements, so four and four.
        unsafe {
            [
                load_x4_shared(at.cast(), valid, otherwise[0]),
                load_x4_shared(at.add(4).cast(), valid, otherwise[1]),
            ]
        }
    }

    #[inline(always)]
    fn unpack([low, high]: Self::Raw) -> [f32; 8] {
        let [a, b, c, d] = low.map(f32::from_bits);
        let [e, f, g, h] = high.map(f32::from_bits);
        [a, b, c, d, e, f, g, h]
    }

    #[inline(always)]
    fn pack([a, b, c, d, e, f, g, h]: [f32; 8]) -> Self::Raw {
        [
            [a, b, c, d].map(f32::to_bits),
            [e, f, g, h].map(f32::to_bits),
        ]
    }

    #[inline(always)]
    unsafe fn store(at: *mut f32, [low, high]: Self::Raw, valid: bool) {
        // SAFETY: the caller's: eight elements, so four and four.
        unsafe {
            store_x4(at.cast(), low, valid);
            store_x4(at.add(4).cast(), high, valid);
        }
    }
}

/// The 16-bit types differ only in how they convert.
macro_rules! half_packed {
    ($type:ty, $unpack:ident, $pack:ident) => {
        impl Packed<1> for $type {
            type Raw = [u16; 1];
            const ZEROS: Self::Raw = [0];
            const ONES: Self::Raw = [<$type>::ONE.to_bits()];

            #[inline(always)]
            unsafe fn load(at: *const $type, valid: bool, otherwise: Self::Raw) -> Self::Raw {
                // SAFETY: the caller's.
                unsafe { load_half(at.cast(), valid, otherwise) }
            }

            #[inline(always)]
            unsafe fn load_shared(
                at: *const $type,
                valid: bool,
                otherwise: Self::Raw,
            ) -> Self::Raw {
                // SAFETY: the caller's.
                unsafe { load_half_shared(at.cast(), valid, otherwise) }
            }

            #[inline(always)]
            fn unpack([raw]: [u16; 1]) -> [f32; 1] {
                [$unpack(raw as u32)[0]]
            }

            #[inline(always)]
            fn pack([value]: [f32; 1]) -> [u16; 1] {
                [$pack([value, 0.0]) as u16]
            }

            #[inline(always)]
            unsafe fn store(at: *mut $type, raw: [u16; 1], valid: bool) {
                // SAFETY: the caller's.
                unsafe { store_half(at.cast(), raw, valid) }
            }
        }

        impl Packed<8> for $type {
            type Raw = [u32; 4];
            const ZEROS: Self::Raw = [0; 4];
            const ONES: Self::Raw = [<$type>::ONE.to_bits() as u32 * 0x1_0001; 4];

            #[inline(always)]
            unsafe fn load(at: *const $type, valid: bool, otherwise: Self::Raw) -> Self::Raw {
                // SAFETY: the caller's.
                unsafe { load_x4(at.cast(), valid, otherwise) }
            }

            #[inline(always)]
            unsafe fn load_shared(
                at: *const $type,
                valid: bool,
                otherwise: Self::Raw,
            ) -> Self::Raw {
                // SAFETY: the caller's.
                unsafe { load_x4_shared(at.cast(), valid, otherwise) }
            }

            #[inline(always)]
            fn unpack(raw: [u32; 4]) -> [f32; 8] {
                let [[a, b], [c, d], [e, f], [g, h]] = raw.map($unpack);
                [a, b, c, d, e, f, g, h]
            }

            #[inline(always)]
            fn pack([a, b, c, d, e, f, g, h]: [f32; 8]) -> [u32; 4] {
                [[a, b], [c, d], [e, f], [g, h]].map($pack)
            }

            #[inline(always)]
            unsafe fn store(at: *mut $type, raw: [u32; 4], valid: bool) {
                // SAFETY: the caller's.
                unsafe { store_x4(at.cast(), raw, valid) }
            }
        }
    };
}

half_packed!(f16, unpack_f16, pack_f16);
half_packed!(bf16, unpack_bf16, pack_bf16);

/// Two f16 in a word, low half first.
#[inline(always)]
fn unpack_f16(word: u32) -> [f32; 2] {
    #[cfg(target_arch = "nvptx64")]
    {
        let (low, high): (f32, f32);
        // SAFETY: register arithmetic.
        unsafe {
            core::arch::asm!(
                "{{ .reg .b16 lo, hi; mov.b32 {{lo, hi}}, {word};",
                "cvt.f32.f16 {low}, lo; cvt.f32.f16 {high}, hi; }}",
                word = in(reg32) word, low = out(reg32) low, high = out(reg32) high,
                options(nostack, preserves_flags, pure, nomem),
            );
        }
        [low, high]
    }
    #[cfg(not(target_arch = "nvptx64"))]
    [
        f16::from_bits(word as u16).to_f32(),
        f16::from_bits((word >> 16) as u16).to_f32(),
    ]
}

/// Two bf16 in a word, low half first. A bf16 is the upper half of an f32.
#[inline(always)]
fn unpack_bf16(word: u32) -> [f32; 2] {
    [
        f32::from_bits(word << 16),
        f32::from_bits(word & 0xffff_0000),
    ]
}

/// Rounds two f32 to f16, the first into the low half.
#[inline(always)]
fn pack_f16([low, high]: [f32; 2]) -> u32 {
    #[cfg(target_arch = "nvptx64")]
    {
        let word;
        // SAFETY: register arithmetic.
        unsafe {
            #[cfg(cuda_arch = "80")]
            core::arch::asm!(
                "cvt.rn.f16x2.f32 {word}, {high}, {low};",
                word = out(reg32) word, low = in(reg32) low, high = in(reg32) high,
                options(nostack, preserves_flags, pure, nomem),
            );
            #[cfg(not(cuda_arch = "80"))]
            core::arch::asm!(
                "{{ .reg .b16 lo, hi; cvt.rn.f16.f32 lo, {low}; cvt.rn.f16.f32 hi, {high};",
                "mov.b32 {word}, {{lo, hi}}; }}",
                word = out(reg32) word, low = in(reg32) low, high = in(reg32) high,
                options(nostack, preserves_flags, pure, nomem),
            );
        }
        word
    }
    #[cfg(not(target_arch = "nvptx64"))]
    {
        f16::from_f32(low).to_bits() as u32 | (f16::from_f32(high).to_bits() as u32) << 16
    }
}

/// Rounds two f32 to bf16, the first into the low half.
#[inline(always)]
fn pack_bf16([low, high]: [f32; 2]) -> u32 {
    #[cfg(all(target_arch = "nvptx64", cuda_arch = "80"))]
    {
        let word;
        // SAFETY: register arithmetic.
        unsafe {
            core::arch::asm!(
                "cvt.rn.bf16x2.f32 {word}, {high}, {low};",
                word = out(reg32) word, low = in(reg32) low, high = in(reg32) high,
                options(nostack, preserves_flags, pure, nomem),
            );
        }
        word
    }
    #[cfg(not(all(target_arch = "nvptx64", cuda_arch = "80")))]
    {
        round_to_bf16(low) | round_to_bf16(high) << 16
    }
}

/// Nearest even by integer arithmetic, for devices without the instruction (before sm_80).
#[cfg(not(all(target_arch = "nvptx64", cuda_arch = "80")))]
#[inline(always)]
fn round_to_bf16(value: f32) -> u32 {
    let bits = value.to_bits();
    // Half a unit, and one less when the kept part is even, carries into the upper half exactly when
    // nearest-even rounds up. A NaN's payload could be carried away to an infinity, so it is replaced.
    let rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    if bits & 0x7fff_ffff > 0x7f80_0000 {
        0x7fff
    } else {
        rounded
    }
}
