//! What the plan chooses for each length of a row, and what can be counted of it: the table in docs/plan.md, which says
//! what its columns are. Registers are ptxas's, from docs/sass; how many warps there are is `occupancy`'s; the rest is
//! what the software GPU counts.
//!
//! `LAYERNORM_WRITE_TABLES=1 cargo test -p layernorm-tests --test plan_table` makes the table again.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

use layernorm_host::abi::PORTABLE_CLUSTER;
use layernorm_host::plan::{self, Launch};
use layernorm_host::{BackwardPointers, DType, ForwardPointers, Pass, Problem};
use layernorm_tests::direct::{Direct, Done};
use layernorm_tests::occupancy::{Block, resident_blocks};

const BEGIN: &str = "<!-- plan: made by tests/plan_table.rs -->\n";
const END: &str = "<!-- end of plan -->";
const PAGE: &str = "docs/plan.md";

const COLUMNS: [usize; 25] = [
    1, 7, 64, 128, 129, 256, 384, 512, 768, 1000, 1023, 1024, 1536, 2048, 3072, 4096, 4099, 5120,
    8192, 12_288, 16_384, 32_768, 65_536, 131_072, 262_144,
];

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

/// Enough for every block of two multiprocessors to go on to further rows, or every cluster of a whole device.
fn few_rows(n_cols: usize, few: &Direct) -> usize {
    match few.limits.sm_count {
        ..=2 => (393_216 / n_cols).clamp(8, 4096),
        _ => 42,
    }
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
    let n_rows = few_rows(n_cols, few);
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
        "| pass | x | n_cols | kernel | requested / different | sectors | instructions | registers | warps | in flight |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    let mut below = Vec::new();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for n_cols in COLUMNS {
            // Clusters of 16 blocks are for a whole device.
            let large = Problem::new(4096, n_cols, dtype, dtype, 1e-5).expect("a problem");
            let is_whole = plan::entries(Pass::Backward, &large, &all.limits)
                .iter()
                .filter_map(|entry| entry.variant())
                .any(|variant| variant.cluster_blocks() > PORTABLE_CLUSTER);
            let mut done = launches(n_cols, dtype, &few, &all);
            if is_whole {
                let again = launches(n_cols, dtype, &all, &all);
                done.retain(|(pass, ..)| *pass == "forward");
                done.extend(again.into_iter().filter(|(pass, ..)| *pass == "backward"));
            }
            for (pass, planned, done) in done {
                let on_all = is_whole && pass == "backward";
                let n_rows = few_rows(n_cols, if on_all { &all } else { &few });
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
                let sectors = counters.global_load_sectors + counters.global_store_sectors;
                let requests = counters.global_load_requests + counters.global_store_requests;
                let different = [counters.unique_bytes_read, counters.unique_bytes_written];
                let different: u64 = different.into_iter().flatten().sum();
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
                    "| {pass} | {dtype} | {n_cols} | `{variant}` | {:.2} | {:.1} | {:.1} | {registers} | {warps} | {:.1}{mark} |",
                    (sectors * 32) as f64 / different as f64,
                    sectors as f64 / requests as f64,
                    counters.lane_instructions as f64 / (n_rows * n_cols) as f64,
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
    let path = file(PAGE);
    let page = fs::read_to_string(&path).expect(PAGE).replace('\r', "");
    let (before, rest) = page.split_once(BEGIN).expect("the table's start");
    let (committed, after) = rest.split_once(END).expect("the table's end");
    let made = format!("\n{}\n", table());
    if env::var_os("LAYERNORM_WRITE_TABLES").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{made}{END}{after}")).expect(PAGE);
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
