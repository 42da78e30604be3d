//! `LAYERNORM_CPU`: each kind of vector instructions that is here can be asked for, and any other name is an error
//! before anything is written. The variable is read once a process, so each case is a process of its own.

use std::process::Command;

use layernorm_host::{Device, Error, FastLayerNorm, Tensor};

/// Tells the process of a case from the test's own.
const CASE: &str = "INSTRUCTIONS_CASE";

#[test]
fn the_instructions_can_be_chosen() {
    if std::env::var_os(CASE).is_some() {
        return case();
    }
    let (mut kinds, mut taken) = (vec!["scalar"], Vec::new());
    if cfg!(target_arch = "x86_64") {
        kinds.extend(["avx2", "avx512"]);
    }
    if cfg!(target_arch = "aarch64") {
        kinds.push("neon");
    }
    for name in kinds.iter().copied().chain(["", "AVX2", "sse"]) {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_instructions_can_be_chosen", "--nocapture"])
            .envs([(CASE, "1"), ("LAYERNORM_CPU", name)])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success(), "{name:?}: {said}");
        if said.contains("computed") {
            taken.push(name);
        } else {
            let refused = format!("LAYERNORM_CPU is {name:?}; allowed here are scalar");
            assert!(said.contains(&refused), "{said}");
        }
    }
    assert!(taken.contains(&"scalar"), "{taken:?}");
    assert!(taken.iter().all(|name| kinds.contains(name)), "{taken:?}");
    #[cfg(target_arch = "x86_64")]
    assert_eq!(
        taken.contains(&"avx2"),
        std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma")
    );
}

fn case() {
    let device = Device::cpu();
    let x = Tensor::from_slice(&[1.0f32, 3.0], &[1, 2], &device).unwrap();
    let mut y = Tensor::from_slice(&[7.0f32; 2], &[1, 2], &device).unwrap();
    match FastLayerNorm::forward_into(&x, None, None, 0.0, &mut y) {
        Ok(_) => {
            assert_eq!(y.to_vec::<f32>().unwrap(), [-1.0, 1.0]);
            println!("computed");
        }
        Err(error @ Error::Instructions { .. }) => {
            assert_eq!(y.to_vec::<f32>().unwrap(), [7.0; 2]);
            println!("{error}");
        }
        Err(other) => panic!("{other}"),
    }
}
