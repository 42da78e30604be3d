//! Barriers in shared memory that count arrivals and bytes, and `st.async`: what they do, and each check that finds
//! a mistake with them.
//!
//! `checks/mbarrier_*.ptx` hold two kernels each, `wrong` and `right`, which differ in just one way.

use software_gpu::{Checks, Fault, FaultKind, Gpu, LaunchConfig, Model, Module, Settings};

fn load(text: &str, settings: Settings) -> (Gpu, Module) {
    let gpu = Gpu::with_settings(Model::h100(), settings);
    match Module::load(text.as_bytes(), &gpu) {
        Ok(module) => (gpu, module),
        Err(error) => panic!("{error}"),
    }
}

/// Runs a kernel in blocks of 64 threads. Its only parameter is a buffer of a word a thread, or null.
fn run(
    checks: Checks,
    seed: Option<u64>,
    text: &str,
    name: &str,
    blocks: u32,
    wants: bool,
) -> Result<Vec<u32>, Box<Fault>> {
    let mut settings = Settings::default();
    settings.checks = checks;
    settings.seed = seed;
    let (gpu, module) = load(text, settings);
    let config = LaunchConfig {
        grid: [blocks, 1, 1],
        block: [64, 1, 1],
        dynamic_shared: 0,
    };
    let mut bytes = vec![0; 64 * 4 * blocks as usize];
    let out = if wants {
        gpu.alloc(bytes.len() as u64).unwrap()
    } else {
        0
    };
    let kernel = module.kernel(name).unwrap();
    gpu.launch(&kernel, &config, &out.to_le_bytes())
        .map_err(Box::new)?;
    if wants {
        gpu.read(out, &mut bytes).unwrap();
    }
    let words = bytes.chunks_exact(4);
    Ok(words
        .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
        .collect())
}

/// Runs both kernels of a file, in order and under seeds: `wrong` gives the fault, `right` none. Which thread has
/// it depends on the order.
fn check(text: &str, kinds: &[FaultKind], instruction: &str) -> Box<Fault> {
    for seed in (0..20).map(Some).chain([None]) {
        if let Err(fault) = run(Checks::ALL, seed, text, "right", 4, false) {
            panic!("the right kernel, seed {seed:?}: {fault}");
        }
        let fault = run(Checks::ALL, seed, text, "wrong", 4, false);
        let fault = fault.expect_err("the wrong kernel passed");
        assert!(kinds.contains(&fault.kind), "seed {seed:?}: {fault}");
        assert!(
            fault.site.text.contains(instruction),
            "seed {seed:?}: {fault}"
        );
        if seed.is_none() {
            return fault;
        }
    }
    unreachable!()
}

macro_rules! ptx {
    ($name:literal) => {
        include_str!(concat!("checks/", $name, ".ptx"))
    };
}

#[test]
fn what_is_not_initialised() {
    let text = ptx!("mbarrier_not_initialised");
    let fault = check(text, &[FaultKind::MBarrier], "mbarrier.arrive");
    assert_eq!(fault.kind.cuda_error(), 719);
    let late = ptx!("mbarrier_initialised_late");
    let kinds = [FaultKind::SharedRace, FaultKind::MBarrier];
    check(late, &kinds, "mbarrier.arrive");
}

#[test]
fn an_initialisation_that_no_fence_releases() {
    let fault = check(
        ptx!("mbarrier_unfenced"),
        &[FaultKind::SharedRace],
        "st.async",
    );
    assert!(fault.other.unwrap().text.contains("mbarrier.init"));
}

#[test]
fn a_second_initialisation() {
    let text = ptx!("mbarrier_initialised_twice");
    check(text, &[FaultKind::MBarrier], "mbarrier.init");
}

#[test]
fn a_misaligned_barrier() {
    let text = ptx!("mbarrier_misaligned");
    check(text, &[FaultKind::Misaligned], "mbarrier");
}

#[test]
fn words_of_a_barrier_that_others_touch() {
    check(
        ptx!("mbarrier_overwritten"),
        &[FaultKind::MBarrier],
        "st.shared",
    );
    check(ptx!("mbarrier_loaded"), &[FaultKind::MBarrier], "ld.shared");
}

#[test]
fn more_arrivals_than_a_phase_takes() {
    let text = ptx!("mbarrier_arrivals");
    let fault = check(text, &[FaultKind::MBarrier], "arrive.expect_tx");
    assert!(fault.detail.contains("0 of 1 are left"), "{fault}");
}

#[test]
fn data_and_barrier_in_different_blocks() {
    let text = ptx!("mbarrier_of_another_block");
    check(text, &[FaultKind::MBarrier], "st.async");
}

