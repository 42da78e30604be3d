//! The backward pass with a row in registers: x and dy are read once, dx written once.
//!
//! `place` says how rows lie over threads, and `team` which take rows together. A team takes every so many rows and keeps its
//! sums of dweight and dbias in registers, a column always in the same lane, while the next rows' x and dy are on their
//! way into shared memory (`stage`). At the end the block's teams add up to one row of partials, which a second kernel
//! sums, in a fixed order (`partials`). No atomics: the same input gives the same bits.

use cuda_std::ext::{self, Shared};
use cuda_std::thread;

use crate::abi::PAIR_BLOCKS;
use crate::pair::{self, join_pair};
use crate::partials::{join_partials, row_of_partials, write_partials};
use crate::place::Place;
use crate::reduce::{sum, sum_in_team};
use crate::stage::{self, Ring};
use crate::team::Team;
use crate::vector::{Packed, load_f32_shared};

/// A backward kernel's parameters, typed. `abi::BackwardArgs` says what each is.
#[derive(Clone, Copy)]
pub struct Backward<T, W> {
    pub dy: *const T,
    pub x: *const T,
    pub weight: *const W,
    pub mean: *const f32,
    pub rstd: *const f32,
    pub dsum: *const T,
    pub dx: *mut T,
    pub partial_dweight: *mut f32,
    pub partial_dbias: *mut f32,
    pub n_rows: u64,
    pub dy_stride: u64,
    pub x_stride: u64,
    pub dx_stride: u64,
    pub n_cols: u32,
    pub inv_n: f32,
    pub row_sums: *mut f32,
}

impl<T, W> Backward<T, W> {
    /// x and the statistics are not read when only dbias is asked for.
    #[inline(always)]
    pub fn needs_x(&self) -> bool {
        !self.dx.is_null() || !self.partial_dweight.is_null()
    }

    /// mean and rstd of a row, zeros where there is no such row.
    ///
    /// # Safety
    /// The statistics are as `abi::BackwardArgs` says.
    #[inline(always)]
    pub unsafe fn statistics(&self, row: u64) -> [f32; 2] {
        let valid = row < self.n_rows && self.needs_x();
        // SAFETY: the row exists if valid.
        unsafe {
            [
                load_f32_shared(self.mean.wrapping_add(row as usize), valid),
                load_f32_shared(self.rstd.wrapping_add(row as usize), valid),
            ]
        }
    }
}

/// What a lane needs of a row.
#[derive(Clone, Copy)]
struct Row<R, const VECS: usize> {
    x: [R; VECS],
    dy: [R; VECS],
    statistics: [f32; 2],
}

/// What a lane keeps while its team goes through the rows.
pub struct Columns<R, const E: usize, const VECS: usize> {
    pub weight: [R; VECS],
    pub dweight: [[f32; E]; VECS],
    pub dbias: [[f32; E]; VECS],
    /// For `sum_in_team`, which must alternate.
    pub slot: u32,
}

/// Gradients of rows of up to `LANES * VECS * E` columns, in blocks of up to `BLOCK` threads. Each thread has the
/// next `STAGES - 1` rows on their way while it computes one.
///
/// # Safety
/// The arguments are as `abi::BackwardArgs` says; every row starts at a multiple of 16 bytes; `n_cols` is a
/// multiple of `E` and at most `LANES * VECS * E`; the launch's block is whole teams, `BLOCK` threads at most, and adds
/// twice `Ring::WORDS` words of dynamic shared memory for each, and if `PAIRED` `RowTile::pair_bytes`.
#[inline(always)]
pub unsafe fn backward_rows<
    T,
    W,
    const E: usize,
    const LANES: u32,
    const VECS: usize,
    const BLOCK: u32,
    const STAGES: usize,
    const PAIRED: bool,
