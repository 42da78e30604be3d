//! Bytes: what each pass asks of global memory, counted by the software GPU for every kernel that the plan
//! chooses over a grid of sizes, against the least that there is to move.
//!
//! Counts grow with the rows, so a few rows show them; what depends on the number of rows, the partials of
//! dweight and dbias, is the plan's own arithmetic. A device of two multiprocessors makes blocks go on to
//! further rows after few.

use std::collections::BTreeMap;

use layernorm_host::plan::{self, Launch, MAX_WORKSPACE_BYTES};
use layernorm_host::{BackwardPointers, DType, ForwardPointers, Problem, Variant};
use layernorm_tests::data::dtypes;
use layernorm_tests::direct::{Direct, Done, SECTOR};

const COLUMNS: [usize; 25] = [
    64, 128, 256, 384, 512, 768, 1000, 1024, 1536, 2048, 3072, 4096, 5120, 8192, 12_288, 16_384,
    32_768, 65_536, 131_072, 262_144, 1, 7, 129, 1023, 4099,
];

/// How often a pass over rows of a variant asks for x (and dy): by the start of its name, `_` for any other.
const READS: [(&str, u64); 3] = [
    // The row is in neither registers nor shared memory when its statistics, or its sums, are known.
    ("any", 2),
    // Once in each of the two.
    ("sums", 1),
    ("_", 1),
];

/// As above, for f64: mean, variance, and y from the row itself.
const F64_FORWARD_READS: u64 = 3;

/// The longest rows that the forward pass asks for once, aligned to 16 bytes, in columns: those that fit a
/// cluster's shared memory, or without clusters a block's, or its registers. Longer ones are read once more, and all of f64.
const LONGEST_READ_ONCE: [(&str, DType, usize); 9] = [
    ("h100", DType::F32, 446_464),
    ("h100", DType::F16, 446_464),
    ("h100", DType::BF16, 446_464),
    ("a100", DType::F32, 39_424),
    ("a100", DType::F16, 78_848),
    ("a100", DType::BF16, 78_848),
    ("t4", DType::F32, 32_768),
    ("t4", DType::F16, 32_768),
    ("t4", DType::BF16, 32_768),
];

fn reads(variant: &str) -> u64 {
    let named = READS.iter().find(|(name, _)| variant.starts_with(name));
    named.map_or(1, |(_, reads)| *reads)
}

/// Few rows where they are long, and more than the blocks of two multiprocessors where they are short. A cluster of
/// one multiprocessor's plan takes all of them, and comes to each of its four slots again.
fn rows(n_cols: usize) -> usize {
    match n_cols {
        0..=256 => 131,
        257..=4096 => 37,
        4097..=16_384 => 7,
        16_385..=131_072 => 6,
        _ => 3,
    }
}

/// Operands of a problem, and the sizes of them in bytes.
struct Operands {
    problem: Problem,
    /// Of x and everything of its shape.
    of_rows: u64,
    /// Of weight and everything of its shape.
    of_columns: u64,
    /// Of mean, as of rstd.
    of_statistics: u64,
    x: u64,
    dy: u64,
    y: u64,
    dx: u64,
    weight: u64,
    bias: u64,
    mean: u64,
    rstd: u64,
    dweight: u64,
    dbias: u64,
}

impl Operands {
    fn new(n_rows: usize, n_cols: usize, x: DType, parameter: DType, direct: &Direct) -> Operands {
        let problem = Problem::new(n_rows, n_cols, x, parameter, 1e-5).expect("a problem");
        let (of_rows, of_columns) = (n_rows * n_cols * x.size(), n_cols * parameter.size());
        let of_statistics = n_rows * x.accumulator().size();
        Operands {
            problem,
            of_rows: of_rows as u64,
            of_columns: of_columns as u64,
            of_statistics: of_statistics as u64,
            x: direct.filled(of_rows),
            dy: direct.filled(of_rows),
            y: direct.alloc(of_rows),
            dx: direct.alloc(of_rows),
            weight: direct.filled(of_columns),
            bias: direct.filled(of_columns),
            mean: direct.filled(of_statistics),
            rstd: direct.filled(of_statistics),
            dweight: direct.alloc(of_columns),
            dbias: direct.alloc(of_columns),
        }
    }

