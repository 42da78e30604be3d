//! On the CPU the same input gives the same bits, whatever the number of threads.

use layernorm_host::{DType, Device};
use layernorm_tests::check;
use layernorm_tests::data::Case;

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let device = Device::cpu();
    for (n_rows, n_cols) in [(1, 100_000), (37, 1023), (601, 384), (5003, 33)] {
        for dtype in DType::ALL {
            let parameter_dtype = dtype.accumulator();
            let case = Case::new(n_rows, n_cols, dtype, parameter_dtype);
            let inputs = case.generate();
            let bits = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                let results = pool
                    .build()
                    .expect("threads start")
                    .install(|| check::run(&case, &inputs, &device))
                    .expect("the case runs");
                let gradients =
                    [results.dweight, results.dbias].map(|tensor| tensor.expect("asked for"));
                let tensors = [results.y, results.mean, results.rstd, results.dx];
                let tensors = tensors.into_iter().chain(gradients);
                tensors
                    .map(|tensor| tensor.to_bytes().expect("host memory"))
                    .collect::<Vec<_>>()
            };
            let one = bits(1);
            for threads in [2, 3, 8] {
                assert!(bits(threads) == one, "{case:?} with {threads} threads");
            }
        }
    }
}

/// Rows of whole cache lines with a rest at their end, and outputs above the 16 MiB from which they are written
/// past the cache.
#[test]
fn outputs_past_the_cache_are_right() {
    for (n_rows, n_cols, dtype) in [
        (4160, 1040, DType::F32),
        (8200, 1056, DType::BF16),
        (8200, 1056, DType::F16),
    ] {
        let case = Case::new(n_rows, n_cols, dtype, DType::F32);
        assert_eq!(check::case(&case, &Device::cpu()), Ok(()));
    }
}
