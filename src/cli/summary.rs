//! What is said when a job has ended: the counts, which add up, and how fast it was.

use tidemill_runtime::{JobSummary, Phase};

use super::OutputFormat;

pub fn print(summary: &JobSummary, checkpointed: bool, output: OutputFormat) {
    match output {
        OutputFormat::Json => match serde_json::to_string(summary) {
            Ok(json) => eprintln!("{json}"),
            Err(error) => eprintln!("the summary cannot be written as JSON: {error}"),
        },
        OutputFormat::Text => eprint!("{}", text(summary, checkpointed)),
    }
}

fn text(summary: &JobSummary, checkpointed: bool) -> String {
    let end = match summary.phase {
        Phase::Finished => "finished",
        _ if checkpointed => "stopped; run it again to resume",
        _ => "stopped",
    };
    let seconds = summary.elapsed.as_secs_f64();
    let rate = summary.records_in as f64 / seconds.max(1e-9);
    let mut text = format!(
        "\n{} {end} after {seconds:.2} s, {} records in ({}/s)\n",
        summary.job,
        grouped(summary.records_in),
        grouped(rate as u64)
    );
    for ledger in &summary.ledgers {
        // Only a source that may drop makes anything of it.
        let dropped = match ledger.dropped {
            0 => String::new(),
            dropped => format!(" + {} dropped", grouped(dropped)),
        };
        text += &format!(
            "  {}: {} in = {} counted + {} late + {} dead-lettered + {} filtered{dropped}\n",
            ledger.node,
            grouped(ledger.records_in + ledger.expanded),
            grouped(ledger.counted),
            grouped(ledger.late),
            grouped(ledger.dead_letters),
            grouped(ledger.filtered),
        );
    }
    if summary.windows_fired > 0 {
        text += &format!("  windows fired: {}\n", grouped(summary.windows_fired));
    }
    for (node, letters) in &summary.dead_lettered_results {
        text += &format!("  {node}: {} results dead-lettered\n", grouped(*letters));
    }
    let delay = &summary.emit_delay;
    if delay.results > 0 {
        let ms = |micros: u64| micros as f64 / 1000.0;
        text += &format!(
            "  emit delay: p50 {:.1} ms, p99 {:.1} ms\n",
            ms(delay.p50_us),
            ms(delay.p99_us)
        );
    }
    if let Some(epoch) = summary.checkpoints.last_epoch {
        text += &format!("  last checkpoint: epoch {epoch}\n");
    }
    text
}

/// A number with its thousands set apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}
