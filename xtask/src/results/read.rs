//! A folder of docs/results, `DATE-DEVICE-COMMIT`: what one machine said of one commit. Every file but peers.csv may
//! be absent; what it would have told is then blank.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::counters::{self, Counted};

/// Files that a reader may want to see, where they are there.
const FILES: &[&str] = &[
    "session.txt",
    "suite.txt",
    "bits.txt",
    "sanitizer.txt",
    "peers.csv",
    "peers.txt",
    "ncu.csv",
    "software-counters.json",
];

pub struct Run {
    pub folder: String,
    pub date: String,
    pub commit: String,
    pub device: String,
    pub driver: String,
    /// The peers' versions, as far as the files tell them.
    pub peers: String,
    pub files: Vec<&'static str>,
    pub figures: Vec<Figure>,
    pub counted: Vec<Counted>,
    /// When the first figure was written: of two folders of one day, which is newer.
    started: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shape {
    pub dtype: String,
    pub n_rows: u64,
    pub n_cols: u64,
}

pub struct Figure {
    pub provider: String,
    pub pass: String,
    /// `speed` is time on the device, `host` what a call costs the host.
    pub metric: String,
    pub shape: Shape,
    pub us: f64,
    pub gb_per_s: Option<f64>,
}

impl Run {
    pub fn figure(
        &self,
        metric: &str,
        provider: &str,
        pass: &str,
        shape: &Shape,
    ) -> Option<&Figure> {
        self.figures.iter().rev().find(|figure| {
            figure.metric == metric
                && figure.provider == provider
                && figure.pass == pass
                && figure.shape == *shape
        })
    }

    /// GB/s.
    pub fn rate(&self, provider: &str, pass: &str, shape: &Shape) -> Option<f64> {
        self.figure("speed", provider, pass, shape)?.gb_per_s
    }

    pub fn copy_rate(&self, shape: &Shape) -> Option<f64> {
        self.rate("copy", "copy", shape)
    }

    /// Ours first, the others as they were measured.
    pub fn providers(&self) -> Vec<&str> {
        let mut providers = Vec::new();
        for Figure { provider, .. } in &self.figures {
            if provider != "copy" && !providers.contains(&provider.as_str()) {
                providers.push(provider);
            }
        }
        providers.sort_by_key(|provider| *provider != "ours");
        providers
    }

