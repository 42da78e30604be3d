//! Thread-block clusters, from sm_90 on: blocks that run at the same time and reach each other's shared
//! memory. A kernel says how large its clusters are by [`cluster_dimensions`]; a launch's grid is a multiple
//! of that.
//!
//! The barriers are LLVM intrinsics, which LLVM does not move across a branch; the accesses are `asm!`.

use core::marker::PhantomData;

use cuda_std_macros::gpu_only;

use super::{Shared, SharedValue};

/// Functions that read one of the special registers.
macro_rules! special_registers {
    ($($(#[$doc:meta])* $name:ident = $register:literal;)*) => {$(
        $(#[$doc])*
        #[gpu_only]
        #[inline(always)]
        pub fn $name() -> u32 {
            unsafe extern "C" {
                #[link_name = concat!("llvm.nvvm.read.ptx.sreg.", $register)]
                fn read() -> u32;
            }
            // SAFETY: the register can be read by every thread at any time.
            unsafe { read() }
        }
    )*};
}

special_registers! {
    /// The block's number in its cluster, below [`cluster_size`].
    cluster_rank = "cluster.ctarank";
    /// Blocks in a cluster.
    cluster_size = "cluster.nctarank";
    /// The cluster's x index in the grid, below [`cluster_dim_x`].
    cluster_idx_x = "clusterid.x";
    /// Clusters in the grid along x.
    cluster_dim_x = "nclusterid.x";
}

/// The first half of a barrier of the cluster: what this thread did before it, all threads of the cluster see
/// after their [`cluster_wait`]. The halves alternate.
///
/// All threads of the block must reach the same call.
#[gpu_only]
#[inline(always)]
pub fn cluster_arrive() {
    unsafe extern "C" {
        #[link_name = "llvm.nvvm.barrier.cluster.arrive.aligned"]
        fn arrive();
    }
    // SAFETY: a block of a launch without clusters is a cluster of its own.
    unsafe { arrive() }
}

/// As [`cluster_arrive`], but lets nobody see anything: for a block that only says that it has started, or has had a fence of
/// its own.
///
/// All threads of the block must reach the same call.
#[gpu_only]
#[inline(always)]
pub fn cluster_arrive_relaxed() {
    unsafe extern "C" {
        #[link_name = "llvm.nvvm.barrier.cluster.arrive.relaxed.aligned"]
        fn arrive();
    }
    // SAFETY: as for `cluster_arrive`.
    unsafe { arrive() }
}

/// The second half: waits until all threads of the cluster have arrived.
///
/// All threads of the block must reach the same call.
#[gpu_only]
#[inline(always)]
pub fn cluster_wait() {
    unsafe extern "C" {
        #[link_name = "llvm.nvvm.barrier.cluster.wait.aligned"]
        fn wait();
    }
    // SAFETY: as for `cluster_arrive`.
    unsafe { wait() }
}

/// Says that the kernel is launched in clusters of `BLOCKS` blocks along x: leaves a comment in the PTX that
/// `cuda_builder` turns into the entry point's `.reqnctapercluster`. Call it at the start of a kernel.
#[inline(always)]
pub fn cluster_dimensions<const BLOCKS: u32>() {
    const {
        assert!(
            1 <= BLOCKS && BLOCKS <= 16,
            "a cluster has 1 to 16 blocks, and up to 8 on every device"
        )
    };
    #[cfg(target_arch = "nvptx64")]
    // SAFETY: the assembly is a comment.
    unsafe {
        core::arch::asm!(
            "//cuda_std cluster {blocks}",
            blocks = const BLOCKS,
            options(nomem, nostack, preserves_flags),
        )
    }
}

/// In a launch that may begin before the launch before it on its stream has ended (programmatic stream serialisation),
/// waits until that has, and its writes are seen; in any other, does nothing. From sm_90 on.
#[gpu_only]
#[inline(always)]
pub fn wait_for_dependencies() {
    // SAFETY: it waits, and no access may move across it.
    unsafe { core::arch::asm!("griddepcontrol.wait;", options(nostack, preserves_flags)) }
}

/// A [`Shared`] array of some block of the cluster. Indices are not checked.
#[derive(Clone, Copy)]
pub struct ClusterShared<T> {
    /// In the cluster's shared memory.
    #[cfg_attr(
        not(target_arch = "nvptx64"),
        expect(dead_code, reason = "only the device follows it")
    )]
    address: u32,
    element: PhantomData<*mut T>,
}

impl<T: SharedValue> Shared<T> {
    /// The same array of block `rank` of the cluster.
    #[gpu_only]
    #[inline(always)]
    #[must_use]
    pub fn of_block(self, rank: u32) -> ClusterShared<T> {
        let address;
        // SAFETY: it computes an address.
        unsafe {
            core::arch::asm!(
                "mapa.shared::cluster.u32 {address}, {own}, {rank};",
                address = out(reg32) address,
                own = in(reg32) self.address(),
                rank = in(reg32) rank,
                options(pure, nomem, nostack, preserves_flags),
            )
        };
        ClusterShared {
            address,
            element: PhantomData,
        }
    }
}

