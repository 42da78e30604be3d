//! What ncu counted of a kernel on silicon, beside what the software GPU counted of the same launch.

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// One launch of a kernel. Bytes are those that crossed the device's memory.
pub struct Counted {
    pub problem: String,
    pub kernel: String,
    pub read: f64,
    pub written: f64,
    /// Percent of what ncu holds to be the most.
    pub throughput: Option<f64>,
    pub us: Option<f64>,
    /// Different bytes that the software GPU saw the kernel read and write.
    pub software: Option<(f64, f64)>,
}

/// `ncu` is gpu-session.sh's file: for each shape a line `# ROWSxCOLS DTYPE, ...`, then ncu's names, units and rows.
pub fn read(ncu: &str, software: &str) -> Result<Vec<Counted>> {
    let software = serde_json::Deserializer::from_str(software)
        .into_iter()
        .collect::<Result<Vec<Value>, _>>()
        .context("software-counters.json")?;
    let mut out = Vec::new();
    for part in ncu.split("# ").skip(1) {
        let (head, table) = part.split_once('\n').unwrap_or((part, ""));
        let problem = head.split(',').next().unwrap_or_default().trim();
        out.extend(rows(problem, table, &software).with_context(|| format!("ncu.csv, {problem}"))?);
    }
    Ok(out)
}

fn rows(problem: &str, table: &str, software: &[Value]) -> Result<Vec<Counted>> {
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .from_reader(table.as_bytes());
    let names = reader.headers()?.clone();
    let column = |name: &str| names.iter().position(|other| other == name);
    let mut records = reader.records();
    let Some(units) = records.next().transpose()? else {
        return Ok(Vec::new());
    };
    let value = |record: &csv::StringRecord, name: &str| -> Result<Option<f64>> {
        let Some(at) = column(name) else {
            return Ok(None);
        };
        let text = record.get(at).unwrap_or_default().replace(',', "");
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Some(value * scale(&units[at])?)),
            // ncu's word for what it could not count.
            _ => Ok(None),
        }
    };
    let mut out = Vec::new();
    for record in records {
        let record = record?;
        let kernel = column("Kernel Name")
            .and_then(|at| record.get(at))
            .context("no Kernel Name")?;
        let kernel = kernel.split('(').next().unwrap_or_default().to_owned();
        let read = value(&record, "dram__bytes_read.sum")?;
        let written = value(&record, "dram__bytes_write.sum")?;
        if let (Some(read), Some(written)) = (read, written) {
            out.push(Counted {
                problem: problem.to_owned(),
                software: of_software(software, problem, &kernel),
                kernel,
                read,
                written,
                throughput: value(
                    &record,
                    "dram__throughput.avg.pct_of_peak_sustained_elapsed",
                )?,
                us: value(&record, "gpu__time_duration.sum")?,
            });
        }
    }
    Ok(out)
}

/// To bytes, microseconds and percent.
fn scale(unit: &str) -> Result<f64> {
    Ok(match unit {
        "byte" | "us" | "usecond" | "%" => 1.0,
        "Kbyte" | "ms" | "msecond" => 1e3,
        "Mbyte" | "s" | "second" => 1e6,
        "Gbyte" => 1e9,
        "ns" | "nsecond" => 1e-3,
        _ => bail!("unit {unit:?}: known are byte, Kbyte, Mbyte, Gbyte, ns, us, ms, s and %"),
    })
}

fn of_software(software: &[Value], problem: &str, kernel: &str) -> Option<(f64, f64)> {
    let of_problem = |one: &&Value| {
        let p = &one["problem"];
        let dtype = p["dtype"].as_str().unwrap_or_default();
        format!("{}x{} {dtype}", p["n_rows"], p["n_cols"]) == problem
    };
    let found = software.iter().find(of_problem)?;
    let mut kernels = found["passes"]
        .as_array()?
        .iter()
        .filter_map(|pass| pass["kernels"].as_array())
        .flatten();
    let found = kernels.find(|one| one["kernel"] == kernel)?;
    Some((
        found["unique_bytes_read"].as_f64()?,
        found["unique_bytes_written"].as_f64()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOFTWARE: &str = r#"
        {"problem": {"n_rows": 8, "n_cols": 64, "dtype": "bf16"}, "passes": [
            {"kernels": [{"kernel": "forward", "unique_bytes_read": 10, "unique_bytes_written": 20}]}]}
        {"problem": {"n_rows": 9, "n_cols": 64, "dtype": "bf16"}, "passes": [
            {"kernels": [{"kernel": "forward", "unique_bytes_read": 11, "unique_bytes_written": 21}]}]}"#;

    #[test]
    fn silicon_is_put_beside_the_same_kernel_of_the_same_shape() {
        let ncu = r#"# 9x64 bf16, NVIDIA H100, 580.1, commit 0
"ID","Kernel Name","dram__bytes_read.sum","dram__bytes_write.sum","gpu__time_duration.sum"
"","","Kbyte","byte","ns"
"0","forward(x)","1,268.5","16","2,500"
"1","other","n/a","16","2,500"
# 8x64 bf16, NVIDIA H100, 580.1, commit 0
"#;
        let counted = read(ncu, SOFTWARE).unwrap();
        assert_eq!(counted.len(), 1, "what ncu could not count is left out");
        let one = &counted[0];
        assert_eq!(
            (one.problem.as_str(), one.kernel.as_str()),
            ("9x64 bf16", "forward")
        );
        assert_eq!(
            (one.read, one.written, one.us),
            (1_268_500.0, 16.0, Some(2.5))
        );
        assert_eq!((one.throughput, one.software), (None, Some((11.0, 21.0))));
        assert!(read("", "").unwrap().is_empty());
    }

    #[test]
    fn a_unit_that_is_not_known_is_refused() {
        let ncu = "# 9x64 bf16\nKernel Name,dram__bytes_read.sum,dram__bytes_write.sum\n,furlong,byte\nforward,1,2\n";
        let error = read(ncu, "").err().unwrap();
        assert!(format!("{error:#}").contains("furlong"), "{error:#}");
    }
}
