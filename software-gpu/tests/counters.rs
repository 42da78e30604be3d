//! The counters of a launch, on a kernel whose every number can be told from its text.

use software_gpu::{
    Checks, Counters, Gpu, InstructionClass, LaunchConfig, Model, Module, Settings,
};

/// Each lane loads 16 bytes twice, uses the second and then the first, and loads words that lie 64 bytes
/// apart; it stores to shared memory with a stride of two words, branches by its parity, and stores 4
/// bytes to global memory. Two warps.
const KERNEL: &str = "
.version 8.0
.target sm_90
.address_size 64
.shared .align 16 .b8 words[512];
.visible .entry k(.param .u64 from, .param .u64 to)
{
	.reg .pred %odd;
	.reg .b32 %t, %s, %a<4>, %b<4>, %c;
	.reg .b64 %from, %to, %by;
	ld.param.u64 %from, [from];
	ld.param.u64 %to, [to];
	mov.u32 %t, %tid.x;
	mul.wide.u32 %by, %t, 16;
	add.s64 %by, %by, %from;
	ld.global.v4.u32 {%a0, %a1, %a2, %a3}, [%by];
	ld.global.v4.u32 {%b0, %b1, %b2, %b3}, [%by+1024];
	add.u32 %b0, %b0, %b1;
	add.u32 %a0, %a0, %a1;
	mul.wide.u32 %by, %t, 64;
	add.s64 %by, %by, %from;
	ld.global.u32 %c, [%by];
	add.u32 %c, %c, %a0;
	add.u32 %c, %c, %b0;
	mov.u32 %s, words;
	mad.lo.u32 %s, %t, 8, %s;
	st.shared.u32 [%s], %c;
	bar.sync 0;
	and.b32 %s, %t, 1;
	setp.eq.u32 %odd, %s, 1;
	@%odd bra JOIN;
	add.u32 %c, %c, 1;
JOIN:
	mul.wide.u32 %by, %t, 4;
	add.s64 %by, %by, %to;
	st.global.u32 [%by], %c;
	ret;
}
";

fn counters(checks: Checks, seed: Option<u64>) -> Counters {
    let mut settings = Settings::default();
    settings.checks = checks;
    settings.seed = seed;
    let gpu = Gpu::with_settings(Model::h100(), settings);
    let module = Module::load(KERNEL.as_bytes(), &gpu).unwrap();
    let (from, to) = (gpu.alloc(4096).unwrap(), gpu.alloc(256).unwrap());
    gpu.fill(from, &[1], 4096).unwrap();
    let config = LaunchConfig {
        grid: [1; 3],
        block: [64, 1, 1],
        dynamic_shared: 0,
    };
    let params = [from.to_le_bytes(), to.to_le_bytes()].concat();
    gpu.launch(&module.kernel("k").unwrap(), &config, &params)
        .unwrap()
}

#[test]
fn every_counter_is_what_the_text_says() {
    for seed in [None, Some(1), Some(2)] {
        let counters = counters(Checks::ALL, seed);
        // Of each warp: two loads of 512 bytes, and one of 32 sectors.
        assert_eq!(
            (counters.global_load_requests, counters.global_load_sectors),
            (6, 2 * (16 + 16 + 32))
        );
        assert_eq!(
            (
                counters.global_store_requests,
                counters.global_store_sectors
            ),
            (2, 2 * 4)
        );
        // The scattered words beyond the 2048 bytes that the two loads read.
        assert_eq!(counters.unique_bytes_read, Some(2048 + 32 * 4));
        assert_eq!(counters.unique_bytes_written, Some(256));
        // Words two apart: 32 of them are two rounds.
        assert_eq!(
            (counters.shared_requests, counters.shared_bank_conflicts),
            (2, 2)
        );
        assert_eq!((counters.divergent_branches, counters.barriers), (2, 2));
        // Both loads are under way at the first use. It needs the later one, and by then both have come.
        assert_eq!(
            (
                counters.loading_warps,
                counters.bytes_in_flight_before_first_use
            ),
            (2, 2 * 1024)
        );
        assert_eq!(
            (counters.load_waits, counters.bytes_in_flight_at_waits),
            (4, 2 * (1024 + 32 * 32))
        );
        assert_eq!(counters.most_bytes_in_flight, 1024);
        let class = |class: InstructionClass| counters.by_class[class as usize];
        assert_eq!(class(InstructionClass::Memory), 64 * 5);
        assert_eq!(class(InstructionClass::Barrier), 64);
        assert_eq!(class(InstructionClass::Predicate), 64);
        // The branch of the odd lanes, and the return.
        assert_eq!(class(InstructionClass::Control), 32 + 64);
        // Three products of addresses and three sums, four sums of words, mad, and: half of the lanes jump
        // over one more.
        assert_eq!(class(InstructionClass::Integer), 64 * 12 + 32);
    }
}

