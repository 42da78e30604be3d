//! The least that a pass must move: every input read once and every output written once.

use serde::Serialize;

use crate::measure::Task;

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Minimum {
    pub bytes_read: u64,
    pub bytes_written: u64,
}

/// x, weight and bias to y, mean and rstd.
pub fn forward(task: &Task) -> Minimum {
    let Sizes {
        x,
        parameter,
        saved,
    } = Sizes::of(task);
    Minimum {
        bytes_read: x + 2 * parameter,
        bytes_written: x + saved,
    }
}

/// dy, x, weight, mean and rstd to dx, dweight and dbias.
pub fn backward(task: &Task) -> Minimum {
    let Sizes {
        x,
        parameter,
        saved,
    } = Sizes::of(task);
    Minimum {
        bytes_read: 2 * x + parameter + saved,
        bytes_written: x + 2 * parameter,
    }
}

/// Bytes of x, of weight, which is as large as bias, and of mean and rstd together.
struct Sizes {
    x: u64,
    parameter: u64,
    saved: u64,
}

impl Sizes {
    fn of(task: &Task) -> Sizes {
        let parameter = task.parameters.map_or(0, |dtype| dtype.size());
        Sizes {
            x: (task.n_rows * task.n_cols * task.dtype.size()) as u64,
            parameter: (task.n_cols * parameter) as u64,
            saved: (2 * task.n_rows * task.dtype.accumulator().size()) as u64,
        }
    }
}