#[test]
fn a_read_of_what_was_sent_before_the_wait() {
    let text = ptx!("mbarrier_not_waited_for");
    // Nothing may have been sent yet.
    let kinds = [FaultKind::SharedRace, FaultKind::Uninitialised];
    let fault = check(text, &kinds, "ld.shared");
    assert!(fault.other.unwrap().text.contains("st.async"));
    // Without the check the place may still hold what was there before, by the seed.
    let out = |seed, name| run(Checks::OFF, Some(seed), text, name, 2, true).ok();
    let early = (0..20).filter(|seed| out(*seed, "wrong") != out(*seed, "right"));
    assert!(early.count() > 10);
}

#[test]
fn a_write_to_what_was_sent_before_the_wait() {
    check(ptx!("mbarrier_sent_over"), &[FaultKind::SharedRace], "");
}

#[test]
fn a_slot_that_is_sent_to_again_too_early() {
    check(
        ptx!("mbarrier_slot_sent_again"),
        &[FaultKind::SharedRace],
        "",
    );
}

#[test]
fn a_block_that_has_exited() {
    let text = ptx!("mbarrier_exited");
    check(text, &[FaultKind::AbsentBlock], "st.async");
}

#[test]
fn arrivals_that_release_nothing_or_not_all() {
    let text = ptx!("mbarrier_arrival_relaxed");
    check(text, &[FaultKind::SharedRace], "shared");
    let text = ptx!("mbarrier_not_all_arrive");
    check(text, &[FaultKind::SharedRace], "shared");
}

#[test]
fn a_lane_that_waits_for_others() {
    let text = ptx!("mbarrier_one_lane_waits");
    check(text, &[FaultKind::SharedRace], "shared");
}

/// A wait that cannot end is told at once, not by the limit on instructions.
#[test]
fn a_wait_in_vain() {
    let text = ptx!("mbarrier_stuck");
    let fault = check(text, &[FaultKind::BarrierDivergence], "try_wait");
    let words = "phase 0 of the mbarrier at 0x100 waits for 0 of 1 arrivals and 16 bytes";
    assert!(fault.detail.contains(words), "{fault}");
}

/// All values go around, in every order, with checks and without.
#[test]
fn what_is_sent_comes() {
    // Both blocks send (rank + 1, turn + 10) for turns 0 to 5, and each adds the products.
    let sum = (10..16).map(|turn| turn + 2 * turn).sum::<u32>();
    for text in [
        ptx!("mbarrier_slot_sent_again"),
        ptx!("mbarrier_unfenced"),
        ptx!("mbarrier_arrivals"),
    ] {
        for seed in (0..20).map(Some).chain([None]) {
            for checks in [Checks::ALL, Checks::MEMORY, Checks::OFF] {
                let out = run(checks, seed, text, "right", 4, true);
                let out = out.unwrap_or_else(|fault| panic!("seed {seed:?}: {fault}"));
                assert_eq!(out, [sum; 256], "seed {seed:?}");
            }
        }
    }
}

/// The other spellings: elements of other types and sizes, generic addresses, counts, bytes told of without an
/// arrival, an arrival at another block's barrier, and hints.
const SPELLINGS: &str = "
.version 8.1
.target sm_90
.address_size 64
.shared .align 16 .b8 slots[64];
.shared .align 8 .b8 bars[16];
.visible .entry k(.param .u64 p)
.explicitcluster
.reqnctapercluster 2, 1, 1
{
	.reg .pred %p<8>;
	.reg .b32 %r<32>;
	.reg .f32 %f<4>;
	.reg .b64 %rd<16>;
	ld.param.u64 %rd1, [p];
	mov.u32 %r1, %tid.x;
	mov.u32 %r2, %cluster_ctarank;
	xor.b32 %r3, %r2, 1;
	mov.u64 %rd2, slots;
	mov.u64 %rd3, bars;
	cvta.shared.u64 %rd4, %rd2;
	cvta.shared.u64 %rd5, %rd3;
	setp.ne.u32 %p1, %r1, 0;
	@%p1 bra READY;
	mbarrier.init.b64 [%rd5], 3;
READY:
	barrier.cluster.arrive.aligned;
	barrier.cluster.wait.aligned;
	@%p1 bra WAIT;
	mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [bars], 36;
	mbarrier.arrive.shared::cta.b64 %rd6, [bars], 2;
	mov.u32 %r4, slots;
	mov.u32 %r5, bars;
	mapa.shared::cluster.u32 %r6, %r4, %r3;
	mapa.shared::cluster.u32 %r7, %r5, %r3;
	mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r7];
	mov.f32 %f1, 0f40000000;
	mov.b64 %rd7, 5;
	mov.b64 %rd8, 7;
	add.s32 %r8, %r2, 1;
	st.async.shared::cluster.mbarrier::complete_tx::bytes.f32 [%r6], %f1, [%r7];
	st.async.shared::cluster.mbarrier::complete_tx::bytes.u32 [%r6+4], %r8, [%r7];
	st.async.shared::cluster.mbarrier::complete_tx::bytes.b64 [%r6+8], %rd7, [%r7];
	st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.s64 [%r6+16], {%rd7, %rd8}, [%r7];
	mapa.u64 %rd9, %rd4, %r3;
	mapa.u64 %rd10, %rd5, %r3;
	st.async.mbarrier::complete_tx::bytes.b32 [%rd9+32], %r8, [%rd10];
