//! The spans of the feature `tracing`: which there are, and which lies in which.

use std::sync::{Arc, Mutex};

use layernorm_host::{DType, Device, FastLayerNorm, Tensor};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Notes each span when it is entered, after those that it lies in.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Heard>>);

#[derive(Default)]
struct Heard {
    names: Vec<&'static str>,
    open: Vec<&'static str>,
    entered: Vec<String>,
}

impl Listener {
    fn heard(&self, what: impl FnOnce()) -> Vec<String> {
        tracing::subscriber::with_default(self.clone(), what);
        std::mem::take(&mut self.0.lock().unwrap().entered)
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "layernorm"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        assert_eq!(*span.metadata().level(), Level::DEBUG);
        let mut heard = self.0.lock().unwrap();
        heard.names.push(span.metadata().name());
        Id::from_u64(heard.names.len() as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, id: &Id) {
        let mut heard = self.0.lock().unwrap();
        let name = heard.names[id.into_u64() as usize - 1];
        heard.open.push(name);
        let path = heard.open.join("/");
        heard.entered.push(path);
    }

    fn exit(&self, _: &Id) {
        self.0.lock().unwrap().open.pop();
    }
}

fn passes(device: &Device) {
    let x = Tensor::zeros(DType::F32, &[1000, 384], device).unwrap();
    let weight = Tensor::ones(DType::F32, &[384], device).unwrap();
    let (y, saved) = FastLayerNorm::forward(&x, Some(&weight), None, 1e-5).unwrap();
    FastLayerNorm::backward(saved, &y).unwrap();
}

#[test]
fn a_pass_is_planned_then_its_kernels_are_launched_and_loaded_once() {
    let device = match Device::auto().unwrap() {
        device if device.kind() == "cpu" => Device::software(0).unwrap(),
        device => device,
    };
    let listener = Listener::default();
    // The kernel over rows, more than a device has multiprocessors, then the one that sums the partials.
    let first = listener.heard(|| passes(&device));
    let expected = [
        "forward",
        "forward/plan",
        "forward/launch",
        "forward/launch/load",
        "backward",
        "backward/plan",
        "backward/launch",
        "backward/launch/load",
        "backward/launch",
        "backward/launch/load",
    ];
    assert_eq!(first, expected);
    // Another handle of the device has the same kernels.
    let other = device.with_new_stream().unwrap();
    let again = listener.heard(|| passes(&other));
    let launches = expected.into_iter().filter(|span| !span.ends_with("/load"));
    assert_eq!(again, launches.collect::<Vec<_>>());
}

#[test]
fn the_cpu_has_nothing_to_plan() {
    let heard = Listener::default().heard(|| passes(&Device::cpu()));
    assert_eq!(heard, ["forward", "backward"]);
}
