//! Every kind of vector instructions that this processor has, each by itself: the dispatch takes the newest, so
//! that the others would never run here.

use std::cell::Cell;

use super::arch::kinds;
use super::lanes::Lane;
use super::tile::{TILE, Tile};
use crate::{DType, Device, FastLayerNorm, Tensor};

thread_local! {
    /// What `arch` gives on this thread; on rayon's threads it is not told.
    pub static TOLD: Cell<Option<pulp::Arch>> = const { Cell::new(None) };
}

/// y, dx, dweight and dbias of a wave of these dtypes, as f64.
fn run(dtype: DType, [n_rows, n_cols]: [usize; 2]) -> [Vec<f64>; 4] {
    let device = Device::cpu();
    let tensor = |shape: &[usize], step: f64| {
        let n = shape.iter().product::<usize>();
        // Values that every dtype holds exactly, so that f64's results are the reference for all.
        let values = (0..n).map(|i| ((i as f64 * step).sin() * 64.0).round() / 32.0);
        let values: Vec<f64> = values.collect();
        let narrow = |v: &f64| *v as f32;
        match dtype {
            DType::F64 => Tensor::from_slice(&values, shape, &device),
            DType::F32 => {
                let values: Vec<f32> = values.iter().map(narrow).collect();
                Tensor::from_slice(&values, shape, &device)
            }
            DType::F16 => {
                let values: Vec<_> = values.iter().map(narrow).map(half::f16::from_f32).collect();
                Tensor::from_slice(&values, shape, &device)
            }
            DType::BF16 => {
                let values: Vec<_> = values
                    .iter()
                    .map(narrow)
                    .map(half::bf16::from_f32)
                    .collect();
                Tensor::from_slice(&values, shape, &device)
            }
        }
        .unwrap()
    };
    let (x, dy) = (
        tensor(&[n_rows, n_cols], 0.7),
        tensor(&[n_rows, n_cols], 1.3),
    );
    let (weight, bias) = (tensor(&[n_cols], 0.3), tensor(&[n_cols], 0.9));
    let (y, saved) = FastLayerNorm::forward(&x, Some(&weight), Some(&bias), 1e-5).unwrap();
    let (dx, dweight, dbias) = FastLayerNorm::backward(saved, &dy).unwrap();
    [y, dx, dweight.unwrap(), dbias.unwrap()].map(|tensor| tensor.to_f64_vec().unwrap())
}

#[test]
fn every_kind_of_instructions_gives_what_float64_gives() {
    for (name, kind) in kinds() {
        for n_cols in [1, 7, 64, 65, 384, 1023, 3000] {
            let shape = [9, n_cols];
            assert!(super::is_small(
                &crate::Problem::new(9, n_cols, DType::F32, DType::F32, 1e-5).unwrap()
            ));
            let expected = run(DType::F64, shape);
            // Two units in the last place of the result, and of f32 for the sums.
            for (dtype, near) in [
                (DType::F32, 2e-5),
                (DType::F16, 2.0_f64.powi(-10)),
                (DType::BF16, 2.0_f64.powi(-7)),
            ] {
                TOLD.set(Some(kind));
                let got = run(dtype, shape);
                TOLD.set(None);
                for (got, expected) in got.iter().zip(&expected) {
                    for (got, expected) in got.iter().zip(expected) {
                        let error = (got - expected).abs() / expected.abs().max(1.0);
                        assert!(
                            error <= near,
                            "{name}, {dtype}, {n_cols}: {got}, {expected}"
                        );
                    }
                }
            }
        }
    }
}

/// A piece widened and narrowed again by vectors, in the piece's own order.
struct Conversions<'a, T> {
    piece: &'a [T; TILE],
    wide: &'a Tile,
}

impl<T: Lane> pulp::WithSimd for Conversions<'_, T> {
    type Output = (Tile, [T; TILE]);

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) -> Self::Output {
        let (mut widened, mut narrowed) = (Tile::ZERO, [T::ZERO; TILE]);
        for k in 0..Tile::pairs::<S>() {
            widened.set_pair(simd, k, T::load(simd, self.piece, k));
            T::store(simd, self.wide.pair(simd, k), &mut narrowed, k, false);
        }
        (widened, narrowed)
    }
}

/// Of values around every one of the type: itself, its neighbours, the ties between.
fn vectors_convert_as_elements_do<T: Lane>(of_bits: fn(u16) -> T, places: u32) {
    let lows = [0, 1, 0x0FFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001, 0xFFFF];
    for (name, kind) in kinds() {
        for first in (0..=u16::MAX).step_by(TILE) {
            let piece: [T; TILE] = std::array::from_fn(|i| of_bits(first + i as u16));
            for low in lows {
                let value = |i| {
                    let bits = u32::from(first + i as u16) << places | low;
                    // Arithmetic gives quiet NaNs.
                    f32::from_bits(bits) + 0.0
                };
                let values: [f32; TILE] = std::array::from_fn(value);
                let wide = Tile::of_tail::<T, f32>(&values, 0.0);
                let piece = &piece;
                let (widened, narrowed) = kind.dispatch(Conversions { piece, wide: &wide });
                for i in 0..TILE {
                    let (got, expected) = (widened.0[T::place(i)], piece[i].widen());
                    let same =
                        got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan();
                    assert!(same, "{name}: {got} is not {expected}");
                    let (got, expected) = (narrowed[i].widen(), T::narrow(values[i]).widen());
                    let same =
                        got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan();
                    assert!(same, "{name}: {} became {got}, not {expected}", values[i]);
                }
            }
        }
    }
}

#[test]
fn every_kind_of_instructions_converts_as_elements_are() {
    vectors_convert_as_elements_do(half::bf16::from_bits, 16);
    vectors_convert_as_elements_do(half::f16::from_bits, 13);
    vectors_convert_as_elements_do(half::f16::from_bits, 16);
}

/// So that the tests above are known to be of AVX2 where CI's processors have it.
#[test]
#[cfg(target_arch = "x86_64")]
fn the_kinds_are_those_of_the_processor() {
    let names: Vec<_> = kinds().into_iter().map(|(name, _)| name).collect();
    let avx2 = std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma");
    assert_eq!(names.contains(&"avx2"), avx2, "{names:?}");
    let avx512 = std::is_x86_feature_detected!("avx512f");
    assert!(avx512 || !names.contains(&"avx512"), "{names:?}");
}
