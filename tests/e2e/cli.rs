//! The command line, as people and scripts meet it: exit codes, what goes to which stream, errors with
//! their places, and what a job shows over HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::command::{command, file, finish, run_job, tidemill};

const COUNT: &str = "
CREATE TABLE numbers (n BIGINT)
WITH ('connector' = 'datagen', 'fields.n.kind' = 'sequence', 'fields.n.start' = '1', 'fields.n.end' = '10');
CREATE TABLE even (n BIGINT) WITH ('connector' = 'print');
INSERT INTO even SELECT n FROM numbers WHERE n % 2 = 0;
";

#[test]
fn exit_codes_say_whose_turn_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(folder.path(), "good.sql", COUNT);
    let bad = file(folder.path(), "bad.sql", COUNT.replace("SELECT n", "SELECT m"));
    let failing = COUNT.replace("SELECT n", "SELECT n / (n - 4)");
    let failing = file(folder.path(), "failing.sql", failing);
    let code = |arguments: &[&str]| tidemill(arguments).code;
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    assert_eq!(code(&["run", &path(&good)]), 0);
    assert_eq!(code(&["run", &path(&failing)]), 1);
    for usage in [&["run"][..], &["swim"], &["run", "x.sql", "--parallelism", "many"]] {
        assert_eq!(code(usage), 2, "{usage:?}");
    }
    assert_eq!(code(&["run", &path(&bad)]), 78);
    assert_eq!(code(&["check", &path(&bad)]), 78);
    assert_eq!(code(&["run", "there/is/no/such.sql"]), 78);
    assert_eq!(code(&["run", &path(&good), "--set", "pipeline.nam=x"]), 78);
}

#[test]
fn results_go_to_stdout_and_talk_to_stderr() {
    let folder = tempfile::tempdir().unwrap();
    let job = file(folder.path(), "job.sql", COUNT);
    let ended = tidemill(["run", job.to_str().unwrap()]).expect(0);
    assert!(ended.stdout.contains("10") && !ended.stdout.contains("finished"), "{}", ended.stdout);
    assert!(ended.stderr.contains("job finished"), "{}", ended.stderr);
    assert!(ended.stderr.contains("10 in = 5 counted + 0 late"), "{}", ended.stderr);

    let ended = run_job(folder.path(), COUNT, &[]).expect(0);
    let mut numbers: Vec<i64> = ended.results().iter().map(|r| r["n"].as_i64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 4, 6, 8, 10]);
    assert_eq!(ended.summary()["phase"], "finished");
}

#[test]
fn settings_come_from_set_and_variables_from_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let sql = COUNT.replace("'10'", "'${LAST:?say how many}'");
    let ended = run_job(folder.path(), &sql, &[]).expect(78);
    assert!(ended.stderr.contains("say how many"), "{}", ended.stderr);
    let job = folder.path().join("job.sql");
    let mut command = command(["run", job.to_str().unwrap(), "-o", "json"]);
    command.args(["--set", "pipeline.name=renamed"]).env("LAST", "4");
    let ended = finish(&mut command).expect(0);
    assert_eq!((ended.results().len(), &ended.summary()["job"]), (2, &Value::from("renamed")));
}

#[test]
fn a_column_that_the_header_of_a_file_does_not_name_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    file(folder.path(), "flights.csv", "carrier,delay\nUA,3\nAA,5\n");
    let sql = "
CREATE TABLE flights (carrier STRING, dely BIGINT, note STRING)
WITH ('connector' = 'filesystem', 'path' = '{folder}/flights.csv', 'format' = 'csv', 'csv.header' = 'true');
CREATE TABLE o (carrier STRING, n BIGINT) WITH ('connector' = 'print');
INSERT INTO o SELECT carrier, dely FROM flights;
";
    let ended = run_job(folder.path(), sql, &[]).expect(0);
    let told: Vec<&str> =
        ended.stderr.lines().filter(|line| line.contains("the header does not name")).collect();
    assert!(matches!(*told, [line] if line.contains("flights.csv") && line.contains("`dely`")));
    assert!(told[0].ends_with("it says carrier,delay"), "{}", told[0]);
    assert!(!told[0].contains("note"), "nobody looks at it: {}", told[0]);
    let ended = run_job(folder.path(), &sql.replace("dely", "delay"), &[]).expect(0);
    assert!(!ended.stderr.contains("the header does not name"), "{}", ended.stderr);
}