    /// Those that a copy was timed beside, or those of a few rows that none was; by dtype, as they were measured,
    /// and size.
    pub fn shapes(&self, with_copy: bool) -> Vec<Shape> {
        let mut shapes: Vec<Shape> = Vec::new();
        let mut dtypes: Vec<&str> = Vec::new();
        for Figure { shape, .. } in &self.figures {
            if !shapes.contains(shape) && self.copy_rate(shape).is_some() == with_copy {
                shapes.push(shape.clone());
            }
            if !dtypes.contains(&shape.dtype.as_str()) {
                dtypes.push(&shape.dtype);
            }
        }
        shapes.sort_by_key(|shape| {
            let dtype = dtypes.iter().position(|dtype| *dtype == shape.dtype);
            (dtype, shape.n_cols, shape.n_rows)
        });
        shapes
    }
}

/// Of each device the newest run; the newest of these first.
pub fn newest(results: &Path) -> Result<Vec<Run>> {
    let mut by_device = BTreeMap::<String, Run>::new();
    for entry in fs::read_dir(results).with_context(|| results.display().to_string())? {
        let path = entry?.path();
        if !path.join("peers.csv").is_file() {
            continue;
        }
        let run = read(&path).with_context(|| path.display().to_string())?;
        match by_device.get(&run.device) {
            Some(other) if (&other.date, &other.started) > (&run.date, &run.started) => {}
            _ => drop(by_device.insert(run.device.clone(), run)),
        }
    }
    let mut runs: Vec<Run> = by_device.into_values().collect();
    runs.sort_by(|a, b| (&b.date, &b.started).cmp(&(&a.date, &a.started)));
    Ok(runs)
}

fn read(path: &Path) -> Result<Run> {
    let folder = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let text = |name: &str| fs::read_to_string(path.join(name)).unwrap_or_default();
    let csv = fs::read_to_string(path.join("peers.csv")).context("peers.csv")?;
    let mut run = of_csv(&folder, &csv)?;
    run.driver = driver(&text("session.txt"), &run.device)
        .or_else(|| driver(&text("suite.txt"), &run.device))
        .unwrap_or_default();
    if let Some(versions) = versions(&text("peers.txt")) {
        run.peers = versions;
    }
    run.files = FILES
        .iter()
        .copied()
        .filter(|name| path.join(name).is_file())
        .collect();
    run.counted = counters::read(&text("ncu.csv"), &text("software-counters.json"))?;
    Ok(run)
}

/// As far as a folder's name and its peers.csv tell.
pub fn of_csv(folder: &str, csv: &str) -> Result<Run> {
    let (date, commit) = date_and_commit(folder)
        .with_context(|| format!("folder {folder}: its name is not DATE-DEVICE-COMMIT"))?;
    let Csv {
        figures,
        device,
        started,
        liger,
    } = figures(csv).context("peers.csv")?;
    Ok(Run {
        folder: folder.to_owned(),
        date,
        commit,
        device,
        driver: String::new(),
        peers: if liger.is_empty() {
            liger
        } else {
            format!("liger {liger}")
        },
        files: Vec::new(),
        figures,
        counted: Vec::new(),
        started,
    })
}

fn date_and_commit(folder: &str) -> Option<(String, String)> {
    let mut parts = folder.splitn(4, '-');
    let date = [parts.next()?, parts.next()?, parts.next()?];
    let lengths = date.map(|part| {
        if part.bytes().all(|b| b.is_ascii_digit()) {
            part.len()
        } else {
            0
        }
    });
    let (device, commit) = parts.next()?.rsplit_once('-')?;
    (lengths == [4, 2, 2] && !device.is_empty() && !commit.is_empty())
        .then(|| (date.join("-"), commit.to_owned()))
}

/// Of the line `device: NAME, DRIVER`, as gpu-session.sh writes it.
fn driver(log: &str, device: &str) -> Option<String> {
    let of_device = |line: &str| {
        Some(
            line.strip_prefix("device: ")?
                .strip_prefix(device)?
                .strip_prefix(", ")?
                .to_owned(),
        )
    };
    log.lines().find_map(of_device)
}

/// Of the line `versions: ...` that peers.py prints.
fn versions(log: &str) -> Option<String> {
    let line = log
        .lines()
        .find_map(|line| line.strip_prefix("versions: "))?;
    Some(line.to_owned())
}

struct Csv {
    figures: Vec<Figure>,
    device: String,
    started: String,
    liger: String,
}

fn figures(text: &str) -> Result<Csv> {
    #[derive(Deserialize)]
    struct Row {
        kernel_provider: String,
        kernel_operation_mode: String,
        metric_name: String,
        metric_unit: String,
        x_value: u64,
        y_value_50: f64,
        extra_benchmark_config_str: String,
        gpu_name: String,
        timestamp: String,
        liger_version: String,
    }
    #[derive(Deserialize)]
    struct Config {
        n_rows: u64,
        dtype: String,
        gb_per_s: Option<f64>,
    }

    let mut out = Csv {
        figures: Vec::new(),
        device: String::new(),
        started: String::new(),
        liger: String::new(),
    };
    for row in csv::Reader::from_reader(text.as_bytes()).deserialize() {
        let row: Row = row?;
        let config: Config = serde_json::from_str(&row.extra_benchmark_config_str)?;
        if row.metric_unit != "us" {
            continue;
        }
        if !(row.y_value_50.is_finite() && row.y_value_50 > 0.0) {
            bail!("a time of {} us of {}", row.y_value_50, row.kernel_provider);
        }
        if out.figures.is_empty() {
            (out.device, out.started, out.liger) = (row.gpu_name, row.timestamp, row.liger_version);
        } else if out.device != row.gpu_name {
            bail!("two devices: {} and {}", out.device, row.gpu_name);
        }
        out.figures.push(Figure {
            provider: row.kernel_provider,
            pass: row.kernel_operation_mode,
            metric: row.metric_name,
            shape: Shape {
                dtype: config.dtype,
                n_rows: config.n_rows,
                n_cols: row.x_value,
            },
            us: row.y_value_50,
            gb_per_s: config.gb_per_s,
        });
    }
    if out.figures.is_empty() {
        bail!("has no figures");
    }
    Ok(out)
}

#[cfg(test)]
/// For tests: lines of `PROVIDER PASS METRIC DTYPE ROWSxCOLS US`, whose rate is 1000 / US.
pub fn of_lines(lines: &str) -> Run {
    let mut csv =
        "kernel_provider,kernel_operation_mode,metric_name,metric_unit,x_value,y_value_50,\
                   extra_benchmark_config_str,gpu_name,timestamp,liger_version\n"
            .to_owned();
    for line in lines.trim().lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [provider, pass, metric, dtype, shape, us] = words[..] else {
            panic!("{line}")
        };
        let (n_rows, n_cols) = shape.split_once('x').unwrap();
        let rate = 1000.0 / us.parse::<f64>().unwrap();
        let rate = if metric == "speed" {
            format!(r#", ""gb_per_s"": {rate}"#)
        } else {
            String::new()
        };
        let config = format!(r#"{{""n_rows"": {n_rows}, ""dtype"": ""{dtype}""{rate}}}"#);
        csv += &format!("{provider},{pass},{metric},us,{n_cols},{us},\"{config}\",A GPU,t,\n");
    }
    of_csv("2026-01-02-a-0000001", &csv).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folders_name_has_date_device_and_commit() {
        let name = |folder| date_and_commit(folder).map(|(date, commit)| date + " " + &commit);
        assert_eq!(
            name("2026-11-23-h200-49ce604").unwrap(),
            "2026-11-23 49ce604"
        );
        assert_eq!(
            name("2026-11-23-rtx-4090-49ce604").unwrap(),
            "2026-11-23 49ce604"
        );
        for folder in [
            "2026-11-23-h200",
            "h200-49ce604",
            "26-11-23-h200-49ce604",
            "2026-11-23--49ce604",
        ] {
            assert_eq!(name(folder), None, "{folder}");
        }
    }

    #[test]
    fn driver_and_versions_are_those_of_the_logs() {
        let log = "x\ndevice: NVIDIA H100 80GB HBM3, 580.1\n";
        assert_eq!(driver(log, "NVIDIA H100 80GB HBM3").unwrap(), "580.1");
        assert_eq!(driver(log, "NVIDIA H200"), None);
        assert_eq!(
            versions("NVIDIA H200\nversions: torch 2, triton 3\n").unwrap(),
            "torch 2, triton 3"
        );
        assert_eq!(versions("NVIDIA H200, torch 2\n"), None);
    }

    #[test]
    fn of_each_device_the_newest_run_is_shown() {
        let folder = std::env::temp_dir().join(format!("xtask-results-{}", std::process::id()));
        let header = "kernel_provider,kernel_operation_mode,metric_name,metric_unit,x_value,y_value_50,\
                      extra_benchmark_config_str,gpu_name,timestamp,liger_version";
        for (name, gpu, time) in [
            ("2026-01-02-a-0000001", "A", "2026-01-02T09:00:00"),
            ("2026-01-02-a-fffffff", "A", "2026-01-02T08:00:00"),
            ("2026-01-01-a-0000003", "A", "2026-01-01T10:00:00"),
            ("2026-01-03-b-0000004", "B", "2026-01-03T00:00:00"),
        ] {
            let config = r#""{""n_rows"": 2, ""dtype"": ""f32""}""#;
            let row = format!("ours,forward,speed,us,64,1.5,{config},{gpu},{time},");
            fs::create_dir_all(folder.join(name)).unwrap();
            fs::write(
                folder.join(name).join("peers.csv"),
                format!("{header}\n{row}\n"),
            )
            .unwrap();
        }
        fs::create_dir_all(folder.join("2026-01-04-c-0000005")).unwrap();
        let runs = newest(&folder);
        fs::remove_dir_all(&folder).unwrap();
        let commits: Vec<_> = runs.unwrap().into_iter().map(|run| run.commit).collect();
        assert_eq!(commits, ["0000004", "0000001"]);
    }

    #[test]
    fn a_time_that_is_none_is_refused() {
        let header = "kernel_provider,kernel_operation_mode,metric_name,metric_unit,x_value,y_value_50,\
                      extra_benchmark_config_str,gpu_name,timestamp,liger_version";
        for time in ["NaN", "0", "-1", "inf", ""] {
            let row = format!(
                r#"ours,forward,speed,us,64,{time},"{{""n_rows"": 2, ""dtype"": ""f32""}}",A,t,"#
            );
            assert!(figures(&format!("{header}\n{row}\n")).is_err(), "{time}");
        }
    }
}