impl<T: SharedValue> ClusterShared<T> {
    #[cfg(target_arch = "nvptx64")]
    #[inline(always)]
    fn address_of(self, index: u32) -> u32 {
        self.address + index * size_of::<T>() as u32
    }
}

macro_rules! cluster_values {
    ($($type:ty;)*) => {$(
        impl ClusterShared<$type> {
            /// Element `index`.
            ///
            /// # Safety
            ///
            /// The rank is a block's of this cluster, which has started (a barrier of the cluster lies before)
            /// and does not exit before a later one; `index` is in the array, and no thread writes the element
            /// between the barriers around this call.
            #[gpu_only]
            #[inline(always)]
            #[must_use]
            pub unsafe fn load(self, index: u32) -> $type {
                let value;
                // SAFETY: this function's own condition.
                unsafe {
                    core::arch::asm!(
                        "ld.shared::cluster.b32 {value}, [{address}];",
                        value = out(reg32) value,
                        address = in(reg32) self.address_of(index),
                        options(nostack, preserves_flags, readonly),
                    )
                };
                value
            }

            /// Writes element `index`.
            ///
            /// # Safety
            ///
            /// As for [`load`](Self::load), and no other thread reads or writes the element between the
            /// barriers around this call.
            #[gpu_only]
            #[inline(always)]
            pub unsafe fn store(self, index: u32, value: $type) {
                // SAFETY: this function's own condition.
                unsafe {
                    core::arch::asm!(
                        "st.shared::cluster.b32 [{address}], {value};",
                        value = in(reg32) value,
                        address = in(reg32) self.address_of(index),
                        options(nostack, preserves_flags),
                    )
                }
            }

            /// Elements `index` to `index + 3`, in one access of 16 bytes.
            ///
            /// # Safety
            ///
            /// As for [`load`](Self::load), for all four; and `index` is a multiple of 4 from the array's start.
            #[gpu_only]
            #[inline(always)]
            #[must_use]
            pub unsafe fn load4(self, index: u32) -> [$type; 4] {
                let (a, b, c, d);
                // SAFETY: this function's own condition.
                unsafe {
                    core::arch::asm!(
                        "ld.shared::cluster.v4.b32 {{{a}, {b}, {c}, {d}}}, [{address}];",
                        a = out(reg32) a,
                        b = out(reg32) b,
                        c = out(reg32) c,
                        d = out(reg32) d,
                        address = in(reg32) self.address_of(index),
                        options(nostack, preserves_flags, readonly),
                    )
                };
                [a, b, c, d]
            }

            /// Writes elements `index` to `index + 3`, in one access of 16 bytes.
            ///
            /// # Safety
            ///
            /// As for [`store`](Self::store), for all four; and `index` is a multiple of 4 from the array's
            /// start.
            #[gpu_only]
            #[inline(always)]
            pub unsafe fn store4(self, index: u32, [a, b, c, d]: [$type; 4]) {
                // SAFETY: this function's own condition.
                unsafe {
                    core::arch::asm!(
                        "st.shared::cluster.v4.b32 [{address}], {{{a}, {b}, {c}, {d}}};",
                        a = in(reg32) a,
                        b = in(reg32) b,
                        c = in(reg32) c,
                        d = in(reg32) d,
                        address = in(reg32) self.address_of(index),
                        options(nostack, preserves_flags),
                    )
                }
            }

            /// Sends elements `index` to `index + 3` and does not wait: they are there when that phase of
            /// [`barrier`](super::MBarrier) has ended of which they are 16 bytes.
            ///
            /// # Safety
            ///
            /// The array and the barrier are of one block, which has started, and does not exit before the phase
            /// has ended; `index` is a multiple of 4 from the array's start, all four are in it, and nobody reads
            /// or writes them until then.
            #[gpu_only]
            #[inline(always)]
            pub unsafe fn send4(
                self,
                index: u32,
                [a, b, c, d]: [$type; 4],
                barrier: ClusterShared<u32>,
            ) {
                // SAFETY: this function's own condition.
                unsafe {
                    core::arch::asm!(
                        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [{address}], {{{a}, {b}, {c}, {d}}}, [{barrier}];",
                        a = in(reg32) a,
                        b = in(reg32) b,
                        c = in(reg32) c,
                        d = in(reg32) d,
                        address = in(reg32) self.address_of(index),
                        barrier = in(reg32) barrier.address_of(0),
                        options(nostack, preserves_flags),
                    )
                }
            }
        }
    )*};
}

cluster_values! {
    f32;
    u32;
    i32;
}
