//! README.md's plot: GB/s of forward and backward together over the row's length, ours and each peer's, and a copy's.

use std::fmt::Write;

use super::read::{Run, Shape};

const DTYPE: &str = "bf16";
const PASS: &str = "both";

/// Columns whose rows all start at multiples of 16 bytes. The others are points of their own: between two lengths
/// that are nearly the same a line would be a spike.
const ALIGNED: u64 = 8;

const WIDTH: f64 = 820.0;
const HEIGHT: f64 = 470.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = WIDTH - 24.0;
const TOP: f64 = 92.0;
const BOTTOM: f64 = HEIGHT - 58.0;

/// From a line across the plot to the next, in GB/s.
const STEP: f64 = 500.0;

/// Colours that are told apart by those who see no red and green (Okabe and Ito's); ours is the first.
const COLOURS: [&str; 6] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9",
];
const COPY: &str = "#555555";
const TEXT: &str = "#1f2328";

/// The drawing; nothing where no such shape was measured.
pub fn svg(run: &Run) -> Option<String> {
    let mut lines: Vec<Line> = Vec::new();
    for (provider, colour) in run.providers().into_iter().zip(COLOURS.iter().cycle()) {
        lines.push(Line::new(run, provider, colour, |shape| {
            run.rate(provider, PASS, shape)
        }));
    }
    lines.push(Line::new(run, "copy", COPY, |shape| run.copy_rate(shape)));
    lines.retain(|line| !line.points.is_empty());
    let columns = lines
        .iter()
        .flat_map(|line| &line.points)
        .map(|point| point.0);
    let (low, high) = (columns.clone().min()?, columns.max()?);
    let rates = lines
        .iter()
        .flat_map(|line| &line.points)
        .map(|point| point.1);
    let plot = Plot {
        low: (low as f64).log2() - 0.25,
        high: (high as f64).log2() + 0.25,
        top: (rates.fold(0.0, f64::max) / STEP).ceil() * STEP,
    };
    Some(plot.draw(run, &lines))
}

struct Line {
    name: String,
    colour: &'static str,
    /// Columns and GB/s, by columns.
    points: Vec<(u64, f64)>,
}

impl Line {
    fn new(
        run: &Run,
        name: &str,
        colour: &'static str,
        rate: impl Fn(&Shape) -> Option<f64>,
    ) -> Line {
        let shapes = run.shapes(true);
        let of_dtype = shapes.iter().filter(|shape| shape.dtype == DTYPE);
        Line {
            name: name.to_owned(),
            colour,
            points: of_dtype
                .filter_map(|shape| Some((shape.n_cols, rate(shape)?)))
                .collect(),
        }
    }
}

/// Where a figure is on the drawing.
struct Plot {
    /// Binary logarithms of the columns at either side.
    low: f64,
    high: f64,
    /// GB/s at the upper edge.
    top: f64,
}

impl Plot {
    fn x(&self, n_cols: u64) -> f64 {
        LEFT + ((n_cols as f64).log2() - self.low) / (self.high - self.low) * (RIGHT - LEFT)
    }

    fn y(&self, rate: f64) -> f64 {
        BOTTOM - rate / self.top * (BOTTOM - TOP)
    }

