//! What a device is free to do, chosen by a seed: the order of blocks and warps, and the error of
//! approximate instructions.
//!
//! Each choice is a function of the seed and of what it is about, never of time. So a seed does the same
//! again, and an approximation gives the same value for the same operand, as it does on a device.

use super::scalar;
use crate::program::{Arith, Kind, Type};

/// Instructions in a turn without an adversary: a warp that spins lets the others of its block run.
const TURN: u32 = 1 << 16;

/// The choices of a launch. A block by itself is a cluster of one.
pub(super) struct Adversary {
    seed: Option<u64>,
    /// Approximations are rounded correctly, with a seed or without.
    exact: bool,
    blocks: u64,
    /// The order of blocks: `number * step + start`, modulo their count.
    step: u64,
    start: u64,
}

/// A number that looks random, from some others (the finaliser of splitmix64, applied again and again).
fn hash(parts: &[u64]) -> u64 {
    parts.iter().fold(0x9e37_79b9_7f4a_7c15, |state, part| {
        let mut z = (state ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Adversary {
    /// For a launch of so many clusters.
    pub fn new(seed: Option<u64>, blocks: u64) -> Adversary {
        let (mut step, mut start) = (1, 0);
        if let Some(seed) = seed {
            step = hash(&[seed, 1]) % blocks;
            while gcd(step, blocks) != 1 {
                step += 1;
            }
            start = hash(&[seed, 2]) % blocks;
        }
        Adversary {
            seed,
            exact: false,
            blocks,
            step,
            start,
        }
    }

    /// The same without errors of approximations, if they are to be exact.
    pub fn with_exact(self, exact: bool) -> Adversary {
        Adversary { exact, ..self }
    }

    /// Whether approximations have errors.
    pub fn approximates(&self) -> bool {
        self.seed.is_some() && !self.exact
    }

    /// The block that is run in that place of the order.
    pub fn block(&self, place: u64) -> u64 {
        let place = u128::from(place) * u128::from(self.step) + u128::from(self.start);
        (place % u128::from(self.blocks)) as u64
    }

    /// The warp in that place of a round of turns, and how many instructions its turn has.
    pub fn warp(&self, block: u64, round: u64, place: usize, warps: usize) -> (usize, u32) {
        let Some(seed) = self.seed else {
            return (place, TURN);
        };
        let random = hash(&[seed, 3, block, round]) as usize;
        // A rotation, forwards or backwards.
        let place = if random & 1 == 0 {
            place
        } else {
            warps - 1 - place
        };
        let warp = (place + (random >> 1) % warps) % warps;
        // Mostly short turns, some of them a single instruction, and now and then a long one.
        let random = hash(&[seed, 4, block, round, warp as u64]);
        let turn = match random % 8 {
            0 => 1,
            7 => TURN,
            bits => 1 + (random >> 8) as u32 % (1 << (2 * bits)),
        };
        (warp, turn)
    }

    /// True where the lanes that do not branch go first.
    #[inline(always)]
    pub fn other_side_first(&self, pc: u32, warp: u32) -> bool {
        self.seed
            .is_some_and(|seed| hash(&[seed, 5, pc.into(), warp.into()]) & 1 == 1)
    }

    /// True where an asynchronous copy lands when it is issued.
    pub fn lands_early(&self, pc: u32, warp: u32) -> bool {
        self.seed
            .is_some_and(|seed| hash(&[seed, 6, pc.into(), warp.into()]) & 1 == 1)
    }

    /// After how many turns what a thread sends comes.
    pub fn delay(&self, turn: u64, thread: u32) -> u64 {
        self.seed
            .map_or(1, |seed| 1 + hash(&[seed, 8, turn, thread.into()]) % 64)
    }

    /// An approximate operation with an error inside PTX's bound.
    pub fn approximate(&self, op: Arith, a: u64, b: u64) -> u64 {
        let right = scalar::arith(op, a, b, 0);
        let (Some(seed), Type::F32) = (self.seed, op.ty) else {
            return right;
        };
        let (x, y) = (
            f64::from(f32::from_bits(a as u32)),
            f64::from(f32::from_bits(b as u32)),
        );
        // The bounds of PTX ISA 8.8, relative unless said otherwise.
        let (exact, bound, absolute) = match op.kind {
            Kind::Rsqrt => (1.0 / x.sqrt(), (-22.9f64).exp2(), false),
            Kind::SqrtApprox => (x.sqrt(), (-23f64).exp2(), false),
            // 1 ulp and 2 ulp; an ulp is at least 2^-24 of the value.
            Kind::RcpApprox => (1.0 / x, (-24f64).exp2(), false),
            Kind::DivApprox => (x / y, (-23f64).exp2(), false),
            Kind::Ex2 => (x.exp2(), (-22.5f64).exp2(), false),
            // Absolute within (0.5, 2), relative elsewhere.
            Kind::Lg2 => (x.log2(), (-22f64).exp2(), x > 0.5 && x < 2.0),
            Kind::Sin => (x.sin(), (-20.9f64).exp2(), true),
            Kind::Cos => (x.cos(), (-20.9f64).exp2(), true),
            _ => (x.tanh(), (-11f64).exp2(), false),
        };
        let value = f32::from_bits(right as u32);
        // Zeros, infinities, NaNs and denormals are given exactly; sin and cos are only bounded near 0.
        let far = matches!(op.kind, Kind::Sin | Kind::Cos) && x.abs() > std::f64::consts::PI;
        if !value.is_normal() || far {
            return right;
        }
        let random = hash(&[seed, 7, a, b, bound.to_bits()]);
        let share = (random >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
        let most = if absolute { bound } else { bound * exact.abs() };
        let moved = (exact + share * most) as f32;
        // Rounding may have gone past the bound.
        let inside = moved.is_normal() && (f64::from(moved) - exact).abs() <= most;
        if inside {
            moved.to_bits().into()
        } else {
            right
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adversary(seed: u64, blocks: u32) -> Adversary {
        Adversary::new(Some(seed), blocks.into())
    }

    #[test]
    fn every_block_and_warp_has_its_turn() {
        for seed in 0..50 {
            for count in [1u32, 2, 7, 12, 32] {
                let adversary = adversary(seed, count);
                let mut blocks: Vec<u64> = (0..count.into())
                    .map(|place| adversary.block(place))
                    .collect();
                blocks.sort_unstable();
                assert!(blocks.into_iter().eq(0..count.into()));
                let n = count as usize;
                let mut warps: Vec<usize> = (0..n)
                    .map(|place| adversary.warp(3, 5, place, n).0)
                    .collect();
                warps.sort_unstable();
                assert!(warps.into_iter().eq(0..n));
            }
        }
    }

    #[test]
    fn approximations_differ_by_seed_and_stay_inside_the_bound() {
        let op = Arith::plain(Kind::Rsqrt, Type::F32);
        let mut values = std::collections::BTreeSet::new();
        for seed in 0..40 {
            let adversary = adversary(seed, 1);
            let value = adversary.approximate(op, 3.3f32.to_bits().into(), 0);
            let error = f64::from(f32::from_bits(value as u32)) * f64::from(3.3f32).sqrt() - 1.0;
            assert!(error.abs() <= (-22.9f64).exp2() * 1.000_001, "{error:e}");
            assert_eq!(value, adversary.approximate(op, 3.3f32.to_bits().into(), 0));
            values.insert(value);
        }
        assert!(values.len() >= 2, "{values:?}");
        for special in [0.0f32, f32::INFINITY, f32::NAN, -1.0] {
            let bits = special.to_bits().into();
            assert_eq!(
                adversary(1, 1).approximate(op, bits, 0),
                scalar::arith(op, bits, 0, 0)
            );
        }
    }
}