    fn forward(&self) -> ForwardPointers {
        ForwardPointers {
            x: self.x,
            weight: self.weight,
            bias: self.bias,
            y: self.y,
            mean: self.mean,
            rstd: self.rstd,
            ..ForwardPointers::default()
        }
    }

    fn backward(&self) -> BackwardPointers {
        BackwardPointers {
            dy: self.dy,
            x: self.x,
            weight: self.weight,
            mean: self.mean,
            rstd: self.rstd,
            dx: self.dx,
            dweight: self.dweight,
            dbias: self.dbias,
            ..BackwardPointers::default()
        }
    }

    fn free(self, direct: &Direct) {
        let Operands {
            x,
            dy,
            y,
            dx,
            weight,
            bias,
            mean,
            rstd,
            dweight,
            dbias,
            ..
        } = self;
        direct.free(&[x, dy, y, dx, weight, bias, mean, rstd, dweight, dbias]);
    }
}

/// Holds requested bytes to `times` what is there, and so many sectors beside it: none where every row is made of
/// whole sectors; else one at either end of what a warp asks for.
fn asked(what: &str, requested: u64, beside: u64, bytes: u64, times: u64) {
    let (least, most) = (bytes * times, bytes * times + beside * SECTOR);
    assert!(
        (least..=most).contains(&requested),
        "{what}: {requested} bytes requested, {least} to {most} allowed ({times} times {bytes})"
    );
}

/// The grid, from some number of columns on, on a device's images; how many kernels it reaches.
fn grid(model: &str, from: usize) -> usize {
    let direct = Direct::new(model, 2, true);
    let mut seen: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for (x, parameter) in dtypes() {
        for n_cols in COLUMNS.into_iter().filter(|n_cols| *n_cols >= from) {
            // A parameter's dtype changes no more in a long row than in a short one.
            let is_long = n_cols > 32_768 || model == "t4" && n_cols > 4099;
            if is_long && parameter != x {
                continue;
            }
            let n_rows = rows(n_cols);
            let operands = Operands::new(n_rows, n_cols, x, parameter, &direct);
            let name = format!("{model}, {n_rows} rows of {n_cols}, {x} by {parameter}");
            let variant = forward_once(&name, &operands, &direct);
            *seen.entry(("forward", variant)).or_default() += 1;
            let variant = backward_once(&name, &operands, &direct);
            *seen.entry(("backward", variant)).or_default() += 1;
            operands.free(&direct);
        }
    }
    for ((pass, variant), times) in &seen {
        println!("{model}: {pass} {variant} {times} times");
    }
    seen.len()
}

fn forward_once(name: &str, operands: &Operands, direct: &Direct) -> String {
    let problem = &operands.problem;
    let alone = ForwardPointers {
        x: operands.x,
        y: operands.y,
        ..ForwardPointers::default()
    };
    // x alone: what is asked for is x's.
    let done = direct.forward(problem, &alone).expect("rows");
    let variant = done.variant();
    let name = format!("{name}, forward {variant}");
    let times = match problem.dtype() {
        DType::F64 => F64_FORWARD_READS,
        _ => reads(&variant),
    };
    // An odd row's last sector is the next row's first.
    let is_aligned = is_sectors(problem) && variant != "any";
    let counters = &done.counters;
    let ends = |requests| {
        if is_aligned {
            0
        } else {
            pieces(&done) * 2 * requests
        }
    };
    let beside = ends(counters.global_load_requests);
    let what = format!("{name}, x");
    asked(&what, done.requested(), beside, operands.of_rows, times);
    let beside = ends(counters.global_store_requests);
    let what = format!("{name}, y");
    asked(&what, done.stored(), beside, operands.of_rows, 1);
    assert_eq!(done.read(), operands.of_rows, "{name}: x");
    assert_eq!(done.written(), operands.of_rows, "{name}: y");

    // All operands: nothing beside them is touched.
    let done = direct.forward(problem, &operands.forward()).expect("rows");
    assert_eq!(
        done.read(),
        operands.of_rows + 2 * operands.of_columns,
        "{name}: x, weight, bias"
    );
    let written = operands.of_rows + 2 * operands.of_statistics;
    assert_eq!(done.written(), written, "{name}: y, mean, rstd");
    variant
}

