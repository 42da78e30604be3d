//! Both passes with a row in registers, for rows that start anywhere: as `forward` and `backward`, with each
//! tensor's rows going through shared memory (`ragged`), which a `rows` variant does not need.
//!
//! A lane has the columns that it has there and adds in the same order, so a row's y and dx are the same
//! bits wherever it starts. Bytes moved are the same, too.
//!
//! Shared memory of a block: an image for each row that it has in work or on its way, and backward one more, through
//! which dsum comes in and dx goes out, and the weights. Forward the residual and y go through the row's own.

use cuda_std::ext::Shared;
use cuda_std::thread;

use crate::abi::image_vectors;
use crate::backward::{Backward, Columns, add_up, gradient, over_row};
use crate::chunk::{Chunk, is_apart, ones, zeros};
use crate::forward::{Forward, centre};
use crate::kept::Kept;
use crate::near::Near;
use crate::pair;
use crate::place::{Place, forgotten};
use crate::ragged::{ENDS_LANES, Ends, Span, clear};
use crate::stage;
use crate::team::Team;
use crate::vector::Packed;

/// The images of a team's rows, in the dynamic shared memory.
#[derive(Clone, Copy)]
struct Images<const LANES: u32, const VECS: usize> {
    /// Of this thread's row, the first.
    own: Shared<u32>,
}

impl<const LANES: u32, const VECS: usize> Images<LANES, VECS> {
    /// Vectors of one image of each of the team's rows.
    const VECTORS: u32 = Team::<LANES, LANES>::ROWS * image_vectors(LANES, VECS as u32);

    /// Of row `row` behind so many vectors.
    #[inline(always)]
    fn behind(vectors: u32, row: u32) -> Self {
        let vectors = vectors + row * image_vectors(LANES, VECS as u32);
        Self {
            own: Shared::<u32>::dynamic().offset(vectors * 4),
        }
    }

    /// This row's image `number`.
    #[inline(always)]
    fn get(self, number: u32) -> Shared<u32> {
        self.own.offset(number * Self::VECTORS * 4)
    }
}

/// As `forward::forward_rows`, at any alignment and number of columns.
///
/// # Safety
/// The arguments are as `abi::ForwardArgs` says; `n_cols` is at most `LANES * VECS * E`; `BLOCK` is the
/// launch's block, and is `LANES` if that is above 32; the grid has a place for every row; the launch adds
/// an image of dynamic shared memory for each row of the block.
#[inline(always)]
pub unsafe fn forward_ragged<
    T,
    W,
    const E: usize,
    const LANES: u32,
    const VECS: usize,
    const BLOCK: usize,
>(
    p: Forward<T, W>,
) where
    T: Packed<E, Raw = [u32; 4]> + Packed<1>,
    W: Packed<E> + Packed<1>,
{
    let place = Place::<E, LANES>::new::<BLOCK>();
    if place.first < p.n_rows {
        let row = place.first + place.in_warp as u64;
        let n_cols = columns_of(row, p.n_rows, p.n_cols);
        let x = Span::new(p.x.wrapping_add((row * p.x_stride) as usize), n_cols);
        let row_of_block = match BLOCK as u32 == LANES {
            true => 0,
            false => thread::thread_idx_x() / LANES,
        };
        let image = x.in_image::<LANES>(Images::<LANES, VECS>::behind(0, row_of_block).own);
        let team = Team::<LANES, LANES>::new();
        // SAFETY: the row exists, if only with no columns; the image is this row's.
        unsafe {
            // Waited for together with x.
            if let Some(near) = Near::at_first::<BLOCK>()
                && Near::gains(LANES * VECS as u32)
                && size_of::<W>() == size_of::<T>()
                && !(is_apart(p.weight) || is_apart(p.bias))
            {
                near.bring::<W, E, LANES, VECS>([p.weight, p.bias], place, n_cols);
            }
            x.fetch::<T, LANES, VECS, LANES>(team, image, place.lane);
            let raw = x.read::<T, LANES, VECS>(image, place.lane);
            finish_forward(p, place, team, row, raw, image);
        }
    }
}

/// A row's columns: none where there is no such row.
#[inline(always)]
fn columns_of(row: u64, n_rows: u64, n_cols: u32) -> u32 {
    if row < n_rows { n_cols } else { 0 }
}

