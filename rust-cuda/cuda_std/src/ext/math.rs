//! Arithmetic that Rust has no name for: one instruction each. On the host the same value, correctly
//! rounded, which is within the error stated for the device.

/// `a * b + c`, rounded once.
#[inline(always)]
#[must_use]
pub fn fma(a: f32, b: f32, c: f32) -> f32 {
    crate::GpuFloat::mul_add(a, b, c)
}

/// Functions of floats that are one LLVM intrinsic on the device and an expression on the host.
macro_rules! approximate {
    ($($(#[$doc:meta])* $name:ident($($argument:ident),*) = $intrinsic:literal, host $host:expr;)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        #[must_use]
        pub fn $name($($argument: f32),*) -> f32 {
            #[cfg(not(target_arch = "nvptx64"))]
            {
                $host
            }
            #[cfg(target_arch = "nvptx64")]
            {
                unsafe extern "C" {
                    #[link_name = $intrinsic]
                    fn intrinsic($($argument: f32),*) -> f32;
                }
                // SAFETY: arithmetic has no conditions.
                unsafe { intrinsic($($argument),*) }
            }
        }
    )*};
}

approximate! {
    /// 1 / sqrt(x) to 2 units in the last place. +infinity for 0, NaN below it.
    rsqrt_approx(x) = "llvm.nvvm.rsqrt.approx.f", host (1.0 / f64::from(x).sqrt()) as f32;
    /// sqrt(x) to 3 units in the last place.
    sqrt_approx(x) = "llvm.nvvm.sqrt.approx.f", host x.sqrt();
    /// x / y to 2 units in the last place, for |y| from 2^-126 to 2^126; 0 above that.
    div_approx(x, y) = "llvm.nvvm.div.approx.f", host x / y;
    /// 2^x to 2 units in the last place.
    ex2_approx(x) = "llvm.nvvm.ex2.approx.f", host x.exp2();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_rounds_the_reciprocal_root_once() {
        assert_eq!(rsqrt_approx(4.0), 0.5);
        assert_eq!(rsqrt_approx(0.0), f32::INFINITY);
        assert!(rsqrt_approx(-1.0).is_nan());
        assert_eq!(rsqrt_approx(2.0), core::f32::consts::FRAC_1_SQRT_2);
    }

    #[test]
    fn fma_rounds_once() {
        let a = 1.0 + f32::EPSILON;
        assert_eq!(fma(a, a, -(a * a)), f32::EPSILON * f32::EPSILON);
    }
}
