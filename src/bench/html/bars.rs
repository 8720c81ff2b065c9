//! Speeds as horizontal bars, the least and the greatest run as whiskers.

use super::svg::{escape, number, tick, ticks};
use crate::bench::report::text::threads;
use crate::bench::report::{Report, is_engine};
use crate::bench::statistics::Spread;

const WIDTH: f64 = 900.0;
/// Where bars begin.
const LEFT: f64 = 260.0;
/// Room for the figure behind the longest whisker.
const RIGHT: f64 = 90.0;
const BAR: f64 = 20.0;
const ROW: f64 = 30.0;

struct Bar {
    label: String,
    class: &'static str,
    /// In millions of rows per second.
    speed: Spread,
}

/// The chart, or nothing where nobody ran.
pub fn chart(report: &Report) -> String {
    let bars = bars(report);
    let greatest = bars.iter().map(|bar| bar.speed.max).fold(0.0, f64::max);
    let Some(fastest) = bars.iter().max_by(|a, b| a.speed.median.total_cmp(&b.speed.median)) else {
        return String::new();
    };
    let ticks = ticks(greatest);
    let end = ticks.last().copied().unwrap_or(greatest);
    let x = |value: f64| LEFT + value / end * (WIDTH - LEFT - RIGHT);
    let bottom = ROW * bars.len() as f64 + 5.0;
    let grid: String = ticks
        .iter()
        .map(|value| {
            let (x, y) = (x(*value), bottom + 18.0);
            format!(
                "<line class=\"grid\" x1=\"{x:.1}\" y1=\"0\" x2=\"{x:.1}\" y2=\"{bottom:.1}\"/>\
             <text class=\"tick\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>\n",
                tick(*value)
            )
        })
        .collect();
    let drawn: String = bars.iter().enumerate().map(|(n, bar)| draw(bar, n, &x)).collect();
    let description = format!(
        "{} bars. The longest is {}, {} million rows a second. All figures are in the table below.",
        bars.len(),
        escape(&fastest.label),
        number(fastest.speed.median)
    );
    format!(
        "<figure>\n<svg viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\" aria-labelledby=\"speed-title speed-text\">\n\
         <title id=\"speed-title\">Million rows per second</title>\n\
         <desc id=\"speed-text\">{description}</desc>\n{grid}{drawn}</svg>\n\
         <figcaption>Million rows per second: longer is faster. Bars are medians, whiskers the least and \
         the greatest run.</figcaption>\n</figure>\n",
        bottom + 26.0
    )
}

fn bars(report: &Report) -> Vec<Bar> {
    let millions =
        |s: Spread| Spread { median: s.median / 1e6, min: s.min / 1e6, max: s.max / 1e6 };
    let label = |name: &str, on: usize| format!("{name}, {}", threads(on));
    let contenders = report.contenders.iter().map(|figures| Bar {
        label: label(&figures.name, figures.threads),
        class: if is_engine(&figures.name) { "engine" } else { "yardstick" },
        speed: millions(figures.rows_per_second),
    });
    let peers = report.peers.iter().filter_map(|peer| {
        let label = label(&peer.name, peer.threads);
        Some(Bar { label, class: "peer", speed: millions(peer.rows_per_second()?) })
    });
    contenders.chain(peers).collect()
}

fn draw(bar: &Bar, n: usize, x: &impl Fn(f64) -> f64) -> String {
    let top = ROW * n as f64 + 5.0;
    let (middle, text) = (top + BAR / 2.0, top + BAR / 2.0 + 4.5);
    let Spread { median, min, max } = bar.speed;
    let (length, low, high) = (x(median) - LEFT, x(min), x(max));
    let cap = |at: f64| {
        let (from, to) = (middle - 4.0, middle + 4.0);
        format!("M{at:.1} {from:.1}V{to:.1}")
    };
    format!(
        "<text x=\"{:.1}\" y=\"{text:.1}\" text-anchor=\"end\">{}</text>\
         <rect class=\"{}\" x=\"{LEFT}\" y=\"{top:.1}\" width=\"{length:.1}\" height=\"{BAR}\"/>\
         <path class=\"whisker\" d=\"M{low:.1} {middle:.1}H{high:.1}{}{}\"/>\
         <text x=\"{:.1}\" y=\"{text:.1}\">{}</text>\n",
        LEFT - 8.0,
        escape(&bar.label),
        bar.class,
        cap(low),
        cap(high),
        high + 8.0,
        number(median)
    )
}
