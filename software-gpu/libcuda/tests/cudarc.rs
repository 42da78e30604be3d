//! cudarc, which loads the driver at run time, runs on the software device unchanged: it finds the
//! library under its usual name and knows nothing of what is behind it.

mod child;

use std::sync::Arc;

use child::on_the_software_device;
use cudarc::driver::sys::{self, CUdevice_attribute, CUevent_flags, cudaError_enum};
use cudarc::driver::{
    CudaContext, CudaFunction, CudaSlice, CudaStream, DevicePtr, LaunchConfig, PushKernelArg,
};
use cudarc::nvrtc::Ptx;
use layernorm_host::plan::{self, Limits, memory_rate};
use layernorm_host::{DType, ForwardPointers, Image, Problem};

const KERNELS: &str = include_str!("../../../cuda-driver/tests/ptx/kernels.ptx");
#[test]
fn devices_are_found_and_asked() {
    let variables = [("SOFTWARE_GPU_MODEL", "a100,t4")];
    on_the_software_device("devices_are_found_and_asked", &variables, || {
        let contexts = [0, 1].map(|ordinal| CudaContext::new(ordinal).unwrap());
        assert_eq!(CudaContext::device_count(), Ok(2));
        let capability = contexts.each_ref().map(|c| c.compute_capability().unwrap());
        assert_eq!(capability, [(8, 0), (7, 5)]);
        assert_eq!(contexts[1].name().unwrap(), "Software GPU (T4)");
        assert_ne!(
            contexts[0].uuid().unwrap().bytes,
            contexts[1].uuid().unwrap().bytes
        );
        let warp = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_WARP_SIZE;
        assert_eq!(contexts[0].attribute(warp), Ok(32));
        let (free, total) = contexts[0].mem_get_info().unwrap();
        assert!(free <= total && total == contexts[0].total_mem().unwrap());
        let absent = CudaContext::new(2).unwrap_err();
        assert_eq!(absent.0, cudaError_enum::CUDA_ERROR_INVALID_DEVICE);
    });
}

#[test]
fn memory_is_allocated_set_and_copied() {
    on_the_software_device("memory_is_allocated_set_and_copied", &[], || {
        let context = CudaContext::new(0).unwrap();
        let stream = context.default_stream();
        assert!(context.has_async_alloc());
        let mut zeros: CudaSlice<u16> = stream.alloc_zeros(333).unwrap();
        assert_eq!(stream.clone_dtoh(&zeros).unwrap(), vec![0; 333]);
        let data: Vec<u16> = (0..333).collect();
        let there = stream.clone_htod(&data).unwrap();
        stream.memcpy_dtod(&there, &mut zeros).unwrap();
        assert_eq!(stream.clone_dtoh(&zeros).unwrap(), data);
        let view = zeros.slice(100..200);
        assert_eq!(stream.clone_dtoh(&view).unwrap(), data[100..200]);
        // SAFETY: written before it is read.
        let mut pinned = unsafe { context.alloc_pinned::<u16>(333) }.unwrap();
        stream.memcpy_dtoh(&zeros, &mut pinned).unwrap();
        assert_eq!(pinned.as_slice().unwrap(), data);
    });
}

fn add(stream: &Arc<CudaStream>, add: &CudaFunction, x: &CudaSlice<f32>, z: &mut CudaSlice<f32>) {
    let n = x.len() as u32;
    let mut builder = stream.launch_builder(add);
    builder.arg(x).arg(x).arg(z).arg(&n);
    // SAFETY: the parameters are the kernel's, and the buffers have n elements.
    unsafe { builder.launch(LaunchConfig::for_num_elems(n)) }.unwrap();
}

