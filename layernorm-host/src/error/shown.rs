//! Parts of an error's text.

use std::fmt;

use crate::DType;

/// A CUDA driver's result code, with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CudaCode {
    /// The number, as in `cuda.h`.
    pub code: u32,
    /// The name, such as `CUDA_ERROR_ILLEGAL_ADDRESS`.
    pub name: String,
}

impl fmt::Display for CudaCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.code)
    }
}

/// Dtypes with commas between them.
pub struct Listed<'a>(pub &'a [DType]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, dtype) in self.0.iter().enumerate() {
            write!(f, "{}{dtype}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// A log on lines of its own, or nothing.
pub struct Log<'a>(pub &'a str);

impl fmt::Display for Log<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.trim() {
            "" => Ok(()),
            log => write!(f, "\n{log}"),
        }
    }
}
