//! The bytes that an H100's multiprocessor has in flight, for each row of the plan: a table in docs/performance.md.
//! Registers are ptxas's, from docs/sass; a warp's bytes before it first uses some of them are the software GPU's
//! count; how many warps there are is `occupancy`'s.
//!
//! `LAYERNORM_WRITE_TABLES=1 cargo test -p layernorm-tests --test in_flight` makes the table again.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

use layernorm_host::plan::{self, Launch};
use layernorm_host::{BackwardPointers, DType, ForwardPointers, Problem};
use layernorm_tests::direct::{Direct, Done};
use layernorm_tests::occupancy::{Block, resident_blocks};

const BEGIN: &str = "<!-- bytes in flight: made by tests/in_flight.rs -->\n";
const END: &str = "<!-- end of bytes in flight -->";

const COLUMNS: [usize; 8] = [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536];

/// Bytes that a multiprocessor should have in flight.
const AIM: u64 = 32 << 10;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// Registers a thread and static shared memory of each kernel on sm_90.
fn registers() -> BTreeMap<String, (u32, u32)> {
    let text = fs::read_to_string(file("docs/sass/sm_90.txt")).expect("docs/sass/sm_90.txt");
    let number = |word: Option<&str>| word.and_then(|word| word.parse().ok()).unwrap_or(0);
    text.lines()
        .skip(2)
        .map(|line| {
            let mut words = line.split_whitespace();
            let name = format!("layernorm_{}", words.next().unwrap_or_default());
            (name, (number(words.next()), number(words.next())))
        })
        .collect()
}

/// Launches on 132 multiprocessors, and what each kernel did on two of them with a few rows a block.
fn launches(
    n_cols: usize,
    dtype: DType,
    few: &Direct,
    all: &Direct,
) -> Vec<(&'static str, Launch, Done)> {
    let problem = |n_rows| Problem::new(n_rows, n_cols, dtype, dtype, 1e-5).expect("a problem");
    let size = dtype.size();
    // Enough for every block of two multiprocessors to go on to further rows.
    let n_rows = (393_216 / n_cols).clamp(8, 4096);
    let (large, small) = (problem(4096), problem(n_rows));
    let rows = n_rows * n_cols * size;
    let forward = ForwardPointers {
        x: few.filled(rows),
        y: few.alloc(rows),
        ..ForwardPointers::default()
    };
    let args = forward.args(&large).expect("addresses");
    let planned = plan::forward(&large, &args, &all.limits)
        .expect("a plan")
        .expect("rows");
    let done = few.forward(&small, &forward).expect("rows");
    let mut launches = vec![("forward", planned, done)];
    let backward = BackwardPointers {
        dy: few.filled(rows),
        x: forward.x,
        mean: few.filled(n_rows * 4),
        rstd: few.filled(n_rows * 4),
        dx: few.alloc(rows),
        dweight: few.alloc(n_cols * size),
        dbias: few.alloc(n_cols * size),
        ..BackwardPointers::default()
    };
    let with_workspace = BackwardPointers {
        workspace: 256,
        workspace_bytes: plan::workspace_bytes(&large, &all.limits),
        ..backward
    };
    let plan = with_workspace
        .launches(&large, &all.limits)
        .expect("a plan")
        .plan;
    let planned = [plan.sums, plan.rows].into_iter().flatten();
    for (planned, done) in planned.zip(few.backward(&small, &backward)) {
        launches.push(("backward", planned, done));
    }
    launches
}

fn table() -> String {
    let registers = registers();
    let (few, all) = (Direct::new("h100", 2, true), Direct::new("h100", 132, true));
    let mut text = String::from(
        "| pass | x | n_cols | kernel | registers | warps an SM | bytes a warp | KiB in flight an SM |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    let mut below = Vec::new();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for n_cols in COLUMNS {
            for (pass, planned, done) in launches(n_cols, dtype, &few, &all) {
                assert_eq!(planned.entry, done.launch.entry);
                let (registers, static_shared) = registers[&planned.entry.to_string()];
                let block = Block {
                    threads: planned.block,
                    registers,
                    shared: static_shared + planned.shared_bytes,
                };
                let share = (planned.grid * planned.grid_y).div_ceil(all.limits.sm_count);
                let blocks = resident_blocks(block).min(share);
                assert!(blocks > 0, "{}: {block:?}", planned.entry);
                let warps = blocks * planned.block / 32;
                let counters = &done.counters;
                let of_warp =
                    counters.bytes_in_flight_before_first_use / counters.loading_warps.max(1);
                let bytes = u64::from(warps) * of_warp;
                let variant = done.variant();
                let mark = if bytes < AIM && n_cols >= 1024 {
                    " (below)"
                } else {
                    ""
                };
                if !mark.is_empty() {
                    below.push(format!("{pass} {dtype} {n_cols} `{variant}`"));
                }
                let _ = writeln!(
                    text,
                    "| {pass} | {dtype} | {n_cols} | `{variant}` | {registers} | {warps} | {of_warp} | {:.1}{mark} |",
                    bytes as f64 / 1024.0
                );
            }
        }
    }
    let _ = match below[..] {
        [] => writeln!(
            text,
            "\nAll rows of 1024 columns or more have 32 KiB or more in flight."
        ),
        _ => writeln!(
            text,
            "\nBelow 32 KiB from 1024 columns on: {}.",
            below.join(", ")
        ),
    };
    text
}

#[test]
fn the_table_is_of_these_kernels() {
    let path = file("docs/performance.md");
    let page = fs::read_to_string(&path)
        .expect("docs/performance.md")
        .replace('\r', "");
    let (before, rest) = page.split_once(BEGIN).expect("the table's start");
    let (committed, after) = rest.split_once(END).expect("the table's end");
    let made = format!("\n{}\n", table());
    if env::var_os("LAYERNORM_WRITE_TABLES").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{made}{END}{after}"))
            .expect("docs/performance.md");
    } else {
        for (committed, made) in committed.lines().zip(made.lines()) {
            assert_eq!(
                committed, made,
                "LAYERNORM_WRITE_TABLES=1 makes the table again"
            );
        }
        assert_eq!(committed.lines().count(), made.lines().count());
    }
}