#[test]
fn kernels_run_on_two_streams_between_events() {
    let name = "kernels_run_on_two_streams_between_events";
    on_the_software_device(name, &[], || {
        let context = CudaContext::new(0).unwrap();
        let module = context.load_module(Ptx::from_src(KERNELS)).unwrap();
        let kernel = module.load_function("vector_add").unwrap();
        assert_eq!(kernel.max_threads_per_block(), Ok(1024));
        let one = context.new_stream().unwrap();
        let two = one.fork().unwrap();
        let timed = Some(CUevent_flags::CU_EVENT_DEFAULT);
        let start = one.record_event(timed).unwrap();

        let host: Vec<f32> = (0..5000).map(|i| i as f32).collect();
        let x = one.clone_htod(&host).unwrap();
        let mut doubled = one.alloc_zeros(host.len()).unwrap();
        add(&one, &kernel, &x, &mut doubled);
        let end = one.record_event(timed).unwrap();
        two.wait(&end).unwrap();
        let mut fourfold = two.alloc_zeros(host.len()).unwrap();
        add(&two, &kernel, &doubled, &mut fourfold);
        two.synchronize().unwrap();

        let back = two.clone_dtoh(&fourfold).unwrap();
        assert!(
            back.iter().zip(&host).all(|(b, h)| *b == 4.0 * h),
            "{back:?}"
        );
        assert!(end.is_complete());
        assert!(start.elapsed_ms(&end).unwrap() > 0.0);
        context.synchronize().unwrap();
        assert_eq!(context.check_err(), Ok(()));
    });
}

/// The kernels that ship, planned by the library for what cudarc says of the device, loaded and launched by cudarc.
#[test]
fn the_forward_kernel_that_ships_runs() {
    on_the_software_device("the_forward_kernel_that_ships_runs", &[], || {
        let context = CudaContext::new(0).unwrap();
        let stream = context.new_stream().unwrap();
        let attribute = |attribute| context.attribute(attribute).unwrap() as u32;
        let (major, minor) = context.compute_capability().unwrap();
        let limits = Limits {
            max_grid: attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X),
            max_block: attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK),
            sm_count: attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT),
            max_shared: attribute(
                CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
            ),
            compute_capability: (major as u32, minor as u32),
            memory_rate: memory_rate(
                attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE),
                attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH),
            ),
        };
        let (n_rows, n_cols, eps) = (37_usize, 384_usize, 1e-5_f32);
        let value = |i: usize| ((i * 37 % 101) as f32 - 40.0) * 0.05;
        let x: Vec<f32> = (0..n_rows * n_cols).map(value).collect();
        let weight: Vec<f32> = (0..n_cols).map(|i| 1.0 + value(i)).collect();
        let bias: Vec<f32> = (0..n_cols).map(|i| value(3 * i)).collect();
        let [x_there, weight_there, bias_there] =
            [&x, &weight, &bias].map(|values| stream.clone_htod(values).unwrap());
        let nans = |len| stream.clone_htod(&vec![f32::NAN; len]).unwrap();
        let (mut y, mut mean, mut rstd) = (nans(x.len()), nans(n_rows), nans(n_rows));

        let problem = Problem::new(n_rows, n_cols, DType::F32, DType::F32, eps).unwrap();
        let address = |slice: &CudaSlice<f32>| slice.device_ptr(&stream).0;
        let args = ForwardPointers {
            x: address(&x_there),
            weight: address(&weight_there),
            bias: address(&bias_there),
            y: address(&y),
            mean: address(&mean),
            rstd: address(&rstd),
            ..ForwardPointers::default()
        };
        let args = args.args(&problem).unwrap();
        let launch = plan::forward(&problem, &args, &limits).unwrap().unwrap();
        let name = launch.entry.to_string();
        let image = Image::with_kernel(&name, limits.compute_capability).unwrap();
        let text = image.kernel(&name).unwrap();
        let module = context.load_module(Ptx::from_src(text)).unwrap();
        let kernel = module.load_function(&name).unwrap();

        let config = LaunchConfig {
            grid_dim: (launch.grid, launch.grid_y, 1),
            block_dim: (launch.block, 1, 1),
            shared_mem_bytes: launch.shared_bytes,
        };
        let (absent, rows, columns) = (0_u64, n_rows as u64, n_cols as u64);
        let (columns_again, inv_n) = (n_cols as u32, 1.0 / n_cols as f32);
        let mut builder = stream.launch_builder(&kernel);
        builder.arg(&x_there).arg(&absent);
        builder.arg(&weight_there).arg(&bias_there);
        builder.arg(&mut y).arg(&absent);
        builder.arg(&mut mean).arg(&mut rstd);
        builder.arg(&rows).arg(&columns).arg(&columns);
        builder.arg(&columns_again).arg(&eps).arg(&inv_n);
        // SAFETY: the parameters are a forward kernel's, in the order of docs/ptx-abi.md; the buffers are the problem's.
        unsafe { builder.launch(config) }.unwrap();

        let [y, mean, rstd] = [&y, &mean, &rstd].map(|slice| stream.clone_dtoh(slice).unwrap());
        for (row, values) in x.chunks(n_cols).enumerate() {
            let of_row = |term: &dyn Fn(f64) -> f64| {
                values.iter().map(|v| term(f64::from(*v))).sum::<f64>() / n_cols as f64
            };
            let true_mean = of_row(&|v| v);
            let variance = of_row(&|v| (v - true_mean).powi(2));
            let true_rstd = 1.0 / (variance + f64::from(eps)).sqrt();
            assert!((f64::from(mean[row]) - true_mean).abs() < 1e-6);
            assert!((f64::from(rstd[row]) / true_rstd - 1.0).abs() < 1e-6);
            for (column, v) in values.iter().enumerate() {
                let normalised = (f64::from(*v) - true_mean) * true_rstd;
                let want = normalised * f64::from(weight[column]) + f64::from(bias[column]);
                let got = f64::from(y[row * n_cols + column]);
                assert!(
                    (got - want).abs() < 1e-5,
                    "row {row}, column {column}: {got}, not {want}"
                );
            }
        }
    });
}

