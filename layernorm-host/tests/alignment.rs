//! Rows that start anywhere and lie any distance apart give what rows at multiples of 16 bytes give, and nothing
//! around them is written: the same bits where a row's columns lie over as many threads, else the same but for the
//! order in which they are added.

use layernorm_host::{
    BackwardPointers, DType, Device, ForwardPointers, Launcher, Pass, Problem, Strides, Tensor,
};

/// What every byte holds that no row has: NaN in all dtypes.
const GAP: u8 = 0xFF;

/// Where rows start and how far they lie apart, in elements.
#[derive(Clone, Copy, Debug)]
struct Layout {
    offset: usize,
    stride: usize,
}

/// Where everything lies.
#[derive(Clone, Copy, Debug)]
struct Layouts {
    x: Layout,
    y: Layout,
    dy: Layout,
    dx: Layout,
    /// Elements before weight, and one more before bias.
    parameters: usize,
    /// dx goes where dy is.
    in_place: bool,
}

impl Layouts {
    /// All rows at multiples of 16 bytes.
    fn aligned(n_cols: usize, in_place: bool) -> Self {
        let rows = Layout {
            offset: 0,
            stride: n_cols.next_multiple_of(8),
        };
        Layouts {
            x: rows,
            y: rows,
            dy: rows,
            dx: rows,
            parameters: 0,
            in_place,
        }
    }

    /// All of them elsewhere, `turn` by `turn`.
    fn apart(n_cols: usize, in_place: bool, turn: usize) -> Self {
        let rows = |i: usize| Layout {
            offset: (turn * 3 + i * 5) % 8,
            stride: n_cols + [0, 1, 3, 8][(turn + i) % 4],
        };
        let dy = rows(2);
        Layouts {
            x: rows(0),
            y: rows(1),
            dy,
            dx: if in_place { dy } else { rows(3) },
            parameters: turn % 4,
            in_place,
        }
    }
}

/// A problem's values, as they are before they lie anywhere.
struct Case {
    n_rows: usize,
    n_cols: usize,
    dtype: DType,
    parameter_dtype: DType,
    /// A residual, its sum, and an incoming gradient; else weight, bias and nothing more.
    residual: bool,
}

/// What a run gave: bytes of y, sum, mean, rstd, dx, dweight, dbias.
type Bits = [Vec<u8>; 7];

/// Values that all dtypes hold, of either sign.
fn wave(n: usize, seed: usize) -> Vec<f32> {
    let value = |i: usize| ((i * 37 + seed * 11 + i / 13) % 61) as f32 / 16.0 - 1.5;
    (0..n).map(value).collect()
}

fn bytes(values: &[f32], dtype: DType) -> Vec<u8> {
    match dtype {
        DType::F32 => values.iter().flat_map(|v| v.to_ne_bytes()).collect(),
        DType::F16 => values
            .iter()
            .flat_map(|&v| half::f16::from_f32(v).to_ne_bytes())
            .collect(),
        DType::BF16 => values
            .iter()
            .flat_map(|&v| half::bf16::from_f32(v).to_ne_bytes())
            .collect(),
        DType::F64 => values
            .iter()
            .flat_map(|&v| f64::from(v).to_ne_bytes())
            .collect(),
    }
}

/// Rows in memory that ends with the last of them.
struct Rows {
    memory: Tensor,
    layout: Layout,
    n_rows: usize,
    n_cols: usize,
}

impl Rows {
    fn new(case: &Case, layout: Layout, values: Option<&[f32]>, device: &Device) -> Self {
        let (n_rows, n_cols, size) = (case.n_rows, case.n_cols, case.dtype.size());
        let elements = layout.offset + (n_rows - 1) * layout.stride + n_cols;
        let mut memory = vec![GAP; elements * size];
        if let Some(values) = values {
            let values = bytes(values, case.dtype);
            for (row, values) in values.chunks(n_cols * size).enumerate() {
                let at = (layout.offset + row * layout.stride) * size;
                memory[at..at + values.len()].copy_from_slice(values);
            }
        }
        Rows {
            memory: Tensor::from_bytes(&memory, case.dtype, &[elements], device).unwrap(),
            layout,
            n_rows,
            n_cols,
        }
    }