#[test]
fn what_costs_time_is_only_counted_when_asked_for() {
    let all = counters(Checks::ALL, None);
    let off = counters(Checks::OFF, None);
    assert_eq!(off.lane_instructions, all.lane_instructions);
    assert_eq!(off.by_class, all.by_class);
    assert_eq!(off.global_load_requests, 0);
    assert_eq!(off.load_waits, 0);
    assert_eq!(off.unique_bytes_read, None);
}

/// Asynchronous copies are requests, and are under way until they are waited for.
#[test]
fn asynchronous_copies_are_in_flight_until_their_wait() {
    let text = "
.version 8.0
.target sm_90
.address_size 64
.shared .align 16 .b8 stage[2048];
.visible .entry k(.param .u64 from)
{
	.reg .b32 %t, %s;
	.reg .b64 %from, %by;
	ld.param.u64 %from, [from];
	mov.u32 %t, %tid.x;
	mov.u32 %s, stage;
	mad.lo.u32 %s, %t, 16, %s;
	mul.wide.u32 %by, %t, 16;
	add.s64 %by, %by, %from;
	cp.async.cg.shared.global [%s], [%by], 16;
	cp.async.commit_group;
	cp.async.cg.shared.global [%s+512], [%by+512], 16;
	cp.async.commit_group;
	cp.async.wait_group 1;
	cp.async.cg.shared.global [%s+1024], [%by+1024], 16;
	cp.async.commit_group;
	cp.async.wait_group 0;
	ret;
}
";
    let gpu = Gpu::with_checks(Model::h100(), Checks::ALL);
    let module = Module::load(text.as_bytes(), &gpu).unwrap();
    let from = gpu.alloc(2048).unwrap();
    gpu.fill(from, &[1], 2048).unwrap();
    let config = LaunchConfig {
        grid: [1; 3],
        block: [32, 1, 1],
        dynamic_shared: 0,
    };
    let counters = gpu
        .launch(&module.kernel("k").unwrap(), &config, &from.to_le_bytes())
        .unwrap();
    assert_eq!(
        (counters.global_load_requests, counters.global_load_sectors),
        (3, 48)
    );
    assert_eq!(counters.unique_bytes_read, Some(1536));
    assert_eq!(counters.bytes_in_flight_before_first_use, 1024);
    assert_eq!(
        (counters.load_waits, counters.bytes_in_flight_at_waits),
        (2, 1024 + 1024)
    );
    assert_eq!(counters.shared_requests, 3);
}

/// A warp's accesses of 8 bytes take two rounds and of 16 bytes four: only what comes on top is a conflict.
#[test]
fn a_conflict_is_a_round_beyond_the_least() {
    for (access, value, stride, conflicts) in [
        ("b32", "%w0", 4, 0),
        // All lanes at one word, or at parts of it.
        ("b32", "%w0", 0, 0),
        ("b32", "%w0", 8, 1),
        ("b32", "%w0", 32, 7),
        ("b32", "%w0", 128, 31),
        // One more than a multiple of the banks: the usual cure.
        ("b32", "%w0", 132, 0),
        ("v2.b32", "{%w0, %w1}", 8, 0),
        // Halves of the warp, in each of which two meet.
        ("v2.b32", "{%w0, %w1}", 16, 2),
        ("v4.b32", "{%w0, %w1, %w2, %w3}", 16, 0),
        ("v4.b32", "{%w0, %w1, %w2, %w3}", 0, 0),
        // Quarters of the warp: lanes 0 and 4 meet, 1 and 5, ...
        ("v4.b32", "{%w0, %w1, %w2, %w3}", 32, 4),
        ("v4.b32", "{%w0, %w1, %w2, %w3}", 128, 4 * 7),
        ("v4.b32", "{%w0, %w1, %w2, %w3}", 144, 0),
    ] {
        let text = format!(
            "
.version 8.0
.target sm_90
.address_size 64
.shared .align 16 .b8 words[8192];
.visible .entry k()
{{
	.reg .b32 %t, %s, %w<4>;
	mov.u32 %t, %tid.x;
	mov.u32 %s, words;
	mad.lo.u32 %s, %t, {stride}, %s;
	mov.u32 %w0, 1;
	mov.u32 %w1, 1;
	mov.u32 %w2, 1;
	mov.u32 %w3, 1;
	st.shared.{access} [%s], {value};
	ld.shared.{access} {value}, [%s];
	ret;
}}
"
        );
        // All lanes write one word in some: a race that nobody reads.
        let mut checks = Checks::ALL;
        checks.shared_races = false;
        let gpu = Gpu::with_checks(Model::h100(), checks);
        let module = Module::load(text.as_bytes(), &gpu).unwrap();
        let config = LaunchConfig {
            grid: [1; 3],
            block: [32, 1, 1],
            dynamic_shared: 0,
        };
        let counters = gpu
            .launch(&module.kernel("k").unwrap(), &config, &[])
            .unwrap();
        assert_eq!(
            (counters.shared_requests, counters.shared_bank_conflicts),
            (2, 2 * conflicts),
            "{access} {stride} bytes apart"
        );
    }
}
