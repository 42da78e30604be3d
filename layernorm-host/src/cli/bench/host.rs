//! The CPU's side: the library's own calls, outputs allocated beforehand, each call timed by itself.

use std::fs;
use std::ops::Range;
use std::time::{Duration, Instant};

use layernorm_host::{Device, FastLayerNorm, GradientsInto, Result, Tensor};

use super::inputs::{EPS, Inputs};
use super::{Output, Subject, Timed};

/// The last cache's size where the system does not tell.
const CACHE_BYTES: usize = 64 << 20;

/// Sets of buffers at most.
const MAX_SETS: usize = 64;

/// Buffers that are used in turn.
pub struct Called {
    sets: Vec<Set>,
    weight: Tensor,
    bias: Tensor,
    dweight: Tensor,
    dbias: Tensor,
    next: usize,
}

struct Set {
    x: Tensor,
    dy: Tensor,
    y: Tensor,
    dx: Tensor,
}

impl Called {
    pub fn new(inputs: &Inputs, device: &Device) -> Result<Self> {
        let shape = [inputs.shape.n_rows, inputs.shape.n_cols];
        let bytes = shape[0] * shape[1] * inputs.dtype.size();
        let sets = (2 * cache_bytes()).div_ceil(2 * bytes).clamp(1, MAX_SETS);
        let (len, slot) = (shape[0] * shape[1], inputs.slot());
        let cut = |tensor: Tensor| tensor.columns(0..len)?.copy()?.reshape(&shape);
        let empty = || Tensor::empty(inputs.dtype, &shape, device);
        let sets = (0..sets).map(|_| {
            Ok(Set {
                x: cut(inputs.x_tensor(1, slot, device)?)?,
                dy: cut(inputs.dy_tensor(1, slot, device)?)?,
                y: empty()?,
                dx: empty()?,
            })
        });
        let sets = sets.collect::<Result<_>>()?;
        let gradient = || Tensor::empty(inputs.weight_dtype, &[shape[1]], device);
        Ok(Called {
            sets,
            weight: inputs.weight_tensor(device)?,
            bias: inputs.bias_tensor(device)?,
            dweight: gradient()?,
            dbias: gradient()?,
            next: 0,
        })
    }

    fn call(&mut self, timed: Timed) -> Result<Duration> {
        let at = self.next % self.sets.len();
        self.next += 1;
        let Set { x, dy, y, dx } = &mut self.sets[at];
        let start = Instant::now();
        if timed == Timed::Copy {
            y.copy_from(x)?;
            return Ok(start.elapsed());
        }
        let saved = FastLayerNorm::forward_into(x, Some(&self.weight), Some(&self.bias), EPS, y)?;
        let forward = start.elapsed();
        if timed == Timed::Forward {
            return Ok(forward);
        }
        let gradients = GradientsInto {
            dx: Some(dx),
            dweight: Some(&mut self.dweight),
            dbias: Some(&mut self.dbias),
            accumulate: false,
        };
        let start = Instant::now();
        FastLayerNorm::backward_into(saved, dy, gradients)?;
        let backward = start.elapsed();
        Ok(match timed {
            Timed::Both => forward + backward,
            _ => backward,
        })
    }
}

impl Subject for Called {
    fn compute(&mut self) -> Result<()> {
        let set = &mut self.sets[0];
        for output in [&mut set.y, &mut set.dx, &mut self.dweight, &mut self.dbias] {
            output.fill_bytes(0xFF)?;
        }
        self.next = 0;
        self.call(Timed::Both).map(|_| ())
    }

    fn read(&self, output: Output, range: Range<usize>) -> Result<Vec<f64>> {
        let output = match output {
            Output::Y => &self.sets[0].y,
            Output::Dx => &self.sets[0].dx,
            Output::Dweight => &self.dweight,
            Output::Dbias => &self.dbias,
        };
        output
            .reshape(&[output.len()])?
            .columns(range)?
            .to_f64_vec()
    }

    fn time(&mut self, timed: Timed, calls: usize) -> Result<Duration> {
        (0..calls).map(|_| self.call(timed)).sum()
    }

    fn batches(&self) -> bool {
        false
    }
}

/// The largest cache of the first core, as Linux tells it.
fn cache_bytes() -> usize {
    let sizes = (0..8).filter_map(|index| {
        let file = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size");
        let size = fs::read_to_string(file).ok()?;
        let kibibytes: usize = size.trim().strip_suffix('K')?.parse().ok()?;
        Some(kibibytes << 10)
    });
    sizes.max().unwrap_or(CACHE_BYTES)
}