    fn draw(&self, run: &Run, lines: &[Line]) -> String {
        // A background of its own: a page may be light or dark.
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" font-family=\"system-ui, sans-serif\" font-size=\"14\" fill=\"{TEXT}\">\n\
             <rect x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"6\" fill=\"#ffffff\" stroke=\"#d0d7de\"/>\n\
             <text x=\"{LEFT}\" y=\"30\" font-size=\"16\" font-weight=\"600\">GB/s, forward and backward, {DTYPE}, \
             {}</text>\n",
            WIDTH - 1.0,
            HEIGHT - 1.0,
            escaped(&run.device),
        );
        self.axes(&mut text);
        self.legend(&mut text, lines);
        // Ours last, over the others.
        for line in lines.iter().rev() {
            self.line(&mut text, line);
        }
        text + "</svg>\n"
    }

    fn axes(&self, text: &mut String) {
        let mut rate = 0.0;
        while rate <= self.top {
            let y = self.y(rate);
            let _ = writeln!(
                text,
                "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#e4e8ec\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{rate:.0}</text>",
                LEFT - 8.0,
                y + 5.0
            );
            rate += STEP;
        }
        for power in self.low.ceil() as u32..=self.high.floor() as u32 {
            let x = self.x(1 << power);
            let _ = writeln!(
                text,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{BOTTOM}\" y2=\"{}\" stroke=\"{COPY}\"/>\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                BOTTOM + 5.0,
                BOTTOM + 21.0,
                1_u64 << power
            );
        }
        let _ = writeln!(
            text,
            "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{BOTTOM}\" y2=\"{BOTTOM}\" stroke=\"{COPY}\"/>\n\
             <text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">columns (circles: rows that do not start at \
             multiples of 16 bytes)</text>",
            (LEFT + RIGHT) / 2.0,
            BOTTOM + 44.0
        );
    }

    fn legend(&self, text: &mut String, lines: &[Line]) {
        // A letter is not as wide as this in any font.
        let widths = lines
            .iter()
            .map(|line| 56.0 + 10.0 * line.name.len() as f64);
        let mut next = LEFT;
        for (line, width) in lines.iter().zip(widths) {
            let x = next;
            next += width;
            let _ = writeln!(
                text,
                "<line x1=\"{x:.1}\" x2=\"{:.1}\" y1=\"58\" y2=\"58\" {}/><text x=\"{:.1}\" y=\"63\">{}</text>",
                x + 26.0,
                line.stroke(),
                x + 33.0,
                escaped(&line.name)
            );
        }
    }

    fn line(&self, text: &mut String, line: &Line) {
        let (aligned, odd): (Vec<_>, Vec<_>) = line
            .points
            .iter()
            .map(|&(n_cols, rate)| (n_cols, self.x(n_cols), self.y(rate)))
            .partition(|(n_cols, ..)| n_cols.is_multiple_of(ALIGNED));
        let path: Vec<_> = aligned
            .iter()
            .map(|(_, x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let _ = writeln!(
            text,
            "<polyline points=\"{}\" fill=\"none\" stroke-linejoin=\"round\" {}/>",
            path.join(" "),
            line.stroke()
        );
        for (_, x, y) in odd {
            let _ = writeln!(
                text,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"#ffffff\" stroke=\"{}\" stroke-width=\"2\"/>",
                line.colour
            );
        }
    }
}

impl Line {
    fn stroke(&self) -> String {
        let (width, dashes) = match self.name.as_str() {
            "ours" => (3.5, ""),
            "copy" => (2.0, " stroke-dasharray=\"7 5\""),
            _ => (2.0, ""),
        };
        format!(
            "stroke=\"{}\" stroke-width=\"{width}\"{dashes}",
            self.colour
        )
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::read::of_lines;

    #[test]
    fn a_line_has_the_figures_and_odd_lengths_are_circles() {
        let drawn = svg(&of_lines(
            "
            copy copy speed bf16 32x256 1
            ours both speed bf16 32x256 2
            copy copy speed bf16 32x1024 1
            ours both speed bf16 32x1024 1
            torch both speed bf16 32x1024 4
            copy copy speed bf16 32x1023 1
            ours both speed bf16 32x1023 4
            ours forward speed bf16 32x1024 0.1
            copy copy speed f32 32x4096 0.1",
        ))
        .unwrap();
        assert_eq!(drawn.matches("<polyline").count(), 3, "{drawn}");
        assert_eq!(
            drawn.matches("<circle").count(),
            2,
            "ours and the copy: {drawn}"
        );
        assert_eq!(
            drawn.matches("stroke-dasharray").count(),
            2,
            "the copy and its legend: {drawn}"
        );
        // 1000 GB/s is the upper edge, 500 half way.
        let middle = (TOP + BOTTOM) / 2.0;
        let ours = drawn
            .lines()
            .find(|line| line.starts_with("<polyline") && line.contains(COLOURS[0]))
            .unwrap();
        assert!(ours.contains(&format!(",{middle:.1} ")), "{ours}");
        assert!(ours.contains(&format!(",{TOP:.1}\"")), "{ours}");
        assert!(!drawn.contains(">4096<"), "another dtype's: {drawn}");
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert_eq!(svg(&of_lines("ours forward speed bf16 1x8 2")), None);
    }
}