    fn address(&self) -> u64 {
        let size = self.memory.dtype().size();
        self.memory.device_address().unwrap() + (self.layout.offset * size) as u64
    }

    /// The rows' bytes; fails if a byte between them was written.
    fn bits(&self) -> Vec<u8> {
        let memory = self.memory.to_bytes().unwrap();
        let size = self.memory.dtype().size();
        let Layout { offset, stride } = self.layout;
        let mut bits = Vec::new();
        let mut at = 0;
        for row in 0..self.n_rows {
            let start = (offset + row * stride) * size;
            assert!(memory[at..start].iter().all(|byte| *byte == GAP), "a gap");
            at = start + self.n_cols * size;
            bits.extend_from_slice(&memory[start..at]);
        }
        bits
    }
}

/// Both passes; the backward pass with these statistics (mean, rstd), if there are any, else with its own row's.
fn run(case: &Case, layouts: &Layouts, statistics: Option<[&[u8]; 2]>, device: &Device) -> Bits {
    let (n_rows, n_cols) = (case.n_rows, case.n_cols);
    let launcher = Launcher::new(device).unwrap();
    let problem = Problem::new(n_rows, n_cols, case.dtype, case.parameter_dtype, 1e-5)
        .and_then(|problem| {
            problem.with_strides(Strides {
                x: layouts.x.stride,
                y: layouts.y.stride,
                dy: layouts.dy.stride,
                dx: layouts.dx.stride,
            })
        })
        .unwrap();
    let n = n_rows * n_cols;
    let rows = |layout, seed| Rows::new(case, layout, Some(&wave(n, seed)), device);
    let outputs = |layout| Rows::new(case, layout, None, device);
    let (x, dy) = (rows(layouts.x, 1), rows(layouts.dy, 2));
    // With x's stride and dx's, but not where those are.
    let beside = |layout: Layout| Layout {
        offset: (layout.offset + layouts.parameters) % 8,
        ..layout
    };
    let (residual, dsum) = (rows(beside(layouts.x), 3), rows(beside(layouts.dx), 4));
    let (y, sum, dx) = (
        outputs(layouts.y),
        outputs(beside(layouts.y)),
        outputs(layouts.dx),
    );
    let dx = if layouts.in_place { &dy } else { &dx };
    let parameter = |before: usize, seed| {
        let values = [vec![f32::NAN; before], wave(n_cols, seed)].concat();
        let memory = bytes(&values, case.parameter_dtype);
        let tensor = Tensor::from_bytes(&memory, case.parameter_dtype, &[before + n_cols], device);
        let tensor = tensor.unwrap();
        let address = tensor.device_address().unwrap();
        (
            tensor,
            address + (before * case.parameter_dtype.size()) as u64,
        )
    };
    let (weight, bias) = (
        parameter(layouts.parameters, 5),
        parameter((layouts.parameters * 2) % 5, 6),
    );
    let empty = |n: usize, dtype| Tensor::empty(dtype, &[n], &device.with_poisoned_memory());
    let floats = || empty(n_rows, DType::F32).unwrap();
    let gradient = || empty(n_cols, case.parameter_dtype).unwrap();
    let (mean, rstd, dweight, dbias) = (floats(), floats(), gradient(), gradient());
    let workspace_bytes = launcher.workspace_bytes(&problem);
    let workspace = empty(workspace_bytes / 4, DType::F32).unwrap();
    let given = statistics.map(|bytes| {
        bytes.map(|bytes| Tensor::from_bytes(bytes, DType::F32, &[n_rows], device).unwrap())
    });
    let address = |tensor: &Tensor| tensor.device_address().unwrap();
    let also = |there: bool, address: u64| if there { address } else { 0 };
    let forward = ForwardPointers {
        x: x.address(),
        residual: also(case.residual, residual.address()),
        weight: also(!case.residual, weight.1),
        bias: also(!case.residual, bias.1),
        y: y.address(),
        sum: also(case.residual, sum.address()),
        mean: address(&mean),
        rstd: address(&rstd),
    };
    let backward = BackwardPointers {
        dy: dy.address(),
        x: if case.residual {
            sum.address()
        } else {
            x.address()
        },
        weight: forward.weight,
        mean: address(given.as_ref().map_or(&mean, |[mean, _]| mean)),
        rstd: address(given.as_ref().map_or(&rstd, |[_, rstd]| rstd)),
        dsum: also(case.residual, dsum.address()),
        dx: dx.address(),
        dweight: address(&dweight),
        dbias: address(&dbias),
        workspace: address(&workspace),
        workspace_bytes,
        accumulate: false,
    };
    // What the backward pass reads as x is `sum`, which lies as y does.
    let strides = problem.strides();
    let backward_problem = problem
        .with_strides(Strides {
            x: if case.residual { strides.y } else { strides.x },
            ..strides
        })
        .unwrap();
    device.synchronize().unwrap();
    // SAFETY: all addresses are of this device's tensors, at the problem's shapes and strides; those live
    // until the results have been copied, which waits for the work.
    unsafe {
        launcher
            .launch_forward(std::ptr::null_mut(), &forward, &problem)
            .unwrap();
        launcher
            .launch_backward(std::ptr::null_mut(), &backward, &backward_problem)
            .unwrap();
    }
    let tensor = |tensor: &Tensor| tensor.to_bytes().unwrap();
    let rows = |rows: &Rows| rows.bits();
    [
        rows(&y),
        if case.residual {
            rows(&sum)
        } else {
            Vec::new()
        },
        tensor(&mean),
        tensor(&rstd),
        rows(dx),
        tensor(&dweight),
        tensor(&dbias),
    ]
}

