//! What a GPU's scheduler does must not show in a result, and neither may the number of threads that play it.

use std::process::Command;

/// The hashes of `digest`, by seed and threads.
fn digest(seed: u32, threads: u32) -> Vec<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_digest"))
        .env("SOFTWARE_GPU_SEED", seed.to_string())
        .env("RAYON_NUM_THREADS", threads.to_string())
        .output()
        .expect("digest starts");
    assert!(output.status.success(), "{output:?}");
    let lines: Vec<String> = String::from_utf8(output.stdout)
        .expect("hashes are ASCII")
        .lines()
        .map(str::to_owned)
        .collect();
    assert_eq!(lines.len(), 5 * 4 * 6);
    lines
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let one = digest(7, 1);
    for threads in [2, 3] {
        assert_eq!(digest(7, threads), one, "{threads} threads");
    }
}

/// A seed changes the order of blocks and warps, and by how much an approximate instruction is off. So sums without
/// such an instruction in them have the same bits under every seed, and something else has not. (The mean of a row that
/// a cluster shares has one, an approximate 1 / n of each block's share.)
#[test]
fn the_order_of_blocks_and_warps_changes_no_sum() {
    let exact = |lines: &[String]| -> Vec<String> {
        let sums = |line: &&String| {
            (line.starts_with("mean ") && !line.contains("x8200 f32")) || line.starts_with("dbias ")
        };
        lines.iter().filter(sums).cloned().collect()
    };
    let first = digest(1, 2);
    assert_eq!(exact(&first).len(), 5 * 4 * 2 - 1);
    let mut differs = false;
    for seed in [2, 3, 20] {
        let other = digest(seed, 2);
        assert_eq!(exact(&other), exact(&first), "seed {seed}");
        differs |= other != first;
    }
    assert!(differs, "the seeds changed nothing at all");
}
