//! The kernels as PTX text, one image a target, as `cargo xtask build-ptx` wrote them.

/// PTX for one target. It runs on that target and every later one.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// The target, such as 80 for sm_80.
    pub target: u32,
    /// The PTX text.
    pub ptx: &'static str,
}

/// Every image, oldest target first. The last has only what the ones before have not, or have not as good: a device
/// takes each kernel from the newest image that it can run and that has the kernel ([`Image::with_kernel`]).
///
/// ```
/// let targets = layernorm_host::IMAGES.iter().map(|image| image.target);
/// assert_eq!(targets.collect::<Vec<_>>(), [75, 80, 90]);
/// ```
pub const IMAGES: &[Image] = &[
    Image {
        target: 75,
        ptx: include_str!("../ptx/layernorm_sm_75.ptx"),
    },
    Image {
        target: 80,
        ptx: include_str!("../ptx/layernorm_sm_80.ptx"),
    },
    Image {
        target: 90,
        ptx: include_str!("../ptx/layernorm_sm_90.ptx"),
    },
];

impl Image {
    /// The newest image that runs on a device of this compute capability.
    ///
    /// ```
    /// use layernorm_host::Image;
    ///
    /// assert_eq!(Image::best((8, 6)).map(|image| image.target), Some(80));
    /// assert_eq!(Image::best((10, 0)).map(|image| image.target), Some(90));
    /// assert_eq!(Image::best((7, 0)).map(|image| image.target), None);
    /// ```
    pub fn best(compute_capability: (u32, u32)) -> Option<&'static Image> {
        let device = target_of(compute_capability);
        IMAGES.iter().rev().find(|image| image.target <= device)
    }

    /// The newest image that runs on a device of this compute capability and has this entry point.
    ///
    /// ```
    /// use layernorm_host::Image;
    ///
    /// let target = |entry| Image::with_kernel(entry, (9, 0)).map(|image| image.target);
    /// assert_eq!(target("layernorm_forward_f32_f32_any"), Some(80));
    /// assert_eq!(target("layernorm_reduce_f32"), Some(90));
    /// assert_eq!(target("layernorm_forward_f32_f32_cluster_4x512x8"), Some(90));
    /// ```
    pub fn with_kernel(entry: &str, compute_capability: (u32, u32)) -> Option<&'static Image> {
        let device = target_of(compute_capability);
        let mut images = IMAGES.iter().rev();
        images.find(|image| image.target <= device && image.has(entry))
    }

    /// Whether the image has an entry point of that name.
    fn has(&self, entry: &str) -> bool {
        self.ptx.contains(&format!(".visible .entry {entry}("))
    }

    /// A module of one kernel alone: what the image declares, then that entry point. Compiling the
    /// whole image takes the driver seconds, one kernel a few hundredths of one. `None` where the
    /// image has no such entry point.
    ///
    /// ```
    /// use layernorm_host::IMAGES;
    ///
    /// let module = IMAGES[0].kernel("layernorm_reduce_f32").expect("every image has it");
    /// assert_eq!(module.matches(".entry").count(), 1);
    /// ```
    pub fn kernel(&self, entry: &str) -> Option<String> {
        const START: &str = ".visible .entry ";
        let declarations = &self.ptx[..self.ptx.find(START)?];
        let start = self.ptx.find(&format!("{START}{entry}("))?;
        let text = &self.ptx[start..];
        // An entry point's closing brace is the first that stands alone at the start of a line.
        let end = text.find("\n}\n")? + "\n}\n".len();
        Some(format!("{declarations}{}", &text[..end]))
    }
}

/// The newest target that a device of this compute capability runs.
fn target_of((major, minor): (u32, u32)) -> u32 {
    major.saturating_mul(10).saturating_add(minor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Entry};

    #[test]
    fn every_image_has_its_target_and_every_entry() {
        assert!(IMAGES.is_sorted_by_key(|image| image.target));
        for image in IMAGES {
            let target = format!(".target sm_{}", image.target);
            assert!(image.ptx.contains(&target), "{target}");
            for entry in Entry::all() {
                let is_old = entry.runs_on((8, 0));
                let is_new = match entry {
                    Entry::Reduce { weight } => weight != DType::F64,
                    Entry::Rows { .. } => !is_old,
                };
                let expected = if image.target < 90 { is_old } else { is_new };
                let has = image.has(&entry.to_string());
                assert_eq!(has, expected, "sm_{}: {entry}", image.target);
            }
        }
    }
}
