//! The backward pass's arithmetic over f32 rows, in the processor's vectors. `Rows` in `backward` says why all of
//! it is always inlined.

use pulp::Simd;

use super::forward::BLOCK;

/// One row's operands and numbers.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    pub dy: &'a [f32],
    pub x: &'a [f32],
    pub mean: f32,
    pub rstd: f32,
    pub mean_dxhat: f32,
    pub mean_dxhat_xhat: f32,
}

impl Row<'_> {
    pub const NONE: Row<'static> = Row {
        dy: &[],
        x: &[],
        mean: 0.0,
        rstd: 0.0,
        mean_dxhat: 0.0,
        mean_dxhat_xhat: 0.0,
    };
}

/// Fills in mean(dxhat) and mean(dxhat * xhat) of a row.
#[inline(always)]
pub fn means<S: Simd>(simd: S, row: &mut Row<'_>, weight: &[f32]) {
    let n = row.x.len() as f32;
    let (mut first, mut product) = (0.0, 0.0);
    let blocks = row.dy.chunks(BLOCK).zip(row.x.chunks(BLOCK));
    for ((dy, x), weight) in blocks.zip(weight.chunks(BLOCK)) {
        let [firsts, products] = means_of(simd, dy, x, weight, row.mean, row.rstd);
        first += firsts;
        product += products;
    }
    (row.mean_dxhat, row.mean_dxhat_xhat) = (first / n, product / n);
}

/// The sums of a block's dxhat and dxhat * xhat.
#[inline(always)]
fn means_of<S: Simd>(
    simd: S,
    dy: &[f32],
    x: &[f32],
    weight: &[f32],
    mean: f32,
    rstd: f32,
) -> [f32; 2] {
    let (about, scale) = (simd.splat_f32s(mean), simd.splat_f32s(rstd));
    let (dys, dy_tail) = S::as_simd_f32s(dy);
    let (xs, x_tail) = S::as_simd_f32s(x);
    let (weights, weight_tail) = S::as_simd_f32s(weight);
    let mut firsts = [simd.splat_f32s(0.0); 4];
    let mut products = [simd.splat_f32s(0.0); 4];
    let (dy_quads, dy_rest) = dys.as_chunks::<4>();
    let (x_quads, x_rest) = xs.as_chunks::<4>();
    let (weight_quads, weight_rest) = weights.as_chunks::<4>();
    for ((dy, x), weight) in dy_quads.iter().zip(x_quads).zip(weight_quads) {
        for k in 0..4 {
            let dxhat = simd.mul_f32s(dy[k], weight[k]);
            let xhat = simd.mul_f32s(simd.sub_f32s(x[k], about), scale);
            firsts[k] = simd.add_f32s(firsts[k], dxhat);
            products[k] = simd.mul_add_e_f32s(dxhat, xhat, products[k]);
        }
    }
    for ((dy, x), weight) in dy_rest.iter().zip(x_rest).zip(weight_rest) {
        let dxhat = simd.mul_f32s(*dy, *weight);
        let xhat = simd.mul_f32s(simd.sub_f32s(*x, about), scale);
        firsts[0] = simd.add_f32s(firsts[0], dxhat);
        products[0] = simd.mul_add_e_f32s(dxhat, xhat, products[0]);
    }
    let [first, product] = [firsts, products];
    let first = simd.add_f32s(
        simd.add_f32s(first[0], first[1]),
        simd.add_f32s(first[2], first[3]),
    );
    let product = simd.add_f32s(
        simd.add_f32s(product[0], product[1]),
        simd.add_f32s(product[2], product[3]),
    );
    let (mut first, mut product) = (simd.reduce_sum_f32s(first), simd.reduce_sum_f32s(product));
    for ((dy, x), weight) in dy_tail.iter().zip(x_tail).zip(weight_tail) {
        let dxhat = dy * weight;
        first += dxhat;
        product += dxhat * ((x - mean) * rstd);
    }
    [first, product]
}