/// All that comes after a row's x is in registers.
///
/// # Safety
/// As for `forward_ragged`; all threads of the warp, or of the block if the row has it, are here, and have
/// no more to read of `exchange`, which is this row's.
#[inline(always)]
unsafe fn finish_forward<T, W, const E: usize, const LANES: u32, const VECS: usize>(
    p: Forward<T, W>,
    place: Place<E, LANES>,
    team: Team<LANES, LANES>,
    row: u64,
    mut raw: [[u32; 4]; VECS],
    exchange: Shared<u32>,
) where
    T: Packed<E, Raw = [u32; 4]> + Packed<1>,
    W: Packed<E> + Packed<1>,
{
    let n_cols = columns_of(row, p.n_rows, p.n_cols);
    let chunk = |k: usize| Chunk {
        column: place.column(k),
        n_cols,
    };
    if !p.residual.is_null() {
        let residual = p.residual.wrapping_add((row * p.x_stride) as usize);
        let residual = Span::new(residual, n_cols);
        // SAFETY: the row exists, if only with no columns; the same in the whole block. The first barrier
        // lies after the reads of x, the last after those of the residual.
        unsafe {
            team.sync();
            residual.fetch::<T, LANES, VECS, LANES>(team, exchange, place.lane);
            let other = residual.read::<T, LANES, VECS>(exchange, place.lane);
            for k in 0..VECS {
                let mut a = <T as Packed<E>>::unpack(raw[k]);
                let b = <T as Packed<E>>::unpack(other[k]);
                for i in 0..E {
                    a[i] += b[i];
                }
                // Rounded as it is stored: what the backward pass reads is what was normalised.
                raw[k] = <T as Packed<E>>::pack(a);
            }
            team.sync();
            if !p.sum.is_null() {
                let sum = Span::new(p.sum.wrapping_add((row * p.y_stride) as usize), n_cols);
                sum.write::<T, LANES, VECS, LANES>(team, exchange, place.lane, raw);
            }
        }
    }

    let mut d = raw.map(<T as Packed<E>>::unpack);
    let one_by_one = is_apart(p.weight) || is_apart(p.bias);
    let taken_off = |k: usize, d: &mut [f32; E], mean: f32| {
        chunk(k).fill(d, mean);
        mean
    };
    // SAFETY: the caller's.
    let [rstd, offset] = unsafe { centre(p, place, row, &mut d, taken_off) };
    for k in 0..VECS {
        // SAFETY: the caller's.
        let [weight, bias] = unsafe {
            [
                chunk(k).parameter::<W, E>(p.weight, ones::<W, E>(), one_by_one),
                chunk(k).parameter::<W, E>(p.bias, zeros::<W, E>(), one_by_one),
            ]
        }
        .map(<W as Packed<E>>::unpack);
        for i in 0..E {
            d[k][i] = cuda_std::ext::fma(
                cuda_std::ext::fma(d[k][i], rstd, offset),
                weight[i],
                bias[i],
            );
        }
        raw[k] = <T as Packed<E>>::pack(d[k]);
    }
    let y = Span::new(p.y.wrapping_add((row * p.y_stride) as usize), n_cols);
    // SAFETY: the row exists, if only with no columns. What was in the exchange has been read: before the
    // sums' barriers in a block, before this one in a warp.
    unsafe {
        if LANES <= 32 {
            team.sync();
        }
        y.write::<T, LANES, VECS, LANES>(team, exchange, place.lane, raw);
    }
}

