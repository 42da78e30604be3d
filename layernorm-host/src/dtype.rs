//! The element types that the kernels take, and their Rust types.

use std::fmt;

use half::{bf16, f16};

/// The type of a tensor's elements. What is between x and y is f32 inside, or f64 for f64:
/// [`accumulator`](DType::accumulator).
///
/// ```
/// use layernorm_host::DType;
///
/// assert_eq!((DType::BF16.size(), DType::BF16.name()), (2, "bf16"));
/// assert_eq!(DType::BF16.accumulator(), DType::F32);
/// assert_eq!(DType::BF16.parameter_dtypes(), [DType::BF16, DType::F32]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE single precision, 4 bytes.
    F32,
    /// IEEE half precision, 2 bytes.
    F16,
    /// bfloat16: f32's upper half, 2 bytes.
    BF16,
    /// IEEE double precision, 8 bytes: exact where the others are fast.
    F64,
}

impl DType {
    /// All of them.
    pub const ALL: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::F64];

    /// Bytes of an element.
    pub const fn size(self) -> usize {
        match self {
            DType::F64 => 8,
            DType::F32 => 4,
            DType::F16 | DType::BF16 => 2,
        }
    }

    /// The name in entry points, files and messages: `f32`, `f16`, `bf16`, `f64`.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::F64 => "f64",
        }
    }

    /// The dtypes that weight and bias may have for an x of this dtype: its own, and f32
    /// where that is not less.
    pub fn parameter_dtypes(self) -> Vec<DType> {
        match self {
            DType::F32 | DType::F64 => vec![self],
            half => vec![half, DType::F32],
        }
    }

    /// The dtype of mean and rstd for an x of this dtype, and of every sum inside: f64 for f64, else f32.
    pub const fn accumulator(self) -> DType {
        match self {
            DType::F64 => DType::F64,
            _ => DType::F32,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A Rust type whose slices a [`Tensor`](crate::Tensor) can be copied from and to: `f32`, `f64`,
/// [`half::f16`], [`half::bf16`].
///
/// ```
/// use layernorm_host::{Device, Element, Result, Tensor};
///
/// fn row<T: Element>(values: &[T]) -> Result<Tensor> {
///     Tensor::from_slice(values, &[1, values.len()], &Device::cpu())
/// }
/// assert_eq!(row(&[half::bf16::ONE; 3])?.dtype(), half::bf16::DTYPE);
/// # Ok::<(), layernorm_host::Error>(())
/// ```
pub trait Element: sealed::Sealed + bytemuck::Pod + Send + Sync + fmt::Debug {
    /// The type's dtype.
    const DTYPE: DType;
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;
}

impl Element for f64 {
    const DTYPE: DType = DType::F64;
}

impl Element for f16 {
    const DTYPE: DType = DType::F16;
}

impl Element for bf16 {
    const DTYPE: DType = DType::BF16;
}

pub(crate) mod sealed {
    use half::{bf16, f16};

    use crate::host::HostBuffer;

    /// Closes [`Element`](super::Element): the kernels exist for these types alone.
    pub trait Sealed: Sized {
        fn wrap(data: Vec<Self>) -> HostBuffer;
        fn slice(buffer: &HostBuffer) -> Option<&[Self]>;
        fn slice_mut(buffer: &mut HostBuffer) -> Option<&mut [Self]>;
    }

    macro_rules! sealed {
        ($($type:ty => $variant:ident),*) => {
            $(impl Sealed for $type {
                fn wrap(data: Vec<Self>) -> HostBuffer {
                    HostBuffer::$variant(data)
                }
                fn slice(buffer: &HostBuffer) -> Option<&[Self]> {
                    match buffer {
                        HostBuffer::$variant(data) => Some(data),
                        _ => None,
                    }
                }
                fn slice_mut(buffer: &mut HostBuffer) -> Option<&mut [Self]> {
                    match buffer {
                        HostBuffer::$variant(data) => Some(data),
                        _ => None,
                    }
                }
            })*
        };
    }

    sealed!(f32 => F32, f16 => F16, bf16 => BF16, f64 => F64);
}
