//! The figures as a table, as JSON, and as CSV in our columns and in Liger-Kernel's.

use std::time::SystemTime;

use comfy_table::presets::{ASCII_MARKDOWN, UTF8_FULL_CONDENSED};
use comfy_table::{CellAlignment, Table};
use layernorm_host::Device;
use serde::Serialize;

use super::Timed;
use super::check::Errors;
use super::inputs::{EPS, Inputs};
use super::sampling::Sampled;

/// What a run gave.
#[derive(Serialize)]
pub struct Report {
    tool: String,
    timestamp: String,
    device: String,
    pub device_name: String,
    compute_capability: Option<(u32, u32)>,
    kernels_for: Option<u32>,
    /// False on the software GPU, whose times say nothing about a GPU.
    pub measures_the_device: bool,
    eps: f64,
    copy: &'static str,
    bytes: &'static str,
    pub rows: Vec<Row>,
}

/// A figure.
#[derive(Serialize)]
pub struct Row {
    pub pass: &'static str,
    pub n_rows: usize,
    pub n_cols: usize,
    pub dtype: &'static str,
    pub weight_dtype: &'static str,
    p20_us: f64,
    p50_us: f64,
    p80_us: f64,
    batches: usize,
    calls_in_a_batch: usize,
    bytes: u64,
    /// By the median, 1e9 bytes a second.
    pub gb_per_s: f64,
    /// This row's rate over that of the copy of the same shape and run; none on the software GPU.
    share_of_copy: Option<f64>,
    /// Of the results before they were timed, against float64.
    error: Option<Errors>,
}

impl Row {
    pub fn new(
        timed: Timed,
        inputs: &Inputs,
        sampled: Sampled,
        copy_rate: Option<f64>,
        error: Option<Errors>,
    ) -> Self {
        let elements = inputs.shape.n_rows as u64 * inputs.shape.n_cols as u64;
        let bytes = timed.tensors_moved() * elements * inputs.dtype.size() as u64;
        let gb_per_s = bytes as f64 / sampled.p50.as_secs_f64().max(1e-9) / 1e9;
        let micros = |time: std::time::Duration| time.as_secs_f64() * 1e6;
        Row {
            pass: timed.name(),
            n_rows: inputs.shape.n_rows,
            n_cols: inputs.shape.n_cols,
            dtype: inputs.dtype.name(),
            weight_dtype: inputs.weight_dtype.name(),
            p20_us: micros(sampled.p20),
            p50_us: micros(sampled.p50),
            p80_us: micros(sampled.p80),
            batches: sampled.batches,
            calls_in_a_batch: sampled.calls,
            bytes,
            gb_per_s,
            share_of_copy: copy_rate.map(|copy| gb_per_s / copy),
            error,
        }
    }
}

impl Report {
    pub fn new(device: &Device) -> Self {
        let copy = match device.kind() {
            "cpu" => "memcpy of parts on all cores, read and write counted",
            _ => "cuMemcpyDtoDAsync within the device, read and write counted",
        };
        Report {
            tool: format!("layernorm {}", env!("CARGO_PKG_VERSION")),
            timestamp: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            device: device.to_string(),
            device_name: device.name().to_owned(),
            compute_capability: device.compute_capability(),
            kernels_for: device.image_target(),
            measures_the_device: device.kind() != "software",
            // As written: not what is left of it in f32.
            eps: EPS.to_string().parse().unwrap_or_default(),
            copy,
            bytes: "copy and forward: x and y; backward: x, dy and dx; both: the sum of these",
            rows: Vec::new(),
        }
    }