/// As `backward::backward_rows`, at any alignment and number of columns.
///
/// After the row's columns dy is zero. x is one of the row's values in the vector that the row ends in, and what an earlier
/// row left in those after it, or where there is no row: times zero nothing, unless that row was NaN, and so dweight is.
///
/// # Safety
/// The arguments are as `abi::BackwardArgs` says; `n_cols` is at most `LANES * VECS * E`; the launch's block is whole
/// teams, `BLOCK` threads at most, and adds `2 * STAGES + 1` images of dynamic shared memory for each of its rows, an f32
/// for each weight of each thread, and if `PAIRED` `RowTile::pair_bytes`.
#[inline(always)]
pub unsafe fn backward_ragged<
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
    T: Packed<E, Raw = [u32; 4]> + Packed<1>,
    W: Packed<E> + Packed<1>,
    f32: Packed<E>,
{
    if PAIRED {
        pair::prepare(LANES * VECS as u32 * E as u32);
    }
    // As in `backward_rows`, but where there are not the registers without.
    let team = match LANES == 32 && VECS < 4 {
        true => Team::<LANES, BLOCK>::new(),
        false => Team::<LANES, BLOCK>::uniform(),
    };
    let place = Place::<E, LANES>::in_team(team);
    let thread = team.thread;
    // A team's images, and behind them its weights.
    let of_images = (2 * STAGES as u32 + 1) * Images::<LANES, VECS>::VECTORS;
    let of_weights = Team::<LANES, BLOCK>::SIZE * VECS as u32 * E as u32 / 4;
    let own = team.index * (of_images + of_weights);
    let images = Images::<LANES, VECS>::behind(own, place.in_warp);
    let x_image = |stage: u32| images.get(stage);
    let dy_image = |stage: u32| images.get(STAGES as u32 + stage);
    let exchange = images.get(2 * STAGES as u32);
    const {
        assert!(
            (2 * STAGES as u32 + 1) * 4 * Team::<LANES, BLOCK>::SIZE >= LANES * E as u32,
            "the images and the weights have room for both sums of all columns"
        )
    };
    let spans = |first: u64| {
        let row = first + place.in_warp as u64;
        let n_cols = columns_of(row, p.n_rows, p.n_cols);
        [
            Span::new(
                p.x.wrapping_add((row * p.x_stride) as usize),
                if p.needs_x() { n_cols } else { 0 },
            ),
            Span::new(p.dy.wrapping_add((row * p.dy_stride) as usize), n_cols),
        ]
    };
    let ask = |first: u64, stage: u32, lane: u32| {
        let [x, dy] = spans(first);
        // SAFETY: the row exists, if only with no columns; a barrier lies after the slot's last reads.
        unsafe {
            x.ask::<LANES, VECS>(x.in_image::<LANES>(x_image(stage)), forgotten(lane));
            dy.ask::<LANES, VECS>(dy.in_image::<LANES>(dy_image(stage)), forgotten(lane));
        }
        stage::commit();
    };
    let load_ends = |first: u64| {
        let [x, dy] = spans(first);
        let lane = forgotten(place.lane);
        // A branch, and not masks alone: most warps of a long row skip it.
        if lane >= ENDS_LANES {
            return [Ends::default(); 2];
        }
        // SAFETY: as above.
        unsafe { [x.load_ends::<T, true>(lane), dy.load_ends::<T, false>(lane)] }
    };
    // What is after dy stays zero from here on, as the rows of a team end within a vector of each other. Not where a row
    // can be missing beside others (`LANES` below 32): its image keeps another's.
    for number in 0..2 * STAGES as u32 {
        // SAFETY: nothing is in it yet.
        unsafe { clear::<LANES, VECS>(images.get(number), place.lane) };
    }
    // SAFETY: all threads are here.
    unsafe { team.sync() };
    let weights = Kept::<LANES>::behind(own + of_images, thread);
    for k in 0..VECS {
        let chunk = Chunk {
            column: place.column(k),
            n_cols: p.n_cols,
        };
        // SAFETY: the caller's; this thread's own place.
        unsafe {
            let raw = chunk.parameter::<W, E>(p.weight, ones::<W, E>(), is_apart(p.weight));
            weights.put::<E>(k, <W as Packed<E>>::unpack(raw));
        }
    }
    let mut columns = Columns {
        weight: [<f32 as Packed<E>>::ONES; VECS],
        dweight: [[0.0; E]; VECS],
        dbias: [[0.0; E]; VECS],
        slot: 0,
    };
    let last = STAGES as u32 - 1;
    // From one turn to the next: computed anew each time, as a register for it is not there.
    let step = || {
        let rows = Team::<LANES, BLOCK>::ROWS * Team::<LANES, BLOCK>::count();
        forgotten(thread::grid_dim_x()) as u64 * rows as u64
    };
    for stage in 0..last {
        ask(place.first + stage as u64 * step(), stage, place.lane);
    }
    let (mut first, mut stage) = (place.first, 0);
    // A row ahead, as are the statistics.
    let mut ends = load_ends(first);
    // SAFETY: masked out where there is no such row.
    let mut next_statistics = unsafe { p.statistics(first + place.in_warp as u64) };
    while first < p.n_rows {
        let row = first + place.in_warp as u64;
        let has_dsum = !p.dsum.is_null() && !p.dx.is_null();
        if has_dsum {
            let n_cols = columns_of(row, p.n_rows, p.n_cols);
            let dsum = Span::new(p.dsum.wrapping_add((row * p.dx_stride) as usize), n_cols);
            // SAFETY: the row exists, if only with no columns; a barrier ended the last row.
            unsafe {
                let lane = forgotten(place.lane);
                dsum.ask::<LANES, VECS>(exchange, lane);
                stage::commit();
                dsum.put_ends::<false>(exchange, lane, dsum.load_ends::<T, false>(lane));
            }
        }
        ask(
            first + last as u64 * step(),
            if stage == 0 { last } else { stage - 1 },
            place.lane,
        );
        let [x, dy] = spans(first);
        // SAFETY: the slot's last row was read before the last iteration's barrier.
        unsafe {
            let lane = forgotten(place.lane);
            x.put_ends::<true>(x.in_image::<LANES>(x_image(stage)), lane, ends[0]);
            let dy_image = dy.in_image::<LANES>(dy_image(stage));
            dy.put_ends::<false>(dy_image, lane, ends[1]);
            dy.clear_after::<LANES>(dy_image, lane);
        }
        ends = load_ends(first + step());
        let statistics = next_statistics;
        // SAFETY: as above.
        next_statistics = unsafe { p.statistics(row + step()) };
        if has_dsum {
            // All but the row that was asked for after it.
            stage::wait::<2>();
        } else {
            stage::wait::<STAGES>();
        }
        // SAFETY: all lanes of the row have waited for what they asked for.
        unsafe { team.sync() };
        // What follows from these is computed anew, here and below: the compiler would keep all of it from row
        // to row, in registers that are not there.
        let place = place.forgotten();
        let x_image = x.in_image::<LANES>(x_image(stage));
        let dy_image = dy.in_image::<LANES>(dy_image(stage));
        // SAFETY: between the barriers around this row.
        let (x, dy) = unsafe {
            (
                x.read_filled::<T, LANES, VECS>(x_image, place.lane),
                if LANES < 32 {
                    dy.read::<T, LANES, VECS>(dy_image, place.lane)
                } else {
                    dy.read_filled::<T, LANES, VECS>(dy_image, place.lane)
                },
            )
        };
        let vectors = |k: usize| [x[k], dy[k]];
        let n_cols = forgotten(p.n_cols);
        let counts = |k: usize| place.column(k) < n_cols;
        // SAFETY: put there by this thread.
        columns.weight = unsafe { weights.all() };
        let sums = add_up::<T, f32, E, VECS>(vectors, statistics, &mut columns, counts);
        // SAFETY: the caller's; dx is null for all threads or for none.
        unsafe {
            if p.dx.is_null() {
                // The next iteration fills a slot that all must have read.
                team.sync();
            } else {
                let over_row = over_row(team.forgotten(), sums, p.inv_n, &mut columns.slot);
                columns.weight = weights.all();
                let dx = |k: usize, incoming: [f32; E]| {
                    let weight = columns.weight[k];
                    gradient::<T, f32, E>(vectors(k), statistics, weight, over_row, incoming)
                };
                let place = place.forgotten();
                finish_backward::<T, W, E, LANES, VECS, BLOCK>(p, place, team, row, dx, exchange);
            }
        }
        stage = if stage == last { 0 } else { stage + 1 };
        first += step();
    }
    // SAFETY: all threads are here, and have read their images and weights.
    unsafe {
        columns.write::<T, W, LANES, BLOCK, false, PAIRED>(team, p, (of_images + of_weights) * 4)
    };
}

