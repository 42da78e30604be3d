//! GB/s over the columns, a panel a dtype, with the copy rate as a line.

use plotters::prelude::*;

use super::report::{Report, Row};
use crate::cli::Failure;

const PANEL: (u32, u32) = (760, 460);

/// Above the highest point: room for the legend.
const HEADROOM: f64 = 1.4;

const TEXT: (&str, i32) = ("sans-serif", 16);

/// Colours that are told apart by those who see no red and green (Okabe and Ito's).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
const COPY: RGBColor = RGBColor(110, 110, 110);

/// Points by name, in the order of the figures.
type Lines = Vec<(String, Vec<(f64, f64)>)>;

/// The drawing.
pub fn svg(report: &Report) -> Result<String, Failure> {
    let mut dtypes: Vec<&str> = Vec::new();
    for row in &report.rows {
        if !dtypes.contains(&row.dtype) {
            dtypes.push(row.dtype);
        }
    }
    let mut text = String::new();
    let size = (PANEL.0, PANEL.1 * dtypes.len() as u32);
    draw(report, &dtypes, &mut text, size)
        .map_err(|error| Failure::wrong(format!("the plot: {error}")))?;
    Ok(text)
}

fn draw(
    report: &Report,
    dtypes: &[&str],
    text: &mut String,
    size: (u32, u32),
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(text, size).into_drawing_area();
    root.fill(&WHITE)?;
    for (panel, dtype) in root.split_evenly((dtypes.len(), 1)).iter().zip(dtypes) {
        let rows: Vec<&Row> = report
            .rows
            .iter()
            .filter(|row| row.dtype == *dtype)
            .collect();
        let (lines, copy) = (lines(&rows, false), lines(&rows, true));
        let every = rows.iter().map(|row| (row.n_cols as f64, row.gb_per_s));
        let (low, high, top) = every
            .fold((f64::MAX, 0.0f64, 0.0f64), |(low, high, top), (x, y)| {
                (low.min(x), high.max(x), top.max(y))
            });
        let caption = match report.measures_the_device {
            true => format!("{}, {dtype}", report.device_name),
            false => format!("{}, {dtype}: no measure of a GPU", report.device_name),
        };
        let mut chart = ChartBuilder::on(panel)
            .caption(caption, ("sans-serif", 22))
            .margin(14)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(
                ((low / 1.2)..(high * 1.2)).log_scale().base(2.0),
                0.0..top * HEADROOM,
            )?;
        chart
            .configure_mesh()
            .x_desc("columns")
            .y_desc("GB/s")
            .label_style(TEXT)
            .axis_desc_style(TEXT)
            .y_label_formatter(&|y| format!("{y:.0}"))
            .x_label_formatter(&|x| format!("{x:.0}"))
            .light_line_style(WHITE)
            .draw()?;
        for (name, points) in copy {
            let style = COPY.stroke_width(2);
            chart
                .draw_series(DashedLineSeries::new(points, 6, 4, style))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
        for ((name, points), colour) in lines.into_iter().zip(COLOURS.iter().cycle()) {
            let style = colour.stroke_width(2);
            chart
                .draw_series(LineSeries::new(points, style).point_size(3))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
        chart
            .configure_series_labels()
            .label_font(TEXT)
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.8))
            .border_style(COPY)
            .draw()?;
    }
    root.present()?;
    Ok(())
}

/// The copies' lines, or the passes', with in their names what sets them apart.
fn lines(rows: &[&Row], copies: bool) -> Lines {
    let wanted: Vec<&&Row> = rows
        .iter()
        .filter(|row| (row.pass == "copy") == copies)
        .collect();
    // The same columns at several numbers of rows, or dtypes of weight, are lines of their own.
    let twice = |key: &dyn Fn(&Row) -> String| {
        wanted.iter().any(|a| {
            wanted
                .iter()
                .any(|b| a.n_cols == b.n_cols && a.pass == b.pass && key(a) != key(b))
        })
    };
    let by_rows = twice(&|row| row.n_rows.to_string());
    let by_weight = twice(&|row| row.weight_dtype.to_owned());
    let mut lines = Lines::new();
    for row in wanted {
        let mut name = row.pass.to_owned();
        if by_rows {
            name.push_str(&format!(", {} rows", row.n_rows));
        }
        if by_weight {
            name.push_str(&format!(", weight {}", row.weight_dtype));
        }
        let point = (row.n_cols as f64, row.gb_per_s);
        match lines.iter_mut().find(|(known, _)| *known == name) {
            Some((_, points)) => points.push(point),
            None => lines.push((name, vec![point])),
        }
    }
    for (_, points) in &mut lines {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    lines
}
