//! A report as one page that needs nothing else: charts as inline SVG, and every figure as text too.
//!
//! Invariant: there are no scripts and no requests in it, and everything that comes from outside is
//! escaped.

mod bars;
mod curves;
mod svg;

use std::fmt::Write;

use self::svg::{escape, number};
use super::report::text::{in_milliseconds, millions, scaled, threads};
use super::report::{Peer, Report};

const STYLE: &str = include_str!("html/style.css");

/// What figures leave open, whoever measured them.
const LIMITS: [(&str, &str); 5] = [
    (
        "Not that runs on other machines compare.",
        "Only ratios within one run on one machine mean something, and peers in processes of their \
         own did not even take turns with the contenders here.",
    ),
    (
        "Not that a bar which is longer by less than its whiskers is faster.",
        "Whiskers are the least and the greatest run, the bar is the median.",
    ),
    (
        "Not how fast your job is.",
        "A few cheap aggregates over rows in memory are the best case of any engine.",
    ),
    (
        "Not what all the contenders would cost in use.",
        "Loops written by hand do this one query, and batch engines see the end of their input. None \
         of them judges lateness, keeps accounts or survives a crash.",
    ),
    (
        "Not more about the tail than there are windows in it.",
        "Results of one window come together: a delay that 1 of 1000 results had may have been that \
         of one window.",
    ),
];

/// The page.
pub fn page(report: &Report) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = write(report, &mut page);
    page
}

fn write(report: &Report, page: &mut String) -> std::fmt::Result {
    let headline = escape(&report.headline());
    writeln!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <title>Tidemill bench: {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>{}</h1>\n<p class=\"lead\">{headline}</p>",
        escape(&report.name),
        escape(&report.name),
    )?;
    page.push_str(&about(report));
    writeln!(page, "<h2>Speed</h2>\n{}", bars::chart(report))?;
    page.push_str(&figures(report));
    page.push_str(&peers(&report.peers));
    page.push_str(&ratios(report));
    page.push_str(&delays(report));
    writeln!(page, "<h2>What the numbers do not say</h2>\n<ul>")?;
    for (what, why) in LIMITS {
        writeln!(page, "<li><strong>{what}</strong> {why}</li>")?;
    }
    writeln!(page, "</ul>\n</main>\n</body>\n</html>")
}

fn about(report: &Report) -> String {
    let rounds = format!("{} runs after {} to warm up, taking turns", report.runs, report.warm_up);
    let machine = report.machine.to_string();
    let entries = [("Machine", &machine), ("Measured", &rounds)];
    let entry = |(name, value): (&str, &String)| {
        format!("<dt>{name}</dt><dd>{}</dd>\n", escape(value).replace('\n', "<br/>"))
    };
    let entries: String = entries.into_iter().map(entry).collect();
    let command = escape(&report.command);
    format!("<dl>\n{entries}<dt>Command</dt><dd><code>{command}</code></dd>\n</dl>\n")
}

fn figures(report: &Report) -> String {
    let rows = report.contenders.iter().map(|figures| {
        let mib = |bytes: Option<u64>| known(bytes.map(|bytes| (bytes >> 20).to_string()));
        [
            escape(&figures.name),
            figures.threads.to_string(),
            millions(figures.rows_per_second),
            millions(figures.rows_per_second_per_core),
            known(figures.cpu_ns_per_row.map(|ns| format!("{ns:.1}"))),
            known(figures.emit_delay.map(in_milliseconds)),
            mib(figures.peak_bytes),
            mib(figures.added_bytes),
        ]
    });
    let header = [
        "contender",
        "threads",
        "M rows/s",
        "M rows/s per core",
        "CPU ns a row",
        "emit delay under full load, p50 / p99 / p99.9 ms",
        "peak MiB",
        "of it added",
    ];
    table("Median (least – greatest) of all runs", &header, 0, rows)
}

fn peers(peers: &[Peer]) -> String {
    if peers.is_empty() {
        return String::new();
    }
    let rows = peers.iter().map(|peer| {
        [
            escape(&peer.name),
            peer.threads.to_string(),
            known(peer.rows_per_second().map(millions)),
            peer.verdict().to_owned(),
            escape(&peer.note),
        ]
    });
    let header = ["peer", "threads", "M rows/s", "results", "note"];
    table("Others, in processes of their own", &header, 2, rows)
}

fn ratios(report: &Report) -> String {
    if report.ratios.is_empty() {
        return String::new();
    }
    let rows = report.ratios.iter().map(|ratio| {
        [
            format!("{} on {}", escape(&ratio.of), threads(ratio.threads)),
            format!("{} ×", scaled(ratio.speed, 1.0)),
            format!("{} on {}", escape(&ratio.to), threads(ratio.to_threads)),
        ]
    });
    let caption = "Speed of one over that of another, from runs of the same round";
    table(caption, &["contender", "speed", "of"], 1, rows)
}

fn delays(report: &Report) -> String {
    if report.open_loop.is_empty() {
        return String::new();
    }
    let rows = report.open_loop.iter().map(|run| {
        let ms = |micros: u64| number(micros as f64 / 1e3);
        let delay = &run.delay;
        [
            format!("{} on {}", escape(&run.name), threads(run.threads)),
            format!("{:.2}", run.rows_per_second / 1e6),
            [delay.p50_us, delay.p90_us, delay.p99_us, delay.p999_us].map(ms).join(" / "),
            ms(delay.max_us),
            run.windows.to_string(),
            ms(run.linger_us),
            ms(run.behind_us),
        ]
    });
    let header = [
        "contender",
        "M rows/s due",
        "p50 / p90 / p99 / p99.9 ms",
        "longest, ms",
        "windows",
        "linger, ms",
        "last row read after it was due, ms",
    ];
    let late = report.open_loop.iter().filter(|run| !run.kept_up()).map(|run| {
        format!(
            "<p class=\"warning\">{} on {} did not keep up with this rate: its delays say how long \
             the run was.</p>\n",
            escape(&run.name),
            threads(run.threads)
        )
    });
    format!(
        "<h2>Emit delay</h2>\n<p>Rows become due by a schedule that waits for nobody. A result's delay \
         is the time from when the last row that it needs was <em>due</em> to when the sink has it.</p>\n\
         {}\n{}{}",
        curves::chart(report),
        late.collect::<String>(),
        table("Emit delay while rows become due by a schedule", &header, 0, rows)
    )
}

fn known(value: Option<String>) -> String {
    value.unwrap_or_else(|| "–".to_owned())
}

/// A table of cells that are HTML already, the first of each row being its header, and the last
/// `words` columns being words rather than numbers.
fn table<const N: usize>(
    caption: &str,
    header: &[&str; N],
    words: usize,
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let class = |column: usize| match column {
        0 => " class=\"words\"",
        _ if column + words >= N => " class=\"words\"",
        _ => "",
    };
    let name = |(n, name): (usize, &&str)| format!("<th scope=\"col\"{}>{name}</th>", class(n));
    let header: String = header.iter().enumerate().map(name).collect();
    let cell = |(n, cell): (usize, &String)| match n {
        0 => format!("<th scope=\"row\"{}>{cell}</th>", class(n)),
        _ => format!("<td{}>{cell}</td>", class(n)),
    };
    let row = |cells: [String; N]| {
        let cells: String = cells.iter().enumerate().map(cell).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows: String = rows.map(row).collect();
    format!(
        "<div class=\"scroll\"><table>\n<caption>{caption}</caption>\n<thead><tr>{header}</tr></thead>\n\
         <tbody>\n{rows}</tbody>\n</table></div>\n"
    )
}

#[cfg(test)]
mod tests;
