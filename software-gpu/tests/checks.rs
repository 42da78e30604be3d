//! Each check finds the fault that it is for, names its place, and lets right code pass.
//!
//! `checks/*.ptx` hold two kernels each, `wrong` and `right`, which differ in just one way.

use software_gpu::{Checks, Fault, FaultKind, Gpu, LaunchConfig, Model, Module, Settings};

/// A device and a buffer on it of a word for each of 32 threads, not written.
fn launch(
    checks: Checks,
    text: &str,
    kernel: &str,
    grid: u32,
    block: u32,
) -> Result<(), Box<Fault>> {
    let mut settings = Settings::default();
    settings.checks = checks;
    settings.block_instructions = 100_000;
    let gpu = Gpu::with_settings(Model::h100(), settings);
    let module = match Module::load(text.as_bytes(), &gpu) {
        Ok(module) => module,
        Err(error) => panic!("{error}"),
    };
    let buffer = gpu.alloc(4 * 32).unwrap();
    if text.contains("atom.global") {
        gpu.fill(buffer, &[0], 128).unwrap();
    }
    let kernel = module.kernel(kernel).unwrap();
    let config = LaunchConfig {
        grid: [grid, 1, 1],
        block: [block, 1, 1],
        dynamic_shared: 0,
    };
    gpu.launch(&kernel, &config, &buffer.to_le_bytes())
        .map(|_| ())
        .map_err(Box::new)
}

/// Runs both kernels of a file: `wrong` must give the fault at the instruction, `right` none.
fn check(text: &str, grid: u32, block: u32, kind: FaultKind, instruction: &str) -> Box<Fault> {
    if let Err(fault) = launch(Checks::ALL, text, "right", grid, block) {
        panic!("the right kernel: {fault}");
    }
    let fault =
        launch(Checks::ALL, text, "wrong", grid, block).expect_err("the wrong kernel passed");
    assert_eq!(fault.kind, kind, "{fault}");
    assert!(fault.site.text.contains(instruction), "{fault}");
    assert_eq!(fault.kernel, "wrong");
    let line = text.lines().nth(fault.site.line as usize - 1).unwrap();
    assert_eq!(
        line.trim(),
        fault.site.text,
        "the line's number and its text agree"
    );
    fault
}

macro_rules! ptx {
    ($name:literal) => {
        include_str!(concat!("checks/", $name, ".ptx"))
    };
}

#[test]
fn out_of_bounds() {
    let fault = check(
        ptx!("out_of_bounds"),
        1,
        32,
        FaultKind::OutOfBounds,
        "st.global.u32 [%rd3+4]",
    );
    assert_eq!(
        (fault.site.thread, fault.kind.cuda_error()),
        ([31, 0, 0], 700)
    );
    let allocation = fault.allocation.unwrap();
    assert_eq!(fault.address, Some(allocation.base + 128));
    assert!(
        fault
            .to_string()
            .contains("0 bytes past the end of allocation 1 of 128 bytes"),
        "{fault}"
    );
}

#[test]
fn misaligned() {
    let fault = check(
        ptx!("misaligned"),
        1,
        32,
        FaultKind::Misaligned,
        "st.global.u32 [%rd1+2]",
    );
    assert_eq!(fault.kind.cuda_error(), 716);
}

/// A report is all that a person has: kernel, line, block, thread, address, allocation, and both sides.
#[test]
fn a_report_names_everything() {
    let text = ptx!("global_race");
    let fault = launch(Checks::ALL, text, "wrong", 2, 32).unwrap_err();
    let report = fault.to_string();
    let other = fault.other.as_ref().unwrap();
    let line = |line: u32| {
        format!(
            "line {line}: `{}`",
            text.lines().nth(line as usize - 1).unwrap().trim()
        )
    };
    for part in [
        "in kernel `wrong`",
        &line(fault.site.line),
        &format!("block ({}, 0, 0), thread (", fault.site.block[0]),
        &format!("address {:#x}: byte ", fault.address.unwrap()),
        "of allocation 1 of 128 bytes at",
        &format!("the other side: {}", line(other.line)),
        &format!("block ({}, 0, 0)", other.block[0]),
        "CUDA error 719",
    ] {
        assert!(report.contains(part), "no `{part}` in:\n{report}");
    }
}

