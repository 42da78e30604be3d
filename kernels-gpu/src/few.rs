//! The backward pass of a few rows in one launch: no partials, and no second kernel.
//!
//! The forward pass has saved each row's mean and rstd, so dweight and dbias of a column need x and dy of that column
//! alone. A part of the blocks takes rows, the rest take columns and read x and dy once more, which are on their way from
//! memory in any case. Worth it while a launch costs more than those reads.
//!
//! ```text
//! grid:       | rows | rows | ... | columns | columns | ...
//! rows:       as in `place`, by a number of lanes that the launch says
//! columns:    lane t of a warp: column t of 32; warp w of W: rows w, w + W, ...
//! ```
//!
//! A row's dx is the same bits as by `backward_rows` or `backward_ragged`: its lanes have the columns that they have there, and
//! add in the same order.

use cuda_std::ext::{self, Shared};
use cuda_std::{shared_words, thread};

use crate::abi::FEW_COLS;
use crate::backward::{Columns, add_up, gradient};
use crate::chunk::{Chunk, ones};
use crate::place::forgotten;
use crate::reduce::{sum, sum_over_some};
use crate::vector::{Packed, load_f32_shared};

/// Rows whose x and dy a warp of a block for columns asks for before it computes the first.
const ROWS_AT_A_TIME: usize = 8;

/// A kernel's parameters, typed. `abi::FewArgs` says what each is.
#[derive(Clone, Copy)]
pub struct Few<T, W> {
    pub dy: *const T,
    pub x: *const T,
    pub weight: *const W,
    pub mean: *const f32,
    pub rstd: *const f32,
    pub dsum: *const T,
    pub dx: *mut T,
    pub dweight: *mut W,
    pub dbias: *mut W,
    pub dy_stride: u64,
    pub x_stride: u64,
    pub dx_stride: u64,
    pub n_rows: u32,
    pub n_cols: u32,
    pub inv_n: f32,
    pub lanes: u32,
    pub column_blocks: u32,
    pub accumulate: u32,
}

/// Gradients of rows of up to `lanes * VECS * E` columns, in blocks of up to `BLOCK` threads; `NARROW`: rows start anywhere,
/// and are read element by element.
///
/// # Safety
/// The arguments are as `abi::FewArgs` says; unless `NARROW`, every row starts at a multiple of 16 bytes and `n_cols` is a
/// multiple of `E`.
#[inline(always)]
pub unsafe fn backward_few<
    T,
    W,
    const E: usize,
    const VECS: usize,
    const BLOCK: usize,
    const NARROW: bool,
>(
    p: Few<T, W>,
) where
    T: Packed<E> + Packed<1>,
    W: Packed<E> + Packed<1>,
{
    let blocks_for_rows = thread::grid_dim_x() - p.column_blocks;
    let block = thread::block_idx_x();
    // SAFETY: the caller's.
    unsafe {
        if block < blocks_for_rows {
            dx_of_row::<T, W, E, VECS, NARROW>(p, block);
        } else {
            gradients_of_columns::<T, W, BLOCK>(p, block - blocks_for_rows);
        }
    }
}

