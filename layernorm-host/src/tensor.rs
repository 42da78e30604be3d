//! Tensors: a shape over memory on a device. Copies are made only where the caller asks for one.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::device::cuda::PinnedBytes;
use crate::device::{HostMemory, Kind, Storage};
use crate::host;
use crate::problem::{check_span, elements};
use crate::{DType, Device, Element, Error, Result};

/// An array of f32, f16 or bf16 on a [`Device`].
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
            storage: Arc::new(Storage::Host(HostMemory::new(T::wrap(data)))),
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

    /// The elements in row-major order, copied to the host.
    ///
    /// # Errors
    ///
    /// [`Error::DTypeMismatch`] where `T` is not the tensor's type; [`Error::Cuda`] where the work
    /// that writes the tensor, or the copy, failed.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        self.check_element::<T>("to_vec's element type")?;
        let (n_rows, n_cols) = self.rows();
        let mut span = host::zeros(self.span())?;
        self.storage
            .read(self.byte_offset(), bytemuck::cast_slice_mut(&mut span))?;
        if self.is_contiguous() {
            return Ok(span);
        }
        let mut data = Vec::with_capacity(n_rows * n_cols);
        for row in span.chunks(self.row_stride) {
            data.extend_from_slice(&row[..n_cols]);
        }
        Ok(data)
    }

    /// The elements' bytes in row-major order, little-endian, copied to the host.
    ///
    /// # Errors
    ///
    /// As [`Tensor::to_vec`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        Ok(match self.dtype {
            DType::F32 => bytemuck::cast_slice(&self.to_vec::<f32>()?).to_vec(),
            DType::F16 => bytemuck::cast_slice(&self.to_vec::<half::f16>()?).to_vec(),
            DType::BF16 => bytemuck::cast_slice(&self.to_vec::<half::bf16>()?).to_vec(),
        })
    }

    /// The elements in row-major order as f32, which holds every value of every dtype.
    ///
    /// # Errors
    ///
    /// As [`Tensor::to_vec`].
    pub fn to_f32_vec(&self) -> Result<Vec<f32>> {
        Ok(match self.dtype {
            DType::F32 => self.to_vec::<f32>()?,
            DType::F16 => self
                .to_vec::<half::f16>()?
                .into_iter()
                .map(f32::from)
                .collect(),
            DType::BF16 => self
                .to_vec::<half::bf16>()?
                .into_iter()
                .map(f32::from)
                .collect(),
        })
    }

    /// Replaces the elements by `data`, in row-major order.
    ///
    /// # Errors
    ///
    /// [`Error::ElementCount`]; [`Error::DTypeMismatch`]; [`Error::SharedOutput`]; [`Error::Layout`]
    /// where rows lie apart; [`Error::Cuda`].
    pub fn copy_from_slice<T: Element>(&mut self, data: &[T]) -> Result<()> {
        self.check_copy::<T>(data.len())?;
        let start = self.offset * self.dtype.size();
        self.unique("the tensor")?
            .write(start, bytemuck::cast_slice(data))
    }

    /// Checks a copy of `got` elements of a type from or to this tensor.
    pub(crate) fn check_copy<T: Element>(&self, got: usize) -> Result<()> {
        self.check_element::<T>("the copy's element type")?;
        self.require_contiguous("the tensor")?;
        if got == self.len() {
            return Ok(());
        }
        Err(Error::ElementCount {
            shape: self.shape.clone(),
            got,
            expected: self.len(),
        })
    }

    /// # Safety
    ///
    /// As for `Buffer::write_async`.
    pub(crate) unsafe fn write_async(&mut self, from: &PinnedBytes) -> Result<()> {
        let start = self.byte_offset();
        match self.unique("the tensor")? {
            Storage::Host(memory) => memory.write(start, from.bytes()),
            // SAFETY: the caller's.
            Storage::Cuda(buffer) => return unsafe { buffer.write_async(start, from) },
        }
        Ok(())
    }

    /// # Safety
    ///
    /// As for `Buffer::read_async`.
    pub(crate) unsafe fn read_async(&self, into: &mut PinnedBytes) -> Result<()> {
        let start = self.byte_offset();
        match &*self.storage {
            Storage::Host(memory) => {
                let len = into.bytes().len();
                into.bytes_mut()
                    .copy_from_slice(memory.bytes_of(start, len));
            }
            // SAFETY: the caller's.
            Storage::Cuda(buffer) => return unsafe { buffer.read_async(start, into) },
        }
        Ok(())
    }

    /// Sets every byte of the tensor's memory, gaps between rows included: 0xFF makes NaN in every
    /// dtype.
    ///
    /// # Errors
    ///
    /// [`Error::SharedOutput`], [`Error::Cuda`].
    pub fn fill_bytes(&mut self, byte: u8) -> Result<()> {
        self.unique("the tensor")?.fill(byte)
    }

    /// A contiguous copy on the same device.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`], [`Error::Cuda`].
    pub fn copy(&self) -> Result<Self> {
        self.to_device(&self.device)
    }

    /// A contiguous copy on another device, by way of the host.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`], [`Error::Cuda`].
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        if let (Storage::Host(memory), true) = (&*self.storage, self.is_contiguous()) {
            let bytes = memory.bytes_of(self.byte_offset(), self.span() * self.dtype.size());
            return Self::from_bytes(bytes, self.dtype, &self.shape, device);
        }
        match self.dtype {
            DType::F32 => self.copied::<f32>(device),
            DType::F16 => self.copied::<half::f16>(device),
            DType::BF16 => self.copied::<half::bf16>(device),
        }
    }

    fn copied<T: Element>(&self, device: &Device) -> Result<Self> {
        Self::from_slice(&self.to_vec::<T>()?, &self.shape, device)
    }

    /// The same elements in another shape.
    ///
    /// # Errors
    ///
    /// [`Error::ElementCount`] where the shape has another number of elements; [`Error::Layout`] where
    /// rows lie apart.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self> {
        self.require_contiguous("the tensor")?;
        let expected = elements("shape", shape)?;
        if expected != self.len() {
            return Err(Error::ElementCount {
                shape: shape.to_vec(),
                got: self.len(),
                expected,
            });
        }
        Ok(Tensor {
            shape: shape.to_vec(),
            row_stride: shape.last().copied().unwrap_or(1),
            ..self.clone()
        })
    }

    /// A view of some columns of every row. It shares the memory.
    ///
    /// # Errors
    ///
    /// [`Error::Layout`] where the range reaches past the last column; [`Error::RankZero`].
    pub fn columns(&self, range: Range<usize>) -> Result<Self> {
        let last = self.rank().checked_sub(1);
        let last = last.ok_or(Error::RankZero { name: "the tensor" })?;
        self.check_range(&range, self.shape[last], "columns")?;
        let mut view = self.clone();
        view.shape[last] = range.len();
        view.move_to(range.start);
        Ok(view)
    }

    /// A view of some of the first dimension. It shares the memory.
    ///
    /// # Errors
    ///
    /// [`Error::Layout`] where the range reaches past the end; [`Error::RankZero`] below rank 2.
    pub fn rows_in(&self, range: Range<usize>) -> Result<Self> {
        if self.rank() < 2 {
            return Err(Error::RankZero {
                name: "a row of the tensor",
            });
        }
        self.check_range(&range, self.shape[0], "rows")?;
        let rows_each: usize = self.shape[1..self.rank() - 1].iter().product();
        let mut view = self.clone();
        view.shape[0] = range.len();
        view.move_to(range.start * rows_each * self.row_stride);
        Ok(view)
    }

    /// Starts some elements further on; but a view of nothing stays, since what it would start at need not
    /// be there.
    fn move_to(&mut self, elements: usize) {
        if !self.is_empty() {
            self.offset += elements;
        }
    }

    /// A view of all the tensor's memory, gaps between rows included, as one dimension.
    ///
    /// # Errors
    ///
    /// [`Error::RankZero`] for a tensor of rank 0.
    pub fn with_gaps(&self) -> Result<Self> {
        if self.rank() == 0 {
            return Err(Error::RankZero { name: "the tensor" });
        }
        let span = self.span();
        Ok(Tensor {
            shape: vec![span],
            row_stride: span,
            ..self.clone()
        })
    }

    fn check_range(&self, range: &Range<usize>, len: usize, of: &str) -> Result<()> {
        if range.start <= range.end && range.end <= len {
            return Ok(());
        }
        Err(Error::Layout {
            name: "the view",
            problem: format!("{of} {range:?} of {len}"),
            advice: "a range must lie within the tensor",
        })
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
