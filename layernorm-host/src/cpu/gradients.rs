//! The backward pass's arithmetic over pieces of rows, in the processor's vectors. `Rows` in `backward` says why
//! all of it is always inlined.

use pulp::Simd;

use super::forward::{sum_for, sum_of};
use super::lanes::Lane;
use super::tile::{self, TILE, Target, Tile};

/// One row's operands and numbers.
#[derive(Clone, Copy)]
pub struct Row<'a, T> {
    pub dy: &'a [T],
    pub x: &'a [T],
    pub dsum: Option<&'a [T]>,
    pub mean: f32,
    pub rstd: f32,
    pub mean_dxhat: f32,
    pub mean_dxhat_xhat: f32,
}

impl<T: 'static> Row<'_, T> {
    pub const NONE: Row<'static, T> = Row {
        dy: &[],
        x: &[],
        dsum: None,
        mean: 0.0,
        rstd: 0.0,
        mean_dxhat: 0.0,
        mean_dxhat_xhat: 0.0,
    };

    /// mean, rstd, and what dxhat and xhat are added to and multiplied by for dx.
    #[inline(always)]
    fn numbers<S: Simd>(&self, simd: S) -> [S::f32s; 4] {
        [
            simd.splat_f32s(self.mean),
            simd.splat_f32s(self.rstd),
            simd.splat_f32s(-self.mean_dxhat),
            simd.splat_f32s(-self.mean_dxhat_xhat),
        ]
    }
}

/// Fills in mean(dxhat) and mean(dxhat * xhat) of a row.
#[inline(always)]
pub fn means<S: Simd, T: Lane>(simd: S, row: &mut Row<'_, T>, weight: &[Tile]) {
    let n = row.x.len() as f64;
    let (dys, dy_tail) = row.dy.as_chunks::<TILE>();
    let (xs, x_tail) = row.x.as_chunks::<TILE>();
    let (block, zero) = (Tile::block::<S>(), [simd.splat_f32s(0.0); 4]);
    let (mut first, mut second) = (0.0, 0.0);
    let blocks = dys.chunks(block).zip(xs.chunks(block));
    for ((dys, xs), weights) in blocks.zip(weight.chunks(block)) {
        let (mut firsts, mut seconds) = (zero, zero);
        for ((dy, x), weight) in dys.iter().zip(xs).zip(weights) {
            for k in 0..Tile::pairs::<S>() {
                let operands = [
                    T::load(simd, dy, k),
                    T::load(simd, x, k),
                    weight.pair(simd, k),
                ];
                let sums = [&mut firsts, &mut seconds];
                products(simd, operands, k, [row.mean, row.rstd], sums);
            }
        }
        first += sum_of(simd, &firsts);
        second += sum_of(simd, &seconds);
    }
    if let (false, Some(weight)) = (x_tail.is_empty(), weight.last()) {
        let dy = Tile::of_tail::<T, T>(dy_tail, 0.0);
        let x = Tile::of_tail::<T, T>(x_tail, row.mean);
        let (mut firsts, mut seconds) = (zero, zero);
        for k in 0..Tile::pairs::<S>() {
            let operands = [dy.pair(simd, k), x.pair(simd, k), weight.pair(simd, k)];
            let sums = [&mut firsts, &mut seconds];
            products(simd, operands, k, [row.mean, row.rstd], sums);
        }
        first += sum_of(simd, &firsts);
        second += sum_of(simd, &seconds);
    }
    row.mean_dxhat = (first / n) as f32;
    row.mean_dxhat_xhat = (second / n) as f32;
}

/// Adds up dxhat and dxhat * xhat of a pair.
#[inline(always)]
fn products<S: Simd>(
    simd: S,
    [dy, x, weight]: [[S::f32s; 2]; 3],
    k: usize,
    [mean, rstd]: [f32; 2],
    [firsts, seconds]: [&mut [S::f32s; 4]; 2],
) {
    let (mean, rstd) = (simd.splat_f32s(mean), simd.splat_f32s(rstd));
    for i in 0..2 {
        let sum = sum_for(k, i);
        let dxhat = simd.mul_f32s(dy[i], weight[i]);
        let xhat = simd.mul_f32s(simd.sub_f32s(x[i], mean), rstd);
        firsts[sum] = simd.add_f32s(firsts[sum], dxhat);
        seconds[sum] = simd.mul_add_e_f32s(dxhat, xhat, seconds[sum]);
    }
}