/// dx of the block's rows.
///
/// # Safety
/// As for `backward_few`; all threads of the block are here.
#[inline(always)]
unsafe fn dx_of_row<T, W, const E: usize, const VECS: usize, const NARROW: bool>(
    p: Few<T, W>,
    block: u32,
) where
    T: Packed<E> + Packed<1>,
    W: Packed<E> + Packed<1>,
{
    let thread = thread::thread_idx_x();
    // The block's only row, or as many as a power of two fits.
    let (row, lane) = if p.lanes.is_power_of_two() {
        let shift = p.lanes.trailing_zeros();
        let rows = thread::block_dim_x() >> shift;
        (block * rows + (thread >> shift), thread & (p.lanes - 1))
    } else {
        (block, thread)
    };
    let row_is_there = row < p.n_rows;
    let chunk = |k: usize| Chunk {
        column: (lane + k as u32 * p.lanes) * E as u32,
        n_cols: if row_is_there { p.n_cols } else { 0 },
    };
    let in_row = |rows: *const T, stride: u64| rows.wrapping_add(row as usize * stride as usize);
    let (x, dy) = (in_row(p.x, p.x_stride), in_row(p.dy, p.dy_stride));
    let mut columns = Columns {
        weight: [<W as Packed<E>>::ONES; VECS],
        dweight: [[0.0; E]; VECS],
        dbias: [[0.0; E]; VECS],
        slot: 0,
    };
    let mut vectors = [[<T as Packed<E>>::ZEROS; 2]; VECS];
    // SAFETY: the caller's; what the row has not is masked out.
    let statistics = unsafe {
        for k in 0..VECS {
            vectors[k] = [
                read::<T, E, NARROW>(chunk(k), x, true),
                read::<T, E, NARROW>(chunk(k), dy, false),
            ];
        }
        for k in 0..VECS {
            columns.weight[k] = chunk(k).parameter::<W, E>(p.weight, ones::<W, E>(), NARROW);
        }
        [p.mean, p.rstd].map(|of| load_f32_shared(of.wrapping_add(row as usize), row_is_there))
    };
    let counts = |k: usize| chunk(k).column < p.n_cols;
    let sums = add_up::<T, W, E, VECS>(|k| vectors[k], statistics, &mut columns, counts);
    // SAFETY: all threads of the block are here.
    let over_row = unsafe { sum_over_some(p.lanes, lane, sums) }.map(|sum| sum * p.inv_n);
    let dx = in_row(p.dx.cast_const(), p.dx_stride).cast_mut();
    let dsum = in_row(p.dsum, p.dx_stride);
    for k in 0..VECS {
        let mut incoming = [0.0; E];
        // SAFETY: as above; the columns are this lane's alone.
        unsafe {
            if !p.dsum.is_null() {
                incoming = <T as Packed<E>>::unpack(read::<T, E, NARROW>(chunk(k), dsum, false));
            }
            let weight = columns.weight[k];
            let value = gradient::<T, W, E>(vectors[k], statistics, weight, over_row, incoming);
            write::<T, E, NARROW>(chunk(k), dx, value);
        }
    }
}

/// A row's chunk. After the row's end it has zeros, or if `filled` the chunk's first element again: zero times its xhat is
/// zero, unless the row's own columns make a NaN.
///
/// # Safety
/// The row is readable; unless `NARROW` it starts at a multiple of 16 bytes and has whole chunks.
#[inline(always)]
unsafe fn read<T, const E: usize, const NARROW: bool>(
    chunk: Chunk,
    row: *const T,
    filled: bool,
) -> <T as Packed<E>>::Raw
where
    T: Packed<E> + Packed<1>,
{
    let at = row.wrapping_add(chunk.column as usize);
    let is_there = |i: usize| chunk.column + (i as u32) < chunk.n_cols;
    // SAFETY: the caller's.
    unsafe {
        if !NARROW {
            return <T as Packed<E>>::load(at, is_there(0), <T as Packed<E>>::ZEROS);
        }
        let mut elements = [<T as Packed<1>>::ZEROS; E];
        for i in 0..E {
            elements[i] =
                <T as Packed<1>>::load(at.wrapping_add(i), is_there(i), <T as Packed<1>>::ZEROS);
        }
        let mut elements = elements.map(|element| <T as Packed<1>>::unpack(element)[0]);
        for i in 1..E {
            if filled && !is_there(i) {
                elements[i] = elements[0];
            }
        }
        <T as Packed<E>>::pack(elements)
    }
}

/// Writes a row's chunk.
///
/// # Safety
/// As for `read`, writable, and no other lane writes the chunk.
#[inline(always)]
unsafe fn write<T, const E: usize, const NARROW: bool>(chunk: Chunk, row: *mut T, values: [f32; E])
where
    T: Packed<E> + Packed<1>,
{
    let at = row.wrapping_add(chunk.column as usize);
    let is_there = |i: usize| chunk.column + (i as u32) < chunk.n_cols;
    // SAFETY: the caller's.
    unsafe {
        if !NARROW {
            return <T as Packed<E>>::store(at, <T as Packed<E>>::pack(values), is_there(0));
        }
        for i in 0..E {
            let element = <T as Packed<1>>::pack([values[i]]);
            <T as Packed<1>>::store(at.wrapping_add(i), element, is_there(i));
        }
    }
}