fn device() -> Device {
    let device = Device::auto().unwrap();
    match device.kind() {
        "cpu" => Device::software(0).unwrap(),
        _ => device,
    }
}

/// A row of the pass lies over as many threads wherever it starts.
fn lies_the_same(pass: Pass, case: &Case) -> bool {
    let bytes = case.n_cols * case.dtype.size();
    if !bytes.is_multiple_of(16) {
        return true;
    }
    let first = |tiles: &[kernels_gpu::abi::RowTile]| {
        let vectors = (bytes / 16) as u32;
        let tile = tiles.iter().find(|tile| vectors <= tile.max_vectors());
        tile.map(|tile| (tile.lanes, tile.vecs, tile.block))
    };
    let ragged = first(pass.ragged_tiles(case.dtype));
    ragged.is_some() && ragged == first(pass.tiles(case.dtype))
}

/// Whether dweight's and dbias's sums are then taken in the same order, too. Dx over dy has the kernel of many rows, which for
/// rows that start anywhere may go in pairs of blocks where it does not for others; beside dy the few rows here have theirs.
fn adds_the_same(case: &Case, in_place: bool) -> bool {
    let bytes = case.n_cols * case.dtype.size();
    let pairs = |tiles: &[kernels_gpu::abi::RowTile]| {
        let tile = tiles
            .iter()
            .find(|tile| (bytes / 16) as u32 <= tile.max_vectors());
        tile.map(|tile| tile.pairs_from)
    };
    let (ragged, aligned) = (
        Pass::Backward.ragged_tiles(case.dtype),
        Pass::Backward.tiles(case.dtype),
    );
    lies_the_same(Pass::Backward, case)
        && (!in_place || !bytes.is_multiple_of(16) || pairs(ragged) == pairs(aligned))
}

