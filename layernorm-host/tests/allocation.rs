//! A launch allocates no host memory: an allocator that counts says so.
//!
//! On the software GPU the driver's own call allocates, since it runs the kernel. What is held against zero is
//! what the library adds: a launch through it, less the same kernel with the same parameters straight to the
//! driver.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::{CString, c_void};
use std::ptr;

use cust::sys;
use layernorm_host::plan;
use layernorm_host::{
    BackwardPointers, DType, Device, ForwardPointers, Image, Launcher, Problem, Result, Tensor,
};

thread_local! {
    /// Allocations of this thread.
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: it is the system's allocator, and a counter that allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's; the memory came from `System`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of a call, the fewest of several: the emulation's workers are not always equally lucky.
fn allocations(mut call: impl FnMut()) -> usize {
    call();
    let counts = (0..50).map(|_| {
        let before = COUNT.get();
        call();
        COUNT.get() - before
    });
    counts.min().unwrap_or(usize::MAX)
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
    assert_eq!(allocations(|| {}), 0);
}

#[test]
fn planning_and_parameters_allocate_nothing() -> Result<()> {
    let device = Device::software(0)?;
    let launcher = Launcher::new(&device)?;
    let problem = Problem::new(5, 1024, DType::F32, DType::F32, 1e-5)?;
    let workspace_bytes = launcher.workspace_bytes(&problem);
    let pointers = BackwardPointers {
        dy: 1 << 20,
        x: 2 << 20,
        mean: 3 << 20,
        rstd: 4 << 20,
        dx: 5 << 20,
        dweight: 6 << 20,
        workspace: 7 << 20,
        workspace_bytes,
        ..BackwardPointers::default()
    };
    let count = allocations(|| drop(pointers.launches(&problem, launcher.limits()).map(|_| ())));
    assert_eq!(count, 0);
    Ok(())
}

#[test]
fn a_launch_allocates_no_more_than_the_driver_does() -> Result<()> {
    let device = Device::software(0)?;
    let launcher = Launcher::new(&device)?;
    let problem = Problem::new(1, 64, DType::F32, DType::F32, 1e-5)?;
    launcher.prepare(&problem)?;
    let x = Tensor::ones(DType::F32, &[1, 64], &device)?;
    let y = Tensor::zeros(DType::F32, &[1, 64], &device)?;
    let address = |tensor: &Tensor| tensor.device_address().unwrap();
    let pointers = ForwardPointers {
        x: address(&x),
        y: address(&y),
        ..ForwardPointers::default()
    };
    device.synchronize()?;
    let stream = device.stream().unwrap();
    let through_the_library = allocations(|| {
        // SAFETY: x and y are this device's, of the problem's shape, and outlive the work.
        unsafe { launcher.launch_forward(stream, &pointers, &problem) }.unwrap();
    });

    let args = pointers.args(&problem)?;
    let launch = plan::forward(&problem, &args, launcher.limits())?.unwrap();
    let name = launch.entry.to_string();
    let image = Image::with_kernel(&name, device.compute_capability().unwrap()).unwrap();
    let text = CString::new(image.kernel(&name).unwrap()).unwrap();
    let entry = CString::new(name).unwrap();
    let _context =
        cust::context::Context::new(cust::device::Device::get_device(0).unwrap()).unwrap();
    let (mut module, mut function) = (ptr::null_mut(), ptr::null_mut());
    let ok = sys::cudaError_enum::CUDA_SUCCESS;
    // SAFETY: the text is a module that ends in a zero, and the names are written where they are told.
    unsafe {
        assert_eq!(sys::cuModuleLoadData(&mut module, text.as_ptr().cast()), ok);
        assert_eq!(
            sys::cuModuleGetFunction(&mut function, module, entry.as_ptr()),
            ok
        );
    }
    let straight = allocations(|| {
        let mut parameters = args.pointers().map(<*const c_void>::cast_mut);
        // SAFETY: the parameters are the kernel's, by the same arguments as above.
        let result = unsafe {
            sys::cuLaunchKernel(
                function,
                launch.grid,
                launch.grid_y,
                1,
                launch.block,
                1,
                1,
                launch.shared_bytes,
                stream.cast(),
                parameters.as_mut_ptr(),
                ptr::null_mut(),
            )
        };
        assert_eq!(result, ok);
    });
    assert_eq!(
        y.to_vec::<f32>()?,
        [0.0; 64],
        "ones are normalised to zeros"
    );
    assert_eq!(through_the_library, straight);
    Ok(())
}