    /// For people: with lines where a terminal shows it, in Markdown for a file or a pipe.
    pub fn table(&self, terminal: bool) -> String {
        let mut table = Table::new();
        table.load_style(if terminal {
            UTF8_FULL_CONDENSED
        } else {
            ASCII_MARKDOWN
        });
        table.set_header([
            "rows x columns",
            "dtype",
            "pass",
            "p20 us",
            "p50 us",
            "p80 us",
            "GB/s",
            "of copy",
        ]);
        for row in &self.rows {
            let dtype = match row.dtype == row.weight_dtype {
                true => row.dtype.to_owned(),
                false => format!("{}, weight {}", row.dtype, row.weight_dtype),
            };
            table.add_row([
                format!("{} x {}", row.n_rows, row.n_cols),
                dtype,
                row.pass.to_owned(),
                micros(row.p20_us),
                micros(row.p50_us),
                micros(row.p80_us),
                significant(row.gb_per_s),
                match (row.share_of_copy, row.pass) {
                    (Some(share), _) => format!("{:.0}%", share * 100.0),
                    (None, "copy") if self.measures_the_device => "100%".to_owned(),
                    _ => "-".to_owned(),
                },
            ]);
        }
        for column in 3..8 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = format!("{}: {}\n{table}\n", self.device, self.device_name);
        text.push_str(&format!("copy: {}\n", self.copy));
        text.push_str(&format!("bytes: {}\n", self.bytes));
        text.push_str(
            "Results were checked before they were timed. Their errors, of the norm, at most:\n",
        );
        let mut dtypes: Vec<&str> = self.rows.iter().map(|row| row.dtype).collect();
        dtypes.dedup();
        for dtype in dtypes {
            let rows = self.rows.iter().filter(|row| row.dtype == dtype);
            let errors: Vec<&Errors> = rows.filter_map(|row| row.error.as_ref()).collect();
            let worst =
                |of: fn(&Errors) -> f64| errors.iter().map(|errors| of(errors)).fold(0.0, f64::max);
            let (y, dx) = (worst(|errors| errors.y), worst(|errors| errors.dx));
            let (dweight, dbias) = (worst(|errors| errors.dweight), worst(|errors| errors.dbias));
            text.push_str(&format!(
                "  {dtype}: y {y:.1e}, dx {dx:.1e}, dweight {dweight:.1e}, dbias {dbias:.1e}\n"
            ));
        }
        if !self.measures_the_device {
            text.push_str("These are times of a GPU in software. They say nothing about the speed of a GPU.\n");
        }
        text
    }

    pub fn json(&self) -> String {
        // Numbers, strings and lists of them always serialise.
        serde_json::to_string_pretty(self)
            .map(|text| text + "\n")
            .unwrap_or_default()
    }

    pub fn csv(&self) -> String {
        let mut text = String::from(
            "device_name,timestamp,pass,n_rows,n_cols,dtype,weight_dtype,p20_us,p50_us,p80_us,bytes,gb_per_s,share_of_copy,measures_the_device\n",
        );
        for row in &self.rows {
            text.push_str(&line(&[
                &self.device_name,
                &self.timestamp,
                row.pass,
                &row.n_rows.to_string(),
                &row.n_cols.to_string(),
                row.dtype,
                row.weight_dtype,
                &format!("{:.3}", row.p20_us),
                &format!("{:.3}", row.p50_us),
                &format!("{:.3}", row.p80_us),
                &row.bytes.to_string(),
                &format!("{:.2}", row.gb_per_s),
                &row.share_of_copy
                    .map_or(String::new(), |share| format!("{share:.4}")),
                &self.measures_the_device.to_string(),
            ]));
        }
        text
    }

    /// The columns that Liger-Kernel's scripts write and plot; times in its unit, milliseconds.
    pub fn csv_liger(&self) -> String {
        let mut text = String::from(
            "kernel_name,kernel_provider,kernel_operation_mode,metric_name,metric_unit,x_name,x_label,x_value,y_value_50,y_value_20,y_value_80,extra_benchmark_config_str,gpu_name,timestamp,liger_version\n",
        );
        for row in &self.rows {
            let (provider, mode) = match row.pass {
                "copy" => ("copy", "copy"),
                // Liger's word for forward and backward.
                "both" => ("layernorm", "full"),
                pass => ("layernorm", pass),
            };
            let config = serde_json::json!({
                "n_rows": row.n_rows,
                "dtype": row.dtype,
                "weight_dtype": row.weight_dtype,
                "eps": self.eps,
                "gb_per_s": row.gb_per_s,
                "share_of_copy": row.share_of_copy,
                "measures_the_device": self.measures_the_device,
            });
            text.push_str(&line(&[
                "layer_norm",
                provider,
                mode,
                "speed",
                "ms",
                "H",
                "hidden size",
                &row.n_cols.to_string(),
                &format!("{:.6}", row.p50_us / 1e3),
                &format!("{:.6}", row.p20_us / 1e3),
                &format!("{:.6}", row.p80_us / 1e3),
                &config.to_string(),
                &self.device_name,
                &self.timestamp,
                // No Liger was run.
                "",
            ]));
        }
        text
    }
}

/// A line of CSV: what holds a comma or a quote is quoted.
fn line(fields: &[&str]) -> String {
    let quoted = fields
        .iter()
        .map(|field| match field.contains([',', '"', '\n']) {
            true => format!("\"{}\"", field.replace('"', "\"\"")),
            false => (*field).to_owned(),
        });
    quoted.collect::<Vec<_>>().join(",") + "\n"
}

fn micros(value: f64) -> String {
    match value < 1000.0 {
        true => format!("{value:.2}"),
        false => format!("{value:.0}"),
    }
}

fn significant(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 1.0 => format!("{value:.1}"),
        value => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_with_commas_and_quotes_are_quoted() {
        assert_eq!(
            line(&["a", "b,c", "{\"d\": 1}"]),
            "a,\"b,c\",\"{\"\"d\"\": 1}\"\n"
        );
    }
}
