//! Float functions that `core` lacks, under the names of `std`.
//!
//! Upstream's trait has all of `std`'s functions, by NVIDIA's libdevice. This one has those for which
//! the hardware has an instruction, or two: rounding, square root, fused multiply-add.

/// `std`'s float functions where there is no `std`. On the host, `std`'s own.
pub trait GpuFloat: Copy + PartialOrd + private::Sealed {
    /// The largest integer not above `self`.
    #[must_use]
    fn floor(self) -> Self;
    /// The smallest integer not below `self`.
    #[must_use]
    fn ceil(self) -> Self;
    /// The nearest integer, halves away from zero.
    #[must_use]
    fn round(self) -> Self;
    /// The integer part.
    #[must_use]
    fn trunc(self) -> Self;
    /// What [`trunc`](Self::trunc) takes away.
    #[must_use]
    fn fract(self) -> Self;
    /// The absolute value.
    #[must_use]
    fn abs(self) -> Self;
    /// 1 with the sign of `self`, or NaN.
    #[must_use]
    fn signum(self) -> Self;
    /// `self` with the sign of `sign`.
    #[must_use]
    fn copysign(self, sign: Self) -> Self;
    /// `self * a + b`, rounded once.
    #[must_use]
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// The square root, correctly rounded.
    #[must_use]
    fn sqrt(self) -> Self;
}

mod private {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// One implementation a type: LLVM's intrinsics on the device, `std` on the host.
macro_rules! gpu_float {
    ($float:ident, $suffix:literal) => {
        impl GpuFloat for $float {
            gpu_float!(@unary $float, $suffix: floor ceil round trunc sqrt);

            #[inline(always)]
            fn fract(self) -> Self {
                self - GpuFloat::trunc(self)
            }
            #[inline(always)]
            fn abs(self) -> Self {
                $float::abs(self)
            }
            #[inline(always)]
            fn signum(self) -> Self {
                $float::signum(self)
            }
            #[inline(always)]
            fn copysign(self, sign: Self) -> Self {
                $float::copysign(self, sign)
            }
            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                #[cfg(not(target_arch = "nvptx64"))]
                {
                    $float::mul_add(self, a, b)
                }
                #[cfg(target_arch = "nvptx64")]
                {
                    unsafe extern "C" {
                        #[link_name = concat!("llvm.fma.", $suffix)]
                        fn intrinsic(a: $float, b: $float, c: $float) -> $float;
                    }
                    // SAFETY: arithmetic has no conditions.
                    unsafe { intrinsic(self, a, b) }
                }
            }
        }
    };
    (@unary $float:ident, $suffix:literal: $($function:ident)*) => {$(
        #[inline(always)]
        fn $function(self) -> Self {
            #[cfg(not(target_arch = "nvptx64"))]
            {
                $float::$function(self)
            }
            #[cfg(target_arch = "nvptx64")]
            {
                unsafe extern "C" {
                    #[link_name = concat!("llvm.", stringify!($function), ".", $suffix)]
                    fn intrinsic(value: $float) -> $float;
                }
                // SAFETY: arithmetic has no conditions.
                unsafe { intrinsic(self) }
            }
        }
    )*};
}

gpu_float!(f32, "f32");
gpu_float!(f64, "f64");
