//! Tensors: a shape over memory on a device. Copies are made only where the caller asks for one.

mod copies;
mod views;

use std::fmt;
use std::sync::Arc;

use crate::device::{HostMemory, Kind, Storage};
use crate::problem::{check_span, elements};
use crate::{DType, Device, Element, Error, Result};

/// An array of f32, f16, bf16 or f64 on a [`Device`].
///
/// The last dimension is contiguous, and its rows lie [`row_stride`](Tensor::row_stride) elements
/// apart. Clones and views share memory. Writing needs the only owner: an output whose memory another
/// tensor can reach is refused with [`Error::SharedOutput`].
///
/// ```
/// use layernorm_host::{Device, Tensor};
///
/// let x = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3], &Device::auto()?)?;
/// let right = x.columns(1..3)?;
/// assert_eq!((right.shape(), right.row_stride()), (&[2, 2][..], 3));
/// assert_eq!(right.to_vec::<f32>()?, [2.0, 3.0, 5.0, 6.0]);
/// # Ok::<(), layernorm_host::Error>(())
/// ```
#[derive(Clone)]
pub struct Tensor {
    storage: Arc<Storage>,
    device: Device,
    dtype: DType,
    shape: Vec<usize>,
    /// Elements from the storage's start to the first element.
    offset: usize,
    /// Elements from one row to the next.
    row_stride: usize,
}

impl Tensor {
    /// A tensor with a copy of `data`, which lies in row-major order.
    ///
    /// # Errors
    ///
    /// [`Error::ElementCount`] where `data` is not as long as the shape says; [`Error::Overflow`];
    /// [`Error::OutOfMemory`]; [`Error::Cuda`].
    ///
    /// ```
    /// use layernorm_host::{DType, Device, Tensor};
    ///
    /// let x = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3], &Device::cpu())?;
    /// assert_eq!((x.shape(), x.rank(), x.len()), (&[2, 3][..], 2, 6));
    /// assert_eq!((x.dtype(), x.row_stride()), (DType::F32, 3));
    /// # Ok::<(), layernorm_host::Error>(())
    /// ```
    pub fn from_slice<T: Element>(data: &[T], shape: &[usize], device: &Device) -> Result<Self> {
        let mut tensor = Self::empty(T::DTYPE, shape, device)?;
        tensor.copy_from_slice(data)?;
        Ok(tensor)
    }

    /// A tensor of the elements of `data`, in row-major order. On the CPU they are moved, not copied.
    ///
    /// # Errors
    ///
    /// As [`Tensor::from_slice`].
    pub fn from_vec<T: Element>(data: Vec<T>, shape: &[usize], device: &Device) -> Result<Self> {
        let Kind::Cpu { .. } = device.kind else {
            return Self::from_slice(&data, shape, device);
        };
        let expected = elements("shape", shape)?;
        if data.len() != expected {
            return Err(Error::ElementCount {
                shape: shape.to_vec(),
                got: data.len(),
                expected,
            });
        }
        Ok(Tensor {
            storage: Arc::new(Storage::Host(HostMemory::of_vec(data))),
            device: device.clone(),
            dtype: T::DTYPE,
            shape: shape.to_vec(),
            offset: 0,
            row_stride: shape.last().copied().unwrap_or(1),
        })
    }

