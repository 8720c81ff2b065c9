//! Emit delays by percentile, the tail as wide as the body: each nine more is one step to the right.

use super::svg::{escape, number, tick, ticks};
use crate::bench::open_loop::{OpenLoop, Point};
use crate::bench::report::Report;
use crate::bench::report::text::threads;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 60.0;
/// Room for the curves' names.
const RIGHT: f64 = 210.0;
const TOP: f64 = 15.0;
const BOTTOM: f64 = 45.0;

/// How curves differ, beyond their names.
const CLASSES: [&str; 3] = ["curve", "curve other", "curve third"];

/// Percentiles with a tick, each with its number of nines.
const PERCENTILES: [(f64, &str); 6] = [
    (0.0, "0 %"),
    (0.301, "50 %"),
    (1.0, "90 %"),
    (2.0, "99 %"),
    (3.0, "99.9 %"),
    (4.0, "99.99 %"),
];

/// The chart.
pub fn chart(report: &Report) -> String {
    let runs = &report.open_loop;
    let longest = runs.iter().flat_map(|run| &run.curve).map(|point| point.us).max();
    let linger = runs.iter().map(|run| run.linger_us).max().unwrap_or(0);
    let ticks = ticks(longest.unwrap_or(0).max(linger) as f64 / 1e3);
    let greatest = ticks.last().copied().unwrap_or(1.0);
    let y = |ms: f64| HEIGHT - BOTTOM - ms / greatest * (HEIGHT - TOP - BOTTOM);
    let names = names(runs, &y);
    let lines: String = runs
        .iter()
        .enumerate()
        .map(|(n, run)| {
            let class = CLASSES[n % CLASSES.len()];
            let points: Vec<String> = run.curve.iter().filter_map(|point| at(point, &y)).collect();
            format!("<polyline class=\"{class}\" points=\"{}\"/>\n", points.join(" "))
        })
        .collect();
    let description: Vec<String> = runs.iter().map(description).collect();
    format!(
        "<figure>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"delay-title delay-text\">\n\
         <title id=\"delay-title\">Emit delay in milliseconds by percentile</title>\n\
         <desc id=\"delay-text\">{}</desc>\n{}{}{lines}{names}</svg>\n\
         <figcaption>Emit delay in milliseconds: lower is better. Each step to the right leaves out ten times \
         as many of the slowest results. The dotted line is linger, for which rows that do not fill a batch are \
         left to gather.</figcaption>\n</figure>\n",
        description.join(" "),
        grid(&ticks, &y),
        linger_line(linger as f64 / 1e3, &y),
    )
}

fn x(nines: f64) -> f64 {
    LEFT + nines / 4.0 * (WIDTH - LEFT - RIGHT)
}

fn at(point: &Point, y: &impl Fn(f64) -> f64) -> Option<String> {
    let nines = -(1.0 - point.quantile).log10();
    let drawn = nines.is_finite() && nines <= 4.001;
    drawn.then(|| format!("{:.1},{:.1}", x(nines), y(point.us as f64 / 1e3)))
}

fn grid(ticks: &[f64], y: &impl Fn(f64) -> f64) -> String {
    let (end, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let horizontal = ticks.iter().map(|ms| {
        let (at, text) = (y(*ms), y(*ms) + 4.5);
        format!(
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{end}\" y2=\"{at:.1}\"/>\
             <text class=\"tick\" x=\"{:.1}\" y=\"{text:.1}\" text-anchor=\"end\">{}</text>\n",
            LEFT - 8.0,
            tick(*ms)
        )
    });
    let vertical = PERCENTILES.iter().map(|(nines, name)| {
        let x = x(*nines);
        format!(
            "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>\
             <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>\n",
            bottom + 20.0
        )
    });
    horizontal.chain(vertical).collect()
}

fn linger_line(ms: f64, y: &impl Fn(f64) -> f64) -> String {
    let (at, end) = (y(ms), WIDTH - RIGHT);
    format!("<line class=\"linger\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{end}\" y2=\"{at:.1}\"/>\n")
}

/// The names behind the ends of the curves, moved apart where they would lie upon one another.
fn names(runs: &[OpenLoop], y: &impl Fn(f64) -> f64) -> String {
    const LINE: f64 = 17.0;
    let end = |run: &OpenLoop| y(run.curve.last().map_or(0.0, |point| point.us as f64 / 1e3));
    let mut by_height: Vec<&OpenLoop> = runs.iter().collect();
    by_height.sort_by(|a, b| end(a).total_cmp(&end(b)));
    let mut lowest = f64::MIN;
    let name = |run: &OpenLoop| {
        let at = end(run).max(lowest + LINE);
        lowest = at;
        let (x, at) = (WIDTH - RIGHT + 8.0, at + 4.5);
        let name = format!("{}, {}", escape(&run.name), threads(run.threads));
        format!("<text x=\"{x}\" y=\"{at:.1}\">{name}</text>\n")
    };
    by_height.into_iter().map(name).collect()
}

fn description(run: &OpenLoop) -> String {
    let ms = |micros: u64| number(micros as f64 / 1e3);
    format!(
        "{} on {}: half of all results within {} ms, 99 % within {} ms, the slowest in {} ms.",
        escape(&run.name),
        threads(run.threads),
        ms(run.delay.p50_us),
        ms(run.delay.p99_us),
        ms(run.delay.max_us)
    )
}
