//! What a GPU is free to choose must not show where it may not: a seed chooses the order of blocks and warps and the
//! error of every approximate instruction, and a number of threads plays them.
//!
//! Each run of `plan-rows` launches every kernel that the plan can choose, holds the results against float64 and
//! writes them to a file. `SEEDS` is how many seeds are run, instead of 3:
//!
//!     SEEDS=20 cargo test --package layernorm-tests --test seeds

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use layernorm_tests::bits;
use tempfile::TempDir;

/// A device's choices.
#[derive(Clone, Copy)]
struct Choices {
    seed: Option<u32>,
    /// Approximations have no error.
    exact: bool,
    threads: Option<u32>,
}

/// The device of the other tests.
const PLAIN: Choices = Choices {
    seed: None,
    exact: false,
    threads: None,
};

/// The results of every n-th shape under these choices, as a file of the folder.
fn results(folder: &Path, choices: Choices, nth: u32) -> PathBuf {
    let Choices {
        seed,
        exact,
        threads,
    } = choices;
    let path = folder.join(format!("{seed:?} {exact} {threads:?} {nth}"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_plan-rows"));
    command
        .args(["run", "--part", &format!("0/{nth}"), "--out"])
        .arg(&path)
        .env("LAYERNORM_DRIVER", "software")
        .env("SOFTWARE_GPU_EXACT", u32::from(exact).to_string())
        .env_remove("SOFTWARE_GPU_SEED");
    for (name, value) in [("SOFTWARE_GPU_SEED", seed), ("RAYON_NUM_THREADS", threads)] {
        if let Some(value) = value {
            command.env(name, value.to_string());
        }
    }
    let output = command.output().expect("plan-rows starts");
    assert!(output.status.success(), "{output:?}");
    path
}

/// Whether every result of two files has the same bits. The files need not: what they say of themselves is in no order.
fn same_bits(a: &Path, b: &Path) -> bool {
    let report = bits::compare(a, b).expect("two files of the same shapes");
    assert!(
        report
            .by_name
            .iter()
            .any(|(_, distance)| distance.elements > 0)
    );
    report.wrong.is_empty()
        && report
            .by_name
            .iter()
            .all(|(_, distance)| distance.differ == 0)
}

/// The backward pass is given mean and rstd and has no approximation in it, so that dx, dweight and dbias have the
/// same bits under every seed.
#[test]
fn no_seed_changes_a_gradient() {
    let folder = TempDir::new().expect("a folder");
    let plain = results(folder.path(), PLAIN, 1);
    let seeds = std::env::var("SEEDS").ok();
    let seeds = seeds.map_or(3, |seeds| seeds.parse().expect("SEEDS is a number"));
    for seed in 1..=seeds {
        let seed = Some(seed);
        let seeded = results(folder.path(), Choices { seed, ..PLAIN }, 1);
        let report = bits::compare(&plain, &seeded).expect("two files of the same shapes");
        assert!(report.wrong.is_empty(), "{seed:?}: {:#?}", report.wrong);
        let differ = |kind| {
            let mut by_name = report.by_name.iter();
            let (_, distance) = by_name.find(|(name, _)| name == kind).expect("a result");
            assert!(distance.elements > 0);
            distance.differ
        };
        for gradient in ["dx", "dweight", "dbias"] {
            assert_eq!(differ(gradient), 0, "{gradient} under {seed:?}");
        }
        // The seed did choose something.
        assert!(differ("rstd") > 0, "{seed:?}");
        fs::remove_file(seeded).expect("it was written");
    }
}

/// Where approximations have no error, what is left of a seed is order: then mean, rstd and y keep their bits, too.
#[test]
fn the_order_of_blocks_and_warps_changes_no_bit() {
    let folder = TempDir::new().expect("a folder");
    let plain = results(folder.path(), PLAIN, 2);
    for seed in [1, 20] {
        let choices = Choices {
            seed: Some(seed),
            exact: true,
            ..PLAIN
        };
        let other = results(folder.path(), choices, 2);
        assert!(same_bits(&plain, &other), "seed {seed}");
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let folder = TempDir::new().expect("a folder");
    let run = |threads| {
        let choices = Choices {
            seed: Some(7),
            threads: Some(threads),
            ..PLAIN
        };
        results(folder.path(), choices, 3)
    };
    let one = run(1);
    for threads in [2, 3] {
        assert!(same_bits(&run(threads), &one), "{threads} threads");
    }
}
