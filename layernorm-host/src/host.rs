//! Host memory of a tensor: a vector of its own element type, so that a caller's `Vec` moves in and
//! out without a copy.

use half::{bf16, f16};

use crate::DType;

#[derive(Debug)]
pub enum HostBuffer {
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
}

impl HostBuffer {
    /// `len` elements, all bytes zero.
    pub fn zeros(dtype: DType, len: usize) -> Self {
        match dtype {
            DType::F32 => HostBuffer::F32(vec![0.0; len]),
            DType::F16 => HostBuffer::F16(vec![f16::ZERO; len]),
            DType::BF16 => HostBuffer::BF16(vec![bf16::ZERO; len]),
        }
    }

    pub fn bytes(&self) -> &[u8] {
        match self {
            HostBuffer::F32(data) => bytemuck::cast_slice(data),
            HostBuffer::F16(data) => bytemuck::cast_slice(data),
            HostBuffer::BF16(data) => bytemuck::cast_slice(data),
        }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            HostBuffer::F32(data) => bytemuck::cast_slice_mut(data),
            HostBuffer::F16(data) => bytemuck::cast_slice_mut(data),
            HostBuffer::BF16(data) => bytemuck::cast_slice_mut(data),
        }
    }
}