>(
    p: Backward<T, W>,
) where
    T: Packed<E, Raw = [u32; 4]>,
    W: Packed<E>,
    f32: Packed<E>,
{
    if PAIRED {
        pair::prepare(LANES * VECS as u32 * E as u32);
    }
    // With a row to each warp all wait for what the next row's address needs, and uniform registers come later.
    let team = match LANES != 32 {
        true => Team::<LANES, BLOCK>::uniform(),
        false => Team::<LANES, BLOCK>::new(),
    };
    let place = Place::<E, LANES>::in_team(team);
    let thread = team.thread;
    let words = Ring::<STAGES, VECS, LANES>::WORDS;
    let own = team.index * 2 * words;
    let x_ring = Ring::<STAGES, VECS, LANES>::new(own, thread);
    let dy_ring = Ring::<STAGES, VECS, LANES>::new(own + words, thread);
    const {
        assert!(
            STAGES as u32 * 4 * Team::<LANES, BLOCK>::SIZE >= LANES * E as u32,
            "the rings have room for both sums of all columns"
        )
    };
    let ask = |first: u64, stage: u32| {
        let row = first + place.in_warp as u64;
        let x = p.x.wrapping_add((row * p.x_stride) as usize);
        let dy = p.dy.wrapping_add((row * p.dy_stride) as usize);
        for k in 0..VECS {
            let (at, valid) = (
                place.column(k) as usize,
                row < p.n_rows && place.column(k) < p.n_cols,
            );
            // SAFETY: the row and the column exist, at the caller's strides; the slot's last row is done.
            unsafe {
                x_ring.ask(stage, k, x.wrapping_add(at).cast(), valid && p.needs_x());
                dy_ring.ask(stage, k, dy.wrapping_add(at).cast(), valid);
            }
        }
        stage::commit();
    };
    // SAFETY: the caller's.
    let mut columns = unsafe { Columns::new(p, place) };
    let last = STAGES as u32 - 1;
    for stage in 0..last {
        ask(place.first + stage as u64 * place.step, stage);
    }
    let (mut first, mut stage) = (place.first, 0);
    // SAFETY: masked out where there is no such row.
    let mut next_statistics = unsafe { p.statistics(first + place.in_warp as u64) };
    while first < p.n_rows {
        let row = first + place.in_warp as u64;
        // The slot before this row's is the one that the row before has left.
        ask(
            first + last as u64 * place.step,
            if stage == 0 { last } else { stage - 1 },
        );
        let statistics = next_statistics;
        // SAFETY: as above.
        next_statistics = unsafe { p.statistics(row + place.step) };
        stage::wait::<STAGES>();
        let mut this = Row {
            x: [T::ZEROS; VECS],
            dy: [T::ZEROS; VECS],
            statistics,
        };
        for k in 0..VECS {
            // SAFETY: waited for.
            unsafe {
                this.x[k] = x_ring.read(stage, k);
                this.dy[k] = dy_ring.read(stage, k);
            }
        }
        stage = if stage == last { 0 } else { stage + 1 };
        // SAFETY: the caller's; this row belongs to these lanes alone.
        unsafe { finish_row(p, place, team, row, this, &mut columns) };
        first += place.step;
    }
    // SAFETY: all threads are here, and have read their rings.
    unsafe { columns.write::<T, W, LANES, BLOCK, true, PAIRED>(team, p, 2 * words) };
}

impl<R: Copy, const E: usize, const VECS: usize> Columns<R, E, VECS> {
    /// The weights of this lane's columns, and sums of nothing.
    ///
    /// # Safety
    /// As for `backward_rows`.
    #[inline(always)]
    pub unsafe fn new<T, W: Packed<E, Raw = R>, const LANES: u32>(
        p: Backward<T, W>,
        place: Place<E, LANES>,
    ) -> Self {
        let mut weight = [W::ONES; VECS];
        for k in 0..VECS {
            let at = p.weight.wrapping_add(place.column(k) as usize);
            let valid = place.column(k) < p.n_cols && !p.weight.is_null();
            // SAFETY: the column exists, and so does the weight.
            weight[k] = unsafe { W::load_shared(at, valid, W::ONES) };
        }
        Self {
            weight,
            dweight: [[0.0; E]; VECS],
            dbias: [[0.0; E]; VECS],
            slot: 0,
        }
    }

    /// Writes the sums of a block's teams to its row of partials, or its pair's. `team_words`: of dynamic shared memory that
    /// a team has.
    ///
    /// # Safety
    /// As for `partials::join_partials` or `pair::join_pair`, but for the copies on their way, and the arguments as
    /// `abi::BackwardArgs` says.
    #[inline(always)]
    pub unsafe fn write<
        T,
        W,
        const LANES: u32,
        const BLOCK: u32,
        const AT_ONCE: bool,
        const PAIRED: bool,
    >(
        &self,
        team: Team<LANES, BLOCK>,
        p: Backward<T, W>,
        team_words: u32,
    ) where
        f32: Packed<E>,
    {
        let row = match PAIRED {
            true => thread::block_idx_x() / PAIR_BLOCKS,
            false => thread::block_idx_x(),
        };
        let partials = [p.partial_dweight, p.partial_dbias]
            .map(|partials| row_of_partials(partials, row, p.n_cols));
        if PAIRED {
            // Copies for which there was no row.
            stage::wait::<1>();
            let sums = [self.dweight, self.dbias];
            let behind = Shared::dynamic().offset(Team::<LANES, BLOCK>::count() * team_words);
            // SAFETY: the caller's; the blocks of a pair are neighbours.
            unsafe {
                join_pair::<E, LANES, VECS, BLOCK, AT_ONCE>(team, sums, partials, p.n_cols, behind)
            };
            return;
        }
        if partials[0].is_null() && partials[1].is_null() {
            return;
        }
        // SAFETY: the caller's, and the partials' row of this block is its own.
        unsafe {
            if Team::<LANES, BLOCK>::count() == 1 && LANES >= 32 && AT_ONCE {
                write_partials::<E, LANES, VECS>(self.dweight, partials[0], p.n_cols);
                write_partials::<E, LANES, VECS>(self.dbias, partials[1], p.n_cols);
                return;
            }
            // Copies for which there was no row.
            stage::wait::<1>();
            let sums = [self.dweight, self.dbias];
            join_partials::<E, LANES, VECS, BLOCK, AT_ONCE>(team, sums, partials, p.n_cols);
        }
    }
}