fn values(bytes: &[u8], dtype: DType) -> Vec<f32> {
    let word = |b: &[u8]| u16::from_ne_bytes([b[0], b[1]]);
    match dtype {
        DType::F16 => bytes
            .chunks(2)
            .map(|b| half::f16::from_bits(word(b)).to_f32())
            .collect(),
        DType::BF16 => bytes
            .chunks(2)
            .map(|b| half::bf16::from_bits(word(b)).to_f32())
            .collect(),
        _ => bytes
            .chunks(4)
            .map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
            .collect(),
    }
}

/// Where two results are further apart than another order of adding makes them, by a bound on sums of f32 and a
/// rounding to the dtype.
fn apart_at(a: &[u8], b: &[u8], dtype: DType) -> Option<usize> {
    let (a, b) = (values(a, dtype), values(b, dtype));
    let step = match dtype {
        DType::F16 => 1.0 / 1024.0,
        DType::BF16 => 1.0 / 128.0,
        _ => 0.0,
    };
    let largest = b.iter().fold(1.0_f32, |most, b| most.max(b.abs()));
    let near = |a: f32, b: f32| (a - b).abs() <= step * b.abs() + 1e-5 * largest;
    // NaN is never near.
    (0..b.len()).find(|&i| !near(a[i], b[i]))
}

/// Runs a shape in several layouts and compares.
fn the_same_wherever(n_rows: usize, n_cols: usize, turns: std::ops::Range<usize>) {
    let device = device();
    // f64 has one kernel, which goes element by element wherever rows are.
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for parameter_dtype in dtype.parameter_dtypes() {
            for (residual, in_place) in [(false, false), (false, true), (true, false), (true, true)]
            {
                let case = Case {
                    n_rows,
                    n_cols,
                    dtype,
                    parameter_dtype,
                    residual,
                };
                let aligned = run(&case, &Layouts::aligned(n_cols, in_place), None, &device);
                assert!(
                    !aligned
                        .iter()
                        .any(|bits| bits.chunks(4).any(|word| word == [GAP; 4])),
                    "{n_cols} {dtype}: something was not written"
                );
                let [forward, backward] =
                    [Pass::Forward, Pass::Backward].map(|pass| lies_the_same(pass, &case));
                // y, sum, mean, rstd, dx, dweight, dbias.
                let results = [
                    (dtype, forward),
                    // A sum of two, whatever the order.
                    (dtype, true),
                    (DType::F32, forward),
                    (DType::F32, forward),
                    (dtype, backward),
                    (parameter_dtype, adds_the_same(&case, in_place)),
                    (parameter_dtype, adds_the_same(&case, in_place)),
                ];
                for turn in turns.clone() {
                    let layouts = Layouts::apart(n_cols, in_place, turn);
                    let apart = run(&case, &layouts, Some([&aligned[2], &aligned[3]]), &device);
                    for (i, (dtype, same_bits)) in results.into_iter().enumerate() {
                        let (apart, aligned) = (&apart[i], &aligned[i]);
                        let at = match same_bits {
                            true => apart.iter().zip(aligned).position(|(a, b)| a != b),
                            false => apart_at(apart, aligned, dtype),
                        };
                        assert_eq!(
                            at, None,
                            "{n_rows} x {n_cols} {dtype} {parameter_dtype} residual {residual}, {layouts:?}: result {i}, the same bits: {same_bits}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn short_rows() {
    for n_cols in [1, 2, 3, 5, 7, 8, 9, 31, 33, 64] {
        the_same_wherever(21, n_cols, 0..8);
    }
}

#[test]
fn middling_rows() {
    for n_cols in [129, 255, 257, 513, 1000, 1023, 1024, 1025] {
        the_same_wherever(5, n_cols, 0..4);
    }
}

#[test]
fn long_rows() {
    for n_cols in [2047, 2048, 2049, 4095, 4096, 4099, 5001, 8191] {
        the_same_wherever(3, n_cols, 0..2);
    }
}