/// dweight and dbias of every so many slices of `FEW_COLS` columns, from `first_slice` on.
///
/// # Safety
/// As for `backward_few`; all threads of the block are here.
#[inline(always)]
unsafe fn gradients_of_columns<T: Packed<1>, W: Packed<1>, const BLOCK: usize>(
    p: Few<T, W>,
    first_slice: u32,
) {
    let thread = thread::thread_idx_x();
    let (warp, lane) = (thread / 32, thread % 32);
    let warps = thread::block_dim_x() / 32;
    // dweight's sums and dbias's, of each warp.
    let shared: [Shared<f32>; 2] = [shared_words![f32; BLOCK], shared_words![f32; BLOCK]];
    let needs_x = !p.dweight.is_null();
    let mut first_column = first_slice * FEW_COLS;
    while first_column < p.n_cols {
        let column = first_column + lane;
        let is_there = column < p.n_cols;
        let mut sums = [0.0; 2];
        let mut row = warp;
        while row < p.n_rows {
            let mut vectors = [[T::ZEROS; 2]; ROWS_AT_A_TIME];
            let mut statistics = [[0.0; 2]; ROWS_AT_A_TIME];
            for r in 0..ROWS_AT_A_TIME {
                // Or the compiler would have the addresses of all these rows before it asks for the first.
                let this = forgotten(row) as usize;
                let row_is_there = row < p.n_rows;
                let valid = row_is_there && is_there;
                // SAFETY: the row and the column exist if valid, at the caller's strides.
                unsafe {
                    let x =
                        p.x.wrapping_add(this * p.x_stride as usize + column as usize);
                    let dy =
                        p.dy.wrapping_add(this * p.dy_stride as usize + column as usize);
                    vectors[r] = [
                        T::load(x, valid && needs_x, T::ZEROS),
                        T::load(dy, valid, T::ZEROS),
                    ];
                    statistics[r] = [p.mean, p.rstd]
                        .map(|of| load_f32_shared(of.wrapping_add(this), row_is_there && needs_x));
                }
                row += warps;
            }
            for r in 0..ROWS_AT_A_TIME {
                let ([[x], [dy]], [mean, rstd]) = (vectors[r].map(T::unpack), statistics[r]);
                // Times dy, so nothing where there is no row or column.
                sums[0] = ext::fma(dy, (x - mean) * rstd, sums[0]);
                sums[1] += dy;
            }
        }
        for a in 0..2 {
            // SAFETY: one place a thread, and what was there has been read.
            unsafe { shared[a].store(thread, sums[a]) };
        }
        thread::sync_threads();
        for a in 0..2 {
            // The last warp has dbias, which is another than the first's if there is another.
            if warp == [0, warps - 1][a] {
                let gradient = [p.dweight, p.dbias][a];
                let valid = is_there && !gradient.is_null();
                let at = gradient.wrapping_add(column as usize);
                // SAFETY: behind the barrier; the column exists if valid, and this thread alone writes it.
                unsafe {
                    let total = over_warps(shared[a].offset(lane), warps);
                    let [before] = W::unpack(W::load(at, valid && p.accumulate != 0, W::ZEROS));
                    W::store(at, W::pack([before + total]), valid);
                }
            }
        }
        thread::sync_threads();
        first_column += p.column_blocks * FEW_COLS;
    }
}

/// The sum of a column over the warps, in fours.
///
/// # Safety
/// They have stored it, each a row of `FEW_COLS` further.
#[inline(always)]
unsafe fn over_warps(own: Shared<f32>, warps: u32) -> f32 {
    let mut total = 0.0;
    let mut warp = 0;
    while warp < warps {
        let mut four = [0.0; 4];
        for i in 0..4 {
            let warp = warp + i as u32;
            if warp < warps {
                // SAFETY: the caller's.
                four[i] = unsafe { own.load(warp * FEW_COLS) };
            }
        }
        total += sum(four);
        warp += 4;
    }
    total
}
