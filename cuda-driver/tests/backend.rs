//! How the process decides on a driver, by the environment and by the program.

mod child;

use cuda_driver::{Backend, ChooseError, Error};
use cust::error::CudaError;

fn init() -> Result<(), CudaError> {
    cust::init(cust::CudaFlags::empty())
}

#[test]
fn the_environment_forces_the_software_device() {
    let variables = [("LAYERNORM_DRIVER", "software")];
    child::run(
        "the_environment_forces_the_software_device",
        &variables,
        || {
            let forced = cuda_driver::choose(Backend::Nvidia);
            assert_eq!(forced, Err(ChooseError::Forced(Backend::Software)));
            assert_eq!(cuda_driver::backend(), Ok(Backend::Software));
            assert_eq!(init(), Ok(()));
        },
    );
}

#[test]
fn an_unknown_setting_is_an_error_that_says_what_is_allowed() {
    let variables = [("LAYERNORM_DRIVER", "amd")];
    let name = "an_unknown_setting_is_an_error_that_says_what_is_allowed";
    let stderr = child::run(name, &variables, || {
        let error = cuda_driver::backend().unwrap_err();
        assert!(matches!(error, Error::UnknownSetting { .. }), "{error:?}");
        assert!(
            error
                .to_string()
                .contains("allowed are nvidia and software")
        );
        assert!(cuda_driver::choose(Backend::Software).is_err());
        assert_eq!(init(), Err(CudaError::NoDevice));
    });
    if let Some(stderr) = stderr {
        assert!(
            stderr.contains("allowed are nvidia and software"),
            "{stderr}"
        );
    }
}

/// On a machine with a GPU the forced driver works; on one without it is an error, and never the
/// software device.
#[test]
fn a_forced_driver_that_is_missing_is_an_error() {
    let variables = [("LAYERNORM_DRIVER", "nvidia")];
    child::run(
        "a_forced_driver_that_is_missing_is_an_error",
        &variables,
        || match cuda_driver::backend() {
            Ok(backend) => {
                assert_eq!(backend, Backend::Nvidia);
                assert_eq!(init(), Ok(()));
            }
            Err(error) => {
                assert!(error.to_string().starts_with("NVIDIA's driver "), "{error}");
                assert_eq!(init(), Err(CudaError::NoDevice));
            }
        },
    );
}

/// What cannot be used is not decided on, so the program can go on to another.
#[test]
fn a_choice_that_fails_leaves_the_choice_open() {
    child::run("a_choice_that_fails_leaves_the_choice_open", &[], || {
        if cuda_driver::choose(Backend::Nvidia).is_ok() {
            assert_eq!(cuda_driver::backend(), Ok(Backend::Nvidia));
            return;
        }
        assert_eq!(cuda_driver::choose(Backend::Software), Ok(()));
        assert_eq!(cuda_driver::backend(), Ok(Backend::Software));
        assert_eq!(init(), Ok(()));
    });
}

#[test]
fn a_machine_without_devices_says_so() {
    let variables = [
        ("LAYERNORM_DRIVER", "software"),
        ("SOFTWARE_GPU_DEVICES", "0"),
    ];
    child::run("a_machine_without_devices_says_so", &variables, || {
        assert_eq!(init(), Err(CudaError::NoDevice));
    });
}

#[test]
fn an_unknown_model_is_named_with_those_that_are_known() {
    let variables = [
        ("LAYERNORM_DRIVER", "software"),
        ("SOFTWARE_GPU_MODEL", "v100"),
    ];
    let name = "an_unknown_model_is_named_with_those_that_are_known";
    let stderr = child::run(name, &variables, || {
        assert_eq!(init(), Err(CudaError::InvalidValue));
        assert!(cuda_driver::last_fault().unwrap().contains("v100"));
    });
    if let Some(stderr) = stderr {
        assert!(
            stderr.contains("allowed are h100, h200, a100, t4"),
            "{stderr}"
        );
    }
}
