//! The processor that plays the device.

/// Which vector instructions the host has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host {
    pub avx512: bool,
    pub avx2: bool,
}

impl Host {
    #[cfg(target_arch = "x86_64")]
    pub fn detect() -> Host {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt");
        let avx512 = avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512cd")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        Host { avx512, avx2 }
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub fn detect() -> Host {
        Host {
            avx512: false,
            avx2: false,
        }
    }
}
