//! Prints a hash of every result of some cases on the software GPU, a line each: what `seeds.rs` compares between
//! processes, since a seed and a number of threads are a process's.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::process::ExitCode;

use layernorm_host::{DType, Device};
use layernorm_tests::check;
use layernorm_tests::data::Case;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> layernorm_host::Result<()> {
    let device = Device::software(0)?;
    for (n_rows, n_cols) in [(37, 33), (601, 384), (37, 1023), (5, 4096), (67, 8200)] {
        for dtype in DType::ALL {
            let case = Case::new(n_rows, n_cols, dtype, dtype);
            let results = check::run(&case, &case.generate(), &device)?;
            let named = [
                ("y", Some(results.y)),
                ("mean", Some(results.mean)),
                ("rstd", Some(results.rstd)),
                ("dx", Some(results.dx)),
                ("dweight", results.dweight),
                ("dbias", results.dbias),
            ];
            for (name, tensor) in named {
                let mut hash = DefaultHasher::new();
                tensor
                    .map(|tensor| tensor.to_bytes())
                    .transpose()?
                    .hash(&mut hash);
                println!("{name} {n_rows}x{n_cols} {dtype} {:016x}", hash.finish());
            }
        }
    }
    Ok(())
}
