//! Plots as SVG: bars of rates, lines of costs. Readable on light and dark pages.

use super::{Cost, Report};

const WIDTH: f64 = 720.0;
const STYLE: &str = "<style>text{font:13px sans-serif;fill:#444}.v{fill:#2a6f97}.w{fill:#c0553b}\
                     .l{stroke:#999;stroke-width:1}@media(prefers-color-scheme:dark)\
                     {text{fill:#ccc}}</style>";

/// Packets a second of every column, as bars on a logarithmic scale: they differ by a factor of a
/// hundred.
pub(super) fn rates(report: &Report) -> String {
    const LEFT: f64 = 240.0;
    const ROW: f64 = 34.0;
    let rows: Vec<(&str, f64)> = report
        .rows
        .iter()
        .filter_map(|row| Some((row.column.label(), row.measured.as_ref().ok()?.rate())))
        .collect();
    let (low, high) = (1e4_f64.log10(), 1e7_f64.log10());
    let x = |rate: f64| (rate.max(1e4).log10() - low) / (high - low) * (WIDTH - LEFT - 90.0);
    let mut body = String::new();
    let mut y = 40.0;
    for (label, rate) in &rows {
        let (text, width) = (y + 16.0, x(*rate));
        body += &format!(
            "<text x=\"8\" y=\"{text}\">{label}</text><rect class=\"v\" x=\"{LEFT}\" y=\"{y}\" \
             width=\"{width:.0}\" height=\"22\"/><text x=\"{:.0}\" y=\"{text}\">{}</text>",
            LEFT + width + 6.0,
            thousands(*rate)
        );
        y += ROW;
    }
    for power in 4..=7 {
        let at = LEFT + x(10f64.powi(power));
        body += &format!(
            "<line class=\"l\" x1=\"{at:.0}\" x2=\"{at:.0}\" y1=\"30\" y2=\"{y}\" \
             stroke-dasharray=\"2 4\"/>"
        );
    }
    document(
        "Packets per second on one core, without loss (logarithmic; lines: powers of ten)",
        y,
        &body,
    )
}

/// Nanoseconds above a program that does nothing, by the number of flows.
pub(super) fn costs(costs: &[Cost]) -> String {
    const LEFT: f64 = 60.0;
    const BOTTOM: f64 = 260.0;
    let top = costs.iter().map(|c| c.ns).fold(120.0, f64::max) * 1.1;
    let x = |flows: u32| LEFT + f64::from(flows).log10() / 5.0 * (WIDTH - LEFT - 90.0);
    let y = |ns: f64| BOTTOM - ns.max(0.0) / top * (BOTTOM - 50.0);
    let mut body = String::new();
    for (v6, class, label) in [(false, "v", "IPv4"), (true, "w", "IPv6")] {
        let points: Vec<(f64, f64, f64)> = costs
            .iter()
            .filter(|cost| cost.v6 == v6 && !cost.measured)
            .map(|cost| (x(cost.flows), y(cost.ns), cost.ns))
            .collect();
        let line: Vec<String> = points
            .iter()
            .map(|p| format!("{:.0},{:.0}", p.0, p.1))
            .collect();
        let color = if v6 { "#c0553b" } else { "#2a6f97" };
        body += &format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
            line.join(" ")
        );
        for (at, height, ns) in &points {
            body += &format!(
                "<circle class=\"{class}\" cx=\"{at:.0}\" cy=\"{height:.0}\" r=\"4\"/>\
                 <text x=\"{at:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{ns:.0}</text>",
                height - if v6 { 10.0 } else { -18.0 }
            );
        }
        if let Some((at, height, _)) = points.last() {
            body += &format!(
                "<text x=\"{:.0}\" y=\"{height:.0}\">{label}</text>",
                at + 22.0
            );
        }
    }
    let mut shown: Vec<u32> = costs.iter().map(|cost| cost.flows).collect();
    shown.sort_unstable();
    shown.dedup();
    for flows in shown {
        body += &format!(
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
            x(flows),
            BOTTOM + 34.0,
            thousands(f64::from(flows))
        );
    }
    body += &format!(
        "<line class=\"l\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{BOTTOM}\" y2=\"{BOTTOM}\"/>"
    );
    document(
        "ns per packet above a nop program, by flows hit at random",
        BOTTOM + 40.0,
        &body,
    )
}

fn document(title: &str, height: f64, body: &str) -> String {
    let height = height + 10.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\">{STYLE}\
         <text x=\"8\" y=\"20\" font-weight=\"bold\">{title}</text>{body}</svg>\n"
    )
}

/// 1234567 as 1,234,567.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_in_threes() {
        for (value, text) in [
            (7.0, "7"),
            (100.0, "100"),
            (1234.0, "1,234"),
            (1e6, "1,000,000"),
        ] {
            assert_eq!(thousands(value), text);
        }
    }
}
