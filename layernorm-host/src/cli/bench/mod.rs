//! `layernorm bench`: how long the passes take, and how near that is to the rate of a copy.
//!
//! Each shape goes through three steps: its results are held against float64, then a copy of as many bytes as
//! the forward pass moves is timed, then the passes, all on the same device in the same run.

mod check;
mod host;
mod inputs;
#[cfg(feature = "cuda")]
mod launched;
mod plot;
mod report;
mod sampling;
mod shapes;

use std::io::IsTerminal;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use layernorm_host::{DType, Device};

use self::inputs::Inputs;
use self::report::{Report, Row};
use self::sampling::{Sampled, Sampling};
use self::shapes::{Preset, Shape};
use super::output::Sink;
use super::{DeviceName, Failure};

/// Time forward and backward passes, and a copy to compare them with.
///
/// Bytes are the least that a pass must move: forward reads x and writes y; backward reads x and dy and writes
/// dx; both do both. Weights, statistics and partial sums are small beside them and are not counted. The copy
/// moves as many bytes as the forward pass, read and write both counted: cuMemcpyDtoDAsync on a CUDA device,
/// the host's cores on the CPU.
///
/// Times are per call. On a CUDA device they are the device's own, between two events around a batch of calls
/// that were queued while the device was still busy, so that no host time is in them; buffers are rotated so
/// that a round is past the L2 cache. Percentiles are over batches. On the CPU each call is timed by itself,
/// outputs allocated beforehand.
///
/// The software GPU runs the same kernels to find mistakes. Its times say nothing about a GPU.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Bench {
    /// Shapes as ROWSxCOLUMNS, with commas; more dimensions than two are rows too: 32768x1024,4x512x768.
    #[arg(
        long,
        value_delimiter = ',',
        conflicts_with = "preset",
        value_name = "SHAPES"
    )]
    shapes: Vec<Shape>,
    /// A list of shapes by name. Without one: sweep on a CUDA device, laptop on the CPU, smoke in software.
    #[arg(long, value_enum)]
    preset: Option<Preset>,
    /// x's dtypes, with commas.
    #[arg(long, value_delimiter = ',', default_value = "f32,bf16", value_parser = dtype, value_name = "DTYPES")]
    dtype: Vec<DType>,
    /// The dtype of weight and bias: that of x, or f32, or a list with both.
    #[arg(long, value_delimiter = ',', value_enum, default_value = "same")]
    weight_dtype: Vec<WeightDType>,
    /// Which passes, with commas.
    #[arg(
        long,
        value_delimiter = ',',
        value_enum,
        default_value = "forward,backward,both",
        value_name = "PASSES"
    )]
    pass: Vec<Timed>,
    /// auto (the GPU if there is one, else software), cuda, software, cpu; cuda:1 is the second GPU.
    #[arg(long, default_value = "auto")]
    device: DeviceName,
    /// Seconds to measure each figure for, after the warm-up.
    #[arg(long, default_value = "0.25", value_parser = seconds, value_name = "SECONDS", allow_negative_numbers = true)]
    time: Duration,
    /// Write everything as JSON; - is stdout, and the table goes to stderr then.
    #[arg(long, value_name = "OUT")]
    json: Option<PathBuf>,
    /// Write a CSV file, a row a figure; - is stdout.
    #[arg(long, value_name = "OUT")]
    csv: Option<PathBuf>,
    /// Write a CSV file with the columns of Liger-Kernel's benchmarks; - is stdout.
    #[arg(long, value_name = "OUT")]
    csv_liger: Option<PathBuf>,
    /// Draw GB/s over the columns as SVG, the copy rate as a line; - is stdout.
    #[arg(long, value_name = "OUT.svg")]
    plot: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  layernorm bench                                           what suits the device
  layernorm bench --shapes 4096x1024 --dtype bf16 --device cuda
  layernorm bench --preset sweep --plot sweep.svg --json sweep.json
  layernorm bench --device cpu --csv - | column -ts,
Exit code 3: a result is outside its bound, so nothing was timed.";

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Timed {
    /// What the passes are compared with.
    #[value(skip)]
    Copy,
    Forward,
    Backward,
    /// Forward, then backward.
    Both,
}

