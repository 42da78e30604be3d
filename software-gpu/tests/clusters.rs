//! Clusters: what a kernel sees of them, how large they may be, and each check that finds a mistake with them.
//!
//! `checks/cluster_*.ptx` hold two kernels each, `wrong` and `right`, which differ in just one way.

use software_gpu::{Checks, Fault, FaultKind, Gpu, Kernel, LaunchConfig, Model, Module, Settings};
use std::sync::Arc;

fn gpu(checks: Checks, seed: Option<u64>) -> Gpu {
    let mut settings = Settings::default();
    settings.checks = checks;
    settings.seed = seed;
    settings.block_instructions = 100_000;
    Gpu::with_settings(Model::h100(), settings)
}

fn kernel(gpu: &Gpu, text: &str, name: &str) -> Arc<Kernel> {
    match Module::load(text.as_bytes(), gpu) {
        Ok(module) => module.kernel(name).unwrap(),
        Err(error) => panic!("{error}"),
    }
}

fn config(blocks: u32) -> LaunchConfig {
    LaunchConfig {
        grid: [blocks, 1, 1],
        block: [32, 1, 1],
        dynamic_shared: 0,
    }
}

fn launch(checks: Checks, seed: Option<u64>, text: &str, name: &str) -> Result<(), Box<Fault>> {
    let gpu = gpu(checks, seed);
    let kernel = kernel(&gpu, text, name);
    let launched = gpu.launch(&kernel, &config(4), &0u64.to_le_bytes());
    launched.map(|_| ()).map_err(Box::new)
}

/// Runs both kernels of a file, in order and under seeds: `wrong` gives the fault at the instruction, `right`
/// none. Which thread has it depends on the order.
fn check(text: &str, kind: FaultKind, instruction: &str) -> Box<Fault> {
    for seed in 0..20 {
        if let Err(fault) = launch(Checks::ALL, Some(seed), text, "right") {
            panic!("the right kernel, seed {seed}: {fault}");
        }
        let fault = launch(Checks::ALL, Some(seed), text, "wrong");
        let fault = fault.expect_err("the wrong kernel passed");
        assert_eq!(fault.kind, kind, "seed {seed}: {fault}");
    }
    if let Err(fault) = launch(Checks::ALL, None, text, "right") {
        panic!("the right kernel: {fault}");
    }
    let fault = launch(Checks::ALL, None, text, "wrong").expect_err("the wrong kernel passed");
    assert_eq!(fault.kind, kind, "{fault}");
    assert!(fault.site.text.contains(instruction), "{fault}");
    fault
}

macro_rules! ptx {
    ($name:literal) => {
        include_str!(concat!("checks/", $name, ".ptx"))
    };
}

#[test]
fn a_block_that_has_exited() {
    let text = ptx!("cluster_exited");
    let fault = check(text, FaultKind::AbsentBlock, "ld.shared::cluster");
    assert_eq!(fault.kind.cuda_error(), 719);
}

#[test]
fn a_block_that_may_not_have_started() {
    let text = ptx!("cluster_not_started");
    let fault = check(text, FaultKind::AbsentBlock, "st.shared::cluster");
    assert!(fault.detail.contains("may not have started"), "{fault}");
}

#[test]
fn a_race_across_the_cluster() {
    let fault = check(ptx!("cluster_race"), FaultKind::SharedRace, "shared");
    let other = fault.other.unwrap();
    assert!(other.text.contains("shared"), "{other}");
    assert_eq!(fault.site.block[0] ^ other.block[0], 1, "both are named");
}

#[test]
fn a_race_of_a_read_across_the_cluster() {
    let fault = check(ptx!("cluster_race_read"), FaultKind::SharedRace, "shared");
    assert_eq!(fault.site.block[0] ^ fault.other.unwrap().block[0], 1);
}

#[test]
fn an_arrival_that_releases_nothing() {
    check(ptx!("cluster_relaxed"), FaultKind::SharedRace, "shared");
}

#[test]
fn an_access_between_the_halves_of_a_barrier() {
    check(ptx!("cluster_halves"), FaultKind::SharedRace, "shared");
}