/// All that comes after a row's x and dy are in registers.
///
/// # Safety
/// As for `backward_rows`; all threads of the team are here.
#[inline(always)]
unsafe fn finish_row<T, W, const E: usize, const LANES: u32, const VECS: usize, const BLOCK: u32>(
    p: Backward<T, W>,
    place: Place<E, LANES>,
    team: Team<LANES, BLOCK>,
    row: u64,
    this: Row<T::Raw, VECS>,
    columns: &mut Columns<W::Raw, E, VECS>,
) where
    T: Packed<E>,
    W: Packed<E>,
{
    let vectors = |k: usize| [this.x[k], this.dy[k]];
    let counts = |k: usize| place.column(k) < p.n_cols;
    let sums = add_up::<T, W, E, VECS>(vectors, this.statistics, columns, counts);
    if p.dx.is_null() {
        return;
    }
    // SAFETY: the caller's; dx is null for all threads or for none.
    let over_row = unsafe { over_row(team, sums, p.inv_n, &mut columns.slot) };
    let dx = p.dx.wrapping_add((row * p.dx_stride) as usize);
    let dsum = p.dsum.wrapping_add((row * p.dx_stride) as usize);
    for k in 0..VECS {
        let (at, valid) = (
            place.column(k) as usize,
            row < p.n_rows && place.column(k) < p.n_cols,
        );
        // SAFETY: the row and the column exist.
        let incoming =
            unsafe { T::load(dsum.wrapping_add(at), valid && !p.dsum.is_null(), T::ZEROS) };
        let incoming = T::unpack(incoming);
        let weight = columns.weight[k];
        let value = gradient::<T, W, E>(vectors(k), this.statistics, weight, over_row, incoming);
        // SAFETY: the row and the column exist, and belong to this lane alone.
        unsafe { T::store(dx.wrapping_add(at), T::pack(value), valid) };
    }
}

/// Adds a row to dweight and dbias, and gives this lane's sums of dy * weight and of dy * weight * xhat.
///
/// `vectors` gives x and dy of vector k. Where the row has nothing of it, `counts` says so: dy is zero there, but xhat, and
/// so zero times it, may be anything.
#[inline(always)]
pub fn add_up<T, W, const E: usize, const VECS: usize>(
    vectors: impl Fn(usize) -> [T::Raw; 2],
    [mean, rstd]: [f32; 2],
    columns: &mut Columns<W::Raw, E, VECS>,
    counts: impl Fn(usize) -> bool,
) -> [f32; 2]
where
    T: Packed<E>,
    W: Packed<E>,
{
    let (mut g_sum, mut g_xhat_sum) = (0.0, 0.0);
    for k in 0..VECS {
        let before = g_xhat_sum;
        let [x, dy] = vectors(k).map(T::unpack);
        let weight = W::unpack(columns.weight[k]);
        let mut g = dy;
        for i in 0..E {
            let xhat = (x[i] - mean) * rstd;
            columns.dweight[k][i] = ext::fma(dy[i], xhat, columns.dweight[k][i]);
            columns.dbias[k][i] += dy[i];
            g[i] = dy[i] * weight[i];
            g_xhat_sum = ext::fma(g[i], xhat, g_xhat_sum);
        }
        g_sum += sum(g);
        if !counts(k) {
            g_xhat_sum = before;
        }
    }
    [g_sum, g_xhat_sum]
}

/// A row's two means from its lanes' sums.
///
/// # Safety
/// As for `reduce::sum_in_team`.
#[inline(always)]
pub unsafe fn over_row<const LANES: u32, const BLOCK: u32>(
    team: Team<LANES, BLOCK>,
    sums: [f32; 2],
    inv_n: f32,
    slot: &mut u32,
) -> [f32; 2] {
    // SAFETY: the caller's; the slot alternates.
    let sums = unsafe { sum_in_team(team, sums, *slot) };
    *slot ^= 1;
    sums.map(|sum| sum * inv_n)
}

/// dx of a vector of x and dy, added to `incoming`.
#[inline(always)]
pub fn gradient<T, W, const E: usize>(
    vectors: [T::Raw; 2],
    [mean, rstd]: [f32; 2],
    weight: W::Raw,
    [c1, c2]: [f32; 2],
    incoming: [f32; E],
) -> [f32; E]
where
    T: Packed<E>,
    W: Packed<E>,
{
    let [x, mut g] = vectors.map(T::unpack);
    let weight = W::unpack(weight);
    for i in 0..E {
        let xhat = (x[i] - mean) * rstd;
        g[i] = ext::fma(
            rstd,
            ext::fma(-xhat, c2, ext::fma(g[i], weight[i], -c1)),
            incoming[i],
        );
    }
    g
}