impl Timed {
    fn name(self) -> &'static str {
        match self {
            Timed::Copy => "copy",
            Timed::Forward => "forward",
            Timed::Backward => "backward",
            Timed::Both => "both",
        }
    }

    /// How often a tensor of x's size crosses the memory's pins at least.
    fn tensors_moved(self) -> u64 {
        match self {
            Timed::Copy | Timed::Forward => 2,
            Timed::Backward => 3,
            Timed::Both => 5,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WeightDType {
    /// That of x.
    Same,
    F32,
}

/// The device's side of a measurement: buffers, and one stretch of time.
pub trait Subject {
    /// Runs both passes once over poisoned outputs.
    fn compute(&mut self) -> layernorm_host::Result<()>;

    /// Elements of what they gave.
    fn read(&self, output: Output, range: Range<usize>) -> layernorm_host::Result<Vec<f64>>;

    /// The time of `calls` calls in a row.
    fn time(&mut self, timed: Timed, calls: usize) -> layernorm_host::Result<Duration>;

    /// Whether calls are worth batching: where a clock's tick or a queue's gap is not small beside a call.
    fn batches(&self) -> bool;
}

/// What the passes give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Y,
    Dx,
    Dweight,
    Dbias,
}

impl Bench {
    pub fn run(self) -> Result<String, Failure> {
        // Whatever cannot be written is found before the time is spent.
        let sink = |path: &Option<PathBuf>| path.as_deref().map(Sink::create).transpose();
        let (json, csv) = (sink(&self.json)?, sink(&self.csv)?);
        let (csv_liger, plot) = (sink(&self.csv_liger)?, sink(&self.plot)?);
        let to_stdout = [&json, &csv, &csv_liger, &plot];
        let to_stdout = to_stdout
            .into_iter()
            .flatten()
            .filter(|sink| sink.is_stdout())
            .count();
        if to_stdout > 1 {
            return Err(Failure::usage(
                "only one of --json, --csv, --csv-liger and --plot can go to stdout",
            ));
        }

        let device = self.device.open()?;
        let preset = self
            .preset
            .unwrap_or_else(|| Preset::for_kind(device.kind()));
        let shapes = if self.shapes.is_empty() {
            preset.shapes()
        } else {
            self.shapes.clone()
        };
        let sampling = Sampling {
            time: self.time,
            quick: device.kind() == "software",
        };

        let mut cases = Vec::new();
        for dtype in &self.dtype {
            for shape in &shapes {
                for weight_dtype in self.weight_dtypes(*dtype) {
                    cases.push((*shape, *dtype, weight_dtype));
                }
            }
        }
        let mut report = Report::new(&device);
        let progress = progress(cases.len() * (2 + self.pass.len()));
        for (shape, dtype, weight_dtype) in cases {
            let name = format!("{shape} {dtype}");
            let step = |what: &str| {
                progress.set_message(format!("{name} {what}"));
                progress.inc(1);
            };
            step("check");
            let inputs = Inputs::new(shape, dtype, weight_dtype);
            let mut subject = subject(&inputs, &device)?;
            subject.compute()?;
            let errors = match check::hold(&inputs, subject.as_ref())? {
                Ok(errors) => errors,
                Err(wrong) => {
                    let reason = format!("{name} on {device}: {wrong}; nothing was timed");
                    return Err(Failure::wrong(reason));
                }
            };
            let mut time = |timed: Timed| -> Result<Sampled, Failure> {
                step(timed.name());
                Ok(sampling.sample(timed, subject.as_mut())?)
            };
            let copy = time(Timed::Copy)?;
            let copy = Row::new(Timed::Copy, &inputs, copy, None, None);
            let copy_rate = report.measures_the_device.then_some(copy.gb_per_s);
            report.rows.push(copy);
            for timed in &self.pass {
                let sampled = time(*timed)?;
                report
                    .rows
                    .push(Row::new(*timed, &inputs, sampled, copy_rate, Some(errors)));
            }
        }
        progress.finish_and_clear();

        let mut stdout = None;
        let mut write = |sink: Option<Sink>, text: String| -> Result<(), Failure> {
            match sink {
                None => {}
                Some(sink) if sink.is_stdout() => stdout = Some(text),
                Some(sink) => sink.finish(text.as_bytes())?,
            }
            Ok(())
        };
        write(json, report.json())?;
        write(csv, report.csv())?;
        write(csv_liger, report.csv_liger())?;
        if plot.is_some() {
            write(plot, plot::svg(&report)?)?;
        }
        let table = report.table(std::io::stdout().is_terminal());
        Ok(match stdout {
            Some(text) => {
                super::note(&table);
                text
            }
            None => table,
        })
    }

    /// The dtypes of weight and bias for an x of this dtype, each once.
    fn weight_dtypes(&self, dtype: DType) -> Vec<DType> {
        let mut dtypes = Vec::new();
        for wanted in &self.weight_dtype {
            let wanted = match wanted {
                WeightDType::Same => dtype,
                WeightDType::F32 => DType::F32,
            };
            if !dtypes.contains(&wanted) && dtype.parameter_dtypes().contains(&wanted) {
                dtypes.push(wanted);
            }
        }
        dtypes
    }
}

fn subject(inputs: &Inputs, device: &Device) -> layernorm_host::Result<Box<dyn Subject>> {
    #[cfg(feature = "cuda")]
    if device.kind() != "cpu" {
        return Ok(Box::new(launched::Launched::new(inputs, device)?));
    }
    Ok(Box::new(host::Called::new(inputs, device)?))
}

/// A bar on stderr, and nothing where that is no terminal.
fn progress(steps: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}");
    let bar = ProgressBar::new(steps as u64);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn dtype(text: &str) -> Result<DType, String> {
    let named = DType::ALL.into_iter().find(|dtype| dtype.name() == text);
    named.ok_or_else(|| format!("allowed: {}", DType::ALL.map(DType::name).join(", ")))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "a number of seconds is needed".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if time <= Duration::from_secs(600) => Ok(time),
        _ => Err("allowed: 0 to 600 seconds".to_owned()),
    }
}