#[test]
fn check_reports_every_error_at_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let sql = "CREATE TABLE t (carrier STRING) WITH ('connector' = 'datagn');
CREATE TABLE u (carrier STRING) WITH ('connector' = 'datagen');
CREATE TABLE o (c STRING) WITH ('connector' = 'print', 'print-identifer' = 'x');
INSERT INTO p SELECT carier FROM u;
INSERT INTO p SELECT UPER(carrier) FROM u;
";
    let path = file(folder.path(), "broken.sql", sql);
    let ended = tidemill(["check", path.to_str().unwrap()]).expect(78);
    for part in
        ["broken.sql:1:", "broken.sql:3:", "broken.sql:4:13", "broken.sql:4:22", "broken.sql:5:22"]
    {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    for help in ["'datagen'", "'print-identifier'", "'carrier'", "^^^^^^"] {
        assert!(ended.stderr.contains(help), "{help}: {}", ended.stderr);
    }
    assert_eq!(ended.stdout, "");

    let ended = tidemill(["check", path.to_str().unwrap(), "-o", "json"]).expect(78);
    for line in ended.stderr.lines() {
        let error: Value = serde_json::from_str(line).unwrap();
        let text = sql.lines().nth(error["line"].as_u64().unwrap() as usize - 1).unwrap();
        assert!(error["column"].as_u64().unwrap() as usize <= text.len(), "{error}");
    }
}