#[test]
fn uninitialised_global() {
    let fault = check(
        ptx!("uninitialised_global"),
        1,
        32,
        FaultKind::Uninitialised,
        "ld.global.u32",
    );
    assert_eq!(
        (fault.site.thread, fault.kind.cuda_error()),
        ([0, 0, 0], 719)
    );
}

#[test]
fn uninitialised_shared() {
    let fault = check(
        ptx!("uninitialised_shared"),
        1,
        32,
        FaultKind::Uninitialised,
        "ld.shared.u32",
    );
    assert_eq!(fault.address, Some(128));
}

#[test]
fn shared_race() {
    let fault = check(
        ptx!("shared_race"),
        1,
        64,
        FaultKind::SharedRace,
        "shared.u32",
    );
    // The thread that it races with is the one at the other end.
    let other = fault.other.unwrap();
    assert!(other.text.contains("shared.u32"), "{other}");
    assert_ne!(other.text, fault.site.text, "one reads, one writes");
    assert_eq!(other.thread[0] + fault.site.thread[0], 63);
}

#[test]
fn shared_race_in_a_warp() {
    let fault = check(
        ptx!("shared_race_in_a_warp"),
        1,
        32,
        FaultKind::SharedRace,
        "ld.shared.u32",
    );
    assert_eq!(fault.other.unwrap().thread[0] ^ fault.site.thread[0], 1);
}

/// A barrier of some threads says nothing about the others.
#[test]
fn barrier_of_some() {
    let fault = check(
        ptx!("barrier_of_some"),
        1,
        128,
        FaultKind::SharedRace,
        "shared.u32",
    );
    assert_eq!(fault.other.unwrap().thread[0] ^ fault.site.thread[0], 64);
}

/// Who arrives and does not wait is ordered up to there.
#[test]
fn barrier_arrived_at() {
    check(
        ptx!("barrier_arrived_at"),
        1,
        64,
        FaultKind::SharedRace,
        "shared.u32",
    );
}

/// Teams that wait at the same barrier may open it for each other.
#[test]
fn barrier_of_two_teams() {
    check(
        ptx!("barrier_of_two_teams"),
        1,
        128,
        FaultKind::BarrierDivergence,
        "bar.sync",
    );
}

#[test]
fn shared_race_on_one_word() {
    let fault = check(
        ptx!("shared_race_on_one_word"),
        1,
        64,
        FaultKind::SharedRace,
        "st.shared.u32",
    );
    assert_eq!(
        (fault.site.thread[0], fault.other.unwrap().thread[0]),
        (1, 0)
    );
}

#[test]
fn global_race() {
    let fault = check(
        ptx!("global_race"),
        2,
        32,
        FaultKind::GlobalRace,
        "st.global.u32 [%rd1], %r1",
    );
    let other = fault.other.unwrap();
    assert_eq!(
        fault.site.block[0] + other.block[0],
        1,
        "both sides are named"
    );
}

#[test]
fn global_race_of_a_read() {
    let text = ptx!("global_race_read");
    check(text, 3, 32, FaultKind::GlobalRace, "global.u32");
    // Within one block there is none.
    launch(Checks::ALL, text, "wrong", 1, 1).unwrap();
}

#[test]
fn what_is_written_is_not_read_through_the_read_only_cache() {
    check(
        ptx!("read_only_cache"),
        1,
        32,
        FaultKind::GlobalRace,
        "global",
    );
}

#[test]
fn barrier_after_exit() {
    let fault = check(
        ptx!("barrier_after_exit"),
        1,
        64,
        FaultKind::BarrierDivergence,
        "bar.sync",
    );
    assert!(fault.detail.contains("1 of 2 warps"), "{fault}");
}

#[test]
fn barrier_in_a_branch() {
    check(
        ptx!("barrier_in_a_branch"),
        1,
        32,
        FaultKind::BarrierDivergence,
        "bar.sync",
    );
}

#[test]
fn absent_lane_of_a_shuffle() {
    let fault = check(
        ptx!("absent_lane_shuffle"),
        1,
        48,
        FaultKind::AbsentLane,
        "shfl.sync",
    );
    assert_eq!(fault.site.thread, [32, 0, 0]);
}

