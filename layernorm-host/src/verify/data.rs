//! Random inputs, the same on every machine and for every number of threads: each piece of a tensor has a
//! generator of its own.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rand::SeedableRng;
use rand::distr::{Distribution, StandardUniform};
use rand::rngs::Xoshiro256PlusPlus;
use rand_distr::StandardNormal;
use rayon::prelude::*;

use super::Test;
use crate::problem::elements;
use crate::{Element, Result, host};

/// An element type as the reference needs it.
pub trait Value: Element {
    fn rounded(value: f64) -> Self;

    /// One unit in this type's last place at a value.
    fn unit(value: f64) -> f64;

    /// What a bound allows for the result's own rounding: nothing where that is f32's, which is in it already.
    fn rounding(value: f64) -> f64;

    /// Rounded to this type. `half`'s own conversions from f64 look at 20 bits of the fraction, and take
    /// what is just above a tie for one.
    fn round(value: f64) -> f64 {
        let unit = Self::unit(value);
        (value / unit).round_ties_even() * unit
    }

    /// What a rounding inside is, relative to one of f32.
    const INSIDE: f64 = 1.0;

    fn widen(from: &[Self], to: &mut [f64]);
}

impl Value for f32 {
    fn rounded(value: f64) -> Self {
        value as f32
    }

    fn unit(value: f64) -> f64 {
        unit(value, 23, -126)
    }

    fn rounding(_: f64) -> f64 {
        0.0
    }

    fn widen(from: &[Self], to: &mut [f64]) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = f64::from(from);
        }
    }
}

impl Value for f64 {
    const INSIDE: f64 = super::F64;

    fn rounded(value: f64) -> Self {
        value
    }

    fn unit(value: f64) -> f64 {
        unit(value, 52, -1022)
    }

    fn rounding(_: f64) -> f64 {
        0.0
    }

    fn round(value: f64) -> f64 {
        value
    }

    fn widen(from: &[Self], to: &mut [f64]) {
        to.copy_from_slice(from);
    }
}

impl Value for f16 {
    fn rounded(value: f64) -> Self {
        f16::from_f64(value)
    }

    fn unit(value: f64) -> f64 {
        unit(value, 10, -14)
    }

    fn rounding(value: f64) -> f64 {
        Self::unit(value)
    }

    fn widen(from: &[Self], to: &mut [f64]) {
        widen_half(from, to, |from, to| from.convert_to_f32_slice(to));
    }
}

impl Value for bf16 {
    fn rounded(value: f64) -> Self {
        bf16::from_f64(value)
    }

    fn unit(value: f64) -> f64 {
        unit(value, 7, -126)
    }

    fn rounding(value: f64) -> f64 {
        Self::unit(value)
    }

    fn widen(from: &[Self], to: &mut [f64]) {
        widen_half(from, to, |from, to| from.convert_to_f32_slice(to));
    }
}

/// By pieces, since `half` converts slices to f32 alone, and single values slowly.
fn widen_half<T>(from: &[T], to: &mut [f64], convert: impl Fn(&[T], &mut [f32])) {
    let mut single = [0.0; 256];
    for (from, to) in from.chunks(single.len()).zip(to.chunks_mut(256)) {
        let single = &mut single[..from.len()];
        convert(from, single);
        f32::widen(single, to);
    }
}

/// From f64's exponent field: 2^(exponent - mantissa_bits), not below the smallest normal's.
fn unit(value: f64, mantissa_bits: i32, min_exponent: i32) -> f64 {
    let exponent = ((value.to_bits() >> 52) & 0x7FF) as i32 - 1023;
    2f64.powi(exponent.max(min_exponent) - mantissa_bits)
}

/// What a test is of.
pub struct Inputs<T> {
    /// `[n_rows, dim]`
    pub x: Vec<T>,
    /// `[n_rows, dim]`
    pub dy: Vec<T>,
    /// `[dim]`
    pub weight: Vec<T>,
    /// `[dim]`
    pub bias: Vec<T>,
}

impl<T: Value> Inputs<T> {
    pub fn random(test: &Test) -> Result<Self> {
        let n = elements("x", &[test.bsz, test.seqlen, test.dim])?;
        let random = |tensor: u64, len: usize, normal: bool| {
            let mut values = host::zeros(len)?;
            fill(&mut values, test.random_state, tensor, normal);
            Ok(values)
        };
        Ok(Inputs {
            weight: random(0, test.dim, false)?,
            bias: random(1, test.dim, false)?,
            x: random(2, n, true)?,
            dy: random(3, n, true)?,
        })
    }
}

/// Elements that one generator makes.
const PIECE: usize = 1 << 14;

fn fill<T: Value>(values: &mut [T], random_state: u64, tensor: u64, normal: bool) {
    values
        .par_chunks_mut(PIECE)
        .enumerate()
        .for_each(|(piece, values)| {
            let mut seed = [0; 32];
            for (bytes, number) in
                seed.chunks_exact_mut(8)
                    .zip([random_state, tensor, piece as u64, 1])
            {
                bytes.copy_from_slice(&number.to_le_bytes());
            }
            let mut rng = Xoshiro256PlusPlus::from_seed(seed);
            // A seed of few bits is in the first numbers still.
            for _ in 0..32 {
                let _: u64 = StandardUniform.sample(&mut rng);
            }
            for value in values {
                *value = T::rounded(match normal {
                    true => StandardNormal.sample(&mut rng),
                    false => StandardUniform.sample(&mut rng),
                });
            }
        });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn units() {
        assert_eq!(f16::unit(1.5), 2f64.powi(-10));
        assert_eq!(f16::unit(-2.0), 2f64.powi(-9));
        assert_eq!(f16::unit(1e-7), 2f64.powi(-24));
        assert_eq!(bf16::unit(0.0), 2f64.powi(-133));
        assert_eq!(bf16::unit(256.0), 2.0);
    }

    #[test]
    fn rounding_is_to_nearest_and_ties_to_even() {
        let tie = 1.0 + 2f64.powi(-8);
        assert_eq!(<bf16 as Value>::round(tie), 1.0);
        assert_eq!(
            <bf16 as Value>::round(tie + 2f64.powi(-40)),
            1.0 + 2f64.powi(-7)
        );
        assert_eq!(<bf16 as Value>::round(-3.0 * tie), -3.0 - 2f64.powi(-6));
        assert_eq!(<f16 as Value>::round(1e-8), 0.0);
        for value in [0.1, -7.7, 1e-6, 123.4] {
            assert_eq!(<f32 as Value>::round(value), f64::from(value as f32));
        }
    }

    #[test]
    fn values_are_of_the_seed_alone_and_of_the_distribution() {
        let test = Test {
            dim: 3000,
            bsz: 1,
            seqlen: 40,
            dtype: DType::F32,
            ..Test::default()
        };
        let of = |test: &Test| Inputs::<f32>::random(test).unwrap();
        let (first, again) = (of(&test), of(&test));
        assert_eq!(first.x, again.x);
        assert_ne!(first.x, first.dy);
        let other = Test {
            random_state: 42,
            ..test
        };
        assert_ne!(first.x, of(&other).x);
        // 120,000 normal deviates: their mean has a standard deviation of 0.003, their variance 0.004.
        let n = first.x.len() as f64;
        let mean = first.x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let var = first.x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / n;
        assert!(
            mean.abs() < 0.02 && (var - 1.0).abs() < 0.03,
            "{mean} {var}"
        );
        assert!(first.weight.iter().all(|w| (0.0..1.0).contains(w)));
    }
}