#[test]
fn explain_draws_the_graph_with_the_guarantee_of_each_sink() {
    let job = "examples/jobs/two_sinks.sql";
    let text = tidemill(["explain", job]).expect(0).stdout;
    assert!(text.contains("at least once: ") && !text.contains("exactly once: "), "{text}");
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--checkpoint-dir", folder.path().to_str().unwrap()];
    let text = tidemill(["explain", job].iter().chain(&flags)).expect(0).stdout;
    for part in ["flights", "busy_routes", "at least once: ", "exactly once: "] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let mermaid = ["explain", job, "--format", "mermaid"];
    let text = tidemill(mermaid.iter().chain(&flags)).expect(0).stdout;
    for part in ["flowchart", "-->", "at least once", "exactly once"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn checkpoints_are_listed_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().join("checkpoints").display().to_string();
    let ran = run_job(folder.path(), COUNT, &["--checkpoint-dir", &url]).expect(0);
    assert_eq!(ran.results().len(), 5);
    let listed = tidemill(["checkpoint", "ls", &url, "-o", "json"]).expect(0).results();
    assert_eq!((&listed[0]["job"], &listed[0]["state"]), (&"job".into(), &"job finished".into()));
    let epoch = listed[0]["epoch"].to_string();
    let verify = ["checkpoint", "verify", &url, "--job", "job"];
    let ended = tidemill(verify).expect(0);
    assert!(ended.stdout.contains(&format!("epoch {epoch} of job")), "{}", ended.stdout);
    assert_ne!(tidemill(verify.iter().chain(&["--epoch", "99"])).code, 0);
    let missing = tidemill(["checkpoint", "verify", &url, "--job", "nobody"]);
    assert!(missing.code != 0 && missing.stderr.contains("nobody"), "{missing:?}");
}

#[test]
fn completions_name_the_commands() {
    let script = tidemill(["completions", "bash"]).expect(0).stdout;
    for name in ["run", "check", "explain", "checkpoint", "--checkpoint-dir"] {
        assert!(script.contains(name), "{name}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_job_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let job = file(folder.path(), "job.sql", COUNT.replace("'10'", "'100000000'"));
    let mut command = command(["run", job.to_str().unwrap(), "-o", "json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let mut talk = String::new();
    child.stderr.take().unwrap().read_to_string(&mut talk).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{talk}");
    assert!(line.contains(r#""n":"#) && !talk.contains("error"), "{talk}");
}

/// A job that runs until it is killed, and its HTTP address.
struct Served {
    child: Child,
    address: String,
}

impl Served {
    fn start(job: &std::path::Path, checkpoints: &std::path::Path) -> Self {
        let mut command = command(["run", job.to_str().unwrap(), "--http", "127.0.0.1:0"]);
        command.args(["--checkpoint-interval", "50ms", "--checkpoint-dir"]).arg(checkpoints);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut talk = BufReader::new(child.stderr.take().unwrap()).lines();
        let said = |line: String| Some(line.split_once("http://")?.1.trim().to_owned());
        let address = talk.by_ref().map_while(Result::ok).find_map(said);
        // What the job says further must not fill the pipe.
        std::thread::spawn(move || talk.for_each(drop));
        Self { child, address: address.expect("the log names the address") }
    }

    fn get(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let host = &self.address;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself; the test has failed then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const METRICS: [&str; 25] = [
    "tidemill_records_in_total",
    "tidemill_records_out_total",
    "tidemill_records_counted_total",
    "tidemill_records_late_total",
    "tidemill_records_filtered_total",
    "tidemill_records_dead_letters_total",
    "tidemill_busy_ratio",
    "tidemill_backpressured_ratio",
    "tidemill_idle_ratio",
    "tidemill_queue_depth",
    "tidemill_watermark_lag_seconds",
    "tidemill_split_watermark_lag_seconds",
    "tidemill_split_records_total",
    "tidemill_emit_delay_seconds",
    "tidemill_checkpoint_duration_seconds",
    "tidemill_checkpoint_age_seconds",
    "tidemill_checkpoint_bytes",
    "tidemill_checkpoint_epoch",
    "tidemill_checkpoints_completed_total",
    "tidemill_checkpoints_abandoned_total",
    "tidemill_state_bytes",
    "tidemill_records_dropped_total",
    "tidemill_link_blocked_seconds_total",
    "tidemill_memory_bytes",
    "tidemill_circuit_breaker_state",
];

#[test]
fn a_running_job_shows_its_metrics_health_and_status() {
    let folder = tempfile::tempdir().unwrap();
    let sql = "SET 'pipeline.name' = 'served';
        CREATE TABLE t (k STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
        WITH ('connector' = 'filesystem', 'path' = '{folder}/in', 'format' = 'csv', 'rate-limit' = '500');
        CREATE TABLE o (k STRING, n BIGINT) WITH ('connector' = 'blackhole');
        INSERT INTO o SELECT k, COUNT(*)
        FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' SECOND))
        GROUP BY window_start, window_end, k;";
    let input = folder.path().join("in");
    std::fs::create_dir(&input).unwrap();
    for (name, day) in [("behind.csv", "01"), ("ahead.csv", "02")] {
        let row = |n: u32| {
            format!("secret-key,2013-01-{day} {:02}:{:02}:{:02}\n", n / 3600, n / 60 % 60, n % 60)
        };
        file(&input, name, (0..80_000).map(row).collect::<String>());
    }
    let sql = sql.replace("{folder}", &folder.path().display().to_string());
    let job = file(folder.path(), "job.sql", sql);
    let served = Served::start(&job, &folder.path().join("checkpoints"));
    tidemill::testing::wait_for(|| {
        let text = served.get("/metrics").1;
        METRICS.iter().all(|name| text.contains(&format!("\n{name}{{")))
    });
    let metrics = served.get("/metrics").1;
    assert!(!metrics.contains("secret-key"), "a key is a label: {metrics}");
    for label in [r#"job="served""#, r#"operator="window(o)""#, r#"shard="0""#, "ahead.csv"] {
        assert!(metrics.contains(label), "{label}: {metrics}");
    }
    for probe in ["/livez", "/readyz"] {
        assert!(served.get(probe).0.contains("200"), "{probe}");
    }
    tidemill::testing::wait_for(|| {
        let status: Value = serde_json::from_str(&served.get("/status").1).unwrap();
        let held = status["held_back_by"].as_str().unwrap_or_default();
        held.contains("behind.csv") && status["checkpoints"]["completed"].as_u64() > Some(0)
    });
    let status: Value = serde_json::from_str(&served.get("/status").1).unwrap();
    assert_eq!(
        (&status["phase"], &status["splits"].as_array().unwrap().len()),
        (&"running".into(), &2)
    );
}