/// dx of some rows where it is wanted, and what the rows add to dweight and dbias. Meanwhile the rows `next` are
/// asked for.
#[inline(always)]
pub fn gradients<S: Simd, T: Lane, const N: usize>(
    simd: S,
    rows: &[Row<'_, T>; N],
    weight: &[Tile],
    dx: &mut Option<[Target<'_, T>; N]>,
    [dweight, dbias]: [&mut [Tile]; 2],
    next: [&[T]; 2],
) {
    let n_full = rows[0].x.len() / TILE;
    let [next_dy, next_x] = next.map(|next| next.as_chunks::<TILE>().0);
    let mut dys = [[[T::ZERO; TILE]; 0].as_slice(); N];
    let mut xs = dys;
    let mut numbers = [[simd.splat_f32s(0.0); 4]; N];
    for (i, row) in rows.iter().enumerate() {
        dys[i] = &row.dy.as_chunks().0[..n_full];
        xs[i] = &row.x.as_chunks().0[..n_full];
        numbers[i] = row.numbers(simd);
    }
    let columns = weight.iter().zip(dweight.iter_mut()).zip(dbias.iter_mut());
    for (t, ((weight, dweight), dbias)) in columns.take(n_full).enumerate() {
        for i in 0..N {
            tile::prefetch(next_dy.get(i * n_full + t), true);
            tile::prefetch(next_x.get(i * n_full + t), false);
        }
        for k in 0..Tile::pairs::<S>() {
            let weight = weight.pair(simd, k);
            let mut sums = [dweight.pair(simd, k), dbias.pair(simd, k)];
            for i in 0..N {
                let operands = [T::load(simd, &dys[i][t], k), T::load(simd, &xs[i][t], k)];
                let mut pair = gradients_of(simd, operands, &numbers[i], weight, &mut sums);
                let Some(dx) = dx else { continue };
                if let Some(dsum) = rows[i].dsum {
                    let dsum = T::load(simd, &dsum.as_chunks().0[t], k);
                    pair = add(simd, pair, dsum);
                }
                dx[i].put(simd, t, k, pair);
            }
            dweight.set_pair(simd, k, sums[0]);
            dbias.set_pair(simd, k, sums[1]);
        }
    }
    let last = (weight.last(), dweight.last_mut(), dbias.last_mut());
    let (Some(weight), Some(dweight), Some(dbias)) = last else {
        return;
    };
    let tail = n_full * TILE..;
    if rows[0].x.len() == tail.start {
        return;
    }
    for (i, row) in rows.iter().enumerate() {
        let dy = Tile::of_tail::<T, T>(&row.dy[tail.clone()], 0.0);
        let x = Tile::of_tail::<T, T>(&row.x[tail.clone()], row.mean);
        let mut tile = Tile::ZERO;
        for k in 0..Tile::pairs::<S>() {
            let operands = [dy.pair(simd, k), x.pair(simd, k)];
            let mut sums = [dweight.pair(simd, k), dbias.pair(simd, k)];
            let weight = weight.pair(simd, k);
            let pair = gradients_of(simd, operands, &numbers[i], weight, &mut sums);
            tile.set_pair(simd, k, pair);
            dweight.set_pair(simd, k, sums[0]);
            dbias.set_pair(simd, k, sums[1]);
        }
        let Some(dx) = &mut *dx else { continue };
        if let Some(dsum) = row.dsum {
            tile.add_tail::<T, T>(&dsum[tail.clone()]);
        }
        dx[i].put_tail(&tile);
    }
}

/// dx of a pair, of which dy and x are given; dweight and dbias are added to.
#[inline(always)]
fn gradients_of<S: Simd>(
    simd: S,
    [dy, x]: [[S::f32s; 2]; 2],
    [mean, rstd, less_dxhat, less_dxhat_xhat]: &[S::f32s; 4],
    weight: [S::f32s; 2],
    [dweight, dbias]: &mut [[S::f32s; 2]; 2],
) -> [S::f32s; 2] {
    let mut dx = x;
    for i in 0..2 {
        let xhat = simd.mul_f32s(simd.sub_f32s(x[i], *mean), *rstd);
        dweight[i] = simd.mul_add_e_f32s(dy[i], xhat, dweight[i]);
        dbias[i] = simd.add_f32s(dbias[i], dy[i]);
        let inner = simd.mul_add_e_f32s(dy[i], weight[i], *less_dxhat);
        let inner = simd.mul_add_e_f32s(xhat, *less_dxhat_xhat, inner);
        dx[i] = simd.mul_f32s(inner, *rstd);
    }
    dx
}

#[inline(always)]
fn add<S: Simd>(simd: S, [a, b]: [S::f32s; 2], [c, d]: [S::f32s; 2]) -> [S::f32s; 2] {
    [simd.add_f32s(a, c), simd.add_f32s(b, d)]
}