#[test]
fn absent_lane_of_a_vote() {
    check(
        ptx!("absent_lane_vote"),
        1,
        32,
        FaultKind::AbsentLane,
        "vote.sync",
    );
}

#[test]
fn trap() {
    let fault = check(ptx!("trap"), 1, 32, FaultKind::IllegalInstruction, "trap");
    assert_eq!(
        (fault.site.thread, fault.kind.cuda_error()),
        ([7, 0, 0], 715)
    );
}

#[test]
fn shared_out_of_bounds() {
    check(
        ptx!("shared_out_of_bounds"),
        1,
        32,
        FaultKind::OutOfBounds,
        "st.shared.u32 [words+256]",
    );
}

#[test]
fn local_out_of_bounds() {
    check(
        ptx!("local_out_of_bounds"),
        1,
        32,
        FaultKind::OutOfBounds,
        "st.local.u32 [depot+8]",
    );
}

#[test]
fn constant_memory_is_not_written() {
    check(
        ptx!("constant_memory"),
        1,
        32,
        FaultKind::ReadOnly,
        "st.u32",
    );
}

#[test]
fn a_kernel_that_does_not_end() {
    let fault = check(ptx!("endless"), 1, 32, FaultKind::Timeout, "bra L");
    assert_eq!(fault.kind.cuda_error(), 702);
}

#[test]
fn an_asynchronous_copy_that_is_not_waited_for() {
    let text = ptx!("async_copy_not_waited_for");
    let fault = check(text, 1, 32, FaultKind::SharedRace, "cp.async.wait_all");
    assert!(fault.other.unwrap().text.contains("ld.shared.u32"));
}

/// It may come as late as its thread exits, over what is there by then.
#[test]
fn an_asynchronous_copy_that_is_never_waited_for() {
    let text = ptx!("async_copy_at_the_end");
    let fault = check(text, 1, 32, FaultKind::SharedRace, "ret");
    assert!(fault.other.unwrap().text.contains("ld.shared.u32"));
}

#[test]
fn without_checks_only_bounds_and_alignment_are_faults() {
    for text in [
        ptx!("uninitialised_global"),
        ptx!("uninitialised_shared"),
        ptx!("shared_race_in_a_warp"),
    ] {
        launch(Checks::OFF, text, "wrong", 1, 32).unwrap();
    }
    launch(Checks::OFF, ptx!("barrier_after_exit"), "wrong", 1, 64).unwrap();
    launch(Checks::OFF, ptx!("global_race"), "wrong", 2, 32).unwrap();
    launch(Checks::OFF, ptx!("absent_lane_shuffle"), "wrong", 1, 48).unwrap();
    assert!(launch(Checks::OFF, ptx!("out_of_bounds"), "wrong", 1, 32).is_err());
    assert!(launch(Checks::OFF, ptx!("misaligned"), "wrong", 1, 32).is_err());
}

/// The right kernels under many seeds: no order of warps, blocks or branches makes them wrong.
#[test]
fn right_kernels_are_right_under_every_seed() {
    for seed in 0..20 {
        for (text, grid, block) in [
            (ptx!("shared_race"), 3, 64),
            (ptx!("barrier_of_some"), 3, 128),
            (ptx!("shared_race_on_one_word"), 3, 64),
            (ptx!("global_race"), 8, 32),
            (ptx!("barrier_in_a_branch"), 3, 256),
            (ptx!("async_copy_not_waited_for"), 1, 32),
            (ptx!("async_copy_at_the_end"), 1, 32),
        ] {
            let mut settings = Settings::default();
            settings.seed = Some(seed);
            let gpu = Gpu::with_settings(Model::h100(), settings);
            let module = Module::load(text.as_bytes(), &gpu).unwrap();
            let buffer = gpu.alloc(256).unwrap();
            let config = LaunchConfig {
                grid: [grid, 1, 1],
                block: [block, 1, 1],
                dynamic_shared: 0,
            };
            if let Err(fault) = gpu.launch(
                &module.kernel("right").unwrap(),
                &config,
                &buffer.to_le_bytes(),
            ) {
                panic!("seed {seed}: {fault}");
            }
        }
    }
}