fn backward_once(name: &str, operands: &Operands, direct: &Direct) -> String {
    let problem = &operands.problem;
    let only_dx = BackwardPointers {
        weight: 0,
        dweight: 0,
        dbias: 0,
        ..operands.backward()
    };
    let done = direct.backward(problem, &only_dx);
    let variant = done.last().expect("rows").variant();
    let name = format!("{name}, backward {variant}");
    let is_aligned = is_sectors(problem) && variant != "any";
    let tensors = 2 * operands.of_rows;
    // What the rows' own sums are: mean and rstd of each, and what `sums` kernels leave for `columns` kernels.
    let statistics = 2 * operands.of_statistics;
    for launch in &done {
        let variant = launch.variant();
        let name = format!("{name}: {variant}");
        let counters = &launch.counters;
        let ends = if is_aligned {
            0
        } else {
            pieces(launch) * 2 * counters.global_load_requests
        };
        let beside = statistics_sectors(launch, problem.n_rows()) + ends;
        asked(
            &format!("{name}, x and dy"),
            launch.requested(),
            beside,
            tensors,
            reads(&variant),
        );
        if variant.starts_with("sums") {
            assert_eq!(
                launch.read(),
                tensors + statistics,
                "{name}: x, dy, mean, rstd"
            );
            assert_eq!(launch.written(), statistics, "{name}: the rows' sums");
        } else {
            let sums = if done.len() > 1 { statistics } else { 0 };
            assert_eq!(
                launch.read(),
                tensors + statistics + sums,
                "{name}: x, dy, mean, rstd"
            );
            assert_eq!(launch.written(), operands.of_rows, "{name}: dx");
            let ends = if is_aligned {
                0
            } else {
                pieces(launch) * 2 * counters.global_store_requests
            };
            let what = format!("{name}, dx");
            asked(&what, launch.stored(), ends, operands.of_rows, 1);
        }
    }

    // All of it: beside the operands, the partials are written once and read once.
    let done = direct.backward(problem, &operands.backward());
    let [.., rows, reduce] = &done[..] else {
        panic!("{name}: {} launches", done.len());
    };
    let partials = partial_bytes(problem, rows);
    assert_eq!(
        rows.written(),
        operands.of_rows + partials,
        "{name}: dx, partials"
    );
    assert_eq!(reduce.read(), partials, "{name}: the partials");
    assert_eq!(
        reduce.written(),
        2 * operands.of_columns,
        "{name}: dweight, dbias"
    );
    variant
}

/// Pieces of memory that one request of a warp is for: rows that follow one another are one, except where a
/// `ragged` kernel has whole vectors of each, or a part of its ends.
fn pieces(launch: &Done) -> u64 {
    match launch.launch.entry.variant() {
        Some(Variant::Ragged { lanes, .. }) => u64::from(32 / lanes).max(1),
        _ => 1,
    }
}

/// Sectors that mean and rstd of the rows, and for a `columns` kernel the rows' sums, are asked in at most: one of
/// each for every warp that has a part of a row.
fn statistics_sectors(launch: &Done, n_rows: usize) -> u64 {
    let Launch {
        entry, block, grid, ..
    } = launch.launch;
    let block_warps = u64::from(block / 32);
    let (values, warps) = match entry.variant() {
        Some(Variant::Rows { lanes, .. } | Variant::Ragged { lanes, .. }) => {
            (2, u64::from(lanes / 32).max(1))
        }
        Some(Variant::Cluster { blocks, .. }) => (2, block_warps * u64::from(blocks)),
        Some(Variant::Columns { .. }) => (4, block_warps * u64::from(grid)),
        _ => (2, block_warps),
    };
    values * warps * n_rows as u64
}

/// Bytes of both arrays of partials that a launch writes.
fn partial_bytes(problem: &Problem, rows: &Done) -> u64 {
    let launch = &rows.launch;
    let n_partials = if launch.grid_y > 1 || rows.variant().starts_with("columns") {
        launch.grid_y
    } else {
        launch.grid / rows.blocks_of_a_row()
    };
    let row = 2 * problem.n_cols() * problem.dtype().accumulator().size();
    u64::from(n_partials) * row as u64
}

/// Every row starts and ends at a sector.
fn is_sectors(problem: &Problem) -> bool {
    (problem.n_cols() * problem.dtype().size()).is_multiple_of(SECTOR as usize)
}

#[test]
fn every_byte_once_on_sm_80s_and_sm_90s_images() {
    assert!(grid("h100", 1) >= 20);
}

/// Rows that clusters take where there are any.
#[test]
fn every_byte_once_without_clusters() {
    assert!(grid("a100", 12_288) >= 4);
}