WAIT:
	mbarrier.try_wait.parity.shared::cta.b64 %p2, [bars], 0, 1000;
	@!%p2 bra WAIT;
	ld.shared.f32 %f2, [slots];
	cvt.rni.u32.f32 %r10, %f2;
	ld.shared.u32 %r11, [slots+4];
	ld.shared.u32 %r12, [slots+8];
	ld.shared.v4.u32 {%r13, %r14, %r15, %r16}, [slots+16];
	ld.shared.u32 %r17, [slots+32];
	mad.lo.u32 %r10, %r10, 10, %r11;
	mad.lo.u32 %r10, %r10, 10, %r12;
	mad.lo.u32 %r10, %r10, 10, %r13;
	mad.lo.u32 %r10, %r10, 10, %r15;
	mad.lo.u32 %r10, %r10, 10, %r17;
	mov.u32 %r21, %ctaid.x;
	mad.lo.u32 %r21, %r21, 64, %r1;
	mul.wide.u32 %rd11, %r21, 4;
	add.s64 %rd1, %rd1, %rd11;
	st.global.u32 [%rd1], %r10;
	ret;
}
";

#[test]
fn other_spellings() {
    for seed in (0..20).map(Some).chain([None]) {
        let out = run(Checks::ALL, seed, SPELLINGS, "k", 2, true);
        let out = out.unwrap_or_else(|fault| panic!("seed {seed:?}: {fault}"));
        // Float, the sender's rank plus one, the three of 64 bits, and the rank again.
        assert_eq!(
            [&out[..64], &out[64..]],
            [&[225_572; 64], &[215_571; 64]],
            "seed {seed:?}"
        );
    }
}

/// They count as stores to shared memory, and time in the class of barriers.
#[test]
fn counters() {
    let (gpu, module) = load(ptx!("mbarrier_slot_sent_again"), Settings::default());
    let config = LaunchConfig {
        grid: [2, 1, 1],
        block: [64, 1, 1],
        dynamic_shared: 0,
    };
    let kernel = module.kernel("right").unwrap();
    let counters = gpu.launch(&kernel, &config, &0u64.to_le_bytes()).unwrap();
    // A block, in each of six turns: a request to either block, and two loads by either warp.
    assert_eq!(counters.shared_requests, 2 * 6 * (2 + 2 * 2));
    assert_eq!(counters.shared_bank_conflicts, 0);
}

#[test]
fn older_versions_and_targets_have_none() {
    let gpu = Gpu::with_settings(Model::h100(), Settings::default());
    let kernel = |version: &str, target: &str, instruction: &str| {
        let text = format!(
            ".version {version}\n.target {target}\n.address_size 64\n.shared .align 8 .b8 b[16];\n.visible .entry k()\n\
             {{\n.reg .pred %p<2>;\n.reg .b64 %rd<2>;\n.reg .b32 %r<2>;\n{instruction}\nret;\n}}\n"
        );
        Module::load(text.as_bytes(), &gpu).map(|_| ())
    };
    for (instruction, [before, since], target) in [
        ("mbarrier.init.shared.b64 [b], 1;", ["6.5", "7.0"], "sm_80"),
        (
            "mbarrier.test_wait.parity.shared.b64 %p1, [b], 0;",
            ["7.0", "7.1"],
            "sm_80",
        ),
        (
            "mbarrier.arrive.release.cta.shared.b64 %rd1, [b];",
            ["7.8", "8.0"],
            "sm_80",
        ),
        (
            "mbarrier.arrive.relaxed.cta.shared.b64 %rd1, [b];",
            ["8.5", "8.6"],
            "sm_90",
        ),
        (
            "mbarrier.arrive.shared.b64 %rd1, [b], 2;",
            ["7.7", "7.8"],
            "sm_90",
        ),
        (
            "mbarrier.try_wait.parity.shared.b64 %p1, [b], 0;",
            ["7.7", "7.8"],
            "sm_90",
        ),
        (
            "mbarrier.arrive.expect_tx.shared.b64 _, [b], 4;",
            ["7.8", "8.0"],
            "sm_90",
        ),
        (
            "fence.mbarrier_init.release.cluster;",
            ["7.8", "8.0"],
            "sm_90",
        ),
        (
            "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [%r1], %r1, [%r1];",
            ["8.0", "8.1"],
            "sm_90",
        ),
    ] {
        if let Err(error) = kernel(since, target, instruction) {
            panic!("{error}");
        }
        let older = if target == "sm_90" { "sm_80" } else { "sm_75" };
        for (version, target_of_text) in [(before, target), (since, older)] {
            let error = kernel(version, target_of_text, instruction).unwrap_err();
            let words = format!("needs PTX {since} and target {target} or later");
            assert!(error.to_string().contains(&words), "{error}");
        }
    }
}