/// dx of some rows, and what they add to dweight and dbias.
#[inline(always)]
pub fn gradients<S: Simd, const N: usize>(
    simd: S,
    rows: &[Row<'_>; N],
    weight: &[f32],
    dx: &mut [&mut [f32]; N],
    dweight: &mut [f32],
    dbias: &mut [f32],
) {
    let n_cols = weight.len();
    let n = n_cols / S::F32_LANES;
    let mut rows_of = [RowVectors {
        dy: &[],
        x: &[],
        numbers: [simd.splat_f32s(0.0); 4],
    }; N];
    let mut dx_of: [&mut [S::f32s]; N] = std::array::from_fn(|_| Default::default());
    for ((vectors, row), (dx_of, dx)) in rows_of
        .iter_mut()
        .zip(rows)
        .zip(dx_of.iter_mut().zip(dx.iter_mut()))
    {
        *vectors = RowVectors::new(simd, row);
        *dx_of = &mut S::as_mut_simd_f32s(dx).0[..n];
    }
    let weights = &S::as_simd_f32s(weight).0[..n];
    let (dweights, dbiases) = (
        &mut S::as_mut_simd_f32s(dweight).0[..n],
        &mut S::as_mut_simd_f32s(dbias).0[..n],
    );
    for v in 0..n {
        let (mut dweight, mut dbias) = (dweights[v], dbiases[v]);
        for (row, dx) in rows_of.iter().zip(dx_of.iter_mut()) {
            let [mean, rstd, mean_dxhat, mean_dxhat_xhat] = row.numbers;
            let (dy, x) = (row.dy[v], row.x[v]);
            let xhat = simd.mul_f32s(simd.sub_f32s(x, mean), rstd);
            dweight = simd.mul_add_e_f32s(dy, xhat, dweight);
            dbias = simd.add_f32s(dbias, dy);
            let own = simd.sub_f32s(simd.mul_f32s(dy, weights[v]), mean_dxhat);
            let inner = simd.sub_f32s(own, simd.mul_f32s(xhat, mean_dxhat_xhat));
            dx[v] = simd.mul_f32s(inner, rstd);
        }
        (dweights[v], dbiases[v]) = (dweight, dbias);
    }
    for c in n * S::F32_LANES..n_cols {
        for (row, dx) in rows.iter().zip(dx.iter_mut()) {
            let (dy, xhat) = (row.dy[c], (row.x[c] - row.mean) * row.rstd);
            dweight[c] += dy * xhat;
            dbias[c] += dy;
            dx[c] = (dy * weight[c] - row.mean_dxhat - xhat * row.mean_dxhat_xhat) * row.rstd;
        }
    }
}

/// What some rows add to dweight and dbias, without dx.
#[inline(always)]
pub fn sums<S: Simd, const N: usize>(
    simd: S,
    rows: &[Row<'_>; N],
    dweight: &mut [f32],
    dbias: &mut [f32],
) {
    let n_cols = dweight.len();
    let n = n_cols / S::F32_LANES;
    let (dweights, dbiases) = (
        &mut S::as_mut_simd_f32s(dweight).0[..n],
        &mut S::as_mut_simd_f32s(dbias).0[..n],
    );
    for row in rows {
        let row = RowVectors::new(simd, row);
        for v in 0..n {
            let xhat = simd.mul_f32s(simd.sub_f32s(row.x[v], row.numbers[0]), row.numbers[1]);
            dweights[v] = simd.mul_add_e_f32s(row.dy[v], xhat, dweights[v]);
            dbiases[v] = simd.add_f32s(dbiases[v], row.dy[v]);
        }
    }
    for c in n * S::F32_LANES..n_cols {
        for row in rows {
            dweight[c] += row.dy[c] * ((row.x[c] - row.mean) * row.rstd);
            dbias[c] += row.dy[c];
        }
    }
}

/// A row in the processor's vectors.
#[derive(Clone, Copy)]
struct RowVectors<'a, V> {
    dy: &'a [V],
    x: &'a [V],
    /// mean, rstd, mean(dxhat), mean(dxhat * xhat).
    numbers: [V; 4],
}

impl<'a, V> RowVectors<'a, V> {
    #[inline(always)]
    fn new<S: Simd<f32s = V>>(simd: S, row: &Row<'a>) -> Self {
        RowVectors {
            dy: S::as_simd_f32s(row.dy).0,
            x: S::as_simd_f32s(row.x).0,
            numbers: [
                simd.splat_f32s(row.mean),
                simd.splat_f32s(row.rstd),
                simd.splat_f32s(row.mean_dxhat),
                simd.splat_f32s(row.mean_dxhat_xhat),
            ],
        }
    }
}