#[test]
fn a_barrier_that_a_block_does_not_reach() {
    let text = ptx!("cluster_barrier_not_reached");
    let fault = check(text, FaultKind::BarrierDivergence, "barrier.cluster");
    assert!(fault.detail.contains("1 of 2 warps"), "{fault}");
    launch(Checks::OFF, None, text, "wrong").unwrap();
}

#[test]
fn a_barrier_in_halves_that_do_not_alternate() {
    let twice = ptx!("cluster_barrier_twice");
    check(twice, FaultKind::BarrierDivergence, "arrive.release");
    let alone = ptx!("cluster_wait_alone");
    check(alone, FaultKind::BarrierDivergence, "wait.aligned");
}

#[test]
fn a_barrier_in_a_branch() {
    let text = ptx!("cluster_in_a_branch");
    check(text, FaultKind::BarrierDivergence, "arrive.aligned");
}

#[test]
fn addresses_that_are_in_no_block() {
    check(ptx!("cluster_rank"), FaultKind::IllegalInstruction, "mapa");
    let text = ptx!("cluster_out_of_bounds");
    let fault = check(text, FaultKind::OutOfBounds, "st.shared::cluster");
    assert_eq!(fault.address, Some(128));
    check(
        ptx!("cluster_own_window"),
        FaultKind::OutOfBounds,
        "ld.shared.u32",
    );
}

/// Block b of 8 writes to `p[b]` what it sees; clusters of (2, 1, 1) or as the launch says.
const SEEN: &str = "
.version 8.0
.target sm_90
.address_size 64
.shared .align 16 .b8 words[16];
.visible .entry seen(.param .u64 p)
{
	.reg .pred %p<4>;
	.reg .b32 %r<24>;
	.reg .b64 %rd<8>;
	mov.u32 %r1, %cluster_ctarank;
	mov.u32 %r2, %cluster_nctarank;
	mov.u32 %r3, %clusterid.x;
	mov.u32 %r4, %nclusterid.x;
	mov.u32 %r5, %cluster_ctaid.x;
	mov.u32 %r6, %cluster_nctaid.x;
	shl.b32 %r7, %r1, 20;
	shl.b32 %r8, %r2, 16;
	shl.b32 %r9, %r3, 12;
	shl.b32 %r10, %r4, 8;
	shl.b32 %r11, %r5, 4;
	or.b32 %r12, %r7, %r8;
	or.b32 %r12, %r12, %r9;
	or.b32 %r12, %r12, %r10;
	or.b32 %r12, %r12, %r11;
	or.b32 %r12, %r12, %r6;
	mov.u32 %r13, words;
	mov.u32 %r18, %tid.x;
	setp.ne.u32 %p1, %r18, 0;
	@!%p1 st.shared.u32 [%r13], %r12;
	barrier.cluster.arrive.release.aligned;
	barrier.cluster.wait.acquire.aligned;
	add.s32 %r14, %r1, 1;
	rem.u32 %r14, %r14, %r2;
	cvt.u64.u32 %rd1, %r13;
	cvta.shared.u64 %rd1, %rd1;
	mapa.u64 %rd2, %rd1, %r14;
	ld.u32 %r15, [%rd2];
	getctarank.u64 %r16, %rd2;
	barrier.cluster.arrive.aligned;
	barrier.cluster.wait.aligned;
	shl.b32 %r16, %r16, 24;
	or.b32 %r15, %r15, %r16;
	ld.param.u64 %rd3, [p];
	mov.u32 %r17, %ctaid.x;
	mul.wide.u32 %rd4, %r17, 4;
	add.s64 %rd3, %rd3, %rd4;
	@!%p1 st.global.u32 [%rd3], %r15;
	ret;
}
";

#[test]
fn a_block_sees_its_place_and_its_neighbour() {
    for seed in [None, Some(1), Some(2)] {
        let gpu = gpu(Checks::ALL, seed);
        let kernel = kernel(&gpu, SEEN, "seen");
        for size in [1, 2, 4, 8] {
            let out = gpu.alloc(32).unwrap();
            let params = out.to_le_bytes();
            let launched = gpu.launch_clusters(&kernel, &config(8), [size, 1, 1], &params);
            launched.unwrap();
            let mut bytes = [0; 32];
            gpu.read(out, &mut bytes).unwrap();
            for (block, word) in bytes.chunks_exact(4).enumerate() {
                let block = block as u32;
                let neighbour = (block % size + 1) % size;
                let expected = neighbour << 24
                    | neighbour << 20
                    | size << 16
                    | (block / size) << 12
                    | (8 / size) << 8
                    | neighbour << 4
                    | size;
                let got = u32::from_le_bytes(word.try_into().unwrap());
                assert_eq!(got, expected, "cluster of {size}, block {block}: {got:#x}");
            }
        }
    }
}