/// Writes a row of dx: `dx` gives vector k of it, with what is added to it.
///
/// # Safety
/// As for `backward_ragged`, with dx not null; all threads of the team
/// are here. If dsum is not null, the row of it is in `exchange`, which is this row's; else they have no more
/// to read there.
#[inline(always)]
unsafe fn finish_backward<
    T,
    W,
    const E: usize,
    const LANES: u32,
    const VECS: usize,
    const BLOCK: u32,
>(
    p: Backward<T, W>,
    place: Place<E, LANES>,
    team: Team<LANES, BLOCK>,
    row: u64,
    dx: impl Fn(usize, [f32; E]) -> [f32; E],
    exchange: Shared<u32>,
) where
    T: Packed<E, Raw = [u32; 4]> + Packed<1>,
{
    let n_cols = columns_of(row, p.n_rows, p.n_cols);
    let at = (row * p.dx_stride) as usize;
    let mut raw = [[0; 4]; VECS];
    if !p.dsum.is_null() {
        let dsum = Span::new(p.dsum.wrapping_add(at), n_cols);
        // SAFETY: waited for together with the row.
        raw = unsafe { dsum.read::<T, LANES, VECS>(exchange, place.lane) };
    }
    for k in 0..VECS {
        raw[k] = <T as Packed<E>>::pack(dx(k, <T as Packed<E>>::unpack(raw[k])));
    }
    let to = Span::new(p.dx.wrapping_add(at), n_cols);
    // SAFETY: the row exists, if only with no columns. Barriers lie around the use of the exchange, which is
    // dsum's on the way in; they are the same in the whole team.
    unsafe {
        if !p.dsum.is_null() {
            team.sync();
        }
        to.write::<T, LANES, VECS, BLOCK>(team, exchange, place.lane, raw);
        if !p.dsum.is_null() {
            team.sync();
        }
    }
}
