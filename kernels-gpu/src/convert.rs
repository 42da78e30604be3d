//! f16 and bf16 to f32 and back, two in a word. The `half` crate's own conversions are software here.

#[cfg(not(target_arch = "nvptx64"))]
use half::f16;

/// Two f16 in a word, low half first.
#[inline(always)]
pub fn unpack_f16(word: u32) -> [f32; 2] {
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
pub fn unpack_bf16(word: u32) -> [f32; 2] {
    [
        f32::from_bits(word << 16),
        f32::from_bits(word & 0xffff_0000),
    ]
}

/// Rounds two f32 to f16, the first into the low half.
#[inline(always)]
pub fn pack_f16([low, high]: [f32; 2]) -> u32 {
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
pub fn pack_bf16([low, high]: [f32; 2]) -> u32 {
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
