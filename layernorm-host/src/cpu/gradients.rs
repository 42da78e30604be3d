//! The backward pass's arithmetic over pieces of rows, in the processor's vectors. `Rows` in `backward` says why
//! all of it is always inlined.

use pulp::Simd;

use super::forward::{add_all, sum_of};
use super::lanes::Lane;
use super::tile::{self, BLOCK, TILE, Target, Tile};

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

    #[inline(always)]
    fn numbers<S: Simd>(&self, simd: S) -> [S::f32s; 4] {
        [
            simd.splat_f32s(self.mean),
            simd.splat_f32s(self.rstd),
            simd.splat_f32s(self.mean_dxhat),
            simd.splat_f32s(self.mean_dxhat_xhat),
        ]
    }
}

/// Fills in mean(dxhat) and mean(dxhat * xhat) of a row.
#[inline(always)]
pub fn means<S: Simd, T: Lane>(simd: S, row: &mut Row<'_, T>, weight: &[Tile]) {
    let n = row.x.len() as f32;
    let (dys, dy_tail) = row.dy.as_chunks::<TILE>();
    let (xs, x_tail) = row.x.as_chunks::<TILE>();
    let zero = [simd.splat_f32s(0.0); 4];
    let (mut firsts, mut products) = (zero, zero);
    let blocks = dys.chunks(BLOCK).zip(xs.chunks(BLOCK));
    for ((dys, xs), weights) in blocks.zip(weight.chunks(BLOCK)) {
        let (mut some_firsts, mut some_products) = (zero, zero);
        for ((dy, x), weight) in dys.iter().zip(xs).zip(weights) {
            let (mut dy_scratch, mut x_scratch) = (Tile::ZERO, Tile::ZERO);
            let dy = T::wide(simd, dy, &mut dy_scratch);
            let x = T::wide(simd, x, &mut x_scratch);
            let (firsts, products) = (&mut some_firsts, &mut some_products);
            products_of(simd, dy, x, weight, row.mean, row.rstd, firsts, products);
        }
        add_all(simd, &mut firsts, &some_firsts);
        add_all(simd, &mut products, &some_products);
    }
    if let (false, Some(weight)) = (x_tail.is_empty(), weight.last()) {
        let dy = Tile::of_tail(dy_tail, 0.0);
        let x = Tile::of_tail(x_tail, row.mean);
        let (firsts, products) = (&mut firsts, &mut products);
        products_of(
            simd, &dy.0, &x.0, weight, row.mean, row.rstd, firsts, products,
        );
    }
    row.mean_dxhat = sum_of(simd, &firsts) / n;
    row.mean_dxhat_xhat = sum_of(simd, &products) / n;
}

/// Adds up dxhat and dxhat * xhat.
#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "a struct of them would be built for each piece"
)]
fn products_of<S: Simd>(
    simd: S,
    dy: &[f32; TILE],
    x: &[f32; TILE],
    weight: &Tile,
    mean: f32,
    rstd: f32,
    firsts: &mut [S::f32s; 4],
    products: &mut [S::f32s; 4],
) {
    let (mean, rstd) = (simd.splat_f32s(mean), simd.splat_f32s(rstd));
    let (dys, xs) = (S::as_simd_f32s(dy).0, S::as_simd_f32s(x).0);
    let weights = S::as_simd_f32s(&weight.0).0;
    for (k, ((dy, x), weight)) in dys.iter().zip(xs).zip(weights).enumerate() {
        let dxhat = simd.mul_f32s(*dy, *weight);
        let xhat = simd.mul_f32s(simd.sub_f32s(*x, mean), rstd);
        firsts[k % 4] = simd.add_f32s(firsts[k % 4], dxhat);
        products[k % 4] = simd.mul_add_e_f32s(dxhat, xhat, products[k % 4]);
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
        let mut dx_tiles = [Tile::ZERO; N];
        let mut scratch = [[Tile::ZERO; 2]; N];
        let mut operands = [[&Tile::ZERO.0; 2]; N];
        for (i, [dy, x]) in scratch.iter_mut().enumerate() {
            tile::prefetch(next_dy.get(i * n_full + t));
            tile::prefetch(next_x.get(i * n_full + t));
            operands[i] = [T::wide(simd, &dys[i][t], dy), T::wide(simd, &xs[i][t], x)];
        }
        let sums = [dweight, dbias];
        gradients_of(simd, &operands, &numbers, weight, sums, &mut dx_tiles);
        let Some(dx) = dx else { continue };
        for (i, tile) in dx_tiles.iter_mut().enumerate() {
            if let Some(dsum) = rows[i].dsum {
                tile.add_tail(&dsum[t * TILE..][..TILE]);
            }
            dx[i].put(simd, t, tile);
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
        let dy = Tile::of_tail(&row.dy[tail.clone()], 0.0);
        let x = Tile::of_tail(&row.x[tail.clone()], row.mean);
        let (operands, numbers) = ([[&dy.0, &x.0]], [row.numbers(simd)]);
        let sums = [&mut *dweight, &mut *dbias];
        let mut tile = [Tile::ZERO];
        gradients_of(simd, &operands, &numbers, weight, sums, &mut tile);
        let ([tile], Some(dx)) = (&mut tile, &mut *dx) else {
            continue;
        };
        if let Some(dsum) = row.dsum {
            tile.add_tail(&dsum[tail.clone()]);
        }
        dx[i].put_tail(tile);
    }
}

/// dx of a piece of some rows, of which dy and x are given; dweight and dbias are added to.
#[inline(always)]
fn gradients_of<S: Simd, const N: usize>(
    simd: S,
    operands: &[[&[f32; TILE]; 2]; N],
    numbers: &[[S::f32s; 4]; N],
    weight: &Tile,
    [dweight, dbias]: [&mut Tile; 2],
    dx: &mut [Tile; N],
) {
    for k in 0..TILE / S::F32_LANES {
        let weight = S::as_simd_f32s(&weight.0).0[k];
        let dweight = &mut S::as_mut_simd_f32s(&mut dweight.0).0[k];
        let dbias = &mut S::as_mut_simd_f32s(&mut dbias.0).0[k];
        let (mut some_dweight, mut some_dbias) = (*dweight, *dbias);
        for i in 0..N {
            let [dy, x] = operands[i].map(|tile| S::as_simd_f32s(tile).0[k]);
            let [mean, rstd, mean_dxhat, mean_dxhat_xhat] = numbers[i];
            let xhat = simd.mul_f32s(simd.sub_f32s(x, mean), rstd);
            some_dweight = simd.mul_add_e_f32s(dy, xhat, some_dweight);
            some_dbias = simd.add_f32s(some_dbias, dy);
            let own = simd.sub_f32s(simd.mul_f32s(dy, weight), mean_dxhat);
            let inner = simd.sub_f32s(own, simd.mul_f32s(xhat, mean_dxhat_xhat));
            S::as_mut_simd_f32s(&mut dx[i].0).0[k] = simd.mul_f32s(inner, rstd);
        }
        (*dweight, *dbias) = (some_dweight, some_dbias);
    }
}
