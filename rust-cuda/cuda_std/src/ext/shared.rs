//! Shared memory by `ld.shared` and `st.shared`. rustc gives its pointers no address space, so an
//! access through a pointer is generic; here the type knows the memory and the instruction says it.

use core::marker::PhantomData;

use cuda_std_macros::gpu_only;

/// An array in the block's shared memory, by its address there. Indices are not checked.
#[derive(Clone, Copy)]
pub struct Shared<T> {
    /// Bytes from the start of the block's shared memory.
    address: u32,
    element: PhantomData<*mut T>,
}

/// Static shared memory for `N` elements, as a [`Shared<T>`]: `shared_words![f32; 64]`.
///
/// As with [`shared_array!`](crate::shared_array), the memory belongs to the place in the source, and
/// is not initialised.
#[macro_export]
macro_rules! shared_words {
    ($element:ty; $length:expr) => {
        $crate::ext::Shared::<$element>::__new($crate::__static_shared!([$element; $length]))
    };
}

impl<T: SharedValue> Shared<T> {
    /// The shared memory whose size the launch says; the same for every call, aligned to 128 bytes,
    /// not initialised.
    #[inline(always)]
    pub fn dynamic() -> Self {
        Self::__new(crate::shared::__dynamic_address::<T>())
    }

    #[doc(hidden)]
    #[inline(always)]
    pub fn __new(address: u32) -> Self {
        Self {
            address,
            element: PhantomData,
        }
    }

    /// Bytes from the start of the block's shared memory, for assembly that wants an address there.
    #[inline(always)]
    #[must_use]
    pub fn address(self) -> u32 {
        self.address
    }

    /// The array from `index` on.
    #[inline(always)]
    pub fn offset(self, index: u32) -> Self {
        Self::__new(self.address_of(index))
    }

    /// The same memory with elements of another type.
    #[inline(always)]
    pub fn cast<U: SharedValue>(self) -> Shared<U> {
        Shared::__new(self.address)
    }

    /// Element `index`.
    ///
    /// # Safety
    ///
    /// `index` is in the array, and no thread writes the element between the barriers around this
    /// call.
    #[inline(always)]
    #[must_use]
    pub unsafe fn load(self, index: u32) -> T {
        // SAFETY: this function's own condition.
        unsafe { T::load_shared(self.address_of(index)) }
    }

    /// Writes element `index`.
    ///
    /// # Safety
    ///
    /// `index` is in the array, and no other thread reads or writes the element between the barriers
    /// around this call.
    #[inline(always)]
    pub unsafe fn store(self, index: u32, value: T) {
        // SAFETY: this function's own condition.
        unsafe { T::store_shared(self.address_of(index), value) }
    }

    /// Elements `index` to `index + 3`, in one access of 16 bytes for 4-byte elements.
    ///
    /// # Safety
    ///
    /// As for [`load`](Self::load), for all four; and `index` is a multiple of 4 from the array's
    /// start.
    #[inline(always)]
    #[must_use]
    pub unsafe fn load4(self, index: u32) -> [T; 4] {
        // SAFETY: this function's own condition.
        unsafe { T::load4_shared(self.address_of(index)) }
    }

    /// Writes elements `index` to `index + 3`, in one access of 16 bytes for 4-byte elements.
    ///
    /// # Safety
    ///
    /// As for [`store`](Self::store), for all four; and `index` is a multiple of 4 from the array's
    /// start.
    #[inline(always)]
    pub unsafe fn store4(self, index: u32, values: [T; 4]) {
        // SAFETY: this function's own condition.
        unsafe { T::store4_shared(self.address_of(index), values) }
    }

    #[inline(always)]
    fn address_of(self, index: u32) -> u32 {
        self.address + index * size_of::<T>() as u32
    }
}

/// A type that a [`Shared`] array holds: 4-byte integers and floats.
pub trait SharedValue: Copy {
    #[doc(hidden)]
    #[allow(clippy::missing_safety_doc)]
    unsafe fn load_shared(address: u32) -> Self;
    #[doc(hidden)]
    #[allow(clippy::missing_safety_doc)]
    unsafe fn store_shared(address: u32, value: Self);
    #[doc(hidden)]
    #[allow(clippy::missing_safety_doc)]
    unsafe fn load4_shared(address: u32) -> [Self; 4];
    #[doc(hidden)]
    #[allow(clippy::missing_safety_doc)]
    unsafe fn store4_shared(address: u32, values: [Self; 4]);
}

// The assembly may not be `pure` or `nomem`: it must stay between the barriers it was written between.
macro_rules! shared_values {
    ($($type:ty, $ptx:literal;)*) => {$(
        impl SharedValue for $type {
            #[gpu_only]
            #[inline(always)]
            unsafe fn load_shared(address: u32) -> Self {
                let value;
                // SAFETY: `Shared::load`'s condition.
                unsafe {
                    core::arch::asm!(
                        concat!("ld.shared.", $ptx, " {value}, [{address}];"),
                        value = out(reg32) value,
                        address = in(reg32) address,
                        options(nostack, preserves_flags, readonly),
                    )
                };
                value
            }

            #[gpu_only]
            #[inline(always)]
            unsafe fn store_shared(address: u32, value: Self) {
                // SAFETY: `Shared::store`'s condition.
                unsafe {
                    core::arch::asm!(
                        concat!("st.shared.", $ptx, " [{address}], {value};"),
                        value = in(reg32) value,
                        address = in(reg32) address,
                        options(nostack, preserves_flags),
                    )
                }
            }

            #[gpu_only]
            #[inline(always)]
            unsafe fn load4_shared(address: u32) -> [Self; 4] {
                let (a, b, c, d);
                // SAFETY: `Shared::load4`'s condition.
                unsafe {
                    core::arch::asm!(
                        concat!("ld.shared.v4.", $ptx, " {{{a}, {b}, {c}, {d}}}, [{address}];"),
                        a = out(reg32) a,
                        b = out(reg32) b,
                        c = out(reg32) c,
                        d = out(reg32) d,
                        address = in(reg32) address,
                        options(nostack, preserves_flags, readonly),
                    )
                };
                [a, b, c, d]
            }

            #[gpu_only]
            #[inline(always)]
            unsafe fn store4_shared(address: u32, [a, b, c, d]: [Self; 4]) {
                // SAFETY: `Shared::store4`'s condition.
                unsafe {
                    core::arch::asm!(
                        concat!("st.shared.v4.", $ptx, " [{address}], {{{a}, {b}, {c}, {d}}};"),
                        a = in(reg32) a,
                        b = in(reg32) b,
                        c = in(reg32) c,
                        d = in(reg32) d,
                        address = in(reg32) address,
                        options(nostack, preserves_flags),
                    )
                }
            }
        }
    )*};
}

shared_values! {
    f32, "b32";
    u32, "b32";
    i32, "b32";
}
