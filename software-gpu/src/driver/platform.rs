//! The machine that a client finds: its devices, as the environment asks for them.
//!
//! `SOFTWARE_GPU_DEVICES` is how many there are (1 if unset), `SOFTWARE_GPU_MODEL` what they are: `h100`
//! (if unset), `h200`, `a100` or `t4`, or a list with commas, whose last model is that of the devices left over.

use std::sync::{Arc, Mutex, OnceLock};

use super::context::Context;
use super::error::{Code, Outcome};
use super::ffi::lock;
use super::handles::{Handle, fresh};
use super::report;
use crate::{Gpu, Model, Settings};

/// More devices than this are taken for a mistake.
const MAX_DEVICES: usize = crate::memory::MAX_DEVICES as usize;

/// One device of the machine.
pub(super) struct Device {
    pub ordinal: i32,
    pub gpu: Gpu,
    /// The context that everybody who retains it shares: one for the life of the process.
    pub primary: Arc<Context>,
    pub primary_use: Mutex<PrimaryUse>,
    /// The handle of the one memory pool.
    pub pool: Handle,
    /// Held by whatever the device is doing: streams run one after another, in the order of their calls.
    engine: Mutex<()>,
}

/// Who uses a primary context.
#[derive(Default)]
pub(super) struct PrimaryUse {
    pub retained: u32,
}

impl Device {
    /// Does work on the device, alone.
    pub fn run<T>(&self, work: impl FnOnce(&Gpu) -> T) -> T {
        let _engine = lock(&self.engine);
        work(&self.gpu)
    }
}

/// What [`choose_models`] was told.
static CHOSEN: Mutex<Option<String>> = Mutex::new(None);

static PLATFORM: OnceLock<Outcome<Vec<Device>>> = OnceLock::new();

/// Names the models of the process's devices, as `SOFTWARE_GPU_MODEL` does and in its place. It counts
/// until the first `cuInit`, which makes the devices.
///
/// # Errors
/// A name that no model has, with those that there are; or that the devices are made already.
pub fn choose_models(names: &str) -> Result<(), String> {
    models(None, Some(names))?;
    if PLATFORM.get().is_some() {
        return Err("the devices of this process are made already".into());
    }
    *lock(&CHOSEN) = Some(names.into());
    Ok(())
}

/// What `cuInit` does, once.
pub(super) fn init() -> Outcome {
    match PLATFORM.get_or_init(build) {
        Ok(_) => Ok(()),
        Err(code) => Err(*code),
    }
}

/// The devices, once `cuInit` was called.
pub(super) fn devices() -> Outcome<&'static [Device]> {
    match PLATFORM.get() {
        None => Err(Code::NOT_INITIALIZED),
        Some(Ok(devices)) => Ok(devices),
        Some(Err(code)) => Err(*code),
    }
}

/// The device of that ordinal.
pub(super) fn device(ordinal: i32) -> Outcome<&'static Device> {
    let devices = devices()?;
    usize::try_from(ordinal)
        .ok()
        .and_then(|index| devices.get(index))
        .ok_or(Code::INVALID_DEVICE)
}

fn build() -> Outcome<Vec<Device>> {
    let count = std::env::var("SOFTWARE_GPU_DEVICES").ok();
    let chosen = lock(&CHOSEN).clone();
    let model = chosen.or_else(|| std::env::var("SOFTWARE_GPU_MODEL").ok());
    let refused = |text: String| {
        report::say(&text);
        report::remember(text);
        Code::INVALID_VALUE
    };
    let models = models(count.as_deref(), model.as_deref()).map_err(refused)?;
    let settings = Settings::of_environment().map_err(refused)?;
    let devices = models.into_iter().zip(0..);
    Ok(devices
        .map(|(model, ordinal)| Device {
            ordinal,
            gpu: Gpu::with_settings(
                model,
                Settings {
                    ordinal: ordinal as u32,
                    ..settings
                },
            ),
            primary: Context::primary(ordinal),
            primary_use: Mutex::default(),
            pool: fresh(),
            engine: Mutex::new(()),
        })
        .collect())
}

/// The models that the two variables ask for.
fn models(count: Option<&str>, model: Option<&str>) -> Result<Vec<Model>, String> {
    let names: Vec<&str> = model.unwrap_or("h100").split(',').map(str::trim).collect();
    let named: Vec<Model> = names
        .iter()
        .map(|name| {
            Model::by_name(name).ok_or_else(|| {
                format!(
                    "SOFTWARE_GPU_MODEL names the model `{name}`; allowed are {}",
                    Model::NAMES.join(", ")
                )
            })
        })
        .collect::<Result<_, _>>()?;
    let count = match count {
        None => named.len(),
        Some(text) => text
            .trim()
            .parse()
            .ok()
            .filter(|count| *count <= MAX_DEVICES)
            .ok_or_else(|| {
                format!("SOFTWARE_GPU_DEVICES is `{text}`; allowed are 0 to {MAX_DEVICES}")
            })?,
    };
    let last = named.last().expect("split gives at least one name");
    Ok((0..count)
        .map(|index| named.get(index).unwrap_or(last).clone())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: Option<&str>, model: Option<&str>) -> Result<Vec<String>, String> {
        models(count, model).map(|models| models.into_iter().map(|m| m.name).collect())
    }

    #[test]
    fn one_h100_unless_asked_otherwise() {
        assert_eq!(names(None, None).unwrap(), [Model::h100().name]);
    }

    #[test]
    fn the_last_model_fills_up() {
        let expected = [Model::t4().name, Model::a100().name, Model::a100().name];
        assert_eq!(names(Some("3"), Some("t4, a100")).unwrap(), expected);
    }

    #[test]
    fn a_machine_may_have_no_device() {
        assert!(names(Some("0"), None).unwrap().is_empty());
    }

    #[test]
    fn what_is_not_allowed_is_named_with_what_is() {
        let error = names(None, Some("v100")).unwrap_err();
        assert!(error.contains("v100") && error.contains("a100"), "{error}");
        for count in ["-1", "two", "65", ""] {
            let error = names(Some(count), None).unwrap_err();
            assert!(error.contains("0 to 64"), "{error}");
        }
    }
}
