//! What is wrong about memory or a launch, and not about an instruction: memory that was given back, limits of the
//! device and of the kernel, parameters that are missing. `checks/*.ptx` hold two kernels each, `wrong` and `right`.

use software_gpu::{FaultKind, Gpu, LaunchConfig, Model, Module, Settings};

/// One block of 32 threads.
const WARP: LaunchConfig = LaunchConfig {
    grid: [1; 3],
    block: [32, 1, 1],
    dynamic_shared: 0,
};

fn load(gpu: &Gpu, text: &str) -> Module {
    Module::load(text.as_bytes(), gpu).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn use_after_free() {
    let gpu = Gpu::with_settings(Model::h100(), Settings::default());
    let module = load(&gpu, include_str!("checks/use_after_free.ptx"));
    let [living, freed] = [0; 2].map(|_| gpu.alloc(128).unwrap());
    gpu.free(freed).unwrap();
    let params: Vec<u8> = [living, freed]
        .into_iter()
        .flat_map(u64::to_le_bytes)
        .collect();
    let [right, wrong] = ["right", "wrong"].map(|name| module.kernel(name).unwrap());
    gpu.launch(&right, &WARP, &params).unwrap();
    let fault = gpu.launch(&wrong, &WARP, &params).unwrap_err();
    assert_eq!(
        (fault.kind, fault.kind.cuda_error()),
        (FaultKind::UseAfterFree, 700)
    );
    assert_eq!(fault.address, Some(freed), "{fault}");
    assert!(fault.site.text.contains("st.global.u32"), "{fault}");
    let allocation = fault.allocation.unwrap();
    assert!(allocation.freed && allocation.base == freed);
    // Nor is the address given out again.
    assert!((0..100).all(|_| gpu.alloc(128).unwrap() != freed));
}

#[test]
fn double_free() {
    let gpu = Gpu::with_settings(Model::h100(), Settings::default());
    let [kept, buffer] = [0; 2].map(|_| gpu.alloc(128).unwrap());
    gpu.free(buffer).unwrap();
    let error = gpu.free(buffer).unwrap_err().to_string();
    assert!(error.contains("freed allocation 2 of 128 bytes"), "{error}");
    // In the middle of one it is none either, and what was not freed is still there.
    assert!(gpu.free(kept + 4).is_err());
    gpu.free(kept).unwrap();
}

/// What the kernel asks for and the launch does not give.
#[test]
fn kernels_that_a_launch_does_not_suit() {
    for (text, kind, code, part) in [
        (
            include_str!("checks/short_parameters.ptx"),
            FaultKind::ParameterBuffer,
            1,
            "8 bytes of parameters, the kernel has 12",
        ),
        (
            include_str!("checks/block_limit.ptx"),
            FaultKind::OutOfResources,
            701,
            "32 threads, the kernel's `.maxntid` allows 31",
        ),
    ] {
        let gpu = Gpu::with_settings(Model::h100(), Settings::default());
        let module = load(&gpu, text);
        let buffer = gpu.alloc(128).unwrap();
        let params = buffer.to_le_bytes();
        let fault = gpu
            .launch(&module.kernel("wrong").unwrap(), &WARP, &params)
            .unwrap_err();
        assert_eq!(
            (fault.kind, fault.kind.cuda_error()),
            (kind, code),
            "{fault}"
        );
        assert!(
            fault.kernel == "wrong" && fault.detail.contains(part),
            "{fault}"
        );
        // It did not start, and the device goes on.
        let mut got = [0; 128];
        gpu.read(buffer, &mut got).unwrap();
        assert_eq!(got, [0xff; 128], "{part}");
        gpu.launch(&module.kernel("right").unwrap(), &WARP, &params)
            .unwrap();
        gpu.read(buffer, &mut got).unwrap();
        assert_eq!(got[124..], 31u32.to_le_bytes(), "{part}");
    }
}

/// Static shared memory is refused with the module, as ptxas does.
#[test]
fn shared_memory_over_the_limit() {
    let gpu = Gpu::with_settings(Model::h100(), Settings::default());
    let text = include_str!("checks/shared_limit.ptx");
    let error = Module::load(text.as_bytes(), &gpu).err().unwrap();
    let [problem] = &error.problems[..] else {
        panic!("{error}");
    };
    let line = text.lines().nth(problem.line as usize - 1).unwrap();
    assert!(line.contains(".b8 words[49156]"), "{error}");
    for part in ["`words`", "49156", "49152"] {
        assert!(problem.reason.contains(part), "{error}");
    }
    assert_eq!(error.cuda_error(), 218);
    let module = load(&gpu, &text.replace("words[49156]", "words[49152]"));
    let buffer = gpu.alloc(128).unwrap();
    for name in ["wrong", "right"] {
        gpu.launch(&module.kernel(name).unwrap(), &WARP, &buffer.to_le_bytes())
            .unwrap();
    }
}

#[test]
fn a_launch_outside_the_limits() {
    let gpu = Gpu::with_settings(Model::h100(), Settings::default());
    let text = include_str!("checks/trap.ptx").replace(
        "entry right(.param .u64 p)",
        "entry right(.param .u64 p) .maxntid 64, 1, 1",
    );
    let module = load(&gpu, &text);
    let kernel = module.kernel("right").unwrap();
    let good = LaunchConfig {
        grid: [1; 3],
        block: [64, 1, 1],
        dynamic_shared: 0,
    };
    let params = 0u64.to_le_bytes();
    gpu.launch(&kernel, &good, &params).unwrap();
    for (config, params, kind, code) in [
        (
            LaunchConfig {
                grid: [0, 1, 1],
                ..good
            },
            &params[..],
            FaultKind::InvalidLaunch,
            1,
        ),
        (
            LaunchConfig {
                grid: [1, 65536, 1],
                ..good
            },
            &params[..],
            FaultKind::InvalidLaunch,
            1,
        ),
        (
            LaunchConfig {
                block: [1, 1, 65],
                ..good
            },
            &params[..],
            FaultKind::InvalidLaunch,
            1,
        ),
        (
            LaunchConfig {
                block: [1024, 2, 1],
                ..good
            },
            &params[..],
            FaultKind::InvalidLaunch,
            1,
        ),
        (
            LaunchConfig {
                block: [65, 1, 1],
                ..good
            },
            &params[..],
            FaultKind::OutOfResources,
            701,
        ),
        (
            LaunchConfig {
                dynamic_shared: (48 << 10) + 1,
                ..good
            },
            &params[..],
            FaultKind::InvalidLaunch,
            1,
        ),
        (good, &params[..7], FaultKind::ParameterBuffer, 1),
    ] {
        let fault = gpu.launch(&kernel, &config, params).unwrap_err();
        assert_eq!(
            (fault.kind, fault.kind.cuda_error()),
            (kind, code),
            "{fault}"
        );
        assert!(!fault.kind.is_sticky());
    }
    // What the kernel opts in to is allowed, up to what the device has.
    let more = LaunchConfig {
        dynamic_shared: 100 << 10,
        ..good
    };
    kernel.allow_dynamic_shared(100 << 10);
    gpu.launch(&kernel, &more, &params).unwrap();
    kernel.allow_dynamic_shared(u32::MAX);
    assert!(
        gpu.launch(
            &kernel,
            &LaunchConfig {
                dynamic_shared: (227 << 10) + 1,
                ..good
            },
            &params
        )
        .is_err()
    );
}