#[test]
fn sizes_that_cannot_be() {
    let gpu = gpu(Checks::ALL, None);
    let out = gpu.alloc(64).unwrap().to_le_bytes();
    let free = kernel(&gpu, SEEN, "seen");
    let fixed = SEEN.replace(
        "(.param .u64 p)",
        "(.param .u64 p) .reqnctapercluster 2, 1, 1",
    );
    let fixed = kernel(&gpu, &fixed, "seen");
    let open = SEEN.replace("(.param .u64 p)", "(.param .u64 p) .explicitcluster");
    let open = kernel(&gpu, &open, "seen");
    assert_eq!(fixed.required_cluster(), Some([2, 1, 1]));
    for (kernel, blocks, cluster, kind, code) in [
        (&free, 9, Some(2), FaultKind::InvalidLaunch, 1),
        (&free, 16, Some(16), FaultKind::ClusterSize, 912),
        (&free, 8, Some(0), FaultKind::ClusterSize, 912),
        (&fixed, 8, Some(4), FaultKind::ClusterSize, 912),
        (&fixed, 7, None, FaultKind::InvalidLaunch, 1),
        (&open, 8, None, FaultKind::ClusterSize, 912),
    ] {
        let launched = match cluster {
            None => gpu.launch(kernel, &config(blocks), &out),
            Some(size) => gpu.launch_clusters(kernel, &config(blocks), [size, 1, 1], &out),
        };
        let fault = launched.unwrap_err();
        assert_eq!(
            (fault.kind, fault.kind.cuda_error()),
            (kind, code),
            "{fault}"
        );
        assert!(!fault.kind.is_sticky());
    }
    gpu.launch(&fixed, &config(8), &out).unwrap();
    free.allow_non_portable_cluster(true);
    gpu.launch_clusters(&free, &config(16), [16, 1, 1], &out)
        .unwrap();
    let fault = gpu
        .launch_clusters(&free, &config(32), [32, 1, 1], &out)
        .unwrap_err();
    assert_eq!(fault.kind, FaultKind::ClusterSize);
}

#[test]
fn clusters_have_three_dimensions() {
    let gpu = gpu(Checks::ALL, Some(3));
    let kernel = kernel(&gpu, SEEN, "seen");
    let out = gpu.alloc(32).unwrap();
    let grid = LaunchConfig {
        grid: [2, 2, 2],
        ..config(1)
    };
    // Blocks of one x write the same word with the same neighbour's place: of different clusters, a race.
    let fault = gpu
        .launch_clusters(&kernel, &grid, [2, 2, 1], &out.to_le_bytes())
        .unwrap_err();
    assert_eq!(fault.kind, FaultKind::GlobalRace, "{fault}");
}

#[test]
fn older_devices_and_targets_have_none() {
    let a100 = Gpu::with_settings(Model::a100(), Settings::default());
    assert!(Module::load(SEEN.as_bytes(), &a100).is_err());
    let h100 = gpu(Checks::ALL, None);
    let old = SEEN.replace("sm_90", "sm_80");
    let error = match Module::load(old.as_bytes(), &h100) {
        Ok(_) => panic!("loaded for sm_80"),
        Err(error) => error.to_string(),
    };
    assert!(error.contains("`mapa.u64` needs PTX 7.8"), "{error}");
    assert!(error.contains("a register of the cluster needs"), "{error}");
    // A launch in clusters of a kernel that knows of none.
    let plain =
        ".version 7.4\n.target sm_80\n.address_size 64\n.visible .entry k()\n{\n\tret;\n}\n";
    let k = kernel(&a100, plain, "k");
    let fault = a100
        .launch_clusters(&k, &config(2), [2, 1, 1], &[])
        .unwrap_err();
    assert_eq!(fault.kind, FaultKind::InvalidLaunch);
    let k = kernel(&h100, plain, "k");
    h100.launch_clusters(&k, &config(2), [2, 1, 1], &[])
        .unwrap();
}