    /// A tensor with a copy of `bytes`: elements in row-major order, little-endian, at any alignment, as
    /// safetensors files hold them.
    ///
    /// # Errors
    ///
    /// As [`Tensor::from_slice`].
    ///
    /// ```
    /// use layernorm_host::{DType, Device, Tensor};
    ///
    /// let bytes = [0x80, 0x3F, 0x00, 0xC0];
    /// let x = Tensor::from_bytes(&bytes, DType::BF16, &[2], &Device::cpu())?;
    /// assert_eq!(x.to_f32_vec()?, [1.0, -2.0]);
    /// # Ok::<(), layernorm_host::Error>(())
    /// ```
    pub fn from_bytes(
        bytes: &[u8],
        dtype: DType,
        shape: &[usize],
        device: &Device,
    ) -> Result<Self> {
        let expected = elements("shape", shape)?;
        if Some(bytes.len()) != expected.checked_mul(dtype.size()) {
            return Err(Error::ElementCount {
                shape: shape.to_vec(),
                got: bytes.len() / dtype.size(),
                expected,
            });
        }
        let mut tensor = Self::empty(dtype, shape, device)?;
        tensor.unique("the tensor")?.write(0, bytes)?;
        Ok(tensor)
    }

    /// A tensor of zeros.
    ///
    /// # Errors
    ///
    /// [`Error::Overflow`], [`Error::OutOfMemory`], [`Error::Cuda`].
    pub fn zeros(dtype: DType, shape: &[usize], device: &Device) -> Result<Self> {
        let mut tensor = Self::empty(dtype, shape, device)?;
        tensor.fill_bytes(0)?;
        Ok(tensor)
    }

    /// A tensor of ones.
    ///
    /// # Errors
    ///
    /// As [`Tensor::zeros`].
    pub fn ones(dtype: DType, shape: &[usize], device: &Device) -> Result<Self> {
        match dtype {
            DType::F32 => Self::full(1.0f32, shape, device),
            DType::F16 => Self::full(half::f16::ONE, shape, device),
            DType::BF16 => Self::full(half::bf16::ONE, shape, device),
            DType::F64 => Self::full(1.0f64, shape, device),
        }
    }

    fn full<T: Element>(value: T, shape: &[usize], device: &Device) -> Result<Self> {
        let mut tensor = Self::empty(T::DTYPE, shape, device)?;
        let len = tensor.len();
        // By pieces: a tensor may be larger than what the host has to spare.
        let piece = vec![value; len.min(1 << 20)];
        let storage = tensor.unique("the tensor")?;
        for start in (0..len).step_by(1 << 20) {
            let piece = &piece[..piece.len().min(len - start)];
            storage.write(start * size_of::<T>(), bytemuck::cast_slice(piece))?;
        }
        Ok(tensor)
    }

    /// A tensor of unknown content, to be an output.
    ///
    /// # Errors
    ///
    /// As [`Tensor::zeros`].
    pub fn empty(dtype: DType, shape: &[usize], device: &Device) -> Result<Self> {
        let row_stride = shape.last().copied().unwrap_or(1);
        Self::empty_strided(dtype, shape, row_stride, device)
    }

    /// A tensor of unknown content whose rows lie `row_stride` elements apart.
    ///
    /// # Errors
    ///
    /// As [`Tensor::zeros`]; [`Error::Layout`] where rows would overlap.
    ///
    /// ```
    /// use layernorm_host::{DType, Device, Tensor};
    ///
    /// let y = Tensor::empty_strided(DType::F16, &[4, 6], 8, &Device::cpu())?;
    /// assert_eq!((y.shape(), y.row_stride(), y.is_contiguous()), (&[4, 6][..], 8, false));
    /// # Ok::<(), layernorm_host::Error>(())
    /// ```
    pub fn empty_strided(
        dtype: DType,
        shape: &[usize],
        row_stride: usize,
        device: &Device,
    ) -> Result<Self> {
        let (n_rows, n_cols) = rows_and_columns(shape)?;
        let span = check_span("shape", n_rows, n_cols, row_stride, dtype)?;
        // With no second row to reach, a stride means nothing.
        let row_stride = if n_rows > 1 { row_stride } else { n_cols };
        Ok(Tensor {
            storage: Arc::new(device.allocate(dtype, span)?),
            device: device.clone(),
            dtype,
            shape: shape.to_vec(),
            offset: 0,
            row_stride,
        })
    }

