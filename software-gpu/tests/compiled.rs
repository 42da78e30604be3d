//! What rustc's NVPTX backend makes of ordinary Rust kernels, run as it came: `ptx/compiled.ptx`.

use software_gpu::{Gpu, LaunchConfig, Model, Module};

fn gpu() -> (Gpu, Module) {
    let gpu = Gpu::new(Model::h100());
    let module = match Module::load(include_bytes!("ptx/compiled.ptx"), &gpu) {
        Ok(module) => module,
        Err(error) => panic!("{error}"),
    };
    (gpu, module)
}

fn launch(gpu: &Gpu, module: &Module, name: &str, grid: u32, block: u32, params: &[&[u8]]) {
    let kernel = module.kernel(name).unwrap();
    let mut buffer = vec![0; kernel.param_bytes() as usize];
    for (param, bytes) in kernel.params().iter().zip(params) {
        buffer[param.offset as usize..][..param.size as usize].copy_from_slice(bytes);
    }
    let config = LaunchConfig {
        grid: [grid, 1, 1],
        block: [block, 1, 1],
        dynamic_shared: 0,
    };
    if let Err(fault) = gpu.launch(&kernel, &config, &buffer) {
        panic!("{fault}");
    }
}

fn upload<T: Copy, const N: usize>(gpu: &Gpu, values: &[T], bytes: impl Fn(T) -> [u8; N]) -> u64 {
    let data: Vec<u8> = values.iter().flat_map(|v| bytes(*v)).collect();
    let at = gpu.alloc(data.len() as u64).unwrap();
    gpu.write(at, &data).unwrap();
    at
}

fn download<T, const N: usize>(
    gpu: &Gpu,
    at: u64,
    count: usize,
    of: impl Fn([u8; N]) -> T,
) -> Vec<T> {
    let mut data = vec![0; count * N];
    gpu.read(at, &mut data).unwrap();
    data.as_chunks::<N>()
        .0
        .iter()
        .map(|chunk| of(*chunk))
        .collect()
}

/// A sum over a row by shuffles and shared memory, for widths that are no multiple of the block.
#[test]
fn a_block_sums_a_row() {
    let (gpu, module) = gpu();
    for (n, rows, block) in [
        (1u32, 3u32, 32u32),
        (100, 5, 64),
        (1000, 7, 256),
        (4097, 2, 1024),
    ] {
        let x: Vec<f32> = (0..n * rows).map(|i| (i % 17) as f32 - 3.0).collect();
        let (px, py) = (
            upload(&gpu, &x, f32::to_le_bytes),
            gpu.alloc(4 * u64::from(rows)).unwrap(),
        );
        let params = [
            &px.to_le_bytes()[..],
            &py.to_le_bytes(),
            &n.to_le_bytes(),
            &0.5f32.to_le_bytes(),
        ];
        launch(&gpu, &module, "sum_f32", rows, block, &params);
        let y = download(&gpu, py, rows as usize, f32::from_le_bytes);
        for (row, y) in x.chunks(n as usize).zip(y) {
            // Small whole numbers: every order of summation is exact.
            let sum: f32 = row.iter().sum();
            let expected =
                f64::from(sum) / (f64::from(sum) * f64::from(sum) + 0.5).sqrt() / f64::from(n);
            assert!(
                (f64::from(y) - expected).abs() < 1e-6,
                "{y} is not {expected}"
            );
        }
    }
}

#[test]
fn f16_and_f64_arithmetic_is_that_of_the_host() {
    let (gpu, module) = gpu();
    let n = 100usize;
    let x: Vec<half::f16> = (0..n)
        .map(|i| half::f16::from_f32(i as f32 * 0.37 - 9.0))
        .collect();
    let z: Vec<f64> = (0..n).map(|i| i as f64 * 1.1 - 20.0).collect();
    let px = upload(&gpu, &x, half::f16::to_le_bytes);
    let (py, pz) = (
        gpu.alloc(2 * n as u64).unwrap(),
        upload(&gpu, &z, f64::to_le_bytes),
    );
    let (n64, pointers) = ((n as u64).to_le_bytes(), [px, py, pz].map(u64::to_le_bytes));
    launch(
        &gpu,
        &module,
        "f16k",
        2,
        64,
        &[&pointers[0], &pointers[1], &pointers[2], &n64],
    );
    let y = download(&gpu, py, n, half::f16::from_le_bytes);
    let w = download(&gpu, pz, n, f64::from_le_bytes);
    for i in 0..n {
        let expected = half::f16::from_f32(x[i].to_f32() * 2.0 + 1.0);
        assert_eq!(y[i].to_bits(), expected.to_bits());
        let expected = (z[i] * z[i] + 1.0) / (z[i] - 3.0) + i as f64;
        assert_eq!(w[i].to_bits(), expected.to_bits());
    }
}

/// Jump tables, divergence over eight ways, 64-bit division, local memory, a ballot.
#[test]
fn integer_code_with_a_jump_table_is_that_of_the_host() {
    let (gpu, module) = gpu();
    let s = 5i32;
    let x: Vec<i32> = (0..2048)
        .map(|i: i32| i.wrapping_mul(0x9e37_79b9u32 as i32))
        .collect();
    let u: Vec<u64> = (0..1024u64)
        .map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .collect();
    let f: Vec<f32> = (0..1024).map(|i| (i as f32 - 500.0) * 1e7).collect();
    let (px, pu, pf) = (
        upload(&gpu, &x, i32::to_le_bytes),
        upload(&gpu, &u, u64::to_le_bytes),
        upload(&gpu, &f, f32::to_le_bytes),
    );
    let pointers = [px, pu, pf].map(u64::to_le_bytes);
    launch(
        &gpu,
        &module,
        "ints",
        1,
        1024,
        &[&pointers[0], &pointers[1], &s.to_le_bytes(), &pointers[2]],
    );
    let (rx, ru) = (
        download(&gpu, px, 2048, i32::from_le_bytes),
        download(&gpu, pu, 1024, u64::from_le_bytes),
    );
    let rf = download(&gpu, pf, 1024, f32::from_le_bytes);
    for i in 0..1024 {
        let v = x[i];
        let expected = match v & 7 {
            0 => v / 7,
            1 => v % s,
            2 => v.rotate_left(3),
            3 => v.count_ones() as i32,
            4 => v.leading_zeros() as i32,
            5 => v.swap_bytes(),
            6 => v.saturating_add(s),
            _ => v.abs().min(s),
        };
        assert_eq!(rx[i], expected, "thread {i}, {v}");
        let w = u[i];
        let expected = (w / s as u64).wrapping_mul(w % 1000)
            ^ w.rotate_left(s as u32 & 63)
                .wrapping_add(u64::from(w.leading_zeros()));
        assert_eq!(ru[i], expected, "thread {i}");
        let g = f[i];
        let expected =
            (g as i32 as f32) + (g as u64 as f32) + g.abs().min(3.0).max(v as f32) + (w as f32);
        assert_eq!(rf[i].to_bits(), expected.to_bits(), "thread {i}");
        let mut local = [0u32; 16];
        for k in 0..16 {
            local[(v as usize).wrapping_add(k) & 15] = (k as u32).wrapping_mul(v as u32);
        }
        assert_eq!(rx[i + 1024] as u32, local[s as usize & 15], "thread {i}");
    }
}