#[test]
fn what_fails_fails_as_on_a_real_device() {
    on_the_software_device("what_fails_fails_as_on_a_real_device", &[], || {
        let context = CudaContext::new(0).unwrap();
        let stream = context.default_stream();
        let broken = context.load_module(Ptx::from_src(".version 6.3\n.target sm_75\nnonsense"));
        assert_eq!(
            broken.unwrap_err().0,
            cudaError_enum::CUDA_ERROR_INVALID_PTX
        );
        let module = context.load_module(Ptx::from_src(KERNELS)).unwrap();
        let absent = module.load_function("absent").unwrap_err();
        assert_eq!(absent.0, cudaError_enum::CUDA_ERROR_NOT_FOUND);
        let poke = module.load_function("poke").unwrap();
        let there = stream.alloc_zeros::<u32>(4).unwrap();
        let mut builder = stream.launch_builder(&poke);
        builder.arg(&8_u64).arg(&1_u32);
        // SAFETY: where it writes is what the software device checks.
        let got = unsafe { builder.launch(LaunchConfig::for_num_elems(1)) }.unwrap_err();
        assert_eq!(got.0, cudaError_enum::CUDA_ERROR_ILLEGAL_ADDRESS);
        assert_eq!(
            got.error_name().unwrap().to_str(),
            Ok("CUDA_ERROR_ILLEGAL_ADDRESS")
        );
        let after = stream.clone_dtoh(&there).unwrap_err();
        assert_eq!(after.0, cudaError_enum::CUDA_ERROR_ILLEGAL_ADDRESS);
    });
}

#[test]
fn what_is_not_supported_says_its_name() {
    let name = "what_is_not_supported_says_its_name";
    let said = on_the_software_device(name, &[], || {
        let _context = CudaContext::new(0).unwrap();
        let mut address = 0;
        // SAFETY: the result is writable.
        let got = unsafe { sys::cuMemAllocManaged(&mut address, 16, 1) };
        assert_eq!(got, cudaError_enum::CUDA_ERROR_NOT_SUPPORTED);
    });
    if let Some(said) = said {
        assert!(said.contains("cuMemAllocManaged"), "{said}");
    }
}
