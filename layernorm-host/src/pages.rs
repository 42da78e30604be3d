//! Huge pages for large host memory. A page that is touched for the first time is an interrupt, and one that the
//! processor has no address of is a walk through tables: with pages of 4 KiB both cost more than the LayerNorm
//! beside them.
//!
//! On Linux the system is asked for them. It may not have any, or may be told to give none: nothing but time
//! depends on it.

/// Bytes of a huge page, on x86-64 and where AArch64 has pages of 4 KiB.
pub const HUGE_PAGE: usize = 2 << 20;

/// Bytes of memory from which on it is to lie in huge pages: the last one may be needed in part alone.
const MIN_HUGE: usize = 4 << 20;

/// Whether so many bytes are to lie in huge pages. They then best begin with one.
pub fn are_huge(bytes: usize) -> bool {
    cfg!(target_os = "linux") && bytes >= MIN_HUGE
}

/// Asks for huge pages, if the memory is large; before it is first written to, or they come late.
#[cfg(target_os = "linux")]
pub fn advise<T>(fresh: &mut [T]) {
    use rustix::mm::{Advice, madvise};

    let bytes = size_of_val(fresh);
    if !are_huge(bytes) {
        return;
    }
    let first: *mut u8 = fresh.as_mut_ptr().cast();
    let start = first.align_offset(HUGE_PAGE);
    let len = bytes.saturating_sub(start) / HUGE_PAGE * HUGE_PAGE;
    if len == 0 {
        return;
    }
    // SAFETY: `start + len <= bytes`, so the range lies in `fresh`; the advice changes none of its bytes.
    let advised = unsafe { madvise(first.add(start).cast(), len, Advice::LinuxHugepage) };
    // A system without huge pages refuses, and the memory is as good as before.
    let _ = advised;
}

#[cfg(not(target_os = "linux"))]
pub fn advise<T>(_fresh: &mut [T]) {}

// An emulator of another processor takes the advice and does not pass it on.
#[cfg(all(test, target_os = "linux", target_arch = "x86_64"))]
mod tests {
    use std::fs;
    use std::path::Path;

    use crate::host;

    /// The flags of the mapping that has an address, as `/proc/self/smaps` has them.
    fn flags_at(address: usize) -> Vec<String> {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        for line in maps.lines() {
            let bounds = line
                .split(' ')
                .next()
                .and_then(|range| range.split_once('-'));
            let number = |digits| usize::from_str_radix(digits, 16).ok();
            if let Some((Some(from), Some(to))) = bounds.map(|(a, b)| (number(a), number(b))) {
                inside = (from..to).contains(&address);
            } else if let (true, Some(flags)) = (inside, line.strip_prefix("VmFlags:")) {
                return flags.split_whitespace().map(String::from).collect();
            }
        }
        panic!("no mapping has {address:#x}");
    }

    #[test]
    fn large_memory_is_to_lie_in_huge_pages() {
        // So much comes from the system anew each time, whatever the allocator has kept.
        let fresh: Vec<f32> = host::zeros(10 << 20).unwrap();
        let has_huge_pages = Path::new("/sys/kernel/mm/transparent_hugepage").exists();
        for i in [super::HUGE_PAGE / 4, fresh.len() / 2] {
            let flags = flags_at(fresh[i..].as_ptr().addr());
            let advised = flags.iter().any(|flag| flag == "hg");
            assert_eq!(advised, has_huge_pages, "element {i}: {flags:?}");
        }
    }
}
