//! The shapes that other LayerNorms are tested with, by every dtype and way to call.
//!
//! With `LAYERNORM_GRID=all` every case is run, which takes minutes. Otherwise one in `SAMPLED` is, another one
//! each day, or as `LAYERNORM_GRID` gives a number: what a failure prints says which.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use layernorm_host::{DType, Device};

use super::Test;
use crate::check::{Form, Verdict, case_as};
use crate::data::{Case, dtypes};

pub const TESTS: &[(&str, Test)] = &[
    ("transformer_engine", |device| {
        run(&TRANSFORMER_ENGINE, device)
    }),
    ("quack_few_rows", |device| run(&quack(&[1, 37]), device)),
    ("quack_199_rows", |device| run(&quack(&[199]), device)),
    ("quack_4096_rows", |device| run(&quack(&[4096]), device)),
    ("apex", |device| run(&apex(), device)),
    ("pytorch", |device| run(&PYTORCH, device)),
    ("liger", |device| run(&LIGER, device)),
];

/// Of the cases that are not the whole grid, one in this many is run.
const SAMPLED: u64 = 23;

/// A shape that has more elements than this is run plain alone, and sampled more seldom.
const LARGE: usize = 1 << 20;

/// A case of the oracle's takes some 70 bytes an element.
const MOST: usize = 1 << 25;

type Shape = (usize, usize);

const TRANSFORMER_ENGINE: [Shape; 8] = [
    (71, 229),
    (29, 541),
    (768, 6144),
    (2048, 12_288),
    (256, 65_536),
    (128, 6144),
    (1, 128),
    (64, 2304),
];

/// Sizes around powers of two, and one with more rows than columns by far.
const PYTORCH: [Shape; 14] = [
    (3, 3),
    (5, 5),
    (11, 11),
    (55, 55),
    (32, 32),
    (33, 33),
    (1024, 32),
    (1024, 1024),
    (1025, 1025),
    (17, 2047),
    (9, 4097),
    (131_072, 32),
    (1 << 20, 2),
    (0, 77),
];

const LIGER: [Shape; 8] = [
    (16, 64),
    (64, 128),
    (1, 1023),
    (21, 256),
    (3, 41),
    (256, 512),
    (4096, 4096),
    (12, 32_768),
];

/// Its rows by all of its columns; fewer rows where they would be too many elements.
fn quack(rows: &[usize]) -> Vec<Shape> {
    let columns = [
        256, 512, 760, 1024, 1128, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072, 262_144,
    ];
    let shape = |m: usize| columns.map(|n| (m.min(MOST / n), n));
    rows.iter().flat_map(|&m| shape(m)).collect()
}

/// The sizes that its fast kernels are built for.
fn apex() -> Vec<Shape> {
    let columns = [
        768, 1024, 1536, 2048, 2304, 3072, 3840, 4096, 5120, 6144, 8192, 10_240, 12_288, 12_800,
        14_336, 15_360, 16_384, 18_432, 20_480, 24_576, 25_600, 30_720, 32_768, 40_960, 49_152,
        65_536,
    ];
    columns.iter().map(|&n| (29, n)).collect()
}

const FORMS: [Form; 3] = [Form::Plain, Form::Strided, Form::Residual];

/// Every case of some shapes.
fn cases(shapes: &[Shape]) -> Vec<(Case, Form)> {
    let mut cases = Vec::new();
    for &(n_rows, n_cols) in shapes {
        for (dtype, parameter_dtype) in dtypes() {
            let case = Case::new(n_rows, n_cols, dtype, parameter_dtype);
            if n_rows * n_cols > LARGE {
                // f64 has one kernel for all shapes, which the others' shapes show.
                if dtype != DType::F64 {
                    cases.push((case, Form::Plain));
                }
                continue;
            }
            cases.extend(FORMS.map(|form| (case, form)));
            for (weight, bias) in [(true, false), (false, true), (false, false)] {
                cases.push((
                    Case {
                        weight,
                        bias,
                        ..case
                    },
                    Form::Plain,
                ));
            }
        }
    }
    cases
}

/// How many cases this process has run.
static RUN: AtomicUsize = AtomicUsize::new(0);

/// The number of cases of the grid that this process has run.
pub fn count() -> usize {
    RUN.load(Ordering::Relaxed)
}

fn run(shapes: &[Shape], device: &Device) -> Verdict {
    let chosen = std::env::var("LAYERNORM_GRID").unwrap_or_default();
    let (all, turn) = match chosen.as_str() {
        "all" => (true, 0),
        "" => (false, day()),
        number => (
            false,
            number
                .parse()
                .map_err(|_| format!("LAYERNORM_GRID is {number:?}; allowed: all, or a number"))?,
        ),
    };
    for (i, (case, form)) in cases(shapes).into_iter().enumerate() {
        let seldom = if case.n_rows * case.n_cols > LARGE {
            8
        } else {
            1
        };
        if all || (i as u64 + turn).is_multiple_of(SAMPLED * seldom) {
            case_as(&case, form, device)
                .map_err(|reason| format!("{reason} (LAYERNORM_GRID={turn})"))?;
            RUN.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Days since 1970.
fn day() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs() / 86_400)
}