#[test]
fn every_byte_once_on_sm_75s_image() {
    assert!(grid("t4", 1) >= 20);
}

/// Those of 16 blocks are for a whole device alone.
#[test]
fn every_byte_once_over_clusters_of_16_blocks() {
    let direct = Direct::new("h100", 132, true);
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for n_cols in [131_072, 230_400, 262_144] {
            let operands = Operands::new(9, n_cols, dtype, dtype, &direct);
            let name = format!("h100, 9 rows of {n_cols}, {dtype}");
            let variant = backward_once(&name, &operands, &direct);
            assert!(variant.starts_with("cluster_16x"), "{name}: {variant}");
            operands.free(&direct);
        }
    }
}

/// The plan of a forward pass over rows at multiples of 16 bytes, by its variant's name.
fn planned_forward(n_cols: usize, dtype: DType, direct: &Direct) -> String {
    let problem = Problem::new(4096, n_cols, dtype, dtype, 1e-5).expect("a problem");
    let pointers = ForwardPointers {
        x: 256,
        y: 512,
        ..ForwardPointers::default()
    };
    let args = pointers.args(&problem).expect("addresses");
    let launch = plan::forward(&problem, &args, &direct.limits).expect("a plan");
    let variant = launch.and_then(|launch| launch.entry.variant());
    variant.expect("rows").to_string()
}

#[test]
fn rows_are_asked_for_once_up_to_the_longest_that_a_block_holds() {
    for (model, dtype, longest) in LONGEST_READ_ONCE {
        let direct = Direct::new(model, 132, true);
        let vector = 16 / dtype.size();
        for n_cols in (vector..=longest + vector).step_by(vector) {
            let variant = planned_forward(n_cols, dtype, &direct);
            let expected = if n_cols <= longest { 1 } else { 2 };
            assert_eq!(
                reads(&variant),
                expected,
                "{model}, {n_cols} columns of {dtype}: {variant}"
            );
        }
    }
}

/// The partials' share of a backward pass's bytes: written once and read once, beside dweight and dbias, over
/// dy, x and dx once each.
fn partials_share(n_rows: usize, n_cols: usize, dtype: DType, direct: &Direct) -> f64 {
    let problem = Problem::new(n_rows, n_cols, dtype, dtype, 1e-5).expect("a problem");
    let workspace_bytes = plan::workspace_bytes(&problem, &direct.limits);
    let pointers = BackwardPointers {
        dy: 256,
        x: 512,
        mean: 768,
        rstd: 1024,
        dx: 1280,
        dweight: 1536,
        dbias: 1792,
        workspace: 2048,
        workspace_bytes,
        ..BackwardPointers::default()
    };
    let launches = pointers.launches(&problem, &direct.limits).expect("a plan");
    let n_partials = launches.plan.n_partials as usize;
    let partials = 2 * n_partials * n_cols * dtype.accumulator().size();
    let gradients = 2 * n_cols * dtype.size();
    (2 * partials + gradients) as f64 / (3 * n_rows * n_cols * dtype.size()) as f64
}

#[test]
fn partials_are_a_twentieth_of_a_backward_pass_at_most() {
    let direct = Direct::new("h100", 132, true);
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        // Beside the lengths above, rows that start anywhere in two blocks a multiprocessor.
        for n_cols in COLUMNS.into_iter().chain([1535, 2047]) {
            for n_rows in [4096, 7168, 70_161] {
                let share = partials_share(n_rows, n_cols, dtype, &direct);
                println!("{dtype}, {n_rows} rows of {n_cols}: {share:.4}");
                assert!(share < 0.05, "{dtype}, {n_rows} rows of {n_cols}: {share}");
            }
        }
    }
}

#[test]
fn the_workspace_stays_below_its_limit() {
    let direct = Direct::new("h100", 132, true);
    for (dtype, parameter) in dtypes() {
        for n_cols in COLUMNS {
            for n_rows in [1, 37, 4096, 70_161] {
                let problem = Problem::new(n_rows, n_cols, dtype, parameter, 1e-5).unwrap();
                let bytes = plan::workspace_bytes(&problem, &direct.limits);
                assert!(
                    bytes <= MAX_WORKSPACE_BYTES,
                    "{n_rows} rows of {n_cols} {dtype}: {bytes}"
                );
            }
        }
    }
}