    /// The dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// The elements' type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where the elements lie.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Elements from the start of one row, along the last dimension, to the next.
    pub fn row_stride(&self) -> usize {
        self.row_stride
    }

    /// The address of the first element in device memory; `None` on the CPU.
    ///
    /// It is valid while the tensor lives. Work that the library has put on the tensor's stream may still
    /// be reading or writing there: see [`Device::synchronize`].
    pub fn device_address(&self) -> Option<u64> {
        match &*self.storage {
            Storage::Host(_) => None,
            Storage::Cuda(buffer) => Some(buffer.address() + self.byte_offset() as u64),
        }
    }

    /// Whether rows follow each other without a gap.
    pub fn is_contiguous(&self) -> bool {
        let (n_rows, n_cols) = self.rows();
        n_rows <= 1 || self.row_stride == n_cols
    }

    fn check_element<T: Element>(&self, name: &'static str) -> Result<()> {
        if T::DTYPE == self.dtype {
            return Ok(());
        }
        Err(Error::DTypeMismatch {
            name,
            got: T::DTYPE,
            allowed: vec![self.dtype],
        })
    }

    pub(crate) fn require_contiguous(&self, name: &'static str) -> Result<()> {
        if self.is_contiguous() {
            return Ok(());
        }
        Err(Error::Layout {
            name,
            problem: format!(
                "rows of {} elements lie {} apart where they must be contiguous",
                self.rows().1,
                self.row_stride
            ),
            advice: "Tensor::copy makes a contiguous tensor",
        })
    }

    /// Rows along the last dimension, and its length.
    fn rows(&self) -> (usize, usize) {
        match self.shape.split_last() {
            Some((columns, leading)) => (leading.iter().product(), *columns),
            None => (1, 1),
        }
    }

    /// Elements from the first to the last, gaps included.
    fn span(&self) -> usize {
        let (n_rows, n_cols) = self.rows();
        if n_rows == 0 || n_cols == 0 {
            0
        } else {
            (n_rows - 1) * self.row_stride + n_cols
        }
    }

    /// The memory, where nothing else can reach it.
    fn unique(&mut self, name: &'static str) -> Result<&mut Storage> {
        Arc::get_mut(&mut self.storage).ok_or(Error::SharedOutput { name })
    }

    /// Checks that this can be an output.
    pub(crate) fn require_unique(&mut self, name: &'static str) -> Result<()> {
        self.unique(name).map(|_| ())
    }

    /// A host tensor's elements from the first to the last, gaps included. Its checked pass says the type.
    pub(crate) fn host_slice<T: Element>(&self) -> &[T] {
        match &*self.storage {
            Storage::Host(memory) => &memory.slice()[self.offset..][..self.span()],
            Storage::Cuda(_) => &[],
        }
    }

    /// As [`host_slice`](Self::host_slice), to be written.
    pub(crate) fn host_slice_mut<T: Element>(&mut self) -> Result<&mut [T]> {
        let (offset, span) = (self.offset, self.span());
        Ok(match self.unique("an output")? {
            Storage::Host(memory) => &mut memory.slice_mut()[offset..][..span],
            Storage::Cuda(_) => &mut [],
        })
    }

    #[cfg(feature = "cuda")]
    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Bytes from the memory's start to the first element.
    pub(crate) fn byte_offset(&self) -> usize {
        self.offset * self.dtype.size()
    }
}

fn rows_and_columns(shape: &[usize]) -> Result<(usize, usize)> {
    elements("shape", shape)?;
    Ok(match shape.split_last() {
        Some((columns, leading)) => (leading.iter().product(), *columns),
        None => (1, 1),
    })
}

/// Shape, dtype and device; the elements would need a copy.
impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Tensor({:?}, {}, {}",
            self.shape, self.dtype, self.device
        )?;
        if !self.is_contiguous() {
            write!(f, ", row stride {}", self.row_stride)?;
        }
        f.write_str(")")
    }
}
