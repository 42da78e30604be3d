//! How far a result may be from the oracle, with the reason for each number. Nothing else in the tests
//! holds a tolerance.
//!
//! An error is measured against the size of the terms that a result is made of (`Output::y_terms` and
//! its like): where terms cancel, what is left has their rounding error, not its own.
//!
//! | result | f32 bound | reason |
//! |---|---|---|
//! | y | 2e-6 of the row's largest term | some 8 roundings of 6e-8 each, rsqrt.approx's 2 ulp, and mean's and var's own error |
//! | mean | 5e-7 of the row's largest \|x\| | a tree sum over at most a few hundred partial sums, in f32 |
//! | rstd | 2e-6 relative | half of var's relative error, and rsqrt.approx's 2 ulp |
//! | dx | 4e-6 of the row's largest term | as y, with two more means |
//! | dweight, dbias | 2e-6 * sqrt(n_rows) of the column's largest term | roundings add up like a random walk |
//!
//! A mean of one f32 has half a unit in its last place, and as much again from adding it up about one of the row's
//! elements: `MEAN` of the row's largest |x|. Backward reads that mean, so x - mean has its error, however small the
//! difference: the oracle's `*_of_mean` say what becomes of it in dx and dweight. Forward knows what its rounding
//! left over and takes it off, so y has no such part.
//!
//! For f64 each bound is 2^-29 of f32's: the same number of roundings, each of 2^-53 instead of 2^-24, with a
//! square root and a division where f32 has rsqrt.approx.
//!
//! Beside TransformerEngine, the strictest of the peers (f32: 1e-6 + 5e-6 of y, 5e-5 of the statistics; f16: 1e-3, bf16:
//! 1e-2 of y; gradients: 5e-4): ours are below those wherever terms do not cancel, and name the term where they do.
//!
//! An f16 or bf16 result may also be one unit in the last place off: half of one is its own rounding, and
//! an f32 error near a tie moves it to the neighbour.

use layernorm_host::DType;

/// One unit in the last place of `dtype` at `value`, denormals included.
pub fn ulp(dtype: DType, value: f64) -> f64 {
    let (mantissa_bits, min_exponent) = match dtype {
        DType::F32 => (23, -126),
        DType::F16 => (10, -14),
        DType::BF16 => (7, -126),
        DType::F64 => (52, -1022),
    };
    let exponent = if value == 0.0 {
        min_exponent
    } else {
        (value.abs().log2().floor() as i32).max(min_exponent)
    };
    2f64.powi(exponent - mantissa_bits)
}

/// mean's own error, relative to the row's largest |x|: two halves of a unit in the last place.
const MEAN: f64 = 1.2e-7;

/// The bound on |got - expected| for an element of y.
pub fn y(dtype: DType, expected: f64, row_terms: f64) -> f64 {
    inside(dtype) * 2e-6 * row_terms + rounding(dtype, expected)
}

/// The bound for a row's mean, which is f32, or f64 for f64.
pub fn mean(dtype: DType, row_terms: f64) -> f64 {
    inside(dtype) * 5e-7 * row_terms + 2.0 * ulp(dtype.accumulator(), 0.0)
}

/// The bound for a row's rstd, which is f32, or f64 for f64.
pub fn rstd(dtype: DType, expected: f64) -> f64 {
    inside(dtype) * 2e-6 * expected
}

/// The bound for an element of dx.
pub fn dx(dtype: DType, expected: f64, row_terms: f64, of_mean: f64) -> f64 {
    inside(dtype) * (4e-6 * row_terms + MEAN * of_mean) + rounding(dtype, expected)
}

/// The bound for an element of dweight.
pub fn dweight(dtype: DType, expected: f64, terms: f64, of_mean: f64, n_rows: usize) -> f64 {
    inside(dtype) * (n_rows as f64).sqrt() * (2e-6 * terms + MEAN * of_mean)
        + rounding(dtype, expected)
}

/// The bound for an element of dbias.
pub fn dbias(dtype: DType, expected: f64, terms: f64, n_rows: usize) -> f64 {
    inside(dtype) * (n_rows as f64).sqrt() * 2e-6 * terms + rounding(dtype, expected)
}

/// The fixture's bounds on |got - expected| / |expected|, as norms over the whole tensor, for f32.
pub const FIXTURE: [(&str, f64); 4] = [
    ("y", 2e-6),
    ("dx", 5e-6),
    ("dweight", 5e-6),
    ("dbias", 5e-6),
];

/// A rounding inside, relative to one of f32.
fn inside(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 2f64.powi(-29),
        _ => 1.0,
    }
}

fn rounding(dtype: DType, expected: f64) -> f64 {
    match dtype {
        // Denormals have no digits to be relative to.
        DType::F32 | DType::F64 => 2.0 * ulp(dtype, 0.0),
        DType::F16 | DType::BF16 => ulp(dtype, expected),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_in_the_last_place() {
        assert_eq!(ulp(DType::F32, 1.0), f64::from(f32::EPSILON));
        assert_eq!(ulp(DType::F64, 1.0), f64::EPSILON);
        assert_eq!(ulp(DType::F16, 1.5), 2f64.powi(-10));
        assert_eq!(ulp(DType::F16, 1e-7), 2f64.powi(-24));
        assert_eq!(ulp(DType::BF16, 256.0), 2.0);
        assert_eq!(ulp(DType::BF16, 0.0), 2f64.powi(-133));
    }

    /// `layernorm verify` has its own copy of the table, as it has its own reference.
    #[test]
    fn the_tool_allows_what_the_tests_allow() {
        use layernorm_host::verify;
        let same = |a: f64, b: f64| assert!((a - b).abs() <= 1e-12 * b, "{a:e} {b:e}");
        same(y(DType::F32, 1.0, 1.0), verify::Y);
        same(y(DType::F64, 1.0, 1.0), verify::F64 * verify::Y);
        same(mean(DType::F32, 1.0), verify::STATISTIC_MEAN);
        same(rstd(DType::F32, 1.0), verify::STATISTIC_RSTD);
        same(dx(DType::F32, 1.0, 1.0, 1.0), verify::DX + verify::MEAN);
        same(
            dweight(DType::F32, 1.0, 1.0, 1.0, 100),
            10.0 * (verify::PARAMETERS + verify::MEAN),
        );
        same(dbias(DType::F32, 1.0, 1.0, 100), 10.0 * verify::PARAMETERS);
    }
}
